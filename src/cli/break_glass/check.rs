//! `ssh-jit break-glass --check`: proves key, roles and service, and has nothing signed.

use std::path::Path;

use crate::cli::person::{Person, text};
use crate::cli::{Context, Exit, Failure};
use crate::domain::names::HostName;
use crate::domain::statement::{BreakGlassCheck, Is, Statement as _, Version, to_bytes};
use crate::random;
use crate::wire::CheckedView;

pub(super) fn run(context: &Context, key: Option<&Path>) -> Result<Exit, Failure> {
    let person = Person::open_for_emergency(context)?;
    let path = super::emergency_key(context, key)?;
    let (at, off) = person.now_all_the_same();
    let (instance, name) = (person.service.trust.instance.clone(), person.name.clone());
    let asked = BreakGlassCheck { v: Version, kind: Is, instance, person: name, nonce: random::nonce(), at };
    let mut identity = super::open_key(&person, &path)?;
    let bytes = to_bytes(&asked);
    let signature = identity.sign(BreakGlassCheck::KIND.namespace(), &bytes)?;
    let refused = |e| match Failure::from(e) {
        failure if failure.exit == Exit::Unreachable => failure,
        failure => failure.exit(Exit::BreakGlassRefused),
    };
    let found: CheckedView =
        person.service.api.post("/v1/break-glass/check", &text(bytes, &signature)).map_err(refused)?;
    let well = found.hindrance.is_none() && off.is_none();
    if context.ui.json {
        context.ui.data(&serde_json::json!({
            "well": well, "server": person.service.api.url(), "key": identity.public_key().fingerprint(),
            "roles": found.roles, "categories": found.categories, "hindrance": found.hindrance, "clock_off": off,
        }));
    } else {
        report(context, &person, &found, off);
    }
    Ok(if well { Exit::Done } else { Exit::Failed })
}

fn report(context: &Context, person: &Person<'_>, found: &CheckedView, off: Option<i64>) {
    let ui = &context.ui;
    ui.say(format_args!(
        "{} answers, and knows this key as an emergency key of {}",
        person.service.api.url(),
        person.name
    ));
    for role in &found.roles {
        let hosts: Vec<&str> = role.hosts.iter().map(HostName::as_str).collect();
        let on = if hosts.is_empty() { String::new() } else { format!(" on {}", hosts.join(", ")) };
        ui.out(format_args!("{}{on}, up to {}", role.name, role.max));
    }
    if let Some(off) = off {
        ui.say(format_args!("this machine's clock is {} s off the service's: it would take --clock-off", off.abs()));
    }
    if let Some(hindrance) = &found.hindrance {
        ui.say(format_args!("nothing would be signed now: {hindrance}"));
    }
}
