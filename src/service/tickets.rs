//! Looking tickets up where the policy says. What is asked is asked outside of every transaction, bounded in time,
//! length and number, and an answer that does not come leaves everything as if there were no such ticket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::TicketCheckConfig;
use crate::domain::digest::Digest;
use crate::domain::names::{CheckName, PersonName, RequestId, Ticket};
use crate::domain::policy::ticket::{TicketAnswer, TicketCheck, Tickets};
use crate::domain::policy::{Asked, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::remembered::Remembered;
use crate::domain::statement::Request;
use crate::domain::time::Timestamp;
use crate::outgoing;
use crate::store::requests;

use super::{Error, Service};

/// How long an answer is good for, in seconds.
const KNOWN_FOR: i64 = 60;
/// How long nobody asks again after an answer did not come, in seconds.
const UNKNOWN_FOR: i64 = 5;
/// So many answers are remembered.
const REMEMBERED: usize = 1_000;
/// So many tickets are looked up at once: a place that hangs must not use up the threads that others read with.
const TURNS: usize = 8;
/// No answer is longer.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Who looks tickets up.
pub(super) struct Desk {
    agents: BTreeMap<CheckName, (ureq::Agent, TicketCheckConfig)>,
    agent: ureq::Agent,
    known: Remembered<Digest, (Timestamp, TicketAnswer)>,
    turns: Arc<Semaphore>,
}

impl Desk {
    pub(super) fn new(configs: &BTreeMap<CheckName, TicketCheckConfig>) -> Self {
        let own = |(name, config): (&CheckName, &TicketCheckConfig)| (name.clone(), (agent(config), config.clone()));
        Self {
            agents: configs.iter().map(own).collect(),
            agent: agent(&TicketCheckConfig::default()),
            known: Remembered::new(REMEMBERED),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }

    fn remembered(&self, key: &Digest, now: Timestamp) -> Option<TicketAnswer> {
        let (at, answer) = self.known.get(key)?;
        let good_for = if answer == TicketAnswer::Unknown { UNKNOWN_FOR } else { KNOWN_FOR };
        // A clock that was set back makes nothing good for longer.
        (0..good_for).contains(&now.since(at)).then_some(answer)
    }

    async fn ask(&self, name: &CheckName, check: &TicketCheck, person: &PersonName, ticket: &Ticket) -> TicketAnswer {
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else { return TicketAnswer::Unknown };
        let (agent, header) = match self.agents.get(name) {
            Some((agent, config)) => (agent.clone(), config.header.clone()),
            None => (self.agent.clone(), None),
        };
        let (check, person, ticket, name) = (check.clone(), person.clone(), ticket.clone(), name.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match call(&agent, &check, header, &ticket) {
                Ok((status, body)) => check.judge(&person, &ticket, status, &body),
                Err(error) => {
                    tracing::warn!(check = %name, %error, "a ticket could not be checked");
                    TicketAnswer::Unknown
                }
            }
        });
        asked.await.unwrap_or(TicketAnswer::Unknown)
    }
}

fn call(
    agent: &ureq::Agent,
    check: &TicketCheck,
    header: Option<(ureq::http::HeaderName, ureq::http::HeaderValue)>,
    ticket: &Ticket,
) -> Result<(u16, Vec<u8>), ureq::Error> {
    let within = Duration::from_secs(check.timeout.get().into());
    let mut request = agent.get(check.url.of(ticket)).header("Accept", "application/json");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let answer = request.config().timeout_global(Some(within)).build().call()?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().into_with_config().limit(LONGEST_ANSWER).read_to_vec()?))
}

/// The policy says how long each check may take; that is less.
const WITHIN: Duration = Duration::from_secs(10);

fn agent(config: &TicketCheckConfig) -> ureq::Agent {
    outgoing::guarded_agent(config.authorities.clone(), WITHIN, config.allow.clone().into())
}

impl Service {
    /// What the checks say of a request's ticket: those that the role's conditions and rules ask for. Asks where
    /// nothing is remembered.
    pub(super) async fn tickets(&self, policy: &Policy, asked: &Request, now: Timestamp) -> Arc<Tickets> {
        let mut answers = Vec::new();
        for (name, key) in wanted(policy, asked) {
            let (Some(check), Some(ticket)) = (policy.ticket_checks().get(&name), &asked.ticket) else { continue };
            let answer = if let Some(answer) = self.desk.remembered(&key, now) {
                answer
            } else {
                let answer = self.desk.ask(&name, check, &asked.person, ticket).await;
                self.desk.known.insert(key, (now, answer.clone()));
                answer
            };
            answers.push((name, answer));
        }
        Arc::new(answers.into_iter().collect())
    }

    /// The same for a request of this id, where the policy checks any ticket at all.
    pub(super) async fn tickets_of(
        &self,
        policy: &Policy,
        id: &RequestId,
        now: Timestamp,
    ) -> Result<Arc<Tickets>, Error> {
        if policy.ticket_checks().is_empty() {
            return Ok(Arc::default());
        }
        let wanted = id.clone();
        let stored = self.store.read(move |tx| requests::load(tx, &wanted)).await?.ok_or(Refusal::UnknownRequest)?;
        Ok(self.tickets(policy, &stored.signed.claims()?, now).await)
    }

    /// What is remembered of them: nobody is asked.
    pub(super) fn tickets_known(&self, policy: &Policy, asked: &Request, now: Timestamp) -> Arc<Tickets> {
        let known = wanted(policy, asked).into_iter();
        Arc::new(known.filter_map(|(name, key)| Some((name, self.desk.remembered(&key, now)?))).collect())
    }

    /// Every check that has something of its own in the service's file stands in the policy.
    pub(super) fn checks_fit(&self, policy: &Policy) -> Result<(), Error> {
        match self.settings.ticket_checks.keys().find(|name| !policy.ticket_checks().contains_key(*name)) {
            Some(name) => Err(Error::Setup(format!(
                "ticket_checks.{name}: the policy has no [ticket_checks.{name}] to say where"
            ))),
            None => Ok(()),
        }
    }
}

/// The checks to ask, each with what its answer is remembered by: this policy's word on it, this person, this ticket.
fn wanted(policy: &Policy, asked: &Request) -> Vec<(CheckName, Digest)> {
    let role = policy.roles().get(&asked.role);
    let names = role.map(|role| role.checks_asked(&Asked::from(asked))).unwrap_or_default();
    let ticket = asked.ticket.as_ref().map_or("", Ticket::as_str);
    let key = |name: &CheckName| {
        let parts = [name.as_str(), asked.person.as_str(), ticket].map(str::as_bytes);
        Digest::of_parts(&[policy.digest().as_bytes(), parts[0], parts[1], parts[2]])
    };
    names.into_iter().map(|name| (name.clone(), key(&name))).collect()
}
