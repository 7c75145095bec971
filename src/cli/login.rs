//! `ssh-jit login`: from asking to a certificate in the agent, with one signature of the person's.

use std::num::NonZeroU32;

use chrono::Local;

use crate::client::certificate::{self, Checked};
use crate::client::state::{Held, Pending};
use crate::client::subject::Subject;
use crate::domain::names::{HostName, RequestId, RoleName, Ticket};
use crate::domain::text::Reason;
use crate::domain::time::{Seconds, Timestamp};
use crate::wire::{Certified, RequestView, StateView};

use super::asking::{self, Asked, Waiting, Wish};
use super::person::Person;
use super::start::Start;
use super::ui::{length, time};
use super::{Context, Exit, Failure, done, extend, ssh_config};

/// What `login` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The role to ask for, or a request of yours to resume
    #[arg(value_name = "ROLE|REQUEST")]
    target: String,
    /// For how long, as in 90m or 1h30m; the role's default where it is not given
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Seconds>,
    /// Why: whoever decides reads this
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
    /// The ticket or incident it is for
    #[arg(long)]
    ticket: Option<Ticket>,
    /// Only for this host of the role (may be given several times)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// When it is to begin: 22:00, 2026-11-26T08:00, the same with an offset, or +2h; at once where it is not given
    #[arg(long, value_name = "TIME")]
    start: Option<Start>,
    /// Do not wait for the decision, or for the start
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    if let Some(id) = resumed(&person, &args.target)? {
        return resume(&person, &id, args.no_wait);
    }
    let role: RoleName = args.target.parse().map_err(Failure::misuse)?;
    let reason = args.reason.clone().ok_or_else(|| {
        Failure::misuse("a reason is needed: whoever decides reads it")
            .hint(format!("ssh-jit login {role} --reason \"...\""))
    })?;
    if let Some((pending, held)) = living(context, &person, &role)?.filter(|_| args.hosts.is_empty()) {
        let until = time(held.valid_before, person.now()?);
        let said = format!("you have {role} until {until}; ssh-jit done gives it back");
        return have(&person, &pending, &held, &said);
    }
    let start = args.start.as_ref().map(|start| start.at(person.now()?, &Local)).transpose()?;
    let wish = Wish {
        role,
        seconds: args.length,
        hosts: args.hosts.clone(),
        ticket: args.ticket.clone(),
        reason,
        start,
        extends: None,
    };
    let asked = asking::ask(&mut person, wish)?;
    asking::keep(&person, &asked)?;
    proceed(&person, asked, args.no_wait)
}

/// The request that is meant, if one is. An id that was typed in lower case could be a role's name: it is a
/// request when one of that id was sent from here.
fn resumed(person: &Person<'_>, target: &str) -> Result<Option<RequestId>, Failure> {
    let Ok(id) = RequestId::from_typed(target) else { return Ok(None) };
    let meant = target.parse::<RoleName>().is_err() || person.service.state.pending(&id)?.is_some();
    Ok(Some(id).filter(|_| meant))
}

/// A certificate for this role that lives, and whose key is at hand. Broken glass is no reason not to ask. What
/// was ended elsewhere, in the browser for one, is cleared away here.
fn living(context: &Context, person: &Person<'_>, role: &RoleName) -> Result<Option<(Pending, Held)>, Failure> {
    let now = person.now()?;
    let all = person.service.state.all_pending()?.into_iter();
    let mine = all.filter(|p| p.person == person.name && p.role == *role && p.emergency.is_none());
    for (pending, held) in mine.filter_map(|p| p.certificate.clone().map(|held| (p, held))) {
        if held.valid_before <= now.plus(30) || !at_hand(person, &pending, &held) {
            continue;
        }
        if !ended_elsewhere(person, &pending) {
            return Ok(Some((pending, held)));
        }
        done::clear_away(context, person, &pending)?;
    }
    Ok(None)
}

/// Whether the service says so. When it says nothing, the certificate speaks for itself.
fn ended_elsewhere(person: &Person<'_>, pending: &Pending) -> bool {
    let path = format!("/v1/requests/{}/wait?seconds=0", pending.id);
    let view: Result<RequestView, _> = person.service.api.get_as(&path, &pending.waiter);
    view.is_ok_and(|view| matches!(view.state, StateView::Returned { .. } | StateView::Revoked { .. }))
}

/// Whether its key was not lost: an agent forgets everything when it ends.
fn at_hand(person: &Person<'_>, pending: &Pending, held: &Held) -> bool {
    let file = person.service.state.key_path(&pending.id);
    let blob = certificate::blob(&held.certificate);
    Subject::find(&pending.key, &file, person.agent(), blob.as_deref()).is_ok()
}

/// What is here already, in the form of what just came.
fn have(person: &Person<'_>, pending: &Pending, held: &Held, said: &str) -> Result<Exit, Failure> {
    if person.context.ui.json {
        let (valid_after, principals) = certificate::told(&held.certificate)?;
        certified(person, pending, held, valid_after, &principals);
    } else {
        person.context.ui.good(said);
    }
    Ok(Exit::Done)
}

/// A certificate as `--json` tells of it.
fn certified(person: &Person<'_>, pending: &Pending, held: &Held, valid_after: Timestamp, principals: &[String]) {
    person.context.ui.data(&serde_json::json!({
        "request": pending.id, "role": pending.role, "serial": held.serial, "principals": principals,
        "valid_after": valid_after, "valid_before": held.valid_before, "in_agent": held.in_agent,
        "certificate": person.service.state.certificate_path(&pending.id),
    }));
}

fn resume(person: &Person<'_>, id: &RequestId, no_wait: bool) -> Result<Exit, Failure> {
    let unknown =
        || Failure::new(format!("{id} was not asked for from here")).hint("ssh-jit status lists your requests");
    let pending = person.service.state.pending(id)?.ok_or_else(unknown)?;
    let now = person.now()?;
    if let Some(held) = pending.certificate.as_ref().filter(|held| held.valid_before > now) {
        let said = format!("{id}: the certificate is here until {}", time(held.valid_before, now));
        return have(person, &pending, held, &said);
    }
    let subject = Subject::find(&pending.key, &person.service.state.key_path(id), person.agent(), None)?;
    let view = person.service.api.get_as(&format!("/v1/requests/{id}/wait?seconds=0"), &pending.waiter)?;
    proceed(person, Asked { pending, subject, view }, no_wait)
}

/// From wherever the request is to its certificate, or to the reason why there is none.
pub(super) fn proceed(person: &Person<'_>, asked: Asked, no_wait: bool) -> Result<Exit, Failure> {
    let Asked { mut pending, mut subject, mut view } = asked;
    let ui = &person.context.ui;
    if let StateView::Requested { decide_by, .. } = &view.state {
        let names: Vec<String> = view.approvers.iter().map(ToString::to_string).collect();
        let until = time(*decide_by, person.now()?);
        ui.say(format_args!("asked for {} as {}: request {}", pending.role, person.name, pending.id));
        let needed = asking::needed(&view);
        ui.say(format_args!("{needed} must approve: {}; lapses {until}", names.join(", ")));
        if no_wait {
            return Ok(left_pending(person, &pending, "requested"));
        }
        ui.say(format_args!("waiting (Ctrl-C keeps the request; ssh-jit login {} resumes)", pending.id));
    }
    let waiting = Waiting::of(person, &pending);
    view = waiting.decided(view)?;
    if no_wait && waiting.begins_later(&view) {
        return Ok(left_pending(person, &pending, "approved"));
    }
    view = waiting.begun(view)?;
    match &view.state {
        StateView::Approved { .. } | StateView::Active { .. } => {
            let (issued, checked) = asking::claim(person, &pending, &mut subject, &view)?;
            take(person, &mut pending, &subject, issued, &checked)
        }
        _ => {
            done::clear_away(person.context, person, &pending)?;
            Err(asking::ended(&view))
        }
    }
}

fn left_pending(person: &Person<'_>, pending: &Pending, state: &str) -> Exit {
    if person.context.ui.json {
        person.context.ui.data(&serde_json::json!({ "request": pending.id, "state": state }));
    } else {
        person.context.ui.out(&pending.id);
    }
    Exit::Pending
}

/// Puts the certificate where plain ssh finds it.
pub(super) fn take(
    person: &Person<'_>,
    pending: &mut Pending,
    subject: &Subject,
    issued: Certified,
    checked: &Checked,
) -> Result<Exit, Failure> {
    let (state, now) = (&person.service.state, person.now()?);
    let lifetime =
        u32::try_from(checked.valid_before.since(now)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let comment = format!("ssh-jit {} {}", pending.id, pending.role);
    let in_agent = subject.certify(person.agent().as_mut(), &checked.blob, &comment, lifetime);
    crate::files::write_private(&state.certificate_path(&pending.id), format!("{}\n", issued.certificate).as_bytes())?;
    let held =
        Held { certificate: issued.certificate, serial: issued.serial, valid_before: checked.valid_before, in_agent };
    pending.certificate = Some(held.clone());
    state.set_pending(pending)?;
    state.set_used(&pending.role, now)?;
    ssh_config::write(person.context, &person.service)?;
    let ui = &person.context.ui;
    if ui.json {
        certified(person, pending, &held, issued.valid_after, &checked.principals);
        return extend::retire(person, pending);
    }
    let left = checked.valid_before.since(now).unsigned_abs();
    ui.good(format_args!(
        "{} until {}: {}",
        pending.role,
        time(checked.valid_before, now),
        checked.principals.join(" ")
    ));
    if in_agent {
        ui.say(format_args!("plain ssh works for {}; ssh-jit done gives it back", length(left)));
    } else {
        ui.say(format_args!("ssh finds it through {}", ssh_config::path(person.context).display()));
    }
    extend::retire(person, pending)
}
