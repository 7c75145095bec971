//! Certificates of hosts: an invitation is redeemed once, and whoever holds the host key has the certificate renewed for
//! as long as the host is in the policy, or its enrolment holds by the policy of the moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::certificate::{Certificate, ToBeSigned};
use crate::domain::event::{Event, EventKind};
use crate::domain::host::{Claimed, EnrolledHost, HostGrant};
use crate::domain::host_status::HostStatus;
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, PersonName};
use crate::domain::policy::{Duty, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{HostRemoval, Invitation, Kind};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::{Signed, Verified};
use crate::random;
use crate::store::hosts::{self, Stored};
use crate::store::{StoreError, Tx, events, host_statuses, statements};

use super::claims::EPOCH;
use super::{Caller, Error, Service, rotation};

/// An invitation, and the signature by which its key redeems it.
#[derive(Debug, Clone)]
pub struct Redeemed {
    /// The invitation.
    pub invitation: Signed,
    /// Over the claim.
    pub by_token: SshSig,
}

/// A host that may be certified, or was meant to be.
#[derive(Debug, Clone)]
pub struct HostInfo {
    /// Its name.
    pub host: HostName,
    /// Its other names.
    pub aliases: BTreeSet<HostName>,
    /// Its SSH host keys.
    pub keys: Vec<PublicKey>,
    /// Who invited it, where the policy does not name it.
    pub invited_by: Option<PersonName>,
    /// When its newest certificate ends.
    pub ends: Option<Timestamp>,
    /// Why its enrolment holds no more.
    pub trouble: Option<Refusal>,
    /// How far it is; `None` when it never said.
    pub status: Option<HostStatus>,
}

impl Service {
    /// Certifies a host: one that redeems an invitation, or that is known already.
    pub async fn certify_host(
        self: &Arc<Self>,
        claim: Signed,
        redeemed: Option<Redeemed>,
    ) -> Result<(Certificate, HostGrant), Error> {
        let Some(redeemed) = redeemed else { return self.certified(claim, None).await };
        let invitation = redeemed.invitation.clone();
        self.audited(Kind::Invitation, &invitation, self.certified(claim, Some(redeemed))).await
    }

    async fn certified(
        self: &Arc<Self>,
        claim: Signed,
        redeemed: Option<Redeemed>,
    ) -> Result<(Certificate, HostGrant), Error> {
        let (now, policy) = (self.clock.now(), self.policy());
        let claimed = Claimed::check(&claim, &self.instance, now.second())?;
        let (service, nonce) = (Arc::clone(self), random::bytes());
        let work = move |tx: &mut Tx<'_>| {
            if let Some(Redeemed { invitation, by_token }) = &redeemed {
                let stored =
                    Stored { invitation: invitation.clone(), claim: claim.clone(), by_token: by_token.clone() };
                service.enrol_host(tx, &policy, &stored, now)?;
            }
            service.plan_host(tx, &policy, &claimed, nonce, now)
        };
        let tbs = self.store.write(work).await?;
        Ok((self.authority().keys.host_ca.certify(&tbs)?, tbs.grant().clone()))
    }

    fn enrol_host(&self, tx: &mut Tx<'_>, policy: &Policy, stored: &Stored, now: Moment) -> Result<(), Error> {
        let enrolled = self.enrolled_by(tx, policy, stored)?;
        let before = hosts::with_key(tx, &enrolled.key().fingerprint())?;
        if before.is_some_and(|before| before.invitation.digest() == stored.invitation.digest()) {
            // It did not hear the answer, and comes again with the same key.
            return Ok(());
        }
        statements::spend(tx, Kind::Invitation, &stored.invitation)?;
        match hosts::keep(tx, enrolled.host(), enrolled.key(), stored) {
            Err(StoreError::Taken(_)) => return Err(Refusal::HostKeyTaken.into()),
            other => other?,
        }
        let event = Event {
            person: Some(enrolled.invited_by().clone()),
            statement: Some(stored.invitation.digest()),
            policy: Some(policy.digest()),
            detail: Some(enrolled.host().to_string()),
            ..Event::new(EventKind::HostEnrolled, now)
        };
        events::append(tx, event)?;
        Ok(())
    }

    /// Decides, and commits what will be signed.
    fn plan_host(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        claimed: &Claimed,
        nonce: [u8; 32],
        now: Moment,
    ) -> Result<ToBeSigned<HostGrant>, Error> {
        let host = &claimed.get().host;
        // The policy may name the host as well, and then its enrolment is not needed.
        let (enrolled, because) = match self.enrolled_host(tx, policy, host) {
            Ok(enrolled) => (enrolled, None),
            Err(Error::Refused(refusal)) => (None, Some(format!(" any more ({refusal})"))),
            Err(other) => return Err(other),
        };
        let named = |refusal| match refusal {
            Refusal::NotEnrolled { host, because: usual } => {
                Refusal::NotEnrolled { host, because: because.unwrap_or(usual) }
            }
            other => other,
        };
        let within = (now.second(), self.settings.host_certificates);
        let grant = HostGrant::new((policy, self.authority().chain.newest()), enrolled.as_ref(), claimed, within)
            .map_err(named)?;
        let newest = hosts::newest_certificate(tx, host)?;
        if newest.is_some_and(|(last, _)| claimed.get().at <= last) {
            return Err(Refusal::Replayed.into());
        }
        let tbs = ToBeSigned::new(grant, hosts::next_serial(tx, EPOCH)?, nonce, self.authority().keys.host_ca.public());
        hosts::insert_certificate(tx, claimed.get().at, &tbs)?;
        let event = Event {
            serial: Some(tbs.serial()),
            tbs: Some(tbs.digest()),
            policy: Some(policy.digest()),
            detail: Some(host.to_string()),
            ..Event::new(EventKind::HostCertified, now)
        };
        events::append(tx, event)?;
        Ok(tbs)
    }

    /// The host that was enrolled under this name, verified again from what was signed.
    fn enrolled_host(&self, tx: &mut Tx<'_>, policy: &Policy, host: &HostName) -> Result<Option<EnrolledHost>, Error> {
        let stored = hosts::load(tx, host)?;
        stored.map(|stored| self.enrolled_by(tx, policy, &stored)).transpose()
    }

    /// The host that was enrolled with this key, if its enrolment holds.
    pub(super) async fn enrolled_with(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        key: &PublicKey,
    ) -> Result<Option<EnrolledHost>, Error> {
        let (service, policy, key) = (Arc::clone(self), Arc::clone(policy), key.fingerprint());
        let work = move |tx: &mut Tx<'_>| {
            let Some(stored) = hosts::with_key(tx, &key)? else { return Ok(None) };
            match service.enrolled_by(tx, &policy, &stored) {
                Err(Error::Refused(_)) => Ok(None),
                other => other.map(Some),
            }
        };
        self.store.read(work).await
    }

    fn enrolled_by(&self, tx: &mut Tx<'_>, policy: &Policy, stored: &Stored) -> Result<EnrolledHost, Error> {
        let invitation: Verified<Invitation> = self.verified(tx, &stored.invitation)?;
        Ok(EnrolledHost::check(policy, &invitation, &stored.claim, &stored.by_token)?)
    }

    /// Has a host certified no more: signed by an administrator, or by somebody who may revoke.
    pub async fn remove_host(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        self.audited(Kind::HostRemoval, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let removal = self.accept::<HostRemoval>(&policy, &signed, now).await?;
            let may = |duty| policy.has_duty(&removal.get().person, duty);
            if !(may(Duty::Admins) || may(Duty::Revokers)) {
                return Err(Refusal::NoDuty { duty: "admins or revokers" }.into());
            }
            self.store.write(move |tx| removed(tx, &removal, now)).await
        })
        .await
    }

    /// The hosts of the policy and those that were enrolled, for administrators and auditors.
    pub async fn hosts(self: &Arc<Self>, caller: &Caller) -> Result<Vec<HostInfo>, Error> {
        caller.needs(&[Duty::Admins, Duty::Auditors])?;
        let (service, policy) = (Arc::clone(self), self.policy());
        self.store.read(move |tx| service.known_hosts(tx, &policy)).await
    }

    fn known_hosts(&self, tx: &mut Tx<'_>, policy: &Policy) -> Result<Vec<HostInfo>, Error> {
        let (mut found, words) = (Vec::new(), host_statuses::all(tx)?);
        for (host, known) in policy.hosts() {
            found.push(HostInfo {
                host: host.clone(),
                aliases: known.aliases.iter().cloned().collect(),
                keys: known.keys.clone(),
                invited_by: None,
                ends: hosts::newest_certificate(tx, host)?.map(|(_, ends)| ends),
                trouble: None,
                status: rotation::status_of(&words, (policy, None), host, &self.instance),
            });
        }
        for (host, stored) in hosts::all(tx)? {
            let said: Invitation = stored.invitation.claims()?;
            let (enrolled, trouble) = match self.enrolled_by(tx, policy, &stored) {
                Err(Error::Refused(refusal)) => (None, Some(refusal)),
                other => (Some(other?), None),
            };
            found.push(HostInfo {
                aliases: said.aliases.into_iter().collect(),
                keys: vec![stored.claim.signature().key().clone()],
                invited_by: Some(said.person),
                ends: hosts::newest_certificate(tx, &host)?.map(|(_, ends)| ends),
                trouble,
                status: rotation::status_of(&words, (policy, enrolled.as_ref()), &host, &self.instance),
                host,
            });
        }
        Ok(found)
    }
}

fn removed(tx: &mut Tx<'_>, removal: &Verified<HostRemoval>, now: Moment) -> Result<(), Error> {
    let said = removal.get();
    statements::spend(tx, Kind::HostRemoval, removal.signed())?;
    if !hosts::remove(tx, &said.host)? {
        return Err(Refusal::NotEnrolled { host: said.host.clone(), because: String::new() }.into());
    }
    let event = Event {
        person: Some(said.person.clone()),
        statement: Some(removal.digest()),
        detail: Some(said.host.to_string()),
        ..Event::new(EventKind::HostRemoved, now)
    };
    events::append(tx, event)?;
    Ok(())
}
