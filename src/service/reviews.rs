//! Reviews: every broken glass opens one, and somebody else must close it.

use std::sync::Arc;

use crate::domain::event::{Event, EventKind};
use crate::domain::policy::{Duty, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{BreakGlass, Kind, Review};
use crate::domain::time::Moment;
use crate::domain::verify::{Signed, Verified};
use crate::store::{Tx, emergencies, events, statements};

use super::{Error, Service};

impl Service {
    /// Closes the review that a break-glass opened: somebody else says what it was.
    pub async fn review(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        self.audited(Kind::Review, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let review = self.accept::<Review>(&policy, &signed, now).await?;
            self.store.write(move |tx| reviewed(tx, &policy, &review, now)).await?;
            self.waiters.wake_all();
            Ok(())
        })
        .await
    }
}

fn reviewed(tx: &mut Tx<'_>, policy: &Policy, review: &Verified<Review>, now: Moment) -> Result<(), Error> {
    let said = review.get();
    if !policy.has_duty(&said.person, Duty::Reviewers) {
        return Err(Refusal::NoDuty { duty: "reviewers" }.into());
    }
    let emergency = emergencies::load(tx, &said.id)?.ok_or(Refusal::UnknownRequest)?;
    let used: BreakGlass = emergency.signed.claims()?;
    if emergency.signed.digest() != said.break_glass {
        return Err(Refusal::OtherRequest.into());
    }
    if used.person == said.person {
        return Err(Refusal::SelfApproval.into());
    }
    statements::spend(tx, Kind::Review, review.signed())?;
    if !emergencies::close_review(tx, &said.id, &review.digest())? {
        return Err(Refusal::NotPending { state: "reviewed" }.into());
    }
    let event = Event {
        person: Some(said.person.clone()),
        request: Some(said.id.clone()),
        role: Some(used.role),
        serial: Some(emergency.serial),
        statement: Some(review.digest()),
        policy: Some(policy.digest()),
        detail: Some(said.outcome.to_string()),
        ..Event::new(EventKind::Reviewed, now)
    };
    events::append(tx, event)?;
    Ok(())
}
