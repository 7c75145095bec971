//! Extensions: what a request goes on from, and what goes on from it.

use crate::domain::event::{Event, EventKind};
use crate::domain::extension;
use crate::domain::names::RequestId;
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::statement::Request;
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::Verified;
use crate::store::{StoreError, Tx, certificates, events, requests, statements};

use super::{Error, Service};

/// So many links of a chain are followed: longer ones are the policy's to forbid.
const MOST_LINKS: usize = 50;

/// What an extension goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// The request that it names.
    pub id: RequestId,
    /// When that one's access began.
    pub since: Timestamp,
    /// When it ends, or ended by itself; `None` when somebody ended it.
    pub ends: Option<Timestamp>,
    /// When the first of the chain began.
    pub first: Timestamp,
}

impl Service {
    /// Refuses an extension of what may not be extended. The request that it names and its claim are verified again
    /// from their bytes.
    pub(super) fn may_extend(
        &self,
        tx: &mut Tx<'_>,
        request: &Verified<Request>,
        now: Moment,
        rule: fn(&State) -> Result<(), Refusal>,
    ) -> Result<(), Error> {
        let Some(id) = &request.get().extends else { return Ok(()) };
        // First, so that nobody learns anything of somebody else's.
        let stored = requests::load(tx, id)?.ok_or(Refusal::UnknownRequest)?;
        if stored.signed.claims::<Request>()?.person != request.get().person {
            return Err(Refusal::UnknownRequest.into());
        }
        let case = self.case(tx, id).map_err(not_extendable)?;
        let state = case.state.clone().at(now.second());
        let planned = state.serial().map(|serial| certificates::load(tx, id, serial)).transpose()?.flatten();
        let Some(planned) = planned else {
            return Err(Refusal::NotExtendable { state: state.name() }.into());
        };
        let claim = self.claim_of(&case, &statements::load(tx, &planned.claim)?)?;
        extension::follows(request, &case.request, &claim)?;
        Ok(rule(&state)?)
    }
}

/// A denied request has no case any more, and gives no access.
fn not_extendable(error: Error) -> Error {
    match error {
        Error::Refused(Refusal::Denied) => Refusal::NotExtendable { state: "denied" }.into(),
        other => other,
    }
}

/// What a request extends, and how long its person has had access by now.
pub(super) fn extended(tx: &mut Tx<'_>, request: &Request, now: Timestamp) -> Result<Option<Extended>, Error> {
    let mut found: Option<Extended> = None;
    let mut next = request.extends.clone();
    for _ in 0..MOST_LINKS {
        let Some(id) = next.take() else { break };
        let (Some(stored), Some(since)) = (requests::load(tx, &id)?, claimed_at(tx, &id)?) else { break };
        let ends = match stored.state.at(now) {
            State::Active { ends: at, .. } | State::Expired { at, .. } => Some(at),
            _ => None,
        };
        let first = found.get_or_insert(Extended { id, since, ends, first: since });
        first.first = first.first.min(since);
        next = stored.signed.claims::<Request>()?.extends;
    }
    Ok(found)
}

/// The requests that extend this one, the newest first.
pub(super) fn extended_by(tx: &mut Tx<'_>, request: &Request) -> Result<Vec<RequestId>, Error> {
    let later = requests::history(tx, &request.person, &request.role, request.at, MOST_LINKS as u32)?;
    let statements = later.iter().map(crate::domain::verify::Signed::claims::<Request>);
    let mut found = Vec::new();
    for other in statements {
        let other = other?;
        found.extend((other.extends.as_ref() == Some(&request.id)).then_some(other.id));
    }
    Ok(found)
}

fn claimed_at(tx: &mut Tx<'_>, id: &RequestId) -> Result<Option<Timestamp>, StoreError> {
    let leaves = events::of_request(tx, id)?;
    let mut events = leaves.iter().filter_map(|leaf| serde_json::from_slice::<Event>(&leaf.bytes).ok());
    Ok(events.find(|event| event.kind == EventKind::Claimed).map(|event| event.at.second()))
}
