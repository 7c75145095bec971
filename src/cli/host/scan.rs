//! `ssh-jit host scan`: access that ends by nothing, and that ssh-jit should replace.

use crate::cli::{Context, Exit, Failure};
use crate::host::scan;

use super::setup::Place;

/// What `host scan` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let layout = args.place.layout()?;
    let sshd = args.place.sshd(&layout)?;
    let findings = scan::scan(&layout, &sshd, context.clock.now().second())?;
    super::show(&context.ui, &findings);
    Ok(Exit::Done)
}
