//! `ssh-jit withdraw`: takes a request back before it is claimed.

use crate::domain::digest::Digest;
use crate::domain::names::RequestId;
use crate::domain::statement::{Is, Version, Withdrawal};
use crate::domain::text::Comment;
use crate::domain::verify::Signed;
use crate::wire::{Changed, RequestView};

use super::person::{Person, request_id};
use super::{Context, Exit, Failure};

/// What `withdraw` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The request
    request: String,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let id = request_id(&args.request)?;
    let request = match person.service.state.pending(&id)? {
        Some(pending) => pending.digest,
        None => Signed::try_from(&person.read::<RequestView>(&format!("/v1/requests/{id}"))?.signed)?.digest(),
    };
    let changed = withdraw(&mut person, &id, request)?;
    person.service.state.forget(&id)?;
    if context.ui.json {
        context.ui.data(&changed);
    } else {
        context.ui.good(format_args!("{id} is withdrawn"));
    }
    Ok(Exit::Done)
}

/// Takes it back at the service.
pub(super) fn withdraw(person: &mut Person<'_>, id: &RequestId, request: Digest) -> Result<Changed, Failure> {
    let (instance, name, nonce, at) = person.preamble()?;
    let withdrawal = Withdrawal {
        v: Version,
        kind: Is,
        instance,
        person: name,
        request,
        id: id.clone(),
        reason: Comment::default(),
        nonce,
        at,
    };
    let text = person.sign(&withdrawal)?;
    Ok(person.service.api.post("/v1/withdrawals", &text)?)
}
