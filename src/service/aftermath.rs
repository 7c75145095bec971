//! What stays wrong after broken glass until somebody mends it, and who is told: reviews that are overdue, people who
//! need the glass too often, emergency keys that nobody practises with. Told again each week.

use std::sync::Arc;

use crate::domain::event::{Event, EventKind};
use crate::domain::journal::{Entry, Outcome};
use crate::domain::names::PersonName;
use crate::domain::notice::{News, Notice, Reader};
use crate::domain::overuse::{Overuse, Used, overuse};
use crate::domain::policy::{Duty, Policy};
use crate::domain::statement::BreakGlass;
use crate::domain::time::{Moment, Timestamp};
use crate::notify::Outbox;
use crate::random;
use crate::store::emergencies::{self, Emergency};
use crate::store::{StoreError, Tx, drills, events};

use super::notices::addresses;
use super::{Error, OpenReview, Proof, Service, Unproven};

/// What stays as it is is told again after so many seconds.
const AGAIN: i64 = 7 * 86_400;
/// Overuse is counted over so many seconds.
const LONGEST_COUNT: i64 = 30 * 86_400;

/// How things stand with broken glass.
#[derive(Debug, Clone)]
pub struct Aftermath {
    /// What waits for a review, the first one due first.
    pub reviews: Vec<OpenReview>,
    /// Who breaks the glass too often now.
    pub overuse: Vec<Overuse>,
    /// Whether breaking the glass was shown to work, where the policy has it practised.
    pub proof: Option<Proof>,
}

impl Service {
    /// How things stand. Everybody hears of it.
    pub async fn aftermath(&self) -> Result<Aftermath, Error> {
        let (policy, now) = (self.policy(), self.clock.now().second());
        let uses = self.store.read(move |tx| emergencies::since(tx, now.plus(-LONGEST_COUNT))).await?;
        let overuse = overuse(&policy, &used(&uses), now);
        Ok(Aftermath { reviews: self.open_reviews(), overuse, proof: self.proof().await? })
    }

    /// Tells of reviews that are overdue and of keys that nobody practises with: once, and again each week.
    pub(super) async fn press(&self, now: Moment) -> Result<(), Error> {
        let overdue: Vec<OpenReview> = self.open_reviews().into_iter().filter(|open| open.overdue).collect();
        let unproven = self.proof().await?.map(|proof| proof.unproven).unwrap_or_default();
        if overdue.is_empty() && unproven.is_empty() {
            return Ok(());
        }
        let (outbox, policy) = (Arc::clone(&self.outbox), self.policy());
        // A look first: nothing is written in most sweeps.
        let work = self.store.read(move |tx| {
            let overdue = due_again(tx, overdue, now.second(), review_subject)?;
            Ok::<_, StoreError>((overdue, due_again(tx, unproven, now.second(), drill_subject)?))
        });
        let (overdue, unproven) = work.await?;
        if overdue.is_empty() && unproven.is_empty() {
            return Ok(());
        }
        let press = move |tx: &mut Tx<'_>| {
            for open in &overdue {
                tell_of_overdue_review(&outbox, tx, &policy, open, now)?;
            }
            for key in &unproven {
                tell_of_overdue_drill(&outbox, tx, &policy, key, now)?;
            }
            Ok::<_, Error>(())
        };
        self.store.write(press).await
    }
}

fn review_subject(open: &OpenReview) -> String {
    format!("review/{}", open.used.id)
}

fn drill_subject(key: &Unproven) -> String {
    format!("drill/{}", key.key)
}

/// Those that were not raised within a week.
fn due_again<T>(
    tx: &mut Tx<'_>,
    all: Vec<T>,
    now: Timestamp,
    subject: impl Fn(&T) -> String,
) -> Result<Vec<T>, StoreError> {
    let mut due = Vec::new();
    for one in all {
        if drills::raised(tx, &subject(&one))?.is_none_or(|last| now.since(last) >= AGAIN) {
            due.push(one);
        }
    }
    Ok(due)
}

/// To whoever can close the review, and to those who decide on the role.
fn tell_of_overdue_review(
    outbox: &Outbox,
    tx: &mut Tx<'_>,
    policy: &Policy,
    open: &OpenReview,
    now: Moment,
) -> Result<(), Error> {
    drills::raise(tx, &review_subject(open), now.second())?;
    let used = &open.used;
    events::append(
        tx,
        Event {
            person: Some(used.person.clone()),
            request: Some(used.id.clone()),
            role: Some(used.role.clone()),
            serial: Some(used.serial),
            ..Event::new(EventKind::ReviewOverdue, now)
        },
    )?;
    let Some(emergency) = emergencies::load(tx, &used.id)? else { return Ok(()) };
    let said: BreakGlass = emergency.signed.claims()?;
    let news = News::ReviewOverdue { due: open.due };
    let notice = Notice { news, ..Notice::of_emergency(&said, None, now.second()) };
    Ok(outbox.insert(tx, &notice, &concerned(policy, &said), now.second())?)
}

/// To whoever has the key, and to administrators.
fn tell_of_overdue_drill(
    outbox: &Outbox,
    tx: &mut Tx<'_>,
    policy: &Policy,
    key: &Unproven,
    now: Moment,
) -> Result<(), Error> {
    drills::raise(tx, &drill_subject(key), now.second())?;
    let Some(plan) = policy.drill() else { return Ok(()) };
    let detail = Some(key.key.to_string());
    let (person, role) = (Some(key.person.clone()), Some(plan.role.clone()));
    events::append(tx, Event { person, role, detail, ..Event::new(EventKind::DrillOverdue, now) })?;
    // Nothing happened that has an id, so the notice gets one of its own.
    let notice = Notice::of_overdue_drill(random::request_id(), &key.person, plan, key.last, now.second())?;
    let admins = policy.people().keys().filter(|name| **name != key.person && policy.has_duty(name, Duty::Admins));
    let people: Vec<_> = addresses(policy, Reader::Requester, [&key.person])
        .chain(addresses(policy, Reader::Reviewer, admins))
        .collect();
    Ok(outbox.insert(tx, &notice, &people, now.second())?)
}

/// One more use may be one too many, of its person or of a group of theirs.
pub(super) fn tell_of_overuse(outbox: &Outbox, tx: &mut Tx<'_>, policy: &Policy, entry: &Entry) -> Result<(), Error> {
    let Outcome::Issued { .. } = entry.outcome else { return Ok(()) };
    let said: BreakGlass = entry.signed()?.claims()?;
    if said.drill.is_some() {
        return Ok(());
    }
    let at = entry.at.second();
    let uses = emergencies::since(tx, at.plus(-LONGEST_COUNT))?;
    let theirs = |overuse: &Overuse| {
        overuse.who == said.person.as_str() || policy.teams(&said.person).any(|group| group.as_str() == overuse.who)
    };
    for overuse in overuse(policy, &used(&uses), at).into_iter().filter(theirs) {
        let event = Event {
            person: Some(said.person.clone()),
            request: Some(said.id.clone()),
            role: Some(said.role.clone()),
            detail: Some(overuse.to_string()),
            ..Event::new(EventKind::BreakGlassOveruse, entry.at)
        };
        events::append(tx, event)?;
        let notice = Notice { news: News::Overuse(overuse), ..Notice::of_emergency(&said, None, at) };
        outbox.insert(tx, &notice, &concerned(policy, &said), at)?;
    }
    Ok(())
}

/// Real uses; drills are none.
fn used(uses: &[Emergency]) -> Vec<Used> {
    let real = |emergency: &Emergency| {
        let said: BreakGlass = emergency.signed.claims().ok()?;
        said.drill.is_none().then_some(Used { person: said.person, role: said.role, at: emergency.at })
    };
    uses.iter().filter_map(real).collect()
}

/// Who answers for a use: those who decide on its role, and those who close reviews; never whoever it was.
fn concerned(policy: &Policy, said: &BreakGlass) -> Vec<(Reader, crate::domain::names::MailAddress)> {
    let (first, behind) = policy.deciders(&said.role, &said.person);
    let approvers: Vec<PersonName> = first.into_iter().chain(behind).collect();
    let reviews = |name: &&PersonName| {
        **name != said.person && policy.has_duty(name, Duty::Reviewers) && !approvers.contains(*name)
    };
    let reviewers = policy.people().keys().filter(reviews);
    addresses(policy, Reader::Approver, &approvers).chain(addresses(policy, Reader::Reviewer, reviewers)).collect()
}
