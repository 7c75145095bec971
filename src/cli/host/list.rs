//! `ssh-jit host list`: how far each host of the policy is, as it says itself.

use crate::cli::person::Person;
use crate::cli::ui::time;
use crate::cli::{Context, Exit, Failure};
use crate::domain::time::Timestamp;
use crate::wire::HostView;

/// A host that was not heard for so long does not follow, in seconds.
const SILENT_FOR: i64 = 86_400;

pub(in crate::cli) fn run(context: &Context) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let hosts: Vec<HostView> = person.read("/v1/hosts")?;
    if context.ui.json {
        context.ui.data(&hosts);
        return Ok(Exit::Done);
    }
    if hosts.is_empty() {
        context.ui.say("the policy has keys of no host");
        return Ok(Exit::Done);
    }
    let (now, newest) = (person.now()?, person.service.trust.number);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let row = |host: &HostView| {
        let heard = host.at.map_or_else(|| "never".to_owned(), |at| time(at, now));
        let state = lags(host, newest, now).unwrap_or_else(|| "follows".to_owned());
        vec![host.host.to_string(), number(host.trust), number(host.krl), heard, state]
    };
    let rows: Vec<_> = hosts.iter().map(row).collect();
    context.ui.table(&["HOST", "TRUST", "LIST", "HEARD", "STATE"], &rows);
    Ok(Exit::Done)
}

/// Why a host is behind, if it is.
pub(in crate::cli) fn lags(host: &HostView, newest: u64, now: Timestamp) -> Option<String> {
    match (host.trust, host.at) {
        (Some(trust), _) if trust < newest => Some(format!("at trust document {trust}, and {newest} is the newest")),
        (_, Some(at)) if now.since(at) > SILENT_FOR => Some(format!("not heard since {}", time(at, now))),
        (Some(_), Some(_)) => None,
        _ => Some("never said how far it is".to_owned()),
    }
}
