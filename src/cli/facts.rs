//! `ssh-jit facts`: what signed messages from outside say is so now.

use crate::domain::text::visible;
use crate::wire::FactView;

use super::person::Person;
use super::ui::time;
use super::{Context, Exit, Failure};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let found: Vec<FactView> = person.read("/v1/facts")?;
    if context.ui.json {
        context.ui.data(&found);
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        context.ui.say("no facts are known now");
        return Ok(Exit::Done);
    }
    let now = person.now()?;
    let row = |fact: &FactView| {
        let source = fact.source.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![fact.name.to_string(), visible(fact.value.as_str()), source, time(fact.until, now)]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    context.ui.table(&["FACT", "IS", "SAYS", "UNTIL"], &rows);
    Ok(Exit::Done)
}
