//! Who is told what. Each of these writes into the transaction of what it tells of, so that nothing is told that did
//! not happen, and nothing that happened is forgotten in a crash; where no channel is configured, none does anything.

use std::sync::Arc;

use lettre::transport::smtp::authentication::Credentials;
use tokio::task::JoinSet;

use crate::config::{ChannelConfig, SmtpTls, Via as Configured};
use crate::domain::alarm::Alarm;
use crate::domain::event::{Event, EventKind};
use crate::domain::journal::{Entry, Outcome};
use crate::domain::names::{ChannelName, MailAddress, PersonName, RequestId};
use crate::domain::notice::{News, Notice, Reader, Waiting};
use crate::domain::policy::{Duty, Policy, Terms};
use crate::domain::request::State;
use crate::domain::statement::{Approval, BreakGlass, Decision, Dependency, Request, Revocation};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::Verified;
use crate::notify::{Channel, Mail, Outbox, Security, Slack, Via, Webhook};
use crate::outgoing;
use crate::store::outbox::{self, Health, Step};
use crate::store::requests::{self, Stored};
use crate::store::{Tx, events};

use super::cases::Case;
use super::uses::MAY_HEAR;
use super::{Error, Service, Settings};

/// So many people are told again in one transaction.
const BATCH: u32 = 200;
/// A drill without mail has its alerts wait for so many seconds.
const MAIL_DOWN_FOR: i64 = 60;

/// A channel and how it does.
#[derive(Debug, Clone)]
pub struct ChannelInfo {
    /// What the operator calls it.
    pub name: ChannelName,
    /// What it speaks.
    pub kind: &'static str,
    /// How it does.
    pub health: Health,
}

/// The channels that an operator set.
pub(super) fn outbox(settings: &Settings) -> Outbox {
    Outbox::new(settings.notify.iter().cloned().map(channel).collect(), &settings.origin)
}

fn channel(config: ChannelConfig) -> Channel {
    let ChannelConfig { name, via, allow, authorities, within } = config;
    let allow: Arc<[_]> = allow.into();
    let agent = || outgoing::guarded_agent(authorities.clone(), within, Arc::clone(&allow));
    let via = match via {
        Configured::Webhook { url, key } => Via::Webhook(Webhook::new(agent(), url, key.into_inner())),
        Configured::Slack { url } => Via::Slack(Slack::new(agent(), url.into_inner())),
        Configured::Smtp { host, port, tls, from, login } => Via::Mail(Mail {
            host,
            port,
            security: match tls {
                SmtpTls::Starttls => Security::Starttls,
                SmtpTls::Implicit => Security::Implicit,
                SmtpTls::None => Security::Plain,
            },
            from,
            login: login.map(|(name, password)| Credentials::new(name, password.expose().clone())),
            authorities: authorities.map(|roots| roots.iter().map(|root| root.der().to_vec()).collect()),
            allow,
        }),
    };
    Channel::new(name, via, within)
}

impl Service {
    /// Delivers what is to be told, for ever. Whoever ends this ends it whole.
    pub async fn deliver(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        for channel in self.outbox.channels() {
            let (service, channel) = (Arc::clone(&self), Arc::clone(channel));
            workers.spawn(async move {
                service.outbox.deliver(&channel, &service.store, || service.clock.now()).await;
            });
        }
        while workers.join_next().await.is_some() {}
    }

    /// The channels, and how each does.
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, Error> {
        if self.outbox.is_empty() {
            return Ok(Vec::new());
        }
        let known: Vec<_> =
            self.outbox.channels().iter().map(|channel| (channel.name.clone(), channel.kind())).collect();
        self.store
            .read(move |tx| {
                let look =
                    |(name, kind): (ChannelName, _)| Ok(ChannelInfo { health: outbox::health(tx, &name)?, name, kind });
                known.into_iter().map(look).collect()
            })
            .await
    }

    /// A request came in: those who can decide hear of it, and the requester hears who they are.
    pub(super) fn tell_of_request(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        asked: &Request,
        terms: &Terms,
        decide_by: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let notice = |news| Notice::of(asked, Some(terms), news, now);
        if terms.approvals() == 0 {
            return Ok(self.outbox.insert(tx, &notice(News::ApprovedAutomatically), &[], now)?);
        }
        let (first, behind) = policy.deciders(&asked.role, &asked.person);
        let deciders = first.iter().chain(&behind).cloned().collect();
        let waiting = Waiting { decide_by, needed: terms.approvals(), deciders };
        let people = addresses(policy, Reader::Approver, &first)
            .chain(addresses(policy, Reader::Requester, [&asked.person]))
            .collect::<Vec<_>>();
        self.outbox.insert(tx, &notice(News::Requested(waiting)), &people, now)?;
        let Some(role) = policy.roles().get(&asked.role) else { return Ok(()) };
        outbox::remind(tx, &asked.id, Step::Remind, now.plus(role.remind_after.seconds()))?;
        if !behind.is_empty() {
            outbox::remind(tx, &asked.id, Step::Escalate, now.plus(role.escalate_after.seconds()))?;
        }
        Ok(())
    }

    /// Somebody decided: the requester hears of it, and once nothing waits any more so do the others who could.
    pub(super) fn tell_of_decision(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        case: &Case,
        said: &Approval,
        next: &State,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let (by, comment) = (said.person.clone(), said.comment.clone());
        let terms = policy.scope(&case.request.get().into());
        let before = case.approvals.iter().map(|approval| approval.get().person.clone());
        let agreed: Vec<PersonName> = before.chain([by.clone()]).collect();
        let news = match said.decision {
            Decision::Deny => News::Denied { by, comment },
            Decision::Approve => News::Approved {
                by,
                comment,
                have: terms.as_ref().map_or(1, |terms| terms.quorum.given_by(&agreed)),
                needed: terms.as_ref().map_or(1, Terms::approvals),
                claim_by: if let State::Approved { claim_by } = next { Some(*claim_by) } else { None },
            },
        };
        let terms = terms.map(|terms| left_of(terms, case, said));
        let notice = Notice::of(case.request.get(), terms.as_ref(), news, now);
        let requester = addresses(policy, Reader::Requester, [&case.request.get().person]);
        if matches!(next, State::Requested { .. }) {
            return Ok(self.outbox.insert(tx, &notice, &requester.collect::<Vec<_>>(), now)?);
        }
        let told = told_of(tx, policy, case.request.get())?;
        let others = told.iter().filter(|name| **name != said.person);
        let people = addresses(policy, Reader::Approver, others).chain(requester).collect::<Vec<_>>();
        self.outbox.insert(tx, &notice, &people, now)?;
        untold(tx, &said.id)
    }

    /// A request is over because its requester says so: those who were told that it waits hear of it.
    pub(super) fn tell_of_end(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        case: &Case,
        news: News,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let asked = case.request.get();
        let notice = Notice::of(asked, policy.scope(&asked.into()).as_ref(), news, now);
        let told = match case.state {
            State::Requested { .. } => told_of(tx, policy, asked)?,
            _ => Vec::new(),
        };
        self.outbox.insert(tx, &notice, &addresses(policy, Reader::Approver, &told).collect::<Vec<_>>(), now)?;
        untold(tx, &asked.id)
    }

    /// Somebody with the duty ended a request: its requester hears of it.
    pub(super) fn tell_of_revocation(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        asked: &Request,
        said: &Revocation,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let news = News::Revoked { by: said.person.clone(), why: said.reason.clone() };
        let notice = Notice::of(asked, policy.scope(&asked.into()).as_ref(), news, now);
        let people = addresses(policy, Reader::Requester, [&asked.person]).collect::<Vec<_>>();
        self.outbox.insert(tx, &notice, &people, now)?;
        untold(tx, &asked.id)
    }

    /// Has those told again who have not decided, and those who stand behind them. Gives how many requests it was.
    pub(super) async fn remind(&self, now: Moment) -> Result<usize, Error> {
        if self.outbox.is_empty() {
            return Ok(0);
        }
        let (outbox, policy) = (Arc::clone(&self.outbox), self.policy());
        self.store
            .write(move |tx| {
                let due = outbox::due(tx, now.second(), BATCH)?;
                for (id, step) in &due {
                    remind(&outbox, tx, &policy, id, *step, now)?;
                }
                Ok(due.len())
            })
            .await
    }
}

/// The glass was broken: the rooms hear of it, and whoever can approve the role or closes reviews.
pub(super) fn tell_of_emergency(outbox: &Outbox, tx: &mut Tx<'_>, policy: &Policy, entry: &Entry) -> Result<(), Error> {
    let (Outcome::Issued { .. }, false) = (&entry.outcome, outbox.is_empty()) else { return Ok(()) };
    let signed = entry.signed()?;
    let said: BreakGlass = signed.claims()?;
    let terms = policy
        .emergency_key(&said.person, signed.signature().key())
        .and_then(|key| policy.emergency_terms(key, &said.role, &said.hosts, &said.principals, said.seconds));
    let notice = Notice::of_emergency(&said, terms.ok().as_ref(), entry.at.second());
    let (first, behind) = policy.deciders(&said.role, &said.person);
    let without = said.drill.as_deref().unwrap_or_default();
    let approvers: Vec<_> = first.into_iter().chain(behind).collect();
    let told = if without.contains(&Dependency::ApproversAway) { &[][..] } else { &approvers };
    let reviews = |name: &&PersonName| {
        **name != said.person && policy.has_duty(name, Duty::Reviewers) && !approvers.contains(*name)
    };
    let reviewers = policy.people().keys().filter(reviews);
    let people = addresses(policy, Reader::Approver, told)
        .chain(addresses(policy, Reader::Reviewer, reviewers))
        .collect::<Vec<_>>();
    let late = if without.contains(&Dependency::MailDown) { MAIL_DOWN_FOR } else { 0 };
    Ok(outbox.insert(tx, &notice, &people, entry.at.second().plus(late))?)
}

/// A host was opened by a certificate that the log does not know: the rooms hear of it, and whoever may
/// read of it.
pub(super) fn tell_of_alarm(
    outbox: &Outbox,
    tx: &mut Tx<'_>,
    policy: &Policy,
    alarm: &Alarm,
    now: Timestamp,
) -> Result<(), Error> {
    let officers = policy.people().keys().filter(|name| MAY_HEAR.iter().any(|duty| policy.has_duty(name, *duty)));
    let people = addresses(policy, Reader::Officer, officers).collect::<Vec<_>>();
    Ok(outbox.insert(tx, alarm, &people, now)?)
}

/// Time ended a request that nobody decided or started: the requester hears of it.
pub(super) fn tell_of_lapse(
    outbox: &Outbox,
    tx: &mut Tx<'_>,
    policy: &Policy,
    stored: &Stored,
    now: Timestamp,
) -> Result<(), Error> {
    if outbox.is_empty() {
        return Ok(());
    }
    let asked: Request = stored.signed.claims()?;
    let news = News::Lapsed { approved: matches!(stored.state, State::Approved { .. }) };
    let notice = Notice::of(&asked, policy.scope(&(&asked).into()).as_ref(), news, now);
    let people = addresses(policy, Reader::Requester, [&asked.person]).collect::<Vec<_>>();
    outbox.insert(tx, &notice, &people, now)?;
    untold(tx, &asked.id)
}

fn remind(
    outbox: &Outbox,
    tx: &mut Tx<'_>,
    policy: &Policy,
    id: &RequestId,
    step: Step,
    now: Moment,
) -> Result<(), Error> {
    // Taken first, and in the transaction of what it leads to: once, also over restarts.
    if !outbox::take(tx, id, step)? {
        return Ok(());
    }
    let Some(stored) = requests::load(tx, id)? else { return Ok(()) };
    let asked: Request = stored.signed.claims()?;
    let State::Requested { decide_by, approved_by } = stored.state.at(now.second()) else { return Ok(()) };
    let Some(terms) = policy.scope(&(&asked).into()) else { return Ok(()) };
    let (first, behind) = policy.deciders(&asked.role, &asked.person);
    let told = if step == Step::Remind { &first } else { &behind };
    let people: Vec<_> =
        addresses(policy, Reader::Approver, told.iter().filter(|name| !approved_by.contains(name))).collect();
    let deciders = first.iter().chain(&behind).filter(|name| !approved_by.contains(name)).cloned().collect();
    let waiting = Waiting { decide_by, needed: terms.approvals(), deciders };
    let (news, kind) = match step {
        Step::Remind => (News::Reminded(waiting), EventKind::Reminded),
        Step::Escalate => (News::Escalated(waiting), EventKind::Escalated),
    };
    let notice = Notice::of(&asked, Some(&terms), news, now.second());
    outbox.insert(tx, &notice, &people, now.second())?;
    let event =
        Event { person: Some(asked.person), request: Some(asked.id), role: Some(asked.role), ..Event::new(kind, now) };
    Ok(events::append(tx, event).map(|_| ())?)
}

/// What the approvals leave of what was asked, this one included.
fn left_of(mut terms: Terms, case: &Case, said: &Approval) -> Terms {
    let approvals = || {
        let all = case.approvals.iter().map(Verified::get).chain([said]);
        all.filter(|approval| approval.decision == Decision::Approve)
    };
    terms.seconds = approvals().map(|approval| approval.seconds).min().map_or(terms.seconds, |s| s.min(terms.seconds));
    terms.hosts.retain(|host| approvals().all(|approval| approval.hosts.contains(host)));
    terms.principals.retain(|principal| approvals().all(|approval| approval.principals.contains(principal)));
    terms
}

/// Those who were told that a request waits.
fn told_of(tx: &mut Tx<'_>, policy: &Policy, asked: &Request) -> Result<Vec<PersonName>, Error> {
    let (mut told, behind) = policy.deciders(&asked.role, &asked.person);
    if !outbox::is_to_escalate(tx, &asked.id)? {
        told.extend(behind);
    }
    Ok(told)
}

/// Nobody is told again of a request that waits no longer.
fn untold(tx: &mut Tx<'_>, id: &RequestId) -> Result<(), Error> {
    outbox::take(tx, id, Step::Remind)?;
    outbox::take(tx, id, Step::Escalate)?;
    Ok(())
}

/// Where to write to these people; those without an address are left out.
pub(super) fn addresses<'a>(
    policy: &'a Policy,
    reader: Reader,
    people: impl IntoIterator<Item = &'a PersonName>,
) -> impl Iterator<Item = (Reader, MailAddress)> {
    let address = |name| policy.people().get(name)?.email.clone();
    people.into_iter().filter_map(address).map(move |address| (reader, address))
}
