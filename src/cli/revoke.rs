//! `ssh-jit revoke`: ends what others hold, for those with the duty.

use crate::domain::digest::Digest;
use crate::domain::key::PublicKey;
use crate::domain::names::{Invalid, PersonName};
use crate::domain::statement::{Is, Revocation, Target, Version};
use crate::domain::text::Reason;
use crate::wire::RevokedView;

use super::person::{Person, request_id};
use super::{Context, Exit, Failure};

/// What `revoke` takes.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub(super) struct Args {
    /// The request, or the broken glass
    #[arg(group = "target")]
    request: Option<String>,
    /// Everything that this person has or asked for
    #[arg(long, value_name = "NAME", group = "target")]
    person: Option<PersonName>,
    /// Everything that was asked for, approved or claimed with this key: its fingerprint, or the key itself
    #[arg(long, value_name = "SHA256:...", group = "target", value_parser = fingerprint)]
    key: Option<Digest>,
    /// Why: it stays on record
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
}

fn fingerprint(typed: &str) -> Result<Digest, Invalid> {
    match typed.parse::<PublicKey>() {
        Ok(key) => Ok(key.fingerprint()),
        Err(_) => typed.parse(),
    }
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let target = match (&args.request, &args.person, &args.key) {
        (Some(typed), ..) => Target::Request(request_id(typed)?),
        (_, Some(person), _) => Target::Person(person.clone()),
        (.., Some(key)) => Target::Key(*key),
        _ => return Err(Failure::misuse("name a request, --person or --key")),
    };
    let mut person = Person::open(context)?;
    let (instance, name, nonce, at) = person.preamble()?;
    let reason = args.reason.clone();
    let revocation = Revocation { v: Version, kind: Is, instance, person: name, target, reason, nonce, at };
    let signed = person.sign(&revocation)?;
    let ended: Vec<RevokedView> = person.service.api.post("/v1/revocations", &signed)?;
    report(context, &ended, &revocation.target);
    Ok(Exit::Done)
}

fn report(context: &Context, ended: &[RevokedView], target: &Target) {
    let ui = &context.ui;
    if ui.json {
        return ui.data(&ended);
    }
    for RevokedView { id, person, role, serial } in ended {
        let what = if serial.is_some() { "its certificate is revoked" } else { "it cannot be claimed any more" };
        ui.good(format_args!("{id} ({role}, {person}): {what}"));
    }
    if ended.is_empty() {
        ui.say("there was nothing to end");
    }
    match target {
        Target::Request(_) => {}
        Target::Person(person) => {
            ui.say(format_args!("{person} can ask again: to prevent that, take {person} out of the policy"));
        }
        Target::Key(key) => ui.say(format_args!(
            "the key can be used again: to prevent that, add it to the policy's revoked_keys: \"{key}\""
        )),
    }
}
