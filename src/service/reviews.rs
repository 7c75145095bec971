//! Reviews: every broken glass but a drill opens one, and somebody else must close it. The journal says which are open,
//! since certificates depend on it: whoever writes rows of the database closes none.

use std::sync::{Arc, PoisonError};

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::journal::{Entry, Outcome, Replay, Unreviewed};
use crate::domain::names::{PersonName, RequestId};
use crate::domain::policy::{Duty, Overdue, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{BreakGlass, Kind, Review};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::{Signed, Verified};
use crate::store::emergencies::{self, Emergency};
use crate::store::{StoreError, Tx, events, statements};

use super::{Attempt, Caller, Error, Glass, Service};

/// So many open reviews of earlier journals are known.
const MOST: u32 = 500;

/// A use that waits for its review.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of the use")]
pub struct OpenReview {
    pub used: Unreviewed,
    /// When it is overdue.
    pub due: Timestamp,
    pub overdue: bool,
}

impl Service {
    /// Closes the review that a break-glass opened: somebody else says what it was.
    pub async fn review(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        self.audited(Kind::Review, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let review = self.accept::<Review>(&policy, &signed, now).await?;
            let used = self.reviewable(&policy, &review).await?;
            if used.serial.epoch() == self.glass.epoch() {
                let spent = review.clone();
                self.store.write(move |tx| statements::spend(tx, Kind::Review, spent.signed())).await?;
                self.journal_review(Arc::clone(&policy), review, now).await?;
                self.import_journal().await?;
            } else {
                // A journal that is written no more: the database alone remembers it.
                self.store.write(move |tx| reviewed(tx, &policy, &review, now)).await?;
                self.glass.forget_review(&used.id);
            }
            self.waiters.wake_all();
            Ok(())
        })
        .await
    }

    /// The use that this person may close the review of.
    async fn reviewable(&self, policy: &Policy, review: &Verified<Review>) -> Result<Unreviewed, Error> {
        let said = review.get();
        if !policy.has_duty(&said.person, Duty::Reviewers) {
            return Err(Refusal::NoDuty { duty: "reviewers" }.into());
        }
        let open = self.glass.unreviewed().into_iter().find(|open| open.id == said.id);
        let Some(used) = open else { return Err(self.why_not_open(said.id.clone()).await?.into()) };
        if used.digest != said.break_glass {
            return Err(Refusal::OtherRequest.into());
        }
        if used.person == said.person {
            return Err(Refusal::SelfApproval.into());
        }
        Ok(used)
    }

    async fn why_not_open(&self, id: RequestId) -> Result<Refusal, Error> {
        let found = self.store.read(move |tx| emergencies::load(tx, &id)).await?;
        Ok(match found.map(|used| used.signed.claims::<BreakGlass>()).transpose()? {
            None => Refusal::UnknownRequest,
            Some(used) if used.drill.is_some() => {
                Refusal::NotSupported { what: "id: a drill has no review; its report says what it was" }
            }
            Some(_) => Refusal::NotPending { state: "reviewed" },
        })
    }

    /// Makes the review durable, if the use still waits for one.
    async fn journal_review(
        self: &Arc<Self>,
        policy: Arc<Policy>,
        review: Verified<Review>,
        now: Moment,
    ) -> Result<(), Error> {
        let glass = Arc::clone(&self.glass);
        let work = tokio::task::spawn_blocking(move || {
            let mut journal = glass.journal();
            if !journal.replay().unreviewed().contains_key(&review.get().id) {
                return Err(Refusal::NotPending { state: "reviewed" }.into());
            }
            let closing = Attempt { signed: review.signed().clone(), second: None, from: None };
            let entry = glass.entry(&journal, Some(&closing), &policy, now, Outcome::Reviewed);
            glass.commit(&mut journal, &entry)
        });
        work.await.map_err(|e| Error::Setup(format!("writing the review: {e}")))?
    }

    /// Takes over reviews that the database has and the journal does not: from before the journal knew of any. Whoever
    /// signed them must have the duty still.
    pub(super) async fn adopt_reviews(self: &Arc<Self>) -> Result<(), Error> {
        let (service, policy) = (Arc::clone(self), self.policy());
        let mut open = self.glass.unreviewed();
        open.retain(|used| used.serial.epoch() == self.glass.epoch());
        if open.is_empty() {
            return Ok(());
        }
        let found = self.store.read(move |tx| {
            let genuine = |used: &Unreviewed| service.genuine_review(tx, &policy, used).transpose();
            open.iter().filter_map(genuine).collect::<Result<Vec<_>, Error>>()
        });
        for review in found.await? {
            self.journal_review(self.policy(), review, self.clock.now()).await?;
        }
        self.import_journal().await
    }

    /// The review that the row of a use names, if somebody else with the duty signed it for this very use.
    fn genuine_review(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        used: &Unreviewed,
    ) -> Result<Option<Verified<Review>>, Error> {
        let Some(digest) = emergencies::load(tx, &used.id)?.and_then(|row| row.review) else { return Ok(None) };
        let Ok(signed) = statements::load(tx, &digest) else { return Ok(None) };
        let Ok(review) = self.verified::<Review>(tx, &signed) else { return Ok(None) };
        let said = review.get();
        let entitled = policy.has_duty(&said.person, Duty::Reviewers);
        let genuine =
            review.signer(policy).is_ok() && entitled && said.break_glass == used.digest && said.person != used.person;
        Ok(genuine.then_some(review))
    }

    /// Reads what earlier journals left open: the database remembers it. At the start.
    pub(super) async fn recall_unreviewed(&self) {
        let earlier = self.store.read(|tx| emergencies::list(tx, true, MOST)).await;
        let earlier = earlier.unwrap_or_else(|error| {
            tracing::error!(%error, "which reviews earlier journals left open is not known");
            Vec::new()
        });
        self.glass.note_earlier(earlier.into_iter().filter_map(unreviewed));
    }

    /// The reviews that are open, the first one due first.
    pub fn open_reviews(&self) -> Vec<OpenReview> {
        let (policy, now) = (self.policy(), self.clock.now().second());
        let open = |used: Unreviewed| {
            let due = policy.reviews().due(used.at);
            OpenReview { used, due, overdue: due <= now }
        };
        let mut all: Vec<OpenReview> = self.glass.unreviewed().into_iter().map(open).collect();
        all.sort_by_key(|open| open.due);
        all
    }

    /// Whether somebody decides on a role, or closes reviews: what is open is shown to them on every page.
    pub fn answers_for_emergencies(&self, caller: &Caller) -> bool {
        let decides = || self.policy().roles().values().any(|role| role.approvers.contains(&caller.person));
        caller.has_any(&[Duty::Reviewers]) || decides()
    }

    /// The review that is overdue in a person's team, the oldest one first: then nothing is approved for them by itself.
    pub(super) fn overdue(&self, policy: &Policy, person: &PersonName, now: Timestamp) -> Option<Overdue> {
        let open = self.glass.unreviewed.read().unwrap_or_else(PoisonError::into_inner);
        let theirs = open.iter().filter(|used| policy.same_team(&used.person, person));
        let overdue = theirs.map(|used| (policy.reviews().due(used.at), used)).filter(|(due, _)| *due <= now);
        let (due, used) = overdue.min_by_key(|(due, _)| *due)?;
        Some(Overdue { id: used.id.clone(), person: used.person.clone(), due })
    }
}

impl Glass {
    /// What waits for a review, of this journal and of those before.
    fn unreviewed(&self) -> Vec<Unreviewed> {
        self.unreviewed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what this journal says.
    pub(super) fn note_unreviewed(&self, replay: &Replay) {
        let (epoch, mut open) = (self.epoch(), self.unreviewed.write().unwrap_or_else(PoisonError::into_inner));
        open.retain(|used| used.serial.epoch() != epoch);
        open.extend(replay.unreviewed().values().cloned());
    }

    /// Takes over what is known of the journals before.
    fn note_earlier(&self, earlier: impl Iterator<Item = Unreviewed>) {
        let (epoch, mut open) = (self.epoch(), self.unreviewed.write().unwrap_or_else(PoisonError::into_inner));
        open.retain(|used| used.serial.epoch() == epoch);
        open.extend(earlier.filter(|used| used.serial.epoch() != epoch));
    }

    /// The database has the review of this use.
    fn forget_review(&self, id: &RequestId) {
        self.unreviewed.write().unwrap_or_else(PoisonError::into_inner).retain(|open| open.id != *id);
    }
}

fn unreviewed(used: Emergency) -> Option<Unreviewed> {
    let said: BreakGlass = used.signed.claims().ok().filter(|said: &BreakGlass| said.drill.is_none())?;
    let (digest, serial) = (used.signed.digest(), used.serial);
    Some(Unreviewed { id: used.id, person: said.person, role: said.role, digest, serial, at: used.at })
}

/// Copies a review from the journal.
pub(super) fn import(tx: &mut Tx<'_>, entry: &Entry) -> Result<(), Error> {
    let nonsense = || StoreError::nonsense("journal", &entry.seq, "statement");
    let signed = entry.signed().map_err(|_| nonsense())?;
    let review: Review = signed.claims().map_err(|_| nonsense())?;
    let used = emergencies::load(tx, &review.id)?.ok_or_else(nonsense)?;
    if used.review == Some(signed.digest()) {
        // It was there before the journal had it.
        return Ok(());
    }
    statements::keep_again(tx, Kind::Review, &signed)?;
    emergencies::set_review(tx, &review.id, &signed.digest())?;
    record(tx, (&review, &signed), &used, entry.at, entry.policy)
}

fn reviewed(tx: &mut Tx<'_>, policy: &Policy, review: &Verified<Review>, now: Moment) -> Result<(), Error> {
    let said = review.get();
    let used = emergencies::load(tx, &said.id)?.ok_or(Refusal::UnknownRequest)?;
    if used.review.is_some() {
        return Err(Refusal::NotPending { state: "reviewed" }.into());
    }
    statements::spend(tx, Kind::Review, review.signed())?;
    emergencies::set_review(tx, &said.id, &review.digest())?;
    record(tx, (said, review.signed()), &used, now, policy.digest())
}

fn record(
    tx: &mut Tx<'_>,
    (said, signed): (&Review, &Signed),
    used: &Emergency,
    at: Moment,
    policy: Digest,
) -> Result<(), Error> {
    let event = Event {
        person: Some(said.person.clone()),
        request: Some(said.id.clone()),
        role: Some(used.signed.claims::<BreakGlass>()?.role),
        serial: Some(used.serial),
        statement: Some(signed.digest()),
        policy: Some(policy),
        detail: Some(said.outcome.to_string()),
        ..Event::new(EventKind::Reviewed, at)
    };
    events::append(tx, event)?;
    Ok(())
}
