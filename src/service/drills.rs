//! Drills: breaking the glass of the canary role, for practice. Nothing here issues anything: a drill takes the path of
//! every emergency, and what comes of it is a report that its person signs.

use std::sync::Arc;

use crate::domain::digest::Digest;
use crate::domain::drill::{Control, controls, passed};
use crate::domain::event::{Event, EventKind};
use crate::domain::names::{PersonName, RequestId};
use crate::domain::policy::{DrillPlan, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{BreakGlass, Dependency, Drill, Kind};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::usage::Seen;
use crate::domain::verify::{Signed, Verified};
use crate::store::drills::{self, Reported};
use crate::store::{StoreError, Tx, emergencies, events, statements, uses};

use super::{Error, Service};

/// A drill is reported within so many seconds.
const REPORTED_WITHIN: i64 = 3600;
/// So many drills come in one answer.
const MOST: u32 = 500;

/// A drill, as its readers see it.
#[derive(Debug, Clone)]
pub struct DrillInfo {
    /// The break-glass statement.
    pub statement: BreakGlass,
    /// When.
    pub at: Timestamp,
    /// Its report, where there is one.
    pub report: Option<Report>,
    /// The connections that its certificate opened, as hosts say.
    pub uses: Vec<Seen>,
}

/// What was reported of a drill.
#[derive(Debug, Clone)]
pub struct Report {
    /// As its person signed it.
    pub signed: Signed,
    /// Each step, held against what the policy allowed then.
    pub controls: Vec<Control>,
    /// Whether all of them passed.
    pub passed: bool,
}

impl DrillInfo {
    /// What it went without.
    pub fn without(&self) -> &[Dependency] {
        self.statement.drill.as_deref().unwrap_or_default()
    }
}

/// Whether breaking the glass was shown to work.
#[derive(Debug, Clone)]
pub struct Proof {
    /// How it is practised.
    pub plan: DrillPlan,
    /// When a drill last passed, and how long it took to a shell, in milliseconds.
    pub last: Option<(Timestamp, u32)>,
    /// The emergency keys with which none has, in time and with the CA of now.
    pub unproven: Vec<Unproven>,
}

/// An emergency key that nobody has shown to work in time.
#[derive(Debug, Clone)]
pub struct Unproven {
    /// Whose it is.
    pub person: PersonName,
    /// Its fingerprint.
    pub key: Digest,
    /// When a drill with it last passed.
    pub last: Option<Timestamp>,
}

impl Service {
    /// Takes the report of a drill: what each step took, as its person signs it. Gives whether it passed.
    pub async fn report_drill(self: &Arc<Self>, signed: Signed) -> Result<bool, Error> {
        self.import_journal().await?;
        self.audited(Kind::Drill, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let report = self.accept::<Drill>(&policy, &signed, now).await?;
            let ca = self.authority().keys.break_glass_ca.public().fingerprint();
            let passed = self.store.write(move |tx| reported(tx, &policy, &report, ca, now)).await?;
            self.waiters.wake_all();
            Ok(passed)
        })
        .await
    }

    /// The drills, the newest first.
    pub async fn drills(&self) -> Result<Vec<DrillInfo>, Error> {
        let found = self.store.read(|tx| {
            let all = emergencies::list(tx, false, MOST)?;
            all.into_iter().filter_map(|used| drill(tx, &used).transpose()).collect()
        });
        found.await
    }

    /// One drill.
    pub async fn drill(&self, id: &RequestId) -> Result<DrillInfo, Error> {
        let id = id.clone();
        let found = self.store.read(move |tx| {
            let used = emergencies::load(tx, &id)?.ok_or(Refusal::UnknownRequest)?;
            drill(tx, &used)
        });
        found.await?.ok_or_else(|| Refusal::UnknownRequest.into())
    }

    /// Whether breaking the glass was shown to work; nothing where the policy does not have it practised.
    pub async fn proof(&self) -> Result<Option<Proof>, Error> {
        let (policy, now) = (self.policy(), self.clock.now().second());
        let ca = self.authority().keys.break_glass_ca.public().fingerprint();
        let Some(plan) = policy.drill().cloned() else { return Ok(None) };
        let found = self.store.read(move |tx| {
            let last = drills::last_passed(tx)?;
            let last = last.map(|last| Ok::<_, Error>((last.at, last.signed.claims::<Drill>()?))).transpose()?;
            let mut unproven = Vec::new();
            for emergency in policy.emergency_keys().iter().filter(|e| policy.not_revoked(&e.key).is_ok()) {
                let key = emergency.key.fingerprint();
                let last = drills::proven(tx, &key, &ca)?;
                if last.is_none_or(|last| now.since(last) > plan.every.seconds()) {
                    unproven.push(Unproven { person: emergency.person.clone(), key, last });
                }
            }
            let last = last.and_then(|(at, said)| Some((at, said.shell_ms?)));
            Ok::<_, Error>(Proof { plan, last, unproven })
        });
        found.await.map(Some)
    }
}

fn drill(tx: &mut Tx<'_>, used: &emergencies::Emergency) -> Result<Option<DrillInfo>, Error> {
    let statement: BreakGlass = used.signed.claims()?;
    let Some(without) = statement.drill.clone() else { return Ok(None) };
    let report = drills::load(tx, &used.id)?.map(|kept| {
        let said: Drill = kept.signed.claims()?;
        let controls = controls(&said, &without, kept.within);
        Ok::<_, Error>(Report { signed: kept.signed, controls, passed: kept.passed })
    });
    Ok(Some(DrillInfo { report: report.transpose()?, at: used.at, uses: uses::of_request(tx, &used.id)?, statement }))
}

/// Holds a report against what is on record, and keeps it.
fn reported(
    tx: &mut Tx<'_>,
    policy: &Policy,
    report: &Verified<Drill>,
    ca: Digest,
    now: Moment,
) -> Result<bool, Error> {
    let said = report.get();
    let used = emergencies::load(tx, &said.id)?.ok_or(Refusal::UnknownRequest)?;
    let broken: BreakGlass = used.signed.claims()?;
    let not_a_drill = || Refusal::NotADrill { role: broken.role.clone() };
    let without = broken.drill.clone().ok_or_else(not_a_drill)?;
    let plan = policy.drill().filter(|plan| plan.role == broken.role).ok_or_else(not_a_drill)?;
    if used.signed.digest() != said.break_glass {
        return Err(Refusal::OtherRequest.into());
    }
    if broken.person != said.person {
        return Err(Refusal::NotYours.into());
    }
    if now.second().since(used.at) > REPORTED_WITHIN {
        return Err(Refusal::Lapsed { at: used.at.plus(REPORTED_WITHIN) }.into());
    }
    for (field, claimed, kind) in [
        ("alert_ms", said.alert_ms, EventKind::Alerted),
        ("acknowledgement_ms", said.acknowledgement_ms, EventKind::Acknowledged),
    ] {
        if claimed.is_some() && first(tx, &said.id, kind)?.is_none() {
            return Err(Refusal::NotOnRecord { field }.into());
        }
    }
    if drills::load(tx, &said.id)?.is_some() {
        return Err(Refusal::NotPending { state: "reported" }.into());
    }
    statements::spend(tx, Kind::Drill, report.signed())?;
    let passed = passed(&controls(said, &without, plan.within));
    let (signed, at, within) = (report.signed().clone(), now.second(), plan.within);
    let key = used.signed.signature().key().fingerprint();
    drills::insert(tx, &Reported { id: said.id.clone(), signed, at, within, passed }, (&key, &ca))?;
    let event = Event {
        person: Some(said.person.clone()),
        request: Some(said.id.clone()),
        role: Some(broken.role),
        serial: Some(used.serial),
        statement: Some(report.digest()),
        policy: Some(policy.digest()),
        detail: Some(if passed { "passed" } else { "failed" }.to_owned()),
        ..Event::new(EventKind::Drilled, now)
    };
    events::append(tx, event)?;
    Ok(passed)
}

/// When the log first says this of a broken glass.
pub(super) fn first(tx: &mut Tx<'_>, id: &RequestId, kind: EventKind) -> Result<Option<Moment>, StoreError> {
    let leaves = events::of_request(tx, id)?;
    let mut told = leaves.iter().filter_map(|leaf| serde_json::from_slice::<Event>(&leaf.bytes).ok());
    Ok(told.find(|event| event.kind == kind).map(|event| event.at))
}
