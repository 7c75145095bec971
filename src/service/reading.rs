//! Reading: who may see what. Nothing here decides anything.

use std::collections::BTreeMap;

use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::names::{OptionName, PersonName, RequestId, RoleName};
use crate::domain::policy::{Duty, Policy, Role, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{Approval, BreakGlass, Request, Serial};
use crate::domain::time::{Patience, Seconds, Timestamp};
use crate::domain::verify::Signed;
use crate::store::requests::{self, Filter, Stored};
use crate::store::{StoreError, certificates, emergencies, passkeys, statements};

use super::log::{SignedHead, StoredEvent};
use super::{Caller, Error, Service};

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
    /// Whether nobody has reviewed it yet.
    pub review_open: bool,
}

/// What a person asked of a role before, in the last 90 days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// How many requests, this one not counted.
    pub count: usize,
    /// When the last one was.
    pub last: Option<Timestamp>,
    /// The length asked for most often, where lengths were given.
    pub usual: Option<Seconds>,
    /// Whether the last one gave the same reason.
    pub reason_repeats: bool,
}

/// So far back people are compared with themselves, in seconds.
const HISTORY: i64 = 90 * 86_400;

/// Which requests a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The reader's own that wait, are approved or active.
    Mine,
    /// Those that wait for a decision.
    Pending,
    /// Those that give access now.
    Active,
    /// The newest.
    All,
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

    /// Requests that the caller may see.
    pub async fn requests(&self, caller: &Caller, listing: Listing) -> Result<Vec<RequestInfo>, Error> {
        let filter = match listing {
            Listing::Mine => Filter::OpenOf(caller.person.clone()),
            Listing::Pending => Filter::Pending,
            Listing::Active => Filter::Open,
            Listing::All => Filter::Newest,
        };
        let found = self.store.read(move |tx| requests::list(tx, &filter, MOST)).await?;
        let policy = self.policy();
        let infos = found.into_iter().map(|stored| self.info_of(&policy, stored)).collect::<Result<Vec<_>, _>>()?;
        let wanted = |info: &RequestInfo| match listing {
            Listing::Mine => !info.state.is_final(),
            Listing::Pending => matches!(info.state, State::Requested { .. }),
            Listing::Active => matches!(info.state, State::Active { .. }),
            Listing::All => true,
        };
        Ok(infos.into_iter().filter(|info| wanted(info) && may_see(&policy, caller, info)).collect())
    }

    /// One request, and its events. Unknown and forbidden are one answer.
    pub async fn request(&self, caller: &Caller, id: &RequestId) -> Result<(RequestInfo, Vec<Event>), Error> {
        let wanted = id.clone();
        let (stored, leaves) = self
            .store
            .read(move |tx| {
                let stored = requests::load(tx, &wanted)?.ok_or(Refusal::UnknownRequest)?;
                Ok::<_, Error>((stored, crate::store::events::of_request(tx, &wanted)?))
            })
            .await?;
        let policy = self.policy();
        let info = self.info_of(&policy, stored)?;
        if !may_see(&policy, caller, &info) {
            return Err(Refusal::UnknownRequest.into());
        }
        let parse = |leaf: &crate::store::events::Leaf| {
            serde_json::from_slice(&leaf.bytes).map_err(|_| StoreError::nonsense("events", &leaf.seq, "leaf"))
        };
        Ok((info, leaves.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// The oldest other request that waits for this caller's decision.
    pub async fn next_in_queue(&self, caller: &Caller, after: &RequestId) -> Result<Option<RequestId>, Error> {
        let waiting = self.requests(caller, Listing::Pending).await?;
        let open = |info: &&RequestInfo| {
            info.request.id != *after
                && info.approvers.contains(&caller.person)
                && !info.decisions.iter().any(|decision| decision.person == caller.person)
        };
        Ok(waiting.iter().find(open).map(|info| info.request.id.clone()))
    }

    /// A number that grows with every change of a request.
    pub fn changes(&self) -> u64 {
        *self.waiters.listen_to_all().borrow()
    }

    /// The same, once it is beyond `seen` or `longest` is over.
    pub async fn changed_after(&self, seen: u64, longest: std::time::Duration) -> u64 {
        let mut changed = self.waiters.listen_to_all();
        // A timeout is an answer too: nothing changed.
        let _ = tokio::time::timeout(longest, changed.wait_for(|count| *count != seen)).await;
        self.changes()
    }

    /// What the requester asked of this role before.
    pub async fn history(&self, info: &RequestInfo) -> Result<History, Error> {
        let (person, role, id) = (info.request.person.clone(), info.request.role.clone(), info.request.id.clone());
        let since = info.request.at.plus(-HISTORY);
        let found = self.store.read(move |tx| requests::history(tx, &person, &role, since, MOST)).await?;
        let earlier = found.iter().filter_map(|signed| signed.claims::<Request>().ok());
        let earlier: Vec<Request> =
            earlier.filter(|request| request.id != id && request.at <= info.request.at).collect();
        let mut lengths: BTreeMap<Seconds, usize> = BTreeMap::new();
        for request in &earlier {
            if let Some(seconds) = request.seconds {
                *lengths.entry(seconds).or_default() += 1;
            }
        }
        let last = earlier.iter().max_by_key(|request| request.at);
        Ok(History {
            count: earlier.len(),
            last: last.map(|request| request.at),
            usual: lengths.into_iter().max_by_key(|(_, count)| *count).map(|(seconds, _)| seconds),
            reason_repeats: last.is_some_and(|request| info.request.reason.says_the_same_as(request.reason.as_str())),
        })
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
        let found = self.store.read(move |tx| emergencies::list(tx, only_open, MOST)).await?;
        let info = |used: emergencies::Emergency| {
            Ok(EmergencyInfo {
                statement: used.signed.claims()?,
                digest: used.signed.digest(),
                serial: used.serial,
                at: used.at,
                review_open: used.review.is_none(),
            })
        };
        found.into_iter().map(info).collect()
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
            request: asked,
        }
    }
}

/// The requester, those who may decide, auditors and administrators; and who is of such a group by a
/// provider's word.
fn may_see(policy: &Policy, caller: &Caller, info: &RequestInfo) -> bool {
    let role = policy.roles().get(&info.request.role);
    info.request.person == caller.person
        || role.is_some_and(|role| caller.reads_for(role))
        || caller.has_any(&[Duty::Auditors, Duty::Admins])
}
