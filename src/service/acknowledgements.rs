//! Acknowledgements: somebody says that they have heard of broken glass, and nobody is told again.

use std::sync::Arc;

use crate::domain::event::{Event, EventKind};
use crate::domain::names::{PersonName, RequestId, RoleName};
use crate::domain::policy::{Duty, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{Acknowledgement, BreakGlass, Kind};
use crate::domain::time::Moment;
use crate::domain::verify::{Signed, Verified};
use crate::store::emergencies::Emergency;
use crate::store::{Tx, emergencies, events, statements};

use super::{Caller, EmergencyInfo, Error, Service};

/// Broken glass of so many seconds ago may still be told of.
const TOLD_FOR: i64 = 8 * 24 * 3600;

impl Service {
    /// Somebody other than whoever broke the glass has heard of it.
    pub async fn acknowledge(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        self.audited(Kind::Acknowledgement, &signed, async {
            if let Err(error) = self.import_journal().await {
                tracing::error!(%error, "the journal was not imported; only what was before can be acknowledged");
            }
            let (now, policy) = (self.clock.now(), self.policy());
            let said = self.accept::<Acknowledgement>(&policy, &signed, now).await?;
            let id = said.get().id.clone();
            self.store.write(move |tx| acknowledged(tx, &policy, &said, now)).await?;
            self.glass.alerts().heard(&id);
            self.waiters.wake_all();
            Ok(())
        })
        .await
    }

    /// Whether this reader's word would count that they have heard of it.
    pub fn may_acknowledge(&self, caller: &Caller, used: &EmergencyInfo) -> bool {
        let said = &used.statement;
        may_acknowledge(&self.policy(), &caller.person, &said.person, &said.role).is_ok()
    }

    /// Nobody is told again of what somebody has heard of: at the start. A row alone says nothing.
    pub(super) async fn recall_heard(&self) -> Result<(), Error> {
        let since = self.clock.now().second().plus(-TOLD_FOR);
        let heard = self.store.read(move |tx| {
            let used = emergencies::since(tx, since)?;
            let heard = used.iter().filter(|used| is_proven(tx, used)).map(|used| used.id.clone());
            Ok::<_, Error>(heard.collect::<Vec<RequestId>>())
        });
        heard.await?.iter().for_each(|id| self.glass.alerts().heard(id));
        Ok(())
    }
}

/// Whether somebody signed that they have heard of it.
fn is_proven(tx: &mut Tx<'_>, used: &Emergency) -> bool {
    let Some(signed) = used.acknowledgement.and_then(|digest| statements::load(tx, &digest).ok()) else { return false };
    let said = signed.claims::<Acknowledgement>();
    said.is_ok_and(|said| said.break_glass == used.signed.digest()) && signed.signature().check(signed.bytes()).is_ok()
}

fn acknowledged(tx: &mut Tx<'_>, policy: &Policy, said: &Verified<Acknowledgement>, now: Moment) -> Result<(), Error> {
    let (person, id) = (&said.get().person, &said.get().id);
    let emergency = emergencies::load(tx, id)?.ok_or(Refusal::UnknownRequest)?;
    let used: BreakGlass = emergency.signed.claims()?;
    if emergency.signed.digest() != said.get().break_glass {
        return Err(Refusal::OtherRequest.into());
    }
    may_acknowledge(policy, person, &used.person, &used.role)?;
    statements::spend(tx, Kind::Acknowledgement, said.signed())?;
    if !emergencies::acknowledge(tx, id, &said.digest())? {
        return Err(Refusal::NotPending { state: "acknowledged" }.into());
    }
    let event = Event {
        person: Some(person.clone()),
        request: Some(id.clone()),
        role: Some(used.role),
        serial: Some(emergency.serial),
        statement: Some(said.digest()),
        policy: Some(policy.digest()),
        ..Event::new(EventKind::Acknowledged, now)
    };
    events::append(tx, event)?;
    Ok(())
}

/// Those who are told: whoever may decide on the role, or has a duty. Nobody hears for themselves, and no machine does.
fn may_acknowledge(policy: &Policy, person: &PersonName, user: &PersonName, role: &RoleName) -> Result<(), Refusal> {
    if person == user {
        return Err(Refusal::SelfApproval);
    }
    let duties = [Duty::Reviewers, Duty::Revokers, Duty::Admins, Duty::Auditors];
    let decides = policy.roles().get(role).is_some_and(|role| role.approvers.contains(person));
    if policy.decides(person) && (decides || duties.iter().any(|duty| policy.has_duty(person, *duty))) {
        return Ok(());
    }
    Err(Refusal::NotApprover { person: person.clone(), role: role.clone() })
}
