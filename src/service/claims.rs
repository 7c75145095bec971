//! Claiming what was approved, and giving it back.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::certificate::{Certificate, ToBeSigned, is_of_ca, nonce_of};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::extension;
use crate::domain::grant::{self, Grant};
use crate::domain::names::RequestId;
use crate::domain::policy::Policy;
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::sshsig::Expect;
use crate::domain::statement::{Claim, Kind, Request, Return, Serial};
use crate::domain::time::Moment;
use crate::domain::verify::{Signed, Verified};
use crate::random;
use crate::store::certificates::{self, Planned};
use crate::store::{StoreError, Tx, events, facts, statements};

use super::cases::Case;
use super::circumstances::{Around, Origin};
use super::requests::event;
use super::{Error, Service};

/// The epoch of serials that this database gives out. The journal has its own.
pub(super) const EPOCH: u16 = 1;

/// The greatest skew that may be configured, in seconds.
const MOST_SKEW: u32 = 60;

/// A certificate that may leave the process.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Its serial.
    pub serial: Serial,
    /// What was certified.
    pub grant: Grant,
}

impl Service {
    /// Claims an approved request: signs its certificate, or the same one again while it lives.
    pub async fn claim(self: &Arc<Self>, signed: Signed, from: Option<IpAddr>) -> Result<Issued, Error> {
        self.audited(Kind::Claim, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let (claim, ahead) = match self.claim_from_memory(&signed)? {
                Some(claim) => (claim, None),
                None => self.claim_ahead(&signed).await.map(|(claim, case)| (claim, Some(case)))?,
            };
            let claim = claim.fresh(now.second())?;
            let (service, nonce, id) = (Arc::clone(self), random::bytes(), claim.get().id.clone());
            let origin = Origin { from, tickets: self.tickets_of(&policy, &id, now.second()).await? };
            let tbs =
                self.store.write(move |tx| service.planned(tx, &policy, (&claim, ahead, &origin), nonce, now)).await?;
            let certificate = self.authority().keys.user_ca.certify(&tbs)?;
            self.tell(&id, tbs.grant().person(), tbs.grant().role());
            Ok(Issued { certificate, serial: tbs.serial(), grant: tbs.grant().clone() })
        })
        .await
    }

    /// Verifies a claim on a request that this process took, by the key that it named. What was decided on it was
    /// verified when it came. Whether the key is that of the request is asked again in the writer, of the stored
    /// bytes.
    fn claim_from_memory(&self, signed: &Signed) -> Result<Option<Verified<Claim>>, Refusal> {
        let key = signed.signature().key();
        let known = |claim: &Claim| self.taken.get(&claim.id).filter(|taken| taken == key).map(|_| key);
        let theirs = |claim: &Claim| known(claim).ok_or(Refusal::UnknownKey);
        let expect = Expect::SshKey { verified: false };
        match Verified::check_by(signed, theirs, expect, &self.instance, &self.seen) {
            Err(Refusal::UnknownKey) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Verifies everything once beside the writer, so that in it only hashes are left to compare.
    async fn claim_ahead(self: &Arc<Self>, signed: &Signed) -> Result<(Verified<Claim>, Case), Error> {
        let (service, id, signed) = (Arc::clone(self), signed.claims::<Claim>()?.id, signed.clone());
        self.store
            .read(move |tx| {
                let case = service.case(tx, &id)?;
                Ok((service.claim_of(&case, &signed)?, case))
            })
            .await
    }

    pub(super) fn claim_of(&self, case: &Case, signed: &Signed) -> Result<Verified<Claim>, Refusal> {
        let expect = Expect::SshKey { verified: false };
        Verified::check(signed, &case.request.get().key, expect, &self.instance, &self.seen)
    }

    /// Decides, and commits what will be signed.
    fn planned(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        (claim, ahead, origin): (&Verified<Claim>, Option<Case>, &Origin),
        nonce: [u8; 32],
        now: Moment,
    ) -> Result<ToBeSigned, Error> {
        let (id, signed) = (&claim.get().id, claim.signed());
        let case = match ahead {
            Some(case) => case.again(tx)?,
            None => self.case(tx, id)?,
        };
        let around = self.around(tx, policy, case.request.get(), origin, now.second())?;
        let state = case.state.clone().at(now.second());
        if let State::Active { serial, .. } = state {
            // The time to claim has been kept already: by the first claim.
            grant::claimed_by_subject(&case.request, claim)?;
            statements::spend(tx, Kind::Claim, signed)?;
            return self.rebuilt(tx, (policy, &around.standing(now.second())), &case, serial);
        }
        state.claimable()?;
        self.may_extend(tx, &case.request, now, extension::may_stand)?;
        let grant =
            Grant::access(policy, &case.request, &case.approvals, claim, &around.get(), self.settings.clock_skew)?;
        statements::spend(tx, Kind::Claim, signed)?;
        let serial = certificates::next_serial(tx, EPOCH)?;
        let tbs = ToBeSigned::new(grant, serial, nonce, self.authority().keys.user_ca.public());
        let next = state.claim(tbs.serial(), tbs.grant().valid_before(), now.second())?;
        case.change(tx, &next)?;
        certificates::insert(tx, id, &claim.digest(), &policy.digest(), &tbs)?;
        let claimed = Event {
            serial: Some(tbs.serial()),
            tbs: Some(tbs.digest()),
            statement: Some(claim.digest()),
            policy: Some(policy.digest()),
            from: origin.from,
            tickets: around.checked(),
            facts: tbs.grant().facts().clone(),
            ..event(EventKind::Claimed, &case.request, now)
        };
        events::append(tx, claimed)?;
        for name in tbs.grant().facts().keys() {
            if let Some(fact) = around.get().facts.at(name, claim.get().at) {
                facts::hang(tx, id, (name, &fact.value))?;
            }
        }
        Ok(tbs)
    }

    /// The certificate of a request that was claimed before: made again from the statements, by the
    /// policy of that moment as this process read it from its file, and compared with the stored bytes.
    /// The policy of now must still allow it too.
    fn rebuilt(
        &self,
        tx: &mut Tx<'_>,
        (now, around): (&Policy, &Around),
        case: &Case,
        serial: Serial,
    ) -> Result<ToBeSigned, Error> {
        let id = &case.request.get().id;
        let nonsense = |column| StoreError::nonsense("certificates", id, column);
        let planned = certificates::load(tx, id, serial)?.ok_or_else(|| nonsense("request"))?;
        let Planned { serial, claim, policy, tbs } = planned;
        let then = self.policy_by_digest(&policy);
        let then =
            then.ok_or(Refusal::NotSupported { what: "request: it was claimed under an earlier policy; ask again" })?;
        let claim = self.claim_of(case, &statements::load(tx, &claim)?)?;
        Grant::access(now, &case.request, &case.approvals, &claim, &around.get(), self.settings.clock_skew)?;
        let nonce = nonce_of(&tbs).ok_or_else(|| nonsense("tbs"))?;
        let retired = Refusal::NotSupported { what: "request: it was certified by a CA key that is gone; ask again" };
        let ca = self.authority().keys.user_ca.held().into_iter().find(|ca| is_of_ca(&tbs, ca)).ok_or(retired)?;
        // Nonce and serial come from the row: the log must name these very bytes, or somebody put them there.
        let claimed = on_record(tx, id, &Digest::of(&tbs))?.ok_or_else(|| nonsense("tbs"))?;
        let then_around = Around::at_claim(&claimed, self.facts_then(tx, now, &claimed)?);
        // The skew of then is not on record: it is whichever makes the same bytes, and most likely that of now.
        for skew in std::iter::once(self.settings.clock_skew).chain(0..=MOST_SKEW) {
            let grant = Grant::access(&then, &case.request, &case.approvals, &claim, &then_around.get(), skew)?;
            let rebuilt = ToBeSigned::new(grant, serial, nonce, &ca);
            if rebuilt.bytes() == tbs {
                return Ok(rebuilt);
            }
        }
        Err(nonsense("tbs").into())
    }

    /// Gives access back before its end: signed by the subject key where that is at hand, or by a key or
    /// passkey of the requester's.
    pub async fn give_back(self: &Arc<Self>, signed: Signed) -> Result<(RequestId, State), Error> {
        self.audited(Kind::Return, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let (service, statement) = (Arc::clone(self), signed.clone());
            let (asked, state) = self.store.write(move |tx| service.returned(tx, &policy, &statement, now)).await?;
            self.tell(&asked.id, &asked.person, &asked.role);
            Ok((asked.id, state))
        })
        .await
    }

    fn returned(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        signed: &Signed,
        now: Moment,
    ) -> Result<(Request, State), Error> {
        let case = self.case(tx, &signed.claims::<Return>()?.id)?;
        let asked = case.request.get();
        let given: Verified<Return> = self.verified(tx, signed)?;
        // The subject key speaks for this request, whatever the policy says of its person by now.
        if *given.key() != asked.key {
            given.signer(policy)?;
        }
        let given = given.fresh(now.second())?;
        if given.get().request != case.request.digest() || given.get().person != asked.person {
            return Err(Refusal::OtherRequest.into());
        }
        let next = case.state.clone().give_back(now.second())?;
        if next.serial() != Some(given.get().serial) {
            return Err(Refusal::OtherRequest.into());
        }
        statements::spend(tx, Kind::Return, signed)?;
        case.change(tx, &next)?;
        let returned = Event {
            serial: next.serial(),
            statement: Some(given.digest()),
            ..event(EventKind::Returned, &case.request, now)
        };
        events::append(tx, returned)?;
        self.cut.add(case.state.certificate());
        Ok((asked.clone(), next))
    }
}

/// Where the log says that a certificate of these bytes was about to be signed.
pub(super) fn on_record(tx: &mut Tx<'_>, id: &RequestId, tbs: &Digest) -> Result<Option<Event>, StoreError> {
    let events = events::of_request(tx, id)?;
    let mut parsed = events.iter().filter_map(|leaf| serde_json::from_slice::<Event>(&leaf.bytes).ok());
    Ok(parsed.find(|event| event.kind == EventKind::Claimed && event.tbs == Some(*tbs)))
}
