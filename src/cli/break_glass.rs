//! `ssh-jit break-glass`: in when nobody can approve.

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
use crate::wire::{Certified, SignedText};

use super::person::{Person, text};
use super::ui::{ask_passphrase, time};
use super::{Context, Exit, Failure, ssh_config};

/// What `break-glass` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The role
    role: RoleName,
    /// What kind of emergency: outage, security-incident, approvers-unreachable, data-loss, other
    #[arg(long)]
    category: Category,
    /// What is broken, in 20 characters or more
    #[arg(long, value_name = "TEXT", required_unless_present = "reason_file")]
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
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let path = args.key.clone().or_else(|| context.config.emergency_identity.clone()).ok_or_else(|| {
        Failure::misuse("your emergency key is not known")
            .hint("--key FILE, or emergency_identity in the configuration")
    })?;
    let statement = statement(&person, args)?;
    let Broken { statement, signed, issued, checked, key, private } = obtain(&mut person, &path, statement)?;
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
    let until = time(checked.valid_before, person.now()?);
    context.ui.good(format_args!(
        "the glass is broken: {} until {until}: {}",
        statement.role,
        checked.principals.join(" ")
    ));
    context.ui.say(format_args!("it is recorded as {}, and somebody else must review it", statement.id));
    context.ui.out(format_args!("ssh -i '{}' -o CertificateFile='{}' ACCOUNT@HOST", private.display(), file.display()));
    Ok(Exit::Done)
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
pub(super) fn obtain(person: &mut Person<'_>, path: &Path, statement: BreakGlass) -> Result<Broken, Failure> {
    let mut identity = Identity::open(path, person.agent(), &ask_passphrase)?;
    if identity.public_key().application().is_some() {
        person.context.ui.say("touch your emergency key");
    }
    let bytes = to_bytes(&statement);
    let signature = identity.sign(BreakGlass::KIND.namespace(), &bytes)?;
    let signed = text(bytes, &signature);
    let issued: Certified = person.service.api.post("/v1/break-glass", &signed).map_err(|e| {
        let failure = Failure::from(e);
        if failure.exit == Exit::Unreachable { failure } else { failure.exit(Exit::BreakGlassRefused) }
    })?;
    let key_id = format!("BREAK-GLASS/{}/{}/{}/", statement.id, statement.person, statement.role);
    let now = person.now()?;
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

fn statement(person: &Person<'_>, args: &Args) -> Result<BreakGlass, Failure> {
    let reason = match (&args.reason, &args.reason_file) {
        (Some(reason), _) => reason.clone(),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
            text.trim().parse()?
        }
        (None, None) => return Err(Failure::misuse("a reason is needed")),
    };
    // Said here already, so that nobody touches a key for a refusal.
    reason.fits_emergency().map_err(|e| Failure::new(e).exit(Exit::BreakGlassRefused))?;
    let (instance, name, nonce, at) = person.preamble()?;
    Ok(BreakGlass {
        v: Version,
        kind: Is,
        instance,
        person: name,
        id: random::request_id(),
        role: args.role.clone(),
        principals: Vec::new(),
        hosts: args.hosts.clone(),
        seconds: args.length,
        extends: None,
        category: args.category,
        reason,
        drill: None,
        nonce,
        at,
    })
}
