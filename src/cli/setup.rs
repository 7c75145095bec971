//! `ssh-jit setup`: a person's first run.

use std::path::PathBuf;

use super::person::Service;
use super::{Context, Exit, Failure, ssh_config};

/// What `setup` takes, beside `--server`, `--user`, `--identity` and `--tls-ca`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Your emergency key, either half, if you have one
    #[arg(long, value_name = "FILE")]
    emergency_identity: Option<PathBuf>,
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
    let service = Service::open(&Context { config: config.clone(), ..context.clone() })?;
    let text = configuration(&config, &service)?;
    crate::files::make_private_folder(&context.environment.config)?;
    let path = context.environment.config.join("config.toml");
    crate::files::write_private(&path, text.as_bytes())?;
    ssh_config::write(context, &service)?;
    context.ui.good(format_args!("{user} at {} signs with {}", service.api.url(), identity.display()));
    context.ui.say(format_args!("wrote {}", path.display()));
    context.ui.say(format_args!(
        "put this line at the top of ~/.ssh/config: Include {}",
        ssh_config::path(context).display()
    ));
    Ok(Exit::Done)
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
