//! Reading: who may see what. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::names::{FactName, OptionName, PersonName, RequestId, RoleName};
use crate::domain::policy::{Duty, Overdue, Policy, Role, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{Acknowledgement, Approval, BreakGlass, Request, Review, Revocation, Serial};
use crate::domain::time::{Patience, Timestamp};
use crate::domain::usage::Seen;
use crate::domain::verify::Signed;
use crate::domain::webhook::Delivery;
use crate::store::requests::{self, Filter, Scope, Stored};
use crate::store::{StoreError, Tx, certificates, emergencies, facts, outbox, passkeys, statements, uses};

use super::cases::{self, terms};
use super::circumstances::{Around, Origin};
use super::claims::on_record;
use super::log::{SignedHead, StoredEvent};
use super::{Caller, Error, Extended, FactInfo, Service, Topic, extensions, revocations};

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
    /// Why it makes nothing of it, where it does not.
    pub hindrance: Option<Refusal>,
    /// The review of broken glass that is overdue in the requester's team, where nobody would be asked otherwise.
    pub overdue: Option<Overdue>,
    /// The facts that count now, of those that the role's rules ask for.
    pub facts: Vec<FactInfo>,
    /// Where it came from, as far as that is known.
    pub peer: Option<IpAddr>,
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
    /// Who revoked it and why; only where one request is read.
    pub revocation: Option<Revocation>,
    /// What it extends; only where one request is read.
    pub extended: Option<Extended>,
    /// What extends it, the newest first; only where one request is read.
    pub extended_by: Vec<RequestId>,
    /// Who is told if nobody decides, the next first; only where one request is read.
    pub ahead: Vec<Ahead>,
    /// The connections that its certificate opened; only where one request is read, it has a certificate, and hosts
    /// say such things.
    pub uses: Option<Vec<Seen>>,
}

/// What is read beside one request.
struct Beside {
    extended: Option<Extended>,
    extended_by: Vec<RequestId>,
    steps: Vec<(outbox::Step, Timestamp)>,
    revocation: Option<Revocation>,
    uses: Vec<Seen>,
}

/// Who is told of a request if nobody has decided by then.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// When.
    pub at: Timestamp,
    /// Whether it is those who heard of it before.
    pub again: bool,
    /// Who.
    pub people: Vec<PersonName>,
}

impl RequestInfo {
    fn add(&mut self, policy: &Policy, beside: Beside) {
        let Beside { extended, extended_by, steps, revocation, uses } = beside;
        (self.extended, self.extended_by, self.revocation) = (extended, extended_by, revocation);
        if matches!(self.state, State::Requested { .. }) {
            self.ahead = steps.into_iter().map(|step| ahead(policy, self, step)).collect();
        }
        let told = self.state.serial().is_some() && !(uses.is_empty() && policy.hosts().is_empty());
        self.uses = told.then_some(uses);
    }

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
    /// How many emergency keys open it.
    pub emergency_keys: u32,
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
    /// Whether its certificate was revoked.
    pub revoked: bool,
    /// When somebody was first told of it.
    pub alerted: Option<Timestamp>,
    /// Who has said that they heard of it.
    pub heard: Option<PersonName>,
    /// When its review is overdue, while it waits for one.
    pub due: Option<Timestamp>,
    /// The connections that its certificate opened, as hosts say.
    pub uses: Vec<Seen>,
}

impl EmergencyInfo {
    /// Whether it was only for practice.
    pub fn is_drill(&self) -> bool {
        self.statement.drill.is_some()
    }
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
    /// The request, the decisions, the claim and what revoked it: bytes and signatures.
    pub statements: Vec<Signed>,
    /// The enrolments of the passkeys that decided: by the SSH key, and by the passkey.
    pub enrolments: Vec<(Signed, SshSig)>,
    /// The messages that stated what the certificate hangs on.
    pub facts: Vec<Delivery>,
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
            may_decide: role.approvers.contains(person) && policy.decides(person),
            emergency_keys: policy.emergency_keys_of(name),
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
        let (stored, leaves, beside) = self
            .store
            .read(move |tx| {
                let stored = requests::load(tx, &wanted)?.ok_or(Refusal::UnknownRequest)?;
                let asked = stored.signed.claims()?;
                let beside = Beside {
                    extended: extensions::extended(tx, &asked, now)?,
                    extended_by: extensions::extended_by(tx, &asked)?,
                    steps: outbox::steps(tx, &wanted)?,
                    revocation: revocations::of_request(tx, &wanted)?.map(|signed| signed.claims()).transpose()?,
                    uses: uses::of_request(tx, &wanted)?,
                };
                Ok::<_, Error>((stored, crate::store::events::of_request(tx, &wanted)?, beside))
            })
            .await?;
        let policy = self.policy();
        let mut info = self.info_of(&policy, stored.clone())?;
        if info.hindrance.is_some() && !info.state.is_final() && may_see(&policy, caller, &info) {
            // Perhaps only because nobody asked for its ticket yet.
            self.tickets(&policy, &info.request, self.now().second()).await;
            info = self.info_of(&policy, stored)?;
        }
        info.add(&policy, beside);
        if !may_see(&policy, caller, &info) {
            return Err(Refusal::UnknownRequest.into());
        }
        Ok((info, leaves.iter().map(event).collect::<Result<_, _>>()?))
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
        let (policy, statements, enrolments, facts, tbs) = self
            .store
            .read(move |tx| {
                let stored = requests::load(tx, &wanted)?.ok_or(Refusal::UnknownRequest)?;
                let serial = stored.state.serial();
                let mut statements = vec![stored.signed];
                statements.extend(stored.decisions);
                statements.extend(revocations::of_request(tx, &wanted)?);
                let mut enrolments = Vec::new();
                for signature in statements.iter().map(Signed::signature).filter(|signature| signature.is_passkey()) {
                    let found = passkeys::load_any(tx, &signature.key().fingerprint())?;
                    enrolments.extend(found.map(|passkey| (passkey.signed, passkey.by_passkey)));
                }
                let planned = serial.map(|serial| certificates::load(tx, &wanted, serial)).transpose()?.flatten();
                let Some(planned) = planned else {
                    return Ok::<_, Error>((current.text().to_owned(), statements, enrolments, Vec::new(), None));
                };
                statements.push(statements::load(tx, &planned.claim)?);
                let text = policy_text(tx, &planned.policy)?;
                let text = text.ok_or_else(|| StoreError::nonsense("policies", &planned.policy, "text"))?;
                let claimed = on_record(tx, &wanted, &Digest::of(&planned.tbs))?;
                let named: BTreeSet<Digest> = claimed.iter().flat_map(|event| event.facts.values().copied()).collect();
                let facts = named.iter().map(|digest| facts::load(tx, digest)).collect::<Result<_, _>>()?;
                Ok((text, statements, enrolments, facts, Some(planned.tbs)))
            })
            .await?;
        let head = self.head().await?;
        let events = self.proven(id.clone(), head.size).await?;
        Ok(Receipt { policy, statements, enrolments, facts, tbs, head, events })
    }

    /// A policy that was in force, by its SHA-256, or the one that is; for auditors and administrators.
    pub async fn policy_text(&self, caller: &Caller, sha256: Option<Digest>) -> Result<(Digest, String), Error> {
        caller.needs(&[Duty::Auditors, Duty::Admins])?;
        let now = self.policy();
        let Some(wanted) = sha256.filter(|wanted| *wanted != now.digest()) else {
            return Ok((now.digest(), now.text().to_owned()));
        };
        let found = self.store.read(move |tx| policy_text(tx, &wanted)).await?;
        found.map(|text| (wanted, text)).ok_or_else(|| Refusal::UnknownPolicy.into())
    }

    /// Broken glass, newest first. Everybody hears of it.
    pub async fn emergencies(&self, only_open: bool) -> Result<Vec<EmergencyInfo>, Error> {
        let policy = self.policy();
        let found = self.store.read(move |tx| {
            let used = emergencies::list(tx, only_open, MOST)?;
            used.into_iter().map(|used| emergency(tx, &policy, used)).collect::<Result<Vec<_>, Error>>()
        });
        let wanted = |info: &EmergencyInfo| !only_open || info.due.is_some();
        Ok(found.await?.into_iter().filter(wanted).collect())
    }

    /// One broken glass, and its events.
    pub async fn emergency(&self, id: &RequestId) -> Result<(EmergencyInfo, Vec<Event>), Error> {
        let (id, policy) = (id.clone(), self.policy());
        let found = self.store.read(move |tx| {
            let used = emergencies::load(tx, &id)?.ok_or(Refusal::UnknownRequest)?;
            let leaves = crate::store::events::of_request(tx, &id)?;
            let events = leaves.iter().map(event).collect::<Result<_, StoreError>>()?;
            Ok((emergency(tx, &policy, used)?, events))
        });
        found.await
    }

    pub(super) fn info_of(&self, policy: &Policy, stored: Stored) -> Result<RequestInfo, Error> {
        let request: Request = stored.signed.claims()?;
        let decisions = stored.decisions.iter().map(Signed::claims).collect::<Result<Vec<Approval>, _>>()?;
        let role = policy.roles().get(&request.role);
        let may = |name: &&PersonName| **name != request.person && policy.decides(name);
        let approvers = role.map(|role| role.approvers.all()).unwrap_or_default();
        let approvers = approvers.into_iter().filter(may).cloned().collect();
        let now = self.now().second();
        // How much of the role the person had is counted when somebody decides, and at the claim.
        let origin = Origin { from: stored.peer, tickets: self.tickets_known(policy, &request, now) };
        let overdue = self.overdue(policy, &request.person, now);
        let around = |overdue| Around::unknown(origin.clone(), self.facts(), overdue);
        let terms = terms(policy, &request, now, &around(overdue.clone()));
        // It matters where nobody would be asked otherwise.
        let unasked = || cases::terms(policy, &request, now, &around(None)).is_ok_and(|terms| terms.by.is_some());
        let overdue = overdue.filter(|_| unasked());
        let known = self.facts();
        let names = role.map(|role| role.facts_asked(&(&request).into())).unwrap_or_default();
        let fact = |name: FactName| known.at(&name, now).cloned().map(|fact| FactInfo { name, fact });
        Ok(RequestInfo {
            facts: names.into_iter().filter_map(fact).collect(),
            state: stored.state.at(now),
            decisions,
            hindrance: terms.as_ref().err().cloned(),
            overdue,
            terms: terms.ok(),
            extensions: role.map(|role| role.extensions.clone()).unwrap_or_default(),
            critical_options: role.map(|role| role.critical_options.clone()).unwrap_or_default(),
            claim_within: role.map(|role| role.claim_within),
            approvers,
            policy: policy.digest(),
            peer: stored.peer,
            revocation: None,
            extended: None,
            extended_by: Vec::new(),
            ahead: Vec::new(),
            uses: None,
            request,
            signed: stored.signed,
        })
    }
}

fn policy_text(tx: &mut Tx<'_>, sha256: &Digest) -> Result<Option<String>, StoreError> {
    tx.first("SELECT text FROM policies WHERE sha256 = ?1", &[sha256.into()], |row| row.text(0))
}

fn event(leaf: &crate::store::events::Leaf) -> Result<Event, StoreError> {
    serde_json::from_slice(&leaf.bytes).map_err(|_| StoreError::nonsense("events", &leaf.seq, "leaf"))
}

fn emergency(tx: &mut Tx<'_>, policy: &Policy, used: emergencies::Emergency) -> Result<EmergencyInfo, Error> {
    let statement: BreakGlass = used.signed.claims()?;
    let waits = used.review.is_none() && statement.drill.is_none();
    let review = used.review.map(|digest| statements::load(tx, &digest)?.claims::<Review>().map_err(Error::from));
    let heard = used.acknowledgement.map(|digest| {
        statements::load(tx, &digest)?.claims::<Acknowledgement>().map(|said| said.person).map_err(Error::from)
    });
    Ok(EmergencyInfo {
        statement,
        digest: used.signed.digest(),
        serial: used.serial,
        at: used.at,
        review: review.transpose()?,
        revoked: used.revocation.is_some(),
        alerted: used.alerted,
        heard: heard.transpose()?,
        due: waits.then(|| policy.reviews().due(used.at)),
        uses: uses::of_request(tx, &used.id)?,
    })
}

/// The requester, those who may decide, auditors and administrators; and who is of such a group by a
/// provider's word.
/// What a step that was noted for this request will be, as the policy names people now.
fn ahead(policy: &Policy, info: &RequestInfo, (step, at): (outbox::Step, Timestamp)) -> Ahead {
    let (first, behind) = policy.deciders(&info.request.role, &info.request.person);
    let again = step == outbox::Step::Remind;
    let mut people = if again { first } else { behind };
    people.retain(|person| info.waits_for(person));
    Ahead { at, again, people }
}

fn may_see(policy: &Policy, caller: &Caller, info: &RequestInfo) -> bool {
    let role = policy.roles().get(&info.request.role);
    info.request.person == caller.person
        || role.is_some_and(|role| caller.reads_for(role))
        || caller.has_any(&[Duty::Auditors, Duty::Admins])
}
