//! `ssh-jit extend`: a new decision on access that one has. The old certificate works until the new one stands.

use std::time::Duration;

use crate::client::certificate;
use crate::client::state::{Held, Pending};
use crate::domain::names::HostName;
use crate::domain::statement::Request;
use crate::domain::text::Reason;
use crate::domain::time::Seconds;
use crate::domain::verify::Signed;
use crate::wire::RequestView;

use super::asking::{self, Wish};
use super::person::Person;
use super::{Context, Exit, Failure, done, login};

/// An ssh that has just been told what the agent holds signs within moments, with the key that it was told of first:
/// that one is taken away only after so long.
const GRACE: Duration = Duration::from_secs(2);

/// What `extend` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The request; not needed when only one is active
    request: Option<String>,
    /// For how long, from when the extension is claimed; the role's default where it is not given
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Seconds>,
    /// Why; the old request's reason where it is not given
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
    /// Do not wait for the decision
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let old = done::choose(&person, args.request.as_deref(), "extend")?;
    let held = old.certificate.clone().filter(|_| old.emergency.is_none());
    let held = held.ok_or_else(|| Failure::new(format!("{} gives no access that could be extended", old.id)))?;
    let path = format!("/v1/requests/{}/wait?seconds=0", old.id);
    let view: RequestView = person.service.api.get_as(&path, &old.waiter)?;
    let before: Request = Signed::try_from(&view.signed)?.claims()?;
    let wish = Wish {
        role: old.role.clone(),
        seconds: args.length,
        hosts: hosts(&held)?,
        ticket: before.ticket.clone(),
        reason: args.reason.clone().unwrap_or_else(|| again(&before.reason)),
        start: None,
        extends: Some(old.id.clone()),
    };
    let asked = asking::ask(&mut person, wish)?;
    asking::keep(&person, &asked)?;
    login::proceed(&person, asked, args.no_wait)
}

/// The old reason, marked as such.
fn again(before: &Reason) -> Reason {
    const MARK: &str = "extension: ";
    if before.as_str().starts_with(MARK) {
        return before.clone();
    }
    // One that leaves no room for the mark says enough.
    format!("{MARK}{}", before.as_str()).parse().unwrap_or_else(|_| before.clone())
}

/// The hosts that the old certificate opens: an approver may have left fewer of them than were asked for.
fn hosts(held: &Held) -> Result<Vec<HostName>, Failure> {
    let (_, principals) = certificate::told(&held.certificate)?;
    let mut hosts: Vec<HostName> = Vec::new();
    for name in principals.iter().filter_map(|principal| principal.split_once('@')).map(|(_, host)| host) {
        let host = name.parse()?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Now that a certificate stands: takes away what it extends.
pub(super) fn retire(person: &Person<'_>, new: &Pending) -> Result<Exit, Failure> {
    let Some(id) = &new.extends else { return Ok(Exit::Done) };
    if let Some(old) = person.service.state.pending(id)? {
        std::thread::sleep(GRACE);
        done::clear_away(person.context, person, &old)?;
    }
    Ok(Exit::Done)
}
