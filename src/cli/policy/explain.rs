//! `policy explain`: the walk of a request through the policy, told rule by rule.

use std::net::IpAddr;

use crate::cli::{Exit, Failure, Ui, policy_files};
use crate::clock::Clock;
use crate::domain::facts::Facts;
use crate::domain::names::{CheckName, HostName, Invalid, PersonName, RoleName, Ticket};
use crate::domain::policy::{Asked, Circumstances, Explained, Met, People, Policy, Terms, Tickets};
use crate::domain::time::{Seconds, Timestamp};

use super::Which;

/// What `policy explain` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Who asks
    person: PersonName,
    /// For what
    role: RoleName,
    /// When [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
    /// From where
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// For how long [default: the role's]
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<Seconds>,
    /// Only these hosts
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// With this ticket
    #[arg(long)]
    ticket: Option<Ticket>,
    /// Of which this check says that it is good
    #[arg(long = "checked", value_name = "CHECK")]
    checked: Vec<CheckName>,
    /// While this is so, as in "oncall:dba:primary = alice"
    #[arg(long = "fact", value_name = "FACT")]
    facts: Vec<String>,
    /// After so much of the role in the last 24 hours
    #[arg(long, value_name = "LENGTH")]
    held: Option<Seconds>,
    #[command(flatten)]
    which: Which,
}

fn time(text: &str) -> Result<Timestamp, Invalid> {
    Timestamp::from_typed(text)
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<Exit, Failure> {
    let policy = policy_files::look_at(&args.which.path()?)?;
    let at = args.at.unwrap_or_else(|| Clock::System.now().second());
    let facts = Facts::written(args.facts.iter().map(String::as_str), at).map_err(Failure::misuse)?;
    let asked = Asked {
        person: &args.person,
        role: &args.role,
        hosts: &args.hosts,
        principals: &[],
        seconds: args.length,
        ticket: args.ticket.as_ref(),
    };
    let tickets = Tickets::yes(&args.checked);
    let held = args.held.map_or(0, |held| held.get().into());
    let explained = policy.explain(
        &asked,
        at,
        &Circumstances { from: args.from, facts: &facts, tickets: &tickets, held, overdue: None },
    );
    if ui.json {
        ui.data(&data(&policy, &args.person, &explained));
    } else {
        explained.met.iter().for_each(|met| ui.out(met));
        ui.out(explained.verdict());
        if let Ok(terms) = &explained.outcome {
            for part in needed(&policy, terms, &args.person) {
                ui.out(format_args!("  {part}"));
            }
        }
        explained.would.iter().for_each(|way| ui.out(format_args!("would pass without asking {way}")));
    }
    Ok(Exit::Done)
}

/// Who must agree, a line for each part of the quorum.
fn needed(policy: &Policy, terms: &Terms, requester: &PersonName) -> Vec<String> {
    let may = |of: &People| {
        let names = of.all().into_iter().filter(|person| *person != requester && policy.decides(person));
        names.map(PersonName::as_str).collect::<Vec<_>>().join(", ")
    };
    terms.quorum.parts().iter().map(|part| format!("{} of {}", part.approvals, may(&part.of))).collect()
}

fn data(policy: &Policy, requester: &PersonName, explained: &Explained) -> serde_json::Value {
    let met = |met: &Met| {
        let holds = met.missing.is_empty();
        serde_json::json!({ "rule": met.rule, "does": met.does, "holds": holds, "missing": met.missing })
    };
    let met: Vec<_> = explained.met.iter().map(met).collect();
    let outcome = match &explained.outcome {
        Ok(terms) => serde_json::json!({
            "decision": if terms.by.is_some() { "automatic" } else { "approval" },
            "by": terms.by, "seconds": terms.seconds, "hosts": terms.hosts, "principals": terms.principals,
            "approvals": terms.approvals(), "ends_by": terms.ends_by, "of": needed(policy, terms, requester),
        }),
        Err(refusal) => {
            serde_json::json!({ "decision": "denied", "code": refusal.code(), "message": refusal.to_string() })
        }
    };
    serde_json::json!({ "policy": policy.digest(), "met": met, "outcome": outcome, "would_pass": explained.would })
}
