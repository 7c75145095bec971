//! Reading: who may see what. Nothing here decides anything.

use std::collections::BTreeMap;

use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::names::{OptionName, PersonName, RequestId, RoleName};
use crate::domain::policy::{Duty, Policy, Role, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{Approval, BreakGlass, Request, Review, Serial};
use crate::domain::time::{Patience, Timestamp};
use crate::domain::verify::Signed;
use crate::store::requests::{self, Filter, Scope, Stored};
use crate::store::{StoreError, Tx, certificates, emergencies, passkeys, statements};

use super::log::{SignedHead, StoredEvent};
use super::{Caller, Error, Extended, Service, Topic, extensions};

/// So many requests come in one answer.
const MOST: u32 = 500;

/// A request as its readers see it.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// The statement's bytes and signature.
    pub signed: Signed,
    /// The statement.
    pub request: Request,
    /// Where it is now.
    pub state: State,
    /// The decisions so far.
    pub decisions: Vec<Approval>,
    /// What the policy makes of it now, while it can still be decided or claimed.
    pub terms: Option<Terms>,
    /// What the certificate would permit.
    pub extensions: Vec<OptionName>,
    /// What it would restrict.
    pub critical_options: BTreeMap<OptionName, String>,
    /// How long an approval may stay unclaimed.
    pub claim_within: Option<Patience>,
    /// Who may decide: never the requester.
    pub approvers: Vec<PersonName>,
    /// The policy that says so.
    pub policy: Digest,
    /// What it extends; only where one request is read.
    pub extended: Option<Extended>,
    /// What extends it, the newest first; only where one request is read.
    pub extended_by: Vec<RequestId>,
}

impl RequestInfo {
    /// Whether this person may decide on it, and has not.
    pub fn waits_for(&self, person: &PersonName) -> bool {
        matches!(self.state, State::Requested { .. })
            && self.approvers.contains(person)
            && !self.decisions.iter().any(|decision| decision.person == *person)
    }
}

/// A role as one person sees it.
#[derive(Debug, Clone)]
pub struct RoleInfo {
    /// Its name.
    pub name: RoleName,
    /// What it is.
    pub role: Role,
    /// Whether this person may ask for it.
    pub may_request: bool,
    /// Whether this person may decide on it.
    pub may_decide: bool,
}

/// A use of an emergency key.
#[derive(Debug, Clone)]
pub struct EmergencyInfo {
    /// The statement.
    pub statement: BreakGlass,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The certificate's serial.
    pub serial: Serial,
    /// When.
    pub at: Timestamp,
    /// What somebody else found, once they did.
    pub review: Option<Review>,
}

/// Which requests a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The reader's own that wait, are approved or active.
    Mine,
    /// The reader's own that are over, the newest first.
    Ended,
    /// Those that wait for a decision.
    Pending,
    /// Those that wait for the reader's decision.
    Queue,
    /// Those that give access now.
    Active,
    /// All, the newest first.
    All,
}

/// Which part of a long list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// So many are passed over.
    pub skip: u32,
    /// So many at most.
    pub most: u32,
}

/// A part of a list, and how long the list is.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The part.
    pub part: Vec<RequestInfo>,
    /// How many there are in all.
    pub of: u64,
}

/// Everything that proves one request: for whoever checks it without this service.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The policy of the claim, or of now when there was none.
    pub policy: String,
    /// The request, the decisions and the claim: bytes and signatures.
    pub statements: Vec<Signed>,
    /// The enrolments of the passkeys that decided: by the SSH key, and by the passkey.
    pub enrolments: Vec<(Signed, SshSig)>,
    /// The bytes that were signed as a certificate.
    pub tbs: Option<Vec<u8>>,
    /// The log's head.
    pub head: SignedHead,
    /// The request's events: number, leaf and statement, proof.
    pub events: Vec<(u64, StoredEvent, Vec<Digest>)>,
}

impl Service {
    /// The roles that a person may ask for or decide on.
    pub fn roles(&self, caller: &Caller) -> Vec<RoleInfo> {
        let policy = self.policy();
        let person = &caller.person;
        let seen = policy
            .roles()
            .iter()
            .filter(|(name, role)| policy.role_for(person, name).is_ok() || caller.reads_for(role));
        seen.map(|(name, role)| RoleInfo {
            name: name.clone(),
            may_request: role.requesters.contains(person),
            may_decide: role.approvers.contains(person) && policy.people().get(person).is_some_and(|p| !p.service),
            role: role.clone(),
        })
        .collect()
    }

    /// Requests that the caller may see, up to 500.
    pub async fn requests(&self, caller: &Caller, listing: Listing) -> Result<Vec<RequestInfo>, Error> {
        Ok(self.listed(caller, listing, Part { skip: 0, most: MOST }).await?.part)
    }

    /// A part of the requests that the caller may see.
    pub async fn listed(&self, caller: &Caller, listing: Listing, part: Part) -> Result<Listed, Error> {
        let policy = self.policy();
        let roles = |may: &dyn Fn(&Role) -> bool| -> Vec<RoleName> {
            policy.roles().iter().filter(|(_, role)| may(role)).map(|(name, _)| name.clone()).collect()
        };
        let person = caller.person.clone();
        let filter = match listing {
            Listing::Mine => Filter::OpenOf(person.clone()),
            Listing::Ended => Filter::EndedOf(person.clone()),
            Listing::Pending => Filter::Pending,
            Listing::Queue => Filter::ToDecide(person.clone(), roles(&|role| role.approvers.contains(&caller.person))),
            Listing::Active => Filter::Active,
            Listing::All => Filter::Newest,
        };
        let all = caller.has_any(&[Duty::Auditors, Duty::Admins]);
        let scope = (!all).then(|| Scope { person, roles: roles(&|role| caller.reads_for(role)) });
        let found = self.store.read(move |tx| {
            let of = requests::count(tx, &filter, scope.as_ref())?;
            Ok::<_, StoreError>((requests::list(tx, &filter, scope.as_ref(), (part.skip, part.most))?, of))
        });
        let (found, of) = found.await?;
        let infos = found.into_iter().map(|stored| self.info_of(&policy, stored)).collect::<Result<Vec<_>, _>>()?;
        // What time has ended is gone from here before the store is told.
        let wanted = |info: &RequestInfo| match listing {
            Listing::Mine => !info.state.is_final(),
            Listing::Pending => matches!(info.state, State::Requested { .. }),
            Listing::Queue => info.waits_for(&caller.person),
            Listing::Active => matches!(info.state, State::Active { .. }),
            Listing::Ended | Listing::All => true,
        };
        let part = infos.into_iter().filter(|info| wanted(info) && may_see(&policy, caller, info)).collect();
        Ok(Listed { part, of })
    }

    /// One request, and its events. Unknown and forbidden are one answer.
    pub async fn request(&self, caller: &Caller, id: &RequestId) -> Result<(RequestInfo, Vec<Event>), Error> {
        let (wanted, now) = (id.clone(), self.now().second());
        let (stored, leaves, links) = self
            .store
            .read(move |tx| {
                let stored = requests::load(tx, &wanted)?.ok_or(Refusal::UnknownRequest)?;
                let asked = stored.signed.claims()?;
                let links = (extensions::extended(tx, &asked, now)?, extensions::extended_by(tx, &asked)?);
                Ok::<_, Error>((stored, crate::store::events::of_request(tx, &wanted)?, links))
            })
            .await?;
        let policy = self.policy();
        let mut info = self.info_of(&policy, stored)?;
        (info.extended, info.extended_by) = links;
        if !may_see(&policy, caller, &info) {
            return Err(Refusal::UnknownRequest.into());
        }
        let parse = |leaf: &crate::store::events::Leaf| {
            serde_json::from_slice(&leaf.bytes).map_err(|_| StoreError::nonsense("events", &leaf.seq, "leaf"))
        };
        Ok((info, leaves.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// How many changes there were since the start. Look before reading what a page shows.
    pub fn changes(&self) -> u64 {
        *self.waiters.changes().borrow()
    }

    /// The same number, once the topic changed after `seen`; `seen` itself when `longest` is over before.
    pub async fn changed_after(&self, topic: &Topic, seen: u64, longest: std::time::Duration) -> u64 {
        let mut newest = self.waiters.changes();
        let changed = newest.wait_for(|newest| self.waiters.changed(topic, seen, *newest));
        match tokio::time::timeout(longest, changed).await {
            Ok(Ok(number)) => *number,
            _ => seen,
        }
    }

    /// What proves one request.
    pub async fn receipt(&self, caller: &Caller, id: &RequestId) -> Result<Receipt, Error> {
        self.request(caller, id).await?;
        let (wanted, current) = (id.clone(), self.policy());
        let (policy, statements, enrolments, tbs) = self
            .store
            .read(move |tx| {
                let stored = requests::load(tx, &wanted)?.ok_or(Refusal::UnknownRequest)?;
                let mut statements = vec![stored.signed];
                statements.extend(stored.decisions);
                let mut enrolments = Vec::new();
                for signature in statements.iter().map(Signed::signature).filter(|signature| signature.is_passkey()) {
                    let found = passkeys::load_any(tx, &signature.key().fingerprint())?;
                    enrolments.extend(found.map(|passkey| (passkey.signed, passkey.by_passkey)));
                }
                let Some(planned) = certificates::load(tx, &wanted)? else {
                    return Ok::<_, Error>((current.text().to_owned(), statements, enrolments, None));
                };
                statements.push(statements::load(tx, &planned.claim)?);
                let sql = "SELECT text FROM policies WHERE sha256 = ?1";
                let text = tx.first(sql, &[(&planned.policy).into()], |row| row.text(0))?;
                let text = text.ok_or_else(|| StoreError::nonsense("policies", &planned.policy, "text"))?;
                Ok((text, statements, enrolments, Some(planned.tbs)))
            })
            .await?;
        let head = self.head().await?;
        let events = self.proven(id.clone(), head.size).await?;
        Ok(Receipt { policy, statements, enrolments, tbs, head, events })
    }

    /// Broken glass, newest first. Everybody hears of it.
    pub async fn emergencies(&self, only_open: bool) -> Result<Vec<EmergencyInfo>, Error> {
        self.store
            .read(move |tx| {
                let used = emergencies::list(tx, only_open, MOST)?;
                used.into_iter().map(|used| emergency(tx, used)).collect()
            })
            .await
    }

    /// One broken glass.
    pub async fn emergency(&self, id: &RequestId) -> Result<EmergencyInfo, Error> {
        let id = id.clone();
        let found = self.store.read(move |tx| {
            let used = emergencies::load(tx, &id)?.ok_or(Refusal::UnknownRequest)?;
            emergency(tx, used)
        });
        found.await
    }

    pub(super) fn info_of(&self, policy: &Policy, stored: Stored) -> Result<RequestInfo, Error> {
        let request = stored.signed.claims()?;
        let decisions = stored.decisions.iter().map(Signed::claims).collect::<Result<Vec<Approval>, _>>()?;
        Ok(self.info(policy, &stored.signed, request, decisions, stored.state))
    }

    pub(super) fn info(
        &self,
        policy: &Policy,
        signed: &Signed,
        asked: Request,
        decisions: Vec<Approval>,
        state: State,
    ) -> RequestInfo {
        let role = policy.roles().get(&asked.role);
        let human = |name: &&PersonName| policy.people().get(*name).is_some_and(|person| !person.service);
        let approvers = role.into_iter().flat_map(|role| &role.approvers).filter(|name| **name != asked.person);
        RequestInfo {
            signed: signed.clone(),
            state: state.at(self.now().second()),
            decisions,
            terms: policy.terms(&asked.person, &asked.role, &asked.hosts, &asked.principals, asked.seconds).ok(),
            extensions: role.map(|role| role.extensions.clone()).unwrap_or_default(),
            critical_options: role.map(|role| role.critical_options.clone()).unwrap_or_default(),
            claim_within: role.map(|role| role.claim_within),
            approvers: approvers.filter(human).cloned().collect(),
            policy: policy.digest(),
            extended: None,
            extended_by: Vec::new(),
            request: asked,
        }
    }
}

fn emergency(tx: &mut Tx<'_>, used: emergencies::Emergency) -> Result<EmergencyInfo, Error> {
    let review = used.review.map(|digest| statements::load(tx, &digest)?.claims::<Review>().map_err(Error::from));
    Ok(EmergencyInfo {
        statement: used.signed.claims()?,
        digest: used.signed.digest(),
        serial: used.serial,
        at: used.at,
        review: review.transpose()?,
    })
}

/// The requester, those who may decide, auditors and administrators; and who is of such a group by a
/// provider's word.
fn may_see(policy: &Policy, caller: &Caller, info: &RequestInfo) -> bool {
    let role = policy.roles().get(&info.request.role);
    info.request.person == caller.person
        || role.is_some_and(|role| caller.reads_for(role))
        || caller.has_any(&[Duty::Auditors, Duty::Admins])
}
