//! `ssh-jit roles`: what the caller may ask for, and who decides.

use crate::domain::text::visible;
use crate::wire::RoleView;

use super::person::Person;
use super::{Context, Exit, Failure};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let found: Vec<RoleView> = person.read("/v1/roles")?;
    if context.ui.json {
        context.ui.data(&found);
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        context.ui.say("the policy names you in no role; ask whoever keeps it");
        return Ok(Exit::Done);
    }
    let row = |role: &RoleView| {
        let you = match (role.may_request, role.may_decide) {
            (true, true) => "ask, decide",
            (true, false) => "ask",
            _ => "decide",
        };
        let others = role.approvers.iter().filter(|name| **name != person.name).map(ToString::to_string);
        let automatic = role.automatic.map(|most| format!("nobody up to {most}, then ")).unwrap_or_default();
        let rule = format!("{automatic}{} of {}", role.approvals, others.collect::<Vec<_>>().join(", "));
        let hosts: Vec<&str> = role.hosts.iter().map(crate::domain::names::HostName::as_str).collect();
        vec![
            role.name.to_string(),
            you.to_owned(),
            format!("{} ({})", role.max, role.default),
            if hosts.is_empty() { "any".to_owned() } else { hosts.join(",") },
            rule,
            visible(&role.description),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    context.ui.table(&["ROLE", "YOU MAY", "MAX (DEFAULT)", "HOSTS", "APPROVED BY", "WHAT IT IS"], &rows);
    Ok(Exit::Done)
}
