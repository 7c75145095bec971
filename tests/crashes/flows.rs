//! The flows, and for each the installation that its runs begin with.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use ssh_jit::ca::read_trust;
use ssh_jit::domain::trust::Trust;

use crate::cast::{Act, Cast, Known};
use crate::check::is_imported;
use crate::server::Server;

/// A WAL of so many frames is 1000 long after a start and a verb or two: then it is moved into the database.
const NEARLY_FULL: u64 = 950;
/// A page and the frame's header.
const FRAME: u64 = 4096 + 24;

/// Where in a process's life faults come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// While a server that listens answers.
    Serve,
    /// The same, and then until it has ended because it was asked to.
    End,
    /// From its first instruction until it listens.
    Start,
    /// `ssh-jit init`.
    Init,
}

/// An installation and what is known of it.
#[derive(Clone, Default)]
pub(crate) struct Template {
    pub(crate) folder: PathBuf,
    pub(crate) known: Known,
}

pub(crate) struct Flow {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) template: Template,
    pub(crate) acts: Vec<Act>,
}

/// Everybody, the flows, and what their templates need.
pub(crate) fn flows(folder: &Path) -> (Cast, Vec<Flow>) {
    let mut cast = Cast::new();
    let base = base(&mut cast, &folder.join("base"));
    let make = |name: &str, acts: &[Act]| lived(&cast, &base, &folder.join(name), acts);
    let asked = make("asked", &[Act::Ask]);
    let approved = make("approved", &[Act::Ask, Act::Approve]);
    let claimed = make("claimed", &[Act::Ask, Act::Approve, Act::Claim]);
    let flow = |name, kind, template: &Template, acts: &[Act]| Flow {
        name,
        kind,
        template: template.clone(),
        acts: acts.to_vec(),
    };
    let started = crashed(&cast, &base, &folder.join("crashed"));
    let full = nearly_full(&cast, &base, &folder.join("full"));
    let life = [Act::Ask, Act::Approve, Act::Claim, Act::Return, Act::BreakGlass];
    let flows = vec![
        flow("request", Kind::Serve, &base, &[Act::Ask]),
        flow("approve", Kind::Serve, &asked, &[Act::Approve]),
        flow("claim", Kind::Serve, &approved, &[Act::Claim]),
        flow("deny", Kind::Serve, &asked, &[Act::Deny]),
        flow("withdraw", Kind::Serve, &asked, &[Act::Withdraw]),
        flow("return", Kind::Serve, &claimed, &[Act::Return]),
        flow("revoke", Kind::Serve, &claimed, &[Act::Revoke]),
        flow("break-glass", Kind::Serve, &base, &[Act::BreakGlass]),
        flow("life", Kind::Serve, &base, &life),
        flow("checkpoint", Kind::Serve, &full, &[Act::Ask, Act::Deny, Act::Ask, Act::Approve]),
        flow("end", Kind::End, &asked, &[Act::Approve]),
        flow("start", Kind::Start, &started, &[]),
        flow("init", Kind::Init, &base, &[]),
    ];
    (cast, flows)
}

/// What `init` made, under the policy, started and ended once.
fn base(cast: &mut Cast, folder: &Path) -> Template {
    let mut init = Server::init(None, folder);
    assert!(init.status().is_some_and(|status| status.success()), "{}", init.said());
    let trust = Trust::first_contact(&read_trust(&folder.join("ca-keys")).expect("trust")).expect("trust");
    cast.instance = trust.instance;
    fs::write(folder.join("policy.toml"), &cast.policy).expect("a policy");
    let template = Template { folder: folder.to_owned(), known: Known::default() };
    let (server, template) = live(cast, template, &[]);
    server.stop();
    template
}

/// The same after some acts, ended in order.
pub(crate) fn lived(cast: &Cast, from: &Template, folder: &Path, acts: &[Act]) -> Template {
    let (server, template) = live(cast, from.copied(folder), acts);
    wait_for_import(folder);
    server.stop();
    template
}

fn live(cast: &Cast, mut template: Template, acts: &[Act]) -> (Server, Template) {
    let server = Server::serve(&template.folder);
    let address = server.address.unwrap_or_else(|| panic!("it does not start: {}", server.said()));
    for act in acts {
        let status = template.known.perform(cast, *act, address);
        assert!(matches!(status, Some(200..300)), "{act:?}: {status:?} {}", server.said());
    }
    template.known.see_head(address);
    (server, template)
}

fn wait_for_import(folder: &Path) {
    let begun = Instant::now();
    while !is_imported(folder) {
        assert!(begun.elapsed() < Duration::from_secs(12), "the journal is not imported");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a crash left: a WAL, an entry of the journal that the database has not, and the schema of an older version.
fn crashed(cast: &Cast, base: &Template, folder: &Path) -> Template {
    let beside = folder.with_extension("beside");
    let (server, template) = live(cast, base.copied(&beside), &[Act::Ask, Act::Approve, Act::Claim]);
    let mut crashed = template.copied(folder);
    let broken = crashed.known.perform(cast, Act::BreakGlass, server.address.expect("an address"));
    assert_eq!(broken, Some(200));
    fs::copy(beside.join("break-glass.journal"), folder.join("break-glass.journal")).expect("the journal");
    server.kill();
    let database = Connection::open(folder.join("ssh-jit.db")).expect("the database");
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("the WAL stays");
    // What the newest migration made.
    let newest = [
        "hosts",
        "host_certificates",
        "trust_documents",
        "host_statuses",
        "drills",
        "raised",
        "alerted_emergencies",
        "acknowledged_emergencies",
    ];
    let older = newest.map(|table| format!("DROP TABLE {table};")).concat() + "DELETE FROM migrations WHERE number = 8";
    database.execute_batch(&older).expect("the older schema");
    crashed
}

fn nearly_full(cast: &Cast, base: &Template, folder: &Path) -> Template {
    let (server, mut template) = live(cast, base.copied(folder), &[]);
    let address = server.address.expect("an address");
    let frames = || fs::metadata(folder.join("ssh-jit.db-wal")).map_or(0, |facts| facts.len() / FRAME);
    while frames() < NEARLY_FULL {
        for act in [Act::Ask, Act::Deny] {
            assert!(matches!(template.known.perform(cast, act, address), Some(200..300)), "{}", server.said());
        }
    }
    server.kill();
    template
}

impl Template {
    pub(crate) fn copied(&self, folder: &Path) -> Self {
        copy(&self.folder, folder).expect("a copy");
        Self { folder: folder.to_owned(), known: self.known.clone() }
    }
}

/// Copies a folder with its modes.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to.to_owned());
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
