//! `ssh-jit break-glass second`: the holder of an emergency key lets somebody else go on beyond what one may do alone.
//! What it prints is passed on by whatever works; it is good for ten minutes, once, for that person and role.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::cli::person::{Person, text};
use crate::cli::{Context, Exit, Failure};
use crate::domain::names::{PersonName, RoleName};
use crate::domain::statement::{Is, Seconding, Statement as _, Version, to_bytes};
use crate::domain::text::Reason;
use crate::random;
use crate::wire::SignedText;

/// What `break-glass second` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Who breaks the glass
    person: PersonName,
    /// The role
    role: RoleName,
    /// What is broken, as you know it, in 20 characters or more
    #[arg(long, value_name = "TEXT", required_unless_present = "reason_file")]
    reason: Option<Reason>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "reason")]
    reason_file: Option<PathBuf>,
    /// Your emergency key, either half
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let person = Person::open_for_emergency(context)?;
    let path = super::emergency_key(context, args.key.as_deref())?;
    let seconding = Seconding {
        v: Version,
        kind: Is,
        instance: person.service.trust.instance.clone(),
        person: person.name.clone(),
        requester: args.person.clone(),
        role: args.role.clone(),
        reason: super::reason(args.reason.as_ref(), args.reason_file.as_deref())?,
        nonce: random::nonce(),
        at: person.now()?,
    };
    let mut identity = super::open_key(&person, &path)?;
    let bytes = to_bytes(&seconding);
    let signature = identity.sign(Seconding::KIND.namespace(), &bytes)?;
    let token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&text(bytes, &signature))?);
    if context.ui.json {
        context.ui.data(&serde_json::json!({ "second": token, "for": args.person, "role": args.role }));
        return Ok(Exit::Done);
    }
    context.ui.say(format_args!("for {} and {}, within 10 minutes, once: --second and this", args.person, args.role));
    context.ui.out(token);
    Ok(Exit::Done)
}

/// What `run` printed, read again.
pub(super) fn parse(token: &str) -> Result<SignedText, String> {
    let json = URL_SAFE_NO_PAD.decode(token.trim()).map_err(|_| "it is cut off, or something else".to_owned())?;
    serde_json::from_slice(&json).map_err(|_| "it is not what `ssh-jit break-glass second` prints".to_owned())
}
