//! `ssh-jit host check`: whether a host does what it was set up for.

use crate::cli::{Context, Exit, Failure};
use crate::client::api::Api;
use crate::host::check::{self, Level};
use crate::host::config::HostConfig;
use crate::host::setup::Layout;
use crate::wire::Now;

use super::setup::Place;

/// What `host check` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let layout = args.place.layout()?;
    let sshd = args.place.sshd(&layout)?;
    let ahead = ahead(context, &layout).map_err(|failure| failure.message);
    let findings = check::check(&layout, &sshd, ahead, context.clock.now().second());
    super::show(&context.ui, &findings);
    let well = findings.iter().all(|finding| finding.level <= Level::Note);
    Ok(if well { Exit::Done } else { Exit::Failed })
}

/// The service's time less this machine's, in seconds. Nobody else's time counts.
fn ahead(context: &Context, layout: &Layout) -> Result<i64, Failure> {
    let host = HostConfig::load(&layout.folder()).map_err(Failure::new)?;
    let url = context.config.server.as_deref().unwrap_or(&host.server);
    let tls_ca = context.config.tls_ca.as_deref().or(host.ca_certificate.as_deref());
    let now: Now = Api::new(url, tls_ca)?.get("/v1/now")?;
    if now.instance != host.instance {
        return Err(Failure::new(format!("another service answers at {url}: instance {}", now.instance)));
    }
    Ok(now.now.second().since(context.clock.now().second()))
}
