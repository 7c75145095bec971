//! `ssh-jit host setup`: what a host's sshd is to believe, and taking it back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::json;

use crate::cli::person::{self, Pinned};
use crate::cli::{Context, Exit, Failure};
use crate::client::api::Api;
use crate::client::published;
use crate::domain::names::{AccountName, HostName, Invalid, PrincipalName};
use crate::domain::trust::Chain;
use crate::host::config::HostConfig;
use crate::host::setup::{Change, Done, HostError, Layout, Node, Reloaded, Setup, Sshd, Undo, Wanted};
use crate::wire::Now;

/// What `host setup` takes, beside `--server`, `--instance` and `--tls-ca`.
#[derive(clap::Args, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(in crate::cli) struct Args {
    /// What the policy calls this host [default: what /etc/hostname says]
    #[arg(long, value_name = "HOST")]
    name: Option<HostName>,
    /// Who is let into an account: postgres=db-prod, or postgres=db-prod,db-read; may be repeated
    #[arg(long = "account", value_name = "ACCOUNT=PRINCIPAL")]
    accounts: Vec<Account>,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take everything back
    #[arg(long, conflicts_with_all = ["name", "accounts", "include", "pam", "no_reload"])]
    undo: bool,
    /// Put an Include at the top of sshd_config if none leads to /etc/ssh/sshd_config.d
    #[arg(long)]
    include: bool,
    /// Have PAM end sessions when their certificates end: a line at the top of /etc/pam.d/sshd
    #[arg(long)]
    pam: bool,
    /// Leave the running sshd alone
    #[arg(long)]
    no_reload: bool,
    /// Replace or remove files of ours though somebody changed them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

/// Which host.
#[derive(clap::Args, Default)]
pub(in crate::cli) struct Place {
    /// A folder that stands for / in a trial
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The sshd to ask [default: where systems keep it]
    #[arg(long, value_name = "FILE")]
    sshd: Option<PathBuf>,
}

impl Place {
    pub(super) fn layout(&self) -> Result<Layout, Failure> {
        Ok(Layout::below(&self.root)?)
    }

    pub(super) fn sshd(&self, layout: &Layout) -> Result<Sshd, HostError> {
        Sshd::find(layout, self.sshd.as_deref())
    }
}

/// `postgres=db-prod,db-read`.
#[derive(Debug, Clone)]
struct Account {
    name: AccountName,
    principals: Vec<PrincipalName>,
}

impl FromStr for Account {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rule = "write ACCOUNT=PRINCIPAL, as in postgres=db-prod";
        let (name, principals) = text.split_once('=').ok_or_else(|| Invalid::new("account", text, rule))?;
        let principals = principals.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name: name.parse()?, principals })
    }
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let layout = args.place.layout()?;
    let sshd = args.place.sshd(&layout)?;
    needs_root(&layout, "host setup")?;
    if args.undo {
        return undo(context, args, &layout, &sshd);
    }
    let wanted = wanted(context, args, &layout)?;
    let setup = Setup::plan(&layout, &sshd, &wanted)?;
    if args.dry_run {
        show(context, setup.changes.iter());
        return Ok(Exit::Done);
    }
    let done = setup.apply(!args.no_reload)?;
    report(context, &setup, &done);
    Ok(Exit::Done)
}

pub(super) fn needs_root(layout: &Layout, verb: &str) -> Result<(), Failure> {
    if layout.is_this_machine() && !rustix::process::geteuid().is_root() {
        let fact = format!("{verb} changes /etc/ssh, which takes root");
        return Err(Failure::new(fact).hint(format!("sudo ssh-jit {verb} ...")));
    }
    Ok(())
}

fn undo(context: &Context, args: &Args, layout: &Layout, sshd: &Sshd) -> Result<Exit, Failure> {
    let undo = Undo::plan(layout, sshd, args.force)?;
    if args.dry_run {
        show(context, undo.changes());
        return Ok(Exit::Done);
    }
    let reloaded = undo.apply()?;
    let ui = &context.ui;
    if ui.json {
        let removed: Vec<&Path> = undo.changes().map(|change| change.path.as_path()).collect();
        ui.data(&json!({ "changed": removed, "left": undo.left }));
    }
    for change in undo.changes() {
        let what = if change.after.is_none() { "removed" } else { "took our line out of" };
        ui.say(format_args!("{what} {}", change.path.display()));
    }
    for folder in &undo.left {
        ui.say(format_args!("left {}: something else lies there", folder.display()));
    }
    say_reloaded(context, Some(&reloaded));
    Ok(Exit::Done)
}

/// Asks the service who it is, and puts together what the host is to be.
pub(super) fn wanted(context: &Context, args: &Args, layout: &Layout) -> Result<Wanted, Failure> {
    // What was said once need not be said again.
    let (server, tls_ca, certificate) = match HostConfig::load(&layout.folder()) {
        Ok(known) => (Some(known.server), known.ca_certificate, known.certificate),
        Err(_) => (None, None, None),
    };
    let url = context.config.server.clone().or(server);
    let url = url.ok_or_else(|| Failure::misuse("no service is known").hint("--server URL"))?;
    let tls_ca = context.config.tls_ca.clone().or(tls_ca);
    let api = Api::new(person::address(&url)?, tls_ca.as_deref())?;
    // Nobody breaks the glass from here.
    let now: Now = api.get("/v1/now").map_err(|error| Failure { hint: None, ..error.into() })?;
    let known = published::at(&layout.trust())?.map(Chain::first_contact).transpose()?;
    let Pinned { chain, .. } = person::pinned(context, &api, known, &now)?;
    let mut accounts: BTreeMap<AccountName, BTreeSet<PrincipalName>> = BTreeMap::new();
    for account in &args.accounts {
        accounts.entry(account.name.clone()).or_default().extend(account.principals.iter().cloned());
    }
    Ok(Wanted {
        server: api.url().to_owned(),
        tls_ca: tls_ca.map(std::fs::read).transpose()?,
        trust_json: published::to_json(chain.signed()),
        trust: chain.newest().clone(),
        name: args.name.clone(),
        certificate,
        accounts,
        include: args.include,
        pam: args.pam,
        force: args.force,
        program: std::env::current_exe()?,
    })
}

fn show<'c>(context: &Context, changes: impl Iterator<Item = &'c Change>) {
    if context.ui.json {
        let changes: Vec<_> = changes.map(|change| json!({ "path": change.path, "diff": change.diff() })).collect();
        context.ui.data(&json!({ "changes": changes }));
        return;
    }
    let mut none = true;
    for change in changes {
        none = false;
        context.ui.out(change.diff().trim_end_matches('\n'));
    }
    if none {
        context.ui.say("nothing is to be changed");
    }
}

fn report(context: &Context, setup: &Setup, done: &Done) {
    let ui = &context.ui;
    if ui.json {
        let changed: Vec<&Path> = setup.changes.iter().map(|change| change.path.as_path()).collect();
        ui.data(&json!({ "name": setup.name, "changed": changed, "left": setup.left, "lacks": setup.lacks }));
    }
    for change in &setup.changes {
        let made = if matches!(change.after, Some(Node::File { .. })) { "wrote" } else { "made" };
        ui.say(format_args!("{made} {}", change.path.display()));
    }
    for left in &setup.left {
        ui.say(format_args!("left as it is: {left}"));
    }
    for lack in &setup.lacks {
        ui.say(lack);
    }
    say_reloaded(context, done.reloaded.as_ref());
    match &done.sync {
        None => ui.say("systemd does not run here: have ssh-jit host sync run all the time"),
        Some(Err(error)) => ui.say(format_args!("host sync does not run yet: {error}")),
        Some(Ok(())) => ui.say("host sync runs"),
    }
    ui.good(format_args!("this host is {} and trusts the service", setup.name));
}

pub(super) fn say_reloaded(context: &Context, reloaded: Option<&Reloaded>) {
    let ui = &context.ui;
    match reloaded {
        None => ui.say("sshd was not told: it goes on as before until it is reloaded"),
        Some(Reloaded::NotRunning) => ui.say("no sshd runs on this configuration: nothing was reloaded"),
        Some(Reloaded::Told(what)) => ui.say(format_args!("reloaded {what}")),
    }
}
