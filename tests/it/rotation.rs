//! One CA key takes the place of another, while people work: hosts and clients follow by themselves, nothing that was
//! signed is lost, and whoever does it may be killed at any moment.

mod faults;
mod killed;
mod sealed;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use ssh_jit::domain::trust::Trust;

use crate::support::openssh::{SshAgent, public_line, user};
use crate::support::world::{Host, Ran, Running, World, host_sync, ssh_jit};
use crate::support::{output, run, tool, wait_until};

/// `ssh-jit ca` on the service's machine.
fn ca(world: &World, args: &[&str]) -> Ran {
    let mut command = ssh_jit();
    command.arg("ca").args(args).arg("--config").arg(world.path("ca/ssh-jit.toml"));
    world.run(command)
}

/// Has the service take up what is in its folder.
fn hang_up(world: &mut World) {
    let before = world.server().stderr().matches("trust document loaded").count();
    world.server().signal(Signal::HUP);
    let server = world.server();
    wait_until(|| server.stderr().matches("trust document loaded").count() > before, || server.stderr());
}

fn trust(world: &World) -> Trust {
    Trust::first_contact(&ssh_jit::ca::read_trust(&world.path("ca/ca-keys")).expect("documents")).expect("a document")
}

fn key_of(file: &Path) -> String {
    let line = public_line(file);
    line.rsplit_once(' ').map_or(line.clone(), |(key, _)| key.to_owned())
}

/// Puts the usual policy into force, with the keys of these hosts.
fn know_hosts(world: &mut World, names: &[&str]) {
    let table = |name: &&str| {
        let key = key_of(&world.path(&format!("host-{name}/sshd_host_key")));
        format!("\n[hosts.{name}]\nkeys = [\"{key}\"]\n")
    };
    let policy = world.usual_policy() + &names.iter().map(table).collect::<String>();
    world.load_policy(&policy);
}

/// Whether a host says that it is at this trust document.
fn is_at(world: &World, name: &str, trust: u64) -> bool {
    let hosts = world.as_("carol").run(&["host", "list", "--json"]).good().json();
    hosts.as_array().expect("hosts").iter().any(|host| host["host"] == name && host["trust"] == trust)
}

/// A session that stays open: what is written to it comes back.
struct Open {
    child: Child,
    said: PathBuf,
}

impl Open {
    fn start(world: &World, host: &Host, agent: &SshAgent) -> Self {
        let args = host.ssh("", &format!("{}@127.0.0.1", user()));
        let said = world.path("said");
        let mut command = tool("ssh");
        command.args(&args[1..]).arg("cat").env("SSH_AUTH_SOCK", agent.socket());
        let file = fs::File::create(&said).expect("a file");
        let child = command.stdin(Stdio::piped()).stdout(file).spawn().expect("ssh");
        Self { child, said }
    }

    #[track_caller]
    fn lives(&mut self, word: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(format!("{word}\n").as_bytes()).and_then(|()| stdin.flush()).expect("a session");
        let said = || fs::read_to_string(&self.said).expect("UTF-8");
        wait_until(|| said().contains(word), || format!("the session ended: {}", said()));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn login(world: &World, person: &str, agent: &SshAgent, args: &[&str]) -> String {
    let ran =
        world.as_(person).with(agent).run(&[&["login"], args, &["--reason", "the lag", "--json"]].concat()).good();
    ran.json()["request"].as_str().expect("an id").to_owned()
}

/// The whole of it, on a real sshd, with a session open throughout.
#[test]
fn a_ca_is_rotated_under_open_sessions() {
    let mut world = World::new();
    let (host, folder) = world.synced_host("db1", &["db-prod@db1", "quick"]);
    let (_, other) = world.synced_host("db2", &["db-prod@db2"]);
    know_hosts(&mut world, &["db1", "db2"]);
    let syncs: Running = world.spawn(host_sync(&folder, &[]));
    let agents = ["alice", "bob"].map(|name| SshAgent::start(world.as_(name).home()));
    let [alice, bob] = &agents;
    let old = trust(&world).user_ca[0].clone();
    fs::copy(world.path("ca/ca-keys/user-ca"), world.path("stolen")).expect("a copy");

    let request = login(&world, "alice", alice, &["quick", "--for", "50s"]);
    let mut open = Open::start(&world, &host, alice);
    open.lives("before");

    let announced = ca(&world, &["rotate", "user", "--json"]).good().json();
    assert_eq!((&announced["step"], &announced["document"]), (&"announce".into(), &2.into()));
    let waits = ca(&world, &["rotate", "user"]);
    assert!(waits.code == 1 && waits.stderr.contains("the running service has not taken up"), "{waits:?}");
    hang_up(&mut world);
    wait_until(|| is_at(&world, "db1", 2), || format!("db1 does not follow: {}", syncs.stderr()));

    // One that never said anything is waited for, and named.
    let waits = ca(&world, &["rotate", "user"]);
    waits.is(
        1,
        &[],
        &[
            "ssh-jit: the user CA stays as it is: host db2 never said how far it is",
            "hint: have ssh-jit host sync run there; ssh-jit ca rotate user --status names all, --force goes on without",
        ],
    );
    let doctor = world.as_("carol").run(&["doctor"]);
    assert!(doctor.stdout.contains("NOT  host      db2: never said how far it is"), "{doctor:?}");
    assert!(doctor.stdout.contains("ok   hosts     1 follow"), "{doctor:?}");
    let listed = world.as_("carol").run(&["host", "list"]).good().stdout;
    assert!(listed.lines().any(|line| line.starts_with("db1") && line.ends_with("follows")), "{listed}");
    world.run(host_sync(&other, &["--once"])).good();
    let status = ca(&world, &["rotate", "user", "--status", "--json"]).good().json();
    assert_eq!((&status["step"], &status["waits"]), (&"activate".into(), &serde_json::json!([])));

    ca(&world, &["rotate", "user"]).good();
    hang_up(&mut world);
    let new = trust(&world).user_ca[0].clone();
    assert_ne!(new, old);
    login(&world, "bob", bob, &["db-prod", "--for", "10m"]);
    assert!(host.admits(Some(bob), ""), "the new key's: {}", host.sshd.log());
    assert!(host.sshd.log().contains(&format!("CA ED25519 {}", new.fingerprint())), "{}", host.sshd.log());
    open.lives("both");

    // The last certificate of the old key has to end.
    let waits = ca(&world, &["rotate", "user"]);
    assert!(waits.code == 1 && waits.stderr.contains("a certificate of the old key ends"), "{waits:?}");
    for _ in 0..60 {
        if ca(&world, &["rotate", "user"]).code == 0 {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    hang_up(&mut world);
    assert_eq!(trust(&world).user_ca, [new]);
    assert!(!world.path("ca/ca-keys/user-ca").exists() && world.path("ca/ca-keys/user-ca-2").exists());
    let cas = || fs::read_to_string(folder.join("user-ca.pub")).expect("CAs");
    wait_until(|| !cas().contains(&old.to_string()), cas);
    open.lives("after");
    assert!(host.admits(Some(bob), ""), "{}", host.sshd.log());
    assert!(!host.admits(None, &forged(&world)), "what a thief signs with the old key");

    // What was signed in former times is proven still, by old pins and new ones.
    let receipt = world.path("receipt.json");
    fs::write(&receipt, world.as_("alice").run(&["receipt", &request]).good().stdout).expect("a file");
    let receipt = receipt.display().to_string();
    world.as_("alice").run(&["verify", &receipt]).good();
    let document = |name: &str| world.path(&format!("ca/ca-keys/{name}")).display().to_string();
    for name in ["trust.json", "trust-2.json", "trust-4.json"] {
        world.as_("dan").run(&["verify", &receipt, "--trust", &document(name)]).good();
    }
    world.as_("carol").run(&["audit", "verify"]).good();
    let log = world.as_("carol").run(&["audit", "list"]).good().stdout;
    assert_eq!(log.matches("trust-changed").count(), 3, "{log}");
}

/// Lines for a client with a certificate that the stolen old key signed for bob's key.
fn forged(world: &World) -> String {
    let key = world.path("forged");
    fs::copy(world.key("bob"), &key).expect("a copy");
    fs::copy(world.key("bob").with_extension("pub"), key.with_extension("pub")).expect("a copy");
    let stolen = world.path("stolen");
    run(tool("ssh-keygen").args(["-q", "-I", "x", "-n", "db-prod@db1", "-V", "-1m:+5m", "-s"]).arg(stolen).arg(&key));
    let key = key.display();
    format!("IdentitiesOnly yes\nIdentityFile {key}\nCertificateFile {key}-cert.pub")
}

/// Somebody who waits for a decision all the while gets a certificate of a key that was not there when they asked.
#[test]
fn a_login_waits_through_a_rotation() {
    let mut world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let mut waiting =
        world.as_("alice").with(&agent).spawn(&["login", "db-prod", "--for", "2h", "--reason", "the lag"]);
    waiting.wait_for("must approve");
    for _ in 0..2 {
        ca(&world, &["rotate", "user"]).good();
        hang_up(&mut world);
    }
    let pending = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json();
    world.as_("carol").run(&["approve", pending[0]["id"].as_str().expect("an id")]).good();
    waiting.end().good();
    let held = output(tool("ssh-add").arg("-L").env("SSH_AUTH_SOCK", agent.socket())).stdout;
    assert!(String::from_utf8_lossy(&held).contains("-cert-"));
}

/// Broken glass: the new key signs, also where break-glass has a listener of its own, and the old one goes when what it
/// signed must have ended.
#[test]
fn the_other_cas_are_rotated_too() {
    let mut world = World::prepared_with_own_listener();
    world.start();
    world.as_("alice");
    for (role, number) in [("break-glass", 2), ("host", 3)] {
        let step = ca(&world, &["rotate", role, "--json"]).good().json();
        assert_eq!((&step["ca"], &step["step"], &step["document"]), (&role.into(), &"announce".into(), &number.into()));
        hang_up(&mut world);
    }
    ca(&world, &["rotate", "break-glass"]).good();
    hang_up(&mut world);
    let keys = trust(&world).break_glass_ca;
    let ran = world.as_("alice").run(&[
        "break-glass",
        "db-prod",
        "--category",
        "outage",
        "--reason",
        "everything but this is down, see INC-9",
        "--json",
    ]);
    let file = ran.good().json()["certificate"].as_str().expect("a file").to_owned();
    let shown = run(tool("ssh-keygen").arg("-Lf").arg(file));
    assert!(shown.contains(&keys[0].fingerprint().to_string()), "{shown}");
    let waits = ca(&world, &["rotate", "break-glass"]);
    assert!(waits.stderr.contains("a certificate of the old key ends"), "{waits:?}");
    ca(&world, &["rotate", "break-glass", "--force"]).good();
    assert_eq!(trust(&world).break_glass_ca, keys[..1]);
}
