//! `ssh-jit init`: a new service, complete and ready to start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ca::{self, KeyError, Keys, Passphrase};
use crate::clock::Clock;
use crate::domain::names::InstanceId;
use crate::domain::trust::Trust;
use crate::random;
use crate::store::{self, StoreError};

use super::{Exit, Failure, Ui, policy, ui};

/// What `init` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What people will open
    #[arg(long, default_value = "http://localhost:7022")]
    url: String,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7022")]
    listen: std::net::SocketAddr,
    /// Ask for a passphrase, and encrypt the keys with it
    #[arg(long)]
    encrypt: bool,
}

const POLICY: &str = include_str!("policy-template.toml");

pub(super) fn run(ui: &Ui, args: &Args) -> Result<Exit, Failure> {
    let dir = &args.dir;
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(format!("{}: the folder is not empty, and nothing in it is replaced", dir.display())));
    }
    let passphrase = if args.encrypt { Some(new_passphrase()?) } else { None };
    crate::files::make_private_folder(dir)?;
    // Whoever may write there could put a policy of their own in the place of ours.
    crate::files::check_own_folder(dir).map_err(|e| Failure::new(format!("{}: {e}", dir.display())))?;
    let keys_folder = dir.join("ca-keys");
    Keys::create(&keys_folder, passphrase.as_ref())?;
    let keys = Keys::load(&keys_folder, || passphrase.ok_or_else(|| std::io::ErrorKind::NotFound.into()))?;
    let signed = keys.first_trust(InstanceId::from_bytes(random::bytes()), Clock::System.now().second())?;
    ca::write_trust(&keys_folder, &signed)?;
    store::create("sqlite:ssh-jit.db", dir)?;
    crate::files::write_private(&dir.join("policy.toml"), POLICY.as_bytes())?;
    crate::files::write_private(&dir.join("policy.schema.json"), policy::SCHEMA.as_bytes())?;
    crate::files::write_private(&dir.join("ssh-jit.toml"), configuration(args).as_bytes())?;
    let trust = Trust::first_contact(&signed)?;
    report(ui, dir, &trust);
    Ok(Exit::Done)
}

fn report(ui: &Ui, dir: &Path, trust: &Trust) {
    let config = dir.join("ssh-jit.toml");
    if ui.json {
        ui.data(&serde_json::json!({ "config": config, "instance": trust.instance, "user_ca": trust.user_ca }));
        return;
    }
    ui.good(format_args!("made {}: instance {}", dir.display(), trust.instance));
    ui.say(format_args!("next: write who may do what into {}", dir.join("policy.toml").display()));
    ui.say(format_args!("then: ssh-jit serve --config {}", config.display()));
}

fn configuration(args: &Args) -> String {
    format!(
        "# The service. Paths are relative to this file.\n\
         url      = {:?}   # what people open; passkeys are bound to its host name\n\
         listen   = {:?}\n\
         break_glass_listen = {:?}   # for break-glass alone: works when the rest does not\n\
         ca_keys  = \"ca-keys\"\n\
         policy   = \"policy.toml\"\n\
         database = \"sqlite:ssh-jit.db\"\n\
         journal  = \"break-glass.journal\"\n",
        args.url,
        args.listen.to_string(),
        own_listener(args.listen).to_string()
    )
}

/// A hundred ports further; where the system chooses, it does so twice.
fn own_listener(listen: std::net::SocketAddr) -> std::net::SocketAddr {
    let port = if listen.port() == 0 { 0 } else { listen.port().checked_add(100).unwrap_or(listen.port() - 100) };
    (listen.ip(), port).into()
}

fn new_passphrase() -> Result<Passphrase, Failure> {
    let first = ui::ask_passphrase("new passphrase for the CA keys")?;
    if first.chars().count() < 8 {
        return Err(Failure::new("the passphrase has fewer than 8 characters"));
    }
    if *ui::ask_passphrase("the same once more")? != *first {
        return Err(Failure::new("the two passphrases differ"));
    }
    Ok(first)
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error)
    }
}
