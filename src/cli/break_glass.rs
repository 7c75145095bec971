//! `ssh-jit break-glass`: in when nobody can approve.

mod check;
mod runbook;
mod second;

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::certificate::{self, Checked, Expected};
use crate::client::identity::Identity;
use crate::client::state::{Held, Pending};
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, RoleName};
use crate::domain::statement::{BreakGlass, Category, Is, Statement as _, Version, to_bytes};
use crate::domain::text::Reason;
use crate::domain::time::Seconds;
use crate::domain::verify::Signed;
use crate::random;
use crate::wire::{BreakGlassText, Certified, SignedText};

use super::person::{Person, request_id, text};
use super::ui::{ask_passphrase, time};
use super::{Context, Exit, Failure, ssh_config};

/// What `break-glass` takes.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The role
    #[arg(required_unless_present = "check")]
    role: Option<RoleName>,
    /// What kind of emergency: outage, security-incident, approvers-unreachable, data-loss, other
    #[arg(long, required_unless_present = "check")]
    category: Option<Category>,
    /// What is broken, in 20 characters or more
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["reason_file", "check"])]
    reason: Option<Reason>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "reason")]
    reason_file: Option<PathBuf>,
    /// For how long; 5m where it is not given
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Seconds>,
    /// Only for this host of the role (may be given several times)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// Your emergency key, either half [config: emergency_identity, environment: SSH_JIT_EMERGENCY_IDENTITY]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Goes on with this one, your last, before it ends
    #[arg(long, value_name = "ID")]
    extends: Option<String>,
    /// What a second person's `break-glass second` printed, where nobody may go on alone
    #[arg(long, value_name = "TEXT", value_parser = second::parse)]
    second: Option<SignedText>,
    /// Go on although this machine's clock and the service's are far apart; it is put on record
    #[arg(long)]
    clock_off: bool,
    /// Only see whether it would work: key, roles, service. Nothing is signed, and nobody is told
    #[arg(long, conflicts_with_all = ["role", "category", "reason", "reason_file", "length", "hosts", "extends", "second"])]
    check: bool,
}

/// What goes with breaking the glass.
#[derive(clap::Subcommand)]
enum Verb {
    /// Join in with somebody else, who then passes on what this prints
    Second(second::Args),
    /// One page for the safe: the steps, addresses and fingerprints, and no secret
    Runbook(runbook::Args),
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    match (&args.verb, &args.role, args.category) {
        (Some(Verb::Second(args)), ..) => second::run(context, args),
        (Some(Verb::Runbook(args)), ..) => runbook::run(context, args),
        (None, Some(role), Some(category)) => break_it(context, args, role, category),
        (None, ..) => check::run(context, args.key.as_deref()),
    }
}

/// Where the emergency key lies.
pub(super) fn emergency_key(context: &Context, typed: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = typed.map(Path::to_owned).or_else(|| context.config.emergency_identity.clone());
    path.ok_or_else(|| {
        Failure::misuse("your emergency key is not known")
            .hint("--key FILE, or emergency_identity in the configuration")
    })
}

/// The emergency key, and a word to who must touch it.
fn open_key(person: &Person<'_>, path: &Path) -> Result<Identity, Failure> {
    let identity = Identity::open(path, person.agent(), &ask_passphrase)?;
    if identity.public_key().application().is_some() {
        person.context.ui.say("touch your emergency key");
    }
    Ok(identity)
}

fn break_it(context: &Context, args: &Args, role: &RoleName, category: Category) -> Result<Exit, Failure> {
    let person = Person::open_for_emergency(context)?;
    let path = emergency_key(context, args.key.as_deref())?;
    let statement = statement(&person, args, role, category)?;
    let now = person.now_all_the_same().0;
    let Broken { statement, signed, issued, checked, key, private } =
        obtain(&person, &path, statement, args.second.clone())?;
    let pending = Pending {
        id: statement.id.clone(),
        person: statement.person.clone(),
        role: statement.role.clone(),
        digest: Signed::try_from(&signed)?.digest(),
        key,
        seconds: args.length,
        hosts: args.hosts.clone(),
        waiter: String::new(),
        certificate: Some(Held {
            certificate: issued.certificate.clone(),
            serial: issued.serial,
            valid_before: checked.valid_before,
            in_agent: false,
        }),
        extends: None,
        emergency: Some(private.clone()),
    };
    let file = person.service.state.certificate_path(&statement.id);
    crate::files::write_private(&file, format!("{}\n", issued.certificate).as_bytes())?;
    person.service.state.set_pending(&pending)?;
    ssh_config::write(context, &person.service)?;
    if context.ui.json {
        context.ui.data(&serde_json::json!({
            "id": statement.id, "role": statement.role, "serial": issued.serial, "principals": checked.principals,
            "valid_before": checked.valid_before, "certificate": file,
        }));
        return Ok(Exit::Done);
    }
    let until = time(checked.valid_before, now);
    context.ui.good(format_args!(
        "the glass is broken: {} until {until}: {}",
        statement.role,
        checked.principals.join(" ")
    ));
    context.ui.say(format_args!("it is recorded as {}, and somebody else must review it", statement.id));
    context.ui.out(format_args!("ssh -i '{}' -o CertificateFile='{}' ACCOUNT@HOST", private.display(), file.display()));
    Ok(Exit::Done)
}

/// A refusal, with what to do where another person helps.
fn refused(failure: Failure, statement: &BreakGlass) -> Failure {
    match (failure.exit, failure.code.as_str()) {
        (Exit::Unreachable, _) => failure,
        (_, "needs-second") => {
            let BreakGlass { person, role, .. } = statement;
            let hint = format!(
                "have somebody else with an emergency key run: ssh-jit break-glass second {person} {role} --reason \"...\"; \
                 then run this again with --second and what that prints"
            );
            failure.exit(Exit::BreakGlassRefused).hint(hint)
        }
        (_, "journal") => failure
            .exit(Exit::BreakGlassRefused)
            .hint("on the CA's machine: make room on the journal's disk, or see what the service's log says of it"),
        _ => failure.exit(Exit::BreakGlassRefused),
    }
}

/// Glass that was broken.
pub(super) struct Broken {
    pub(super) statement: BreakGlass,
    pub(super) signed: SignedText,
    pub(super) issued: Certified,
    pub(super) checked: Checked,
    pub(super) key: PublicKey,
    /// What ssh's IdentityFile wants.
    pub(super) private: PathBuf,
}

/// Signs the statement with the emergency key, sends it, and checks what comes back.
pub(super) fn obtain(
    person: &Person<'_>,
    path: &Path,
    statement: BreakGlass,
    second: Option<SignedText>,
) -> Result<Broken, Failure> {
    let mut identity = open_key(person, path)?;
    let bytes = to_bytes(&statement);
    let signature = identity.sign(BreakGlass::KIND.namespace(), &bytes)?;
    let signed = text(bytes, &signature);
    let sent = BreakGlassText { text: signed.text.clone(), signature: signed.signature.clone(), second };
    let issued: Certified =
        person.service.api.post("/v1/break-glass", &sent).map_err(|e| refused(e.into(), &statement))?;
    let key_id = format!("BREAK-GLASS/{}/{}/{}/", statement.id, statement.person, statement.role);
    let now = person.now_all_the_same().0;
    let checked = person.checked(|trust| {
        let expected = Expected {
            cas: &trust.break_glass_ca,
            key: identity.public_key(),
            key_id: &key_id,
            principals: &[],
            hosts: &statement.hosts,
            longest: statement.seconds,
            now,
        };
        certificate::check(&issued.certificate, &expected)
    })?;
    let private = private_half(path)?;
    let key = identity.public_key().clone();
    Ok(Broken { statement, signed, issued, checked, key, private })
}

/// What ssh's IdentityFile wants: the private half, or the public one where an agent has the other.
fn private_half(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let private = path.with_extension("");
    Ok(if path.extension().is_some_and(|e| e == "pub") && private.exists() { private } else { path })
}

fn statement(person: &Person<'_>, args: &Args, role: &RoleName, category: Category) -> Result<BreakGlass, Failure> {
    let reason = reason(args.reason.as_ref(), args.reason_file.as_deref())?;
    let (at, off) = person.now_all_the_same();
    if let Some(off) = off.filter(|_| !args.clock_off) {
        let fact = format!(
            "this machine's clock is {} s off the service's, and the certificate goes by the service's",
            off.abs()
        );
        let hint = "set the clock that is wrong; to go on all the same, on record: --clock-off";
        return Err(Failure::new(fact).exit(Exit::BreakGlassRefused).hint(hint));
    }
    Ok(BreakGlass {
        v: Version,
        kind: Is,
        instance: person.service.trust.instance.clone(),
        person: person.name.clone(),
        id: random::request_id(),
        role: role.clone(),
        principals: Vec::new(),
        hosts: args.hosts.clone(),
        seconds: args.length,
        extends: args.extends.as_deref().map(request_id).transpose()?,
        category,
        reason,
        clock_off: off,
        drill: None,
        nonce: random::nonce(),
        at,
    })
}

/// What is broken: as it was typed, or from a file. Never from the environment, where it would be one for all days.
fn reason(typed: Option<&Reason>, file: Option<&Path>) -> Result<Reason, Failure> {
    let reason = match (typed, file) {
        (Some(reason), _) => reason.clone(),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
            text.trim().parse()?
        }
        (None, None) => return Err(Failure::misuse("a reason is needed")),
    };
    // Said here already, so that nobody touches a key for a refusal.
    reason.fits_emergency().map_err(|e| Failure::new(e).exit(Exit::BreakGlassRefused))?;
    Ok(reason)
}
