//! `ssh-jit setup`: a person's first run.

use std::path::PathBuf;

use crate::domain::names::HostName;

use super::person::{Person, Service};
use super::{Context, Exit, Failure, ensure, ssh_config};

/// What `setup` takes, beside `--server`, `--user`, `--identity` and `--tls-ca`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Your emergency key, either half, if you have one
    #[arg(long, value_name = "FILE")]
    emergency_identity: Option<PathBuf>,
    /// Do not have plain ssh ask by itself
    #[arg(long)]
    no_ensure: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut config = context.config.clone();
    config.emergency_identity = args.emergency_identity.clone().or(config.emergency_identity);
    let account = context.environment.account.as_deref().and_then(|name| name.parse().ok());
    config.user = config.user.or(account);
    let user = config
        .user
        .clone()
        .ok_or_else(|| Failure::misuse("your name in the policy is not known").hint("--user NAME"))?;
    config.identity = config.identity.or_else(|| usual_identity(context));
    let identity =
        config.identity.clone().ok_or_else(|| Failure::misuse("you have no key in ~/.ssh").hint("--identity FILE"))?;
    let configured = Context { config: config.clone(), ..context.clone() };
    let service = Service::open(&configured)?;
    let text = configuration(&config, &service)?;
    crate::files::make_private_folder(&context.environment.config)?;
    let path = context.environment.config.join("config.toml");
    crate::files::write_private(&path, text.as_bytes())?;
    let hosts = if args.no_ensure { Vec::new() } else { hosts(&configured) };
    ssh_config::write_snippet(context, &hosts)?;
    ssh_config::write(context, &service)?;
    context.ui.good(format_args!("{user} at {} signs with {}", service.api.url(), identity.display()));
    context.ui.say(format_args!("wrote {}", path.display()));
    context.ui.say(format_args!(
        "put this line at the top of ~/.ssh/config: Include {}",
        ssh_config::path(context).display()
    ));
    Ok(Exit::Done)
}

/// The hosts that plain ssh is to ask for by itself. Without them everything else works, so that a service that does
/// not know this key yet holds nothing up.
fn hosts(context: &Context) -> Vec<HostName> {
    let found = Person::open(context).and_then(|mut person| ensure::learn_roles(&mut person));
    let roles = found.unwrap_or_else(|failure| {
        context.ui.say(format_args!("plain ssh does not ask by itself yet: {}", failure.message));
        context.ui.say("run ssh-jit setup again when that is mended");
        Vec::new()
    });
    let mut hosts: Vec<HostName> = roles.into_iter().flat_map(|role| role.hosts).collect();
    hosts.sort();
    hosts.dedup();
    if !hosts.is_empty() {
        let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
        context.ui.say(format_args!("plain ssh asks by itself for {}", names.join(", ")));
    }
    hosts
}

fn configuration(config: &crate::config::ClientConfig, service: &Service) -> Result<String, Failure> {
    let mut table = toml::Table::new();
    let absolute = |path: &PathBuf| std::path::absolute(path).map(|p| p.display().to_string());
    table.insert("server".to_owned(), service.api.url().into());
    if let Some(user) = &config.user {
        table.insert("user".to_owned(), user.to_string().into());
    }
    if let Some(identity) = &config.identity {
        table.insert("identity".to_owned(), absolute(identity)?.into());
    }
    if let Some(identity) = &config.emergency_identity {
        table.insert("emergency_identity".to_owned(), absolute(identity)?.into());
    }
    if let Some(file) = &config.tls_ca {
        table.insert("tls_ca".to_owned(), absolute(file)?.into());
    }
    table.insert("instance".to_owned(), service.trust.instance.to_string().into());
    Ok(table.to_string())
}

/// The first of the names that ssh itself tries.
fn usual_identity(context: &Context) -> Option<PathBuf> {
    let names = ["id_ed25519_sk.pub", "id_ed25519.pub", "id_ecdsa_sk.pub", "id_ecdsa.pub", "id_rsa.pub"];
    names.iter().map(|name| context.environment.home.join(".ssh").join(name)).find(|path| path.exists())
}
