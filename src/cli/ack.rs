//! `ssh-jit ack`: somebody has heard of broken glass, and nobody is told again.

use crate::domain::statement::{Acknowledgement, Is, Version};
use crate::domain::text::Comment;
use crate::wire::EmergencyView;

use super::person::{Person, request_id};
use super::{Context, Exit, Failure};

/// What `ack` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The break-glass that you have heard of
    id: String,
    /// A word to the others
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: Comment,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let id = request_id(&args.id)?;
    let mut person = Person::open(context)?;
    let all: Vec<EmergencyView> = person.read("/v1/emergencies")?;
    let used = all.into_iter().find(|used| used.id == id);
    let used = used.ok_or_else(|| Failure::new(format!("{id} is no break-glass")).hint("ssh-jit review lists them"))?;
    let (instance, name, nonce, at) = person.preamble()?;
    let comment = args.comment.clone();
    let said = Acknowledgement {
        v: Version,
        kind: Is,
        instance,
        person: name,
        break_glass: used.digest,
        id: id.clone(),
        comment,
        nonce,
        at,
    };
    let signed = person.sign(&said)?;
    person.service.api.post_only("/v1/acknowledgements", &signed)?;
    if context.ui.json {
        context.ui.data(&serde_json::json!({ "id": id, "heard": person.name }));
    } else {
        context.ui.good(format_args!("{id}: nobody is told again; to end it: ssh-jit revoke {id} --reason \"...\""));
    }
    Ok(Exit::Done)
}
