//! `ssh-jit host enrol`: a certificate for this host, by which people know it.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::ui::time;
use crate::cli::{Context, Exit, Failure};
use crate::client::api::Api;
use crate::client::certificate::OfHost;
use crate::client::host::{BadToken, NotCertified, Token};
use crate::domain::names::{HostName, InstanceId};
use crate::files;
use crate::host::certificate::{CertificateError, Own};
use crate::host::config::{Certified, HostConfig};
use crate::host::setup::{HostError, Layout, Setup, Wanted, name_of};

use super::setup::{self, Place};

/// What `host enrol` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The token of an administrator, in a file; - reads it from standard input. Without one, the service must know this
    /// host's key: by the policy, or because it was enrolled before
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The SSH host key that is certified [default: /etc/ssh/ssh_host_ed25519_key]
    #[arg(long, value_name = "FILE")]
    host_key: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let layout = args.place.layout()?;
    let sshd = args.place.sshd(&layout)?;
    setup::needs_root(&layout, "host enrol")?;
    let token = args.token_file.as_deref().map(token).transpose()?;
    let key = args.host_key.clone().unwrap_or_else(|| layout.at("/etc/ssh/ssh_host_ed25519_key"));
    let certified = Certified { host: name_of(&layout)?, key: std::path::absolute(key)? };
    is_free(&certified)?;
    let mut wanted = setup::wanted(context, &setup::Args::default(), &layout)?;
    if let Some(token) = &token {
        is_meant(token, &certified.host, &wanted.trust.instance)?;
    }
    // Whatever stands in the way shall be found before the token is spent.
    Setup::plan(&layout, &sshd, &wanted)?;
    let made = ask(&layout, &certified, &wanted, token.as_ref())?;
    wanted.certificate = Some(certified.clone());
    let done = Setup::plan(&layout, &sshd, &wanted)?.apply(true)?;
    let _ = std::fs::remove_file(layout.unread());
    setup::say_reloaded(context, done.reloaded.as_ref());
    report(context, &layout, &certified, &made);
    Ok(Exit::Done)
}

fn ask(layout: &Layout, certified: &Certified, wanted: &Wanted, token: Option<&Token>) -> Result<OfHost, Failure> {
    let folder = layout.folder();
    let known = HostConfig::load(&folder).map_err(Failure::new)?;
    let api = Api::new(&known.server, known.ca_certificate.as_deref())?;
    let (_, now) = api.time()?;
    Ok(Own { folder: &folder, certified, api: &api, trust: &wanted.trust }.ask(token, now)?)
}

/// Never an argument: those can be read by everybody on the machine.
fn token(path: &Path) -> Result<Token, Failure> {
    let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    let line = files::read_secret_line(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
    Ok(Token::parse(&line)?)
}

/// A token that would be refused is not sent: whoever it is for can still use it.
fn is_meant(token: &Token, name: &HostName, instance: &InstanceId) -> Result<(), Failure> {
    let invitation = token.invitation()?;
    if invitation.instance != *instance {
        return Err(Failure::new("the token is for another service").hint("see --server of ssh-jit host setup"));
    }
    if invitation.host != *name {
        return Err(Failure::new(format!("the token is for {}, and this host is {name}", invitation.host))
            .hint(format!("ssh-jit host setup --name {}, or ask for a token for {name}", invitation.host)));
    }
    Ok(())
}

/// sshd shows one certificate for a key.
fn is_free(certified: &Certified) -> Result<(), HostError> {
    let mut beside = certified.key.clone().into_os_string();
    beside.push("-cert.pub");
    let beside = PathBuf::from(beside);
    if beside.exists() { Err(HostError::Certified(beside)) } else { Ok(()) }
}

fn report(context: &Context, layout: &Layout, certified: &Certified, made: &OfHost) {
    let (ui, path) = (&context.ui, layout.host_certificate());
    if ui.json {
        return ui.data(&json!({
            "host": certified.host, "names": made.names, "until": made.valid_before, "certificate": path,
        }));
    }
    let names: Vec<&str> = made.names.iter().map(HostName::as_str).collect();
    ui.say(format_args!("wrote {}", path.display()));
    let until = time(made.valid_before, context.clock.now().second());
    ui.good(format_args!("this host is certified as {} until {until}; host sync renews that", names.join(", ")));
}

impl From<BadToken> for Failure {
    fn from(error: BadToken) -> Self {
        Self { code: "bad-token".to_owned(), ..Self::new(error) }.hint("give the one line that host invite printed")
    }
}

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::NotCertified(NotCertified::Service(error)) => Self { hint: None, ..error.into() },
            CertificateError::Sshd(error) => error.into(),
            other => Self::new(other),
        }
    }
}
