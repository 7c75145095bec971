//! `ssh-jit ca rotate`: one CA key takes the place of another, a step at a time. Whoever was killed runs it again.

use serde_json::json;

use crate::ca::{self, Keys};
use crate::cli::ui::time;
use crate::cli::{Context, Exit, Failure, policy_files};
use crate::domain::key::PublicKey;
use crate::domain::names::HostName;
use crate::domain::policy::Policy;
use crate::domain::rotation::{Step, Wait};
use crate::domain::time::Timestamp;
use crate::domain::trust::{CaRole, Trust};
use crate::{service, store};

use super::folder::{Folder, Of, TAKE_IT_UP};

/// What `ca rotate` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Which CA: user, break-glass or host
    #[arg(value_name = "CA")]
    role: CaRole,
    /// Say what comes next and what it waits for, and do nothing
    #[arg(long, conflicts_with = "force")]
    status: bool,
    /// Do not wait: hosts that have not followed refuse what the new key signs, and live certificates of the old one end
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    of: Of,
}

/// Where a rotation is.
struct Rotation {
    folder: Folder,
    role: CaRole,
    step: Step,
    waits: Vec<Wait>,
    /// Hosts of roles that cannot say how far they are.
    silent: Vec<HostName>,
    now: Timestamp,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let folder = Folder::open(&args.of, !args.status)?;
    if !args.status {
        forget_retired(&folder, args.role)?;
    }
    let rotation = Rotation::look(context, folder, args.role)?;
    if args.status {
        rotation.show(context);
        return Ok(Exit::Done);
    }
    if let (Some(wait), false) = (rotation.waits.first(), args.force) {
        return Err(rotation.not_yet(wait));
    }
    let key = rotation.go_on(context)?;
    rotation.report(context, &key);
    Ok(Exit::Done)
}

/// Removes keys that were retired by somebody who was killed before they removed them.
fn forget_retired(folder: &Folder, role: CaRole) -> Result<(), Failure> {
    let (cas, held) = (folder.chain.newest().cas(role), ca::held(&folder.config.ca_keys, role)?);
    let signs = held.iter().position(|key| cas.first() == Some(key)).unwrap_or(0);
    let old = &held[..signs];
    Ok(ca::remove(&folder.config.ca_keys, role, |key| cas.contains(key) || !old.contains(key))?)
}

impl Rotation {
    fn look(context: &Context, folder: Folder, role: CaRole) -> Result<Self, Failure> {
        let (chain, now) = (&folder.chain, context.clock.now().second());
        let step = Step::next(chain.newest(), role, &ca::held(&folder.config.ca_keys, role)?);
        let old = if let Step::Retire { old } = &step { old.as_slice() } else { &[] };
        let policy = policy_files::load(&folder.config.policy)?;
        let progress = store::look(&folder.config.database, &folder.config.base, |tx| {
            service::progress(tx, (&policy, chain), (role, old), now)
        })?;
        let waits = step.waits(chain, role, &progress);
        Ok(Self { step, waits, silent: silent(&policy), now, role, folder })
    }

    fn not_yet(&self, wait: &Wait) -> Failure {
        let (role, more) = (self.role.as_str(), self.waits.len() - 1);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let fact = format!("the {role} CA stays as it is: {}{more}", told(wait, self.now));
        let hint = match wait {
            Wait::Service { .. } => "kill -HUP the service; where it is down, start it".to_owned(),
            Wait::Host { .. } => format!(
                "have ssh-jit host sync run there; ssh-jit ca rotate {role} --status names all, --force goes on without"
            ),
            Wait::Certificate { .. } => "run it again then; --force ends what the old key signed".to_owned(),
        };
        Failure { code: "waits".to_owned(), ..Failure::new(fact).hint(hint) }
    }

    /// Does the step; gives the key that it is about.
    fn go_on(&self, context: &Context) -> Result<PublicKey, Failure> {
        let (keys, passphrase) = self.folder.unlock(context)?;
        let (path, mut next) = (&self.folder.config.ca_keys, self.folder.next(context));
        let key = match &self.step {
            Step::Announce { made: Some(made) } => made.clone(),
            Step::Announce { made: None } => Keys::make_another(path, self.role, passphrase.as_ref())?,
            Step::Activate { next } => next.clone(),
            Step::Retire { .. } => keys.ca(self.role).public().clone(),
        };
        change(&mut next, self.role, &self.step, &key);
        self.folder.publish(&keys, &next)?;
        if let Step::Retire { old } = &self.step {
            ca::remove(path, self.role, |key| !old.contains(key))?;
        }
        Ok(key)
    }

    fn report(&self, context: &Context, key: &PublicKey) {
        let (ui, role, number) = (&context.ui, self.role.as_str(), self.folder.chain.newest().number + 1);
        if ui.json {
            return ui.data(&json!({
                "ca": self.role, "step": self.step.name(), "document": number, "key": key, "waits": self.waits,
            }));
        }
        ui.good(match &self.step {
            Step::Announce { .. } => format!("trust document {number} announces {} as {role} CA", key.fingerprint()),
            Step::Activate { .. } => {
                format!("{} signs as {role} CA from trust document {number} on", key.fingerprint())
            }
            Step::Retire { .. } => format!("{} is the only {role} CA in trust document {number}", key.fingerprint()),
        });
        for wait in &self.waits {
            ui.say(format_args!("not waited for: {}", told(wait, self.now)));
        }
        ui.say(TAKE_IT_UP);
        if !matches!(self.step, Step::Retire { .. }) {
            ui.say(format_args!("then: ssh-jit ca rotate {role}"));
        }
    }

    fn show(&self, context: &Context) {
        let (ui, trust) = (&context.ui, self.folder.chain.newest());
        let cas = trust.cas(self.role);
        if ui.json {
            return ui.data(&json!({
                "ca": self.role, "document": trust.number, "keys": cas, "step": self.step.name(), "waits": self.waits,
                "silent": self.silent,
            }));
        }
        ui.out(format_args!("document  {}", trust.number));
        for (at, key) in cas.iter().enumerate() {
            ui.out(format_args!("{}  {}", if at == 0 { "signs   " } else { "beside  " }, key.fingerprint()));
        }
        ui.out(format_args!("next      {}", self.step.name()));
        for wait in &self.waits {
            ui.out(format_args!("waits     {}", told(wait, self.now)));
        }
        for host in &self.silent {
            ui.out(format_args!("silent    {host}: no [hosts.{host}] keys in the policy, so it is not waited for"));
        }
    }
}

/// Hosts that roles open, and that have no key by which they could say how far they are.
fn silent(policy: &Policy) -> Vec<HostName> {
    let opened = policy.roles().values().flat_map(|role| &role.hosts);
    let mut silent: Vec<HostName> = opened.filter(|host| !policy.hosts().contains_key(*host)).cloned().collect();
    silent.sort();
    silent.dedup();
    silent
}

fn change(trust: &mut Trust, role: CaRole, step: &Step, key: &PublicKey) {
    let cas = trust.cas_mut(role);
    match step {
        Step::Announce { .. } => cas.push(key.clone()),
        Step::Activate { .. } => {
            cas.retain(|other| other != key);
            cas.insert(0, key.clone());
        }
        Step::Retire { old } => cas.retain(|key| !old.contains(key)),
    }
}

fn told(wait: &Wait, now: Timestamp) -> String {
    match wait {
        Wait::Service { document, taken } => {
            format!("the running service has not taken up trust document {document}: it is at {taken}")
        }
        Wait::Host { host, document: Some(document), heard: Some(heard) } => {
            format!("host {host} is at trust document {document}, heard {}", time(*heard, now))
        }
        Wait::Host { host, .. } => format!("host {host} never said how far it is"),
        Wait::Certificate { until } => format!("a certificate of the old key ends {}", time(*until, now)),
    }
}
