//! `ssh-jit done`: gives access back before it ends, and leaves nothing of it here.

use crate::client::certificate::blob;
use crate::client::state::Pending;
use crate::client::subject::Subject;
use crate::domain::statement::{Is, Return, Serial, Statement as _, Version, to_bytes};
use crate::wire::Changed;

use super::person::{Person, request_id, text};
use super::{Context, Exit, Failure, ssh_config};

/// What `done` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The request; not needed when only one is active
    request: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let person = Person::open(context)?;
    let pending = choose(&person, args.request.as_deref(), "done")?;
    let held = pending.certificate.as_ref().ok_or_else(|| {
        Failure::new(format!("{} has no certificate yet", pending.id)).hint(format!("ssh-jit withdraw {}", pending.id))
    })?;
    let certificate = blob(&held.certificate);
    let file = person.service.state.key_path(&pending.id);
    let mut subject = Subject::find(&pending.key, &file, person.agent(), certificate.as_deref())?;
    let changed = give_back(&person, &pending, held.serial, &mut subject)?;
    clear_away(context, &person, &pending)?;
    match changed {
        Some(changed) if context.ui.json => context.ui.data(&changed),
        None if context.ui.json => context.ui.data(&serde_json::json!({ "id": pending.id, "state": null })),
        Some(_) => {
            let role = &pending.role;
            context.ui.good(format_args!("{role} is given back; the key and its certificate are gone from here"));
        }
        None => {
            let role = &pending.role;
            context
                .ui
                .good(format_args!("{role} was over already; the key and its certificate are gone from here now"));
        }
    }
    Ok(Exit::Done)
}

/// Gives it back at the service. `None` when it was over already.
pub(super) fn give_back(
    person: &Person<'_>,
    pending: &Pending,
    serial: Serial,
    subject: &mut Subject,
) -> Result<Option<Changed>, Failure> {
    let (instance, name, nonce, at) = person.preamble()?;
    let given = Return {
        v: Version,
        kind: Is,
        instance,
        person: name,
        request: pending.digest,
        id: pending.id.clone(),
        serial,
        nonce,
        at,
    };
    let bytes = to_bytes(&given);
    let signature = subject.sign(Return::KIND.namespace(), &bytes)?;
    match person.service.api.post::<Changed>("/v1/returns", &text(bytes, &signature)) {
        Err(error) if error.code() == Some("not-active") => Ok(None),
        changed => Ok(Some(changed?)),
    }
}

/// Leaves nothing of a request here: neither in the agent nor in the state folder.
pub(super) fn clear_away(context: &Context, person: &Person<'_>, pending: &Pending) -> Result<(), Failure> {
    let certificate = pending.certificate.as_ref().and_then(|held| blob(&held.certificate));
    if let Some(mut agent) = person.agent() {
        for blob in [certificate.as_deref(), Some(pending.key.blob())].into_iter().flatten() {
            // It holds one of the two, or none any more.
            let _ = agent.remove(blob);
        }
    }
    person.service.state.forget(&pending.id)?;
    ssh_config::write(context, &person.service)
}

/// The request that is meant: the one that was typed, or the only one that is active from here.
pub(super) fn choose(person: &Person<'_>, typed: Option<&str>, verb: &str) -> Result<Pending, Failure> {
    if let Some(typed) = typed {
        let id = request_id(typed)?;
        return person
            .service
            .state
            .pending(&id)?
            .ok_or_else(|| Failure::new(format!("{id} was not asked for from here")));
    }
    let now = person.now()?;
    let living = |p: &Pending| p.certificate.as_ref().is_some_and(|held| held.valid_before > now);
    let mine = |p: &Pending| p.person == person.name && p.emergency.is_none();
    let all = person.service.state.all_pending()?;
    let mut active: Vec<Pending> = all.into_iter().filter(|p| mine(p) && living(p)).collect();
    match active.len() {
        0 => Err(Failure::new("nothing is active from here").hint("ssh-jit status")),
        1 => Ok(active.remove(0)),
        _ => {
            let names: Vec<String> = active.iter().map(|p| format!("{} ({})", p.id, p.role)).collect();
            Err(Failure::misuse(format!("several are active: {}", names.join(", ")))
                .hint(format!("ssh-jit {verb} REQUEST")))
        }
    }
}
