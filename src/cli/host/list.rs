//! `ssh-jit host list` and `host remove`: the hosts that the service knows, what it certifies, and how far each is.

use crate::cli::person::Person;
use crate::cli::ui::time;
use crate::cli::{Context, Exit, Failure};
use crate::domain::names::HostName;
use crate::domain::statement::{HostRemoval, Is, Version};
use crate::domain::text::{Reason, visible};
use crate::domain::time::Timestamp;
use crate::wire::HostView;

/// A host that was not heard for so long does not follow, in seconds.
const SILENT_FOR: i64 = 86_400;

/// What `host remove` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Remove {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostName,
    /// Why: it stays on record
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
}

pub(super) fn list(context: &Context) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let found: Vec<HostView> = person.read("/v1/hosts")?;
    let (ui, now) = (context.ui, person.now()?);
    if ui.json {
        ui.data(&found);
    } else if found.is_empty() {
        ui.say("no host is known; ssh-jit host invite HOST");
    } else {
        let newest = person.service.trust.number;
        let rows: Vec<_> = found.iter().map(|host| row(host, newest, now)).collect();
        ui.table(&["HOST", "ALSO", "BY", "CERTIFIED UNTIL", "TRUST", "LIST", "STATE"], &rows);
    }
    Ok(Exit::Done)
}

fn row(host: &HostView, newest: u64, now: Timestamp) -> Vec<String> {
    let aliases: Vec<&str> = host.aliases.iter().map(HostName::as_str).collect();
    let by = host.invited_by.as_ref().map_or_else(|| "the policy".to_owned(), ToString::to_string);
    let until = host.ends.map_or_else(|| "never".to_owned(), |ends| time(ends, now));
    let until = match &host.trouble {
        Some(trouble) => format!("{until}, and no more: {}", visible(trouble)),
        None => until,
    };
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let state = lags(host, newest, now).unwrap_or_else(|| "follows".to_owned());
    vec![host.host.to_string(), aliases.join(" "), by, until, number(host.trust), number(host.krl), state]
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

pub(super) fn remove(context: &Context, args: &Remove) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let (instance, name, nonce, at) = person.preamble()?;
    let (host, reason) = (args.host.clone(), args.reason.clone());
    let removal = HostRemoval { v: Version, kind: Is, instance, person: name, host, reason, nonce, at };
    let signed = person.sign(&removal)?;
    person.service.api.post_only("/v1/host-removals", &signed)?;
    context
        .ui
        .good(format_args!("{} is certified no more; the certificate that it has counts until its end", args.host));
    Ok(Exit::Done)
}
