//! Asking, waiting and claiming, as every verb does that leads to a certificate.

use std::num::NonZeroU32;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::client::api::{Api, ApiError};
use crate::client::certificate::{self, Checked, Expected};
use crate::client::state::Pending;
use crate::client::subject::Subject;
use crate::domain::names::{HostName, RequestId, RoleName, Ticket};
use crate::domain::request::State;
use crate::domain::statement::{Claim, Decision, Is, Request, Statement as _, Version, to_bytes};
use crate::domain::text::{Reason, visible};
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::verify::Signed;
use crate::random;
use crate::wire::{Certified, DecisionView, RequestView, StateView, Submitted};

use super::person::{Person, text};
use super::ui::time;
use super::{Context, Exit, Failure};

/// A service that is gone for so many seconds is not waited for any longer.
const PATIENT_TRIES: u32 = 60;
/// So many seconds at most pass until a request that waits for its start is looked at again.
const LOOK_AGAIN: u64 = 60;

/// What is asked for.
pub(super) struct Wish {
    pub(super) role: RoleName,
    /// The role's default where it is `None`.
    pub(super) seconds: Option<Seconds>,
    /// The role's where it is empty.
    pub(super) hosts: Vec<HostName>,
    pub(super) ticket: Option<Ticket>,
    pub(super) reason: Reason,
    pub(super) start: Option<Timestamp>,
    pub(super) extends: Option<RequestId>,
}

/// A request that was sent, and the key that it is for.
pub(super) struct Asked {
    pub(super) pending: Pending,
    pub(super) subject: Subject,
    pub(super) view: RequestView,
}

/// Asks, with a fresh subject key. Nothing of it is kept yet.
pub(super) fn ask(person: &mut Person<'_>, wish: Wish) -> Result<Asked, Failure> {
    let (instance, name, nonce, at) = person.preamble()?;
    let subject = Subject::new(&Zeroizing::new(random::bytes()))?;
    let id = random::request_id();
    echo(person, &wish, at);
    let request = Request {
        v: Version,
        kind: Is,
        instance,
        person: name.clone(),
        id: id.clone(),
        role: wish.role.clone(),
        principals: Vec::new(),
        hosts: wish.hosts.clone(),
        key: subject.public().clone(),
        seconds: wish.seconds,
        start: wish.start,
        extends: wish.extends.clone(),
        ticket: wish.ticket,
        reason: wish.reason,
        nonce,
        at,
    };
    let signed = person.sign(&request)?;
    let submitted: Submitted = person.service.api.post("/v1/requests", &signed)?;
    let pending = Pending {
        id,
        person: name,
        role: wish.role,
        digest: Signed::try_from(&signed)?.digest(),
        key: subject.public().clone(),
        seconds: wish.seconds,
        hosts: wish.hosts,
        waiter: submitted.waiter,
        certificate: None,
        emergency: None,
        extends: wish.extends,
    };
    Ok(Asked { pending, subject, view: submitted.request })
}

/// Says when it would end, before it is signed: a slip of the length is seen here, or never.
fn echo(person: &Person<'_>, wish: &Wish, now: Timestamp) {
    let Some(seconds) = wish.seconds else { return };
    let begin = wish.start.unwrap_or(now);
    let until = time(begin.plus(i64::from(seconds.get())), now);
    let from = wish.start.map_or_else(|| "if it begins now".to_owned(), |start| format!("from {}", time(start, now)));
    person.context.ui.say(format_args!("{} for {seconds}: until {until}, {from}", wish.role));
}

/// Keeps a request and its key for a later process.
pub(super) fn keep(person: &Person<'_>, asked: &Asked) -> Result<(), Failure> {
    let (pending, state) = (&asked.pending, &person.service.state);
    state.set_pending(pending)?;
    let lifetime = last_moment(&asked.view).since(asked.view.at);
    let lifetime = u32::try_from(lifetime).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let comment = format!("ssh-jit {}", pending.id);
    asked.subject.keep(person.agent().as_mut(), &state.key_path(&pending.id), &comment, lifetime)?;
    Ok(())
}

/// Says who is waited for, and how many of them must agree, where one is not enough.
pub(super) fn announce(person: &Person<'_>, view: &RequestView) -> Result<(), Failure> {
    if let StateView::Requested { decide_by, .. } = &view.state {
        let names: Vec<String> = view.approvers.iter().map(ToString::to_string).collect();
        let (names, until) = (names.join(", "), time(*decide_by, person.now()?));
        let several = view.terms.as_ref().is_some_and(|terms| terms.approvals > 1);
        let needs = if several { format!("{}; ", needed(view)) } else { String::new() };
        person.context.ui.say(format_args!("waiting for {names}... ({needs}request {}; lapses {until})", view.id));
        if let Some(overdue) = &view.overdue_review {
            person.context.ui.say(format_args!("nobody would be asked {overdue}"));
        }
    }
    Ok(())
}

/// How many of those who may approve must: `2 of 3`, or list by list, `1 of dba and 1 of security`.
pub(super) fn needed(view: &RequestView) -> String {
    match view.terms.as_ref() {
        Some(terms) if terms.needs.len() > 1 => terms.needs.join(" and "),
        terms => format!("{} of {}", terms.map_or(0, |terms| terms.approvals), view.approvers.len()),
    }
}

/// When the request will have lapsed, whatever happens.
fn last_moment(view: &RequestView) -> Timestamp {
    match &view.state {
        StateView::Requested { decide_by, .. } => {
            let from = view.start.map_or(*decide_by, |start| start.max(*decide_by));
            from.plus(view.terms.as_ref().map_or(0, |t| t.claim_within))
        }
        StateView::Approved { claim_by } => *claim_by,
        _ => view.at,
    }
}

/// What it takes to wait for a request; a thread may have it.
pub(super) struct Waiting {
    context: Context,
    api: Api,
    ahead: i64,
    path: String,
    waiter: String,
}

impl Waiting {
    pub(super) fn of(person: &Person<'_>, pending: &Pending) -> Self {
        Self {
            context: person.context.clone(),
            api: person.service.api.clone(),
            ahead: person.service.ahead(),
            path: format!("/v1/requests/{}/wait", pending.id),
            waiter: pending.waiter.clone(),
        }
    }

    /// Waits until the request is decided, and says by whom.
    pub(super) fn decided(&self, mut view: RequestView) -> Result<RequestView, Failure> {
        while matches!(view.state, StateView::Requested { .. }) {
            view = self.look(&self.path)?;
        }
        for decision in &view.decisions {
            self.context.ui.say(told(decision, &view));
        }
        Ok(view)
    }

    /// Waits until a request that is approved may be claimed. It may end meanwhile, too.
    pub(super) fn begun(&self, mut view: RequestView) -> Result<RequestView, Failure> {
        if let Some(start) = view.start.filter(|_| self.begins_later(&view)) {
            self.context.ui.say(format_args!("approved; begins {}", time(start, self.now())));
        }
        while let Some(start) = view.start.filter(|_| self.begins_later(&view)) {
            let left = start.since(self.now()).unsigned_abs();
            // A clock may be set, and a machine suspended: no sleep is trusted for long.
            std::thread::sleep(Duration::from_secs(left.min(LOOK_AGAIN)));
            view = self.look(&format!("{}?seconds=0", self.path))?;
        }
        Ok(view)
    }

    /// Whether it is approved, and its start is not yet there.
    pub(super) fn begins_later(&self, view: &RequestView) -> bool {
        matches!(view.state, StateView::Approved { .. }) && view.start.is_some_and(|start| start > self.now())
    }

    fn now(&self) -> Timestamp {
        self.context.clock.now().second().plus(self.ahead)
    }

    /// One question, answered when something happens. A service that restarts meanwhile is waited for.
    fn look(&self, path: &str) -> Result<RequestView, Failure> {
        let mut tries = 0;
        loop {
            match self.api.get_as(path, &self.waiter) {
                Err(ApiError::Unreachable { .. }) if tries < PATIENT_TRIES => {
                    if tries == 0 {
                        self.context.ui.say("the service does not answer; the request is kept, and asked about again");
                    }
                    tries += 1;
                    std::thread::sleep(Duration::from_secs(1));
                }
                answer => return Ok(answer?),
            }
        }
    }
}

fn told(decision: &DecisionView, view: &RequestView) -> String {
    let comment = match decision.comment.as_str() {
        "" => String::new(),
        text => format!(": \"{}\"", visible(text)),
    };
    let asked = view.terms.as_ref().map(|t| t.seconds);
    let narrowed =
        asked.filter(|asked| *asked != decision.seconds).map(|asked| format!(" (asked {asked})")).unwrap_or_default();
    match decision.decision {
        Decision::Approve => format!("{} approved {}{narrowed}{comment}", decision.person, decision.seconds),
        Decision::Deny => format!("{} denied{comment}", decision.person),
    }
}

/// Why a request that ended gives no certificate.
pub(super) fn ended(view: &RequestView) -> Failure {
    let name = State::from(view.state.clone()).name();
    let exit = match view.state {
        StateView::Denied => Exit::Denied,
        StateView::Lapsed { .. } => Exit::Lapsed,
        StateView::Revoked { .. } => Exit::Revoked,
        _ => Exit::Failed,
    };
    let failure = Failure::new(format!("request {} is {name}", view.id)).exit(exit);
    let again = format!("ssh-jit login {} --reason \"{}\"", view.role, visible(view.reason.as_str()));
    Failure { code: name.to_owned(), ..failure.hint(again) }
}

/// Claims what was approved, and checks what comes.
pub(super) fn claim(
    person: &Person<'_>,
    pending: &Pending,
    subject: &mut Subject,
    view: &RequestView,
) -> Result<(Certified, Checked), Failure> {
    let (instance, name, nonce, at) = person.preamble()?;
    let claim = Claim {
        v: Version,
        kind: Is,
        instance,
        person: name,
        request: pending.digest,
        id: pending.id.clone(),
        key: pending.key.fingerprint(),
        nonce,
        at,
    };
    let bytes = to_bytes(&claim);
    let signature = subject.sign(Claim::KIND.namespace(), &bytes)?;
    let issued: Certified = person.service.api.post("/v1/claims", &text(bytes, &signature))?;
    let told = view.terms.as_ref();
    let (key_id, now) = (format!("ssh-jit/{}/{}/{}/", pending.id, pending.person, pending.role), person.now()?);
    let checked = person.checked(|trust| {
        let expected = Expected {
            cas: &trust.user_ca,
            key: &pending.key,
            key_id: &key_id,
            principals: told.map_or(&[], |terms| &terms.principals),
            hosts: &pending.hosts,
            // What the person typed counts, whatever the service says that it was.
            longest: told.map(|terms| terms.seconds).into_iter().chain(pending.seconds).min(),
            now,
        };
        certificate::check(&issued.certificate, &expected)
    })?;
    Ok((issued, checked))
}
