//! `ssh-jit host report`: tells the service what certificates were used for here.

use std::path::PathBuf;

use crate::cli::ui::ask_passphrase;
use crate::cli::{Context, Exit, Failure};
use crate::client::api::Api;
use crate::client::identity::Identity;
use crate::domain::names::HostName;
use crate::host::usage;
use crate::wire::Now;

/// What `host report` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// This host's name in the policy
    #[arg(long, value_name = "NAME")]
    name: HostName,
    /// The host key that the policy has for it
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/ssh_host_ed25519_key")]
    host_key: PathBuf,
    /// Where connections are remembered
    #[arg(long, value_name = "DIR", default_value = usage::FOLDER)]
    sessions: PathBuf,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let missing = || Failure::misuse("no service is known").hint("--server URL");
    let api = Api::new(context.config.server.as_deref().ok_or_else(missing)?, context.config.tls_ca.as_deref())?;
    let now: Now = api.get("/v1/now")?;
    if let Some(wanted) = context.config.instance.as_ref().filter(|wanted| **wanted != now.instance) {
        let other = format!("another service answers at {}: instance {}", api.url(), now.instance);
        return Err(Failure::new(other).hint(format!("instance {wanted} is configured")));
    }
    let mut key = Identity::open(&args.host_key, None, &ask_passphrase)?;
    let sent = usage::send(&args.sessions, &api, &mut key, (&now.instance, &args.name, now.now.second()))?;
    if context.ui.json {
        context.ui.data(&serde_json::json!({ "sent": sent }));
    } else {
        context.ui.say(format_args!("{sent} connections told"));
    }
    Ok(Exit::Done)
}

impl From<usage::UsageError> for Failure {
    fn from(error: usage::UsageError) -> Self {
        match error {
            usage::UsageError::Service(error) => error.into(),
            usage::UsageError::Key(error) => error.into(),
            usage::UsageError::Folder { .. } => Self::new(error),
        }
    }
}
