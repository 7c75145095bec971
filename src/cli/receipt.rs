//! `ssh-jit receipt`: everything that proves one request, as one file for whoever checks it later.

use crate::wire::ReceiptView;

use super::person::{Person, request_id};
use super::{Context, Exit, Failure};

/// What `receipt` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The request
    request: String,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let id = request_id(&args.request)?;
    let receipt: ReceiptView = person.read(&format!("/v1/requests/{id}/receipt"))?;
    context.ui.data(&receipt);
    context.ui.say("keep it; ssh-jit verify FILE checks it without the service");
    Ok(Exit::Done)
}
