//! What can be down when the glass must break: each thing is really stopped, and the real client and service are asked
//! what they do then.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rustix::process::Signal;
use ssh_jit::ca::read_trust;
use ssh_jit::domain::trust::Trust;

use crate::support::openssh::public_line;
use crate::support::run;
use crate::support::world::{Ran, Running, World, inspected, ssh_jit};

const REASON: &str = "primary is down and nobody answers";

fn broken(world: &World, reason: &str, more: &[&str]) -> Ran {
    let command = ["break-glass", "db-prod", "--category", "outage", "--reason", reason, "--json"];
    world.as_("alice").run(&[&command[..], more].concat())
}

/// Demands a certificate of five minutes, by the break-glass CA, with its reason in the journal.
#[track_caller]
fn breaks(world: &World, reason: &str, more: &[&str]) -> Ran {
    let ran = broken(world, reason, more).good();
    let file = ran.json()["certificate"].as_str().expect("a file").to_owned();
    let seen = inspected(fs::read_to_string(file).expect("a certificate").trim());
    assert!(seen.contains("Key ID: \"BREAK-GLASS/"), "{seen}");
    let journal = fs::read_to_string(world.path("ca/break-glass.journal")).expect("the journal");
    assert!(journal.lines().last().expect("an entry").contains(reason), "{journal}");
    ran
}

/// Waits until the database has what the journal has.
#[track_caller]
fn catches_up(world: &World, uses: usize) {
    let count = || {
        let database = Connection::open(world.path("ca/ssh-jit.db")).expect("the database");
        let counted = database.query_row("SELECT count(*) FROM emergencies", [], |row| row.get::<_, i64>(0));
        counted.unwrap_or(-1)
    };
    crate::support::wait_until(|| count() == i64::try_from(uses).expect("few"), || format!("{} of {uses}", count()));
}

fn started() -> World {
    let mut world = World::prepared_with_own_listener();
    world.start();
    world.as_("alice");
    world
}

/// Edits `ssh-jit.toml` for the next start.
fn configured(world: &mut World, more: &str) {
    world.stop().good();
    more.clone_into(&mut world.more);
    world.listen_on(world.port());
}

/// A port on which nobody listens.
fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// What is down, and what is done so that it is. All of these break the glass.
type Row = (&'static str, fn(&mut World));

#[test]
fn people_and_services_may_be_away() {
    let rows: [Row; 4] = [
        ("nobody who could approve answers", |world| {
            let ran = world.as_("alice").run(&["login", "vault", "--reason", "rotate the root token", "--no-wait"]);
            assert_eq!(ran.code, 10, "{ran:?}");
        }),
        ("all approvers are gone from the policy", |world| {
            let text = world.usual_policy().replace("approvers = [\"dba\", \"alice\"]", "approvers = []");
            world.load_policy(&text);
            let ran = world.as_("alice").run(&["login", "db-prod", "--for", "2h", "--reason", "look at the lag"]);
            assert!(ran.code != 0, "{ran:?}");
        }),
        ("the identity provider is away", |world| {
            let port = dead_port();
            configured(world, &format!("[oidc]\nissuer = \"http://127.0.0.1:{port}\"\nclient_id = \"x\"\n"));
            world.start();
        }),
        ("mail, room, webhook, log and names are dead", |world| {
            fs::create_dir_all(world.path("ca")).expect("a folder");
            for (name, text) in [
                ("hook-key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
                ("room-url", format!("http://127.0.0.1:{}/T0", dead_port())),
            ] {
                ssh_jit::files::write_private(&world.path(&format!("ca/{name}")), text.as_bytes()).expect("a secret");
            }
            let port = dead_port();
            configured(
                world,
                &format!(
                    "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/in\"\nsecret_file = \
                     \"hook-key\"\nallow = [\"127.0.0.0/8\"]\n[[notify]]\nname = \"room\"\nkind = \"slack\"\nurl_file = \
                     \"room-url\"\nallow = [\"127.0.0.0/8\"]\n[[notify]]\nname = \"mail\"\nkind = \"smtp\"\nserver = \
                     \"mail.invalid:587\"\ntls = \"starttls\"\nfrom = \"jit@example.org\"\n[[notify]]\nname = \"log\"\nkind = \
                     \"syslog\"\naddress = \"unix:/nowhere/log\"\n"
                ),
            );
            world.start();
        }),
    ];
    for (what, down) in rows {
        let mut world = started();
        down(&mut world);
        let took = breaks(&world, REASON, &[]).took;
        assert!(took.as_secs() < 10, "{what}: {took:?}");
        catches_up(&world, 1);
    }
}

#[test]
fn the_database_may_be_locked_by_somebody() {
    let world = started();
    let database = Connection::open(world.path("ca/ssh-jit.db")).expect("the database");
    database.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    breaks(&world, REASON, &[]);
    database.execute_batch("ROLLBACK").expect("no lock");
    drop(database);
    catches_up(&world, 1);
}

/// The service starts for break-glass alone, says so, and becomes whole by itself.
#[test]
fn the_database_may_be_gone_or_ruined() {
    type Ruin = fn(&Path);
    let rows: [(&str, Ruin); 2] = [
        ("there is no database", |_| {}),
        ("file is not a database", |path| {
            fs::write(path, "this is no database, but some text that is long enough to be looked at").expect("a file");
        }),
    ];
    for (said, ruin) in rows {
        let mut world = started();
        world.stop().good();
        let (path, kept) = (world.path("ca/ssh-jit.db"), world.path("kept"));
        fs::rename(&path, &kept).expect("a file");
        for rest in ["-wal", "-shm"] {
            let _ = fs::remove_file(world.path(&format!("ca/ssh-jit.db{rest}")));
        }
        ruin(&path);
        let mut server = world.spawn(world.serve());
        server.wait_for("BREAK-GLASS ONLY");
        assert!(
            server.stderr().contains(said) && server.stderr().contains("tried again every 5 s"),
            "{}",
            server.stderr()
        );
        breaks(&world, REASON, &[]);
        let ran = world.as_("alice").run(&["roles"]);
        assert_eq!(ran.code, 20, "nothing else is served: {ran:?}");
        fs::rename(&kept, &path).expect("a file");
        whole_again(server);
        catches_up(&world, 1);
    }
}

/// New CA keys are taken up while break-glass alone is served, and the log hears of them when it is back.
#[test]
fn the_cas_may_change_meanwhile() {
    let mut world = started();
    world.stop().good();
    let (keys, old, new) = (world.path("ca/ca-keys"), world.path("old"), world.path("new"));
    run(Command::new("cp").arg("-a").arg(&keys).arg(&old));
    for _ in 0..2 {
        let mut rotate = ssh_jit();
        rotate.args(["ca", "rotate", "break-glass", "--force", "--config"]).arg(world.path("ca/ssh-jit.toml"));
        world.run(rotate).good();
    }
    fs::rename(&keys, &new).and_then(|()| fs::rename(&old, &keys)).expect("folders");
    let (path, kept) = (world.path("ca/ssh-jit.db"), world.path("kept"));
    fs::rename(&path, &kept).expect("a file");
    let mut server = world.spawn(world.serve());
    server.wait_for("BREAK-GLASS ONLY");
    fs::rename(&keys, &old).and_then(|()| fs::rename(&new, &keys)).expect("folders");
    server.signal(Signal::HUP);
    server.wait_for("trust document loaded");
    let file = breaks(&world, REASON, &[]).json()["certificate"].as_str().expect("a file").to_owned();
    let seen = inspected(fs::read_to_string(file).expect("a certificate").trim());
    let trust = Trust::first_contact(&read_trust(&keys).expect("documents")).expect("a document");
    assert_eq!((trust.number, trust.break_glass_ca.len()), (3, 2));
    assert!(seen.contains(&trust.break_glass_ca[0].fingerprint().to_string()), "{seen}");
    fs::rename(&kept, &path).expect("a file");
    whole_again(server);
    catches_up(&world, 1);
    let database = Connection::open(&path).expect("the database");
    let taken = database.query_row("SELECT max(number) FROM trust_documents", [], |row| row.get::<_, i64>(0));
    assert_eq!(taken.expect("documents"), 3);
}

fn whole_again(mut server: Running) {
    server.wait_for("listening on ");
    server.signal(Signal::TERM);
    server.end().good();
}

/// Without the database there is nothing that says which number a new journal has.
#[test]
fn without_database_and_journal_nothing_breaks() {
    let mut world = started();
    world.stop().good();
    for name in ["ssh-jit.db", "break-glass.journal"] {
        fs::remove_file(world.path(&format!("ca/{name}"))).expect("a file");
    }
    let mut server = world.spawn(world.serve());
    server.wait_for("BREAK-GLASS ONLY");
    let ran = broken(&world, REASON, &[]);
    assert!(ran.code == 30 && ran.stderr.contains("the break-glass journal cannot be written"), "{ran:?}");
}

/// A small disk in memory. Taken away with the value.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this account may not do that.
    fn at(path: PathBuf, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        fs::create_dir_all(&path).expect("a folder");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(&path));
        Some(Self(path))
    }

    fn be(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0));
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let _ = fs::write(self.0.join("filler"), vec![0; 64 << 20]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A world whose database lies on a small disk, and the journal as well if so wished.
fn on_disk(journal: bool) -> Option<(World, Disk)> {
    let mut world = World::prepared_with_own_listener();
    let disk = Disk::at(world.path("ca/disk"), "4m")?;
    fs::rename(world.path("ca/ssh-jit.db"), world.path("kept")).expect("a file");
    fs::copy(world.path("kept"), world.path("ca/disk/ssh-jit.db")).expect("a file");
    let lies_there = |world: &World| {
        let text = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("the file");
        let text = text.replace("sqlite:ssh-jit.db", "sqlite:disk/ssh-jit.db");
        let text = if journal { text.replace("break-glass.journal", "disk/break-glass.journal") } else { text };
        world.write("ca/ssh-jit.toml", &text);
    };
    lies_there(&world);
    world.start();
    lies_there(&world);
    world.as_("alice");
    Some((world, disk))
}

#[test]
fn the_databases_disk_may_be_full_or_read_only() {
    let Some((mut world, disk)) = on_disk(false) else { return };
    disk.fill();
    let asked = world.as_("alice").run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]);
    assert_ne!(asked.code, 0, "nothing is stored: {asked:?}");
    breaks(&world, REASON, &[]);
    fs::remove_file(disk.0.join("filler")).expect("a file");
    world.stop().good();
    disk.be("ro");
    let mut server = world.spawn(world.serve());
    server.wait_for("BREAK-GLASS ONLY");
    breaks(&world, "primary is down and its replica as well", &[]);
    disk.be("rw");
    whole_again(server);
    let database = Connection::open(disk.0.join("ssh-jit.db")).expect("the database");
    let count: i64 = database.query_row("SELECT count(*) FROM emergencies", [], |row| row.get(0)).expect("a number");
    assert_eq!(count, 2, "both are there");
}

/// Nowhere to write the reason: nothing is signed, and it says what to do.
#[test]
fn a_disk_full_everywhere_refuses() {
    let Some((world, disk)) = on_disk(true) else { return };
    disk.fill();
    // The journal's last page has room for an entry or two.
    let attempts = (0..8).map(|attempt| broken(&world, &format!("{REASON}, attempt {attempt}"), &[]));
    let ran = attempts.into_iter().find(|ran| ran.code != 0).expect("a refusal");
    assert_eq!(ran.code, 30, "{ran:?}");
    assert!(ran.stderr.contains("cannot be written, and without a durable reason nothing is signed"), "{ran:?}");
    assert!(ran.stderr.contains("hint: on the CA's machine: make room on the journal's disk"), "{ran:?}");
    let ran = world.as_("alice").run(&["break-glass", "--check"]);
    assert!(ran.code == 1 && ran.stderr.contains("its disk is full"), "{ran:?}");
    fs::remove_file(disk.0.join("filler")).expect("a file");
    broken(&world, REASON, &[]).good();
}

#[test]
fn the_service_may_be_killed() {
    let mut world = started();
    world.server().signal(Signal::KILL);
    crate::support::wait_until(|| broken(&world, REASON, &[]).code == 20, || "it answers".to_owned());
    let ran = broken(&world, REASON, &[]);
    assert!(ran.code == 20 && ran.stderr.contains("cannot be reached"), "{ran:?}");
}

/// Where one of the two addresses is dead the other answers.
#[test]
fn either_address_will_do() {
    let world = started();
    let dead = format!("http://127.0.0.1:{}", dead_port());
    let command = ["break-glass", "db-prod", "--category", "outage", "--reason", REASON];
    let ran = world.as_("alice").env("SSH_JIT_BREAK_GLASS_SERVER", &dead).run(&command).good();
    assert!(ran.stderr.contains(&format!("trying {}", world.url())), "{ran:?}");
    // The ordinary one is gone: what was learnt at the first contact is enough.
    let journal = fs::read_to_string(world.path("ca/break-glass.journal")).expect("the journal");
    assert!(journal.contains(REASON) && world.own_url() != world.url());
    let known = fs::read_to_string(world.as_("alice").state().join("break-glass.json")).expect("the address");
    assert!(known.ends_with(&format!(":{}\"", world.own_url().rsplit(':').next().expect("a port"))), "{known}");
}

/// A laptop is lost: a second key, registered beforehand, opens the same.
#[test]
fn a_second_key_does_the_same() {
    let mut world = World::prepared_with_own_listener();
    let second = public_line(&world.key("other"));
    let policy = world.usual_policy()
        + &format!("[[emergency_keys]]\nperson = \"alice\"\nkey = \"{second}\"\nroles = [\"db-prod\"]\n");
    world.write("ca/policy.toml", &policy);
    world.start();
    let key = world.key("other").display().to_string();
    breaks(&world, REASON, &["--key", &key]);
}

/// Two services would give the same serials.
#[test]
fn a_journal_has_one_writer() {
    let world = started();
    let other = World::prepared_with_own_listener();
    let text = fs::read_to_string(other.path("ca/ssh-jit.toml")).expect("the file");
    let journal = world.path("ca/break-glass.journal").display().to_string();
    other.write("ca/ssh-jit.toml", &text.replace("\"break-glass.journal\"", &format!("{journal:?}")));
    let ran = other.run(other.serve());
    assert!(ran.code == 1 && ran.stderr.contains("another ssh-jit has it open"), "{ran:?}");
}
