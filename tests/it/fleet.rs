//! Several hosts, each with a network of its own, kept in step by the real `ssh-jit host sync`; and one that is cut off.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::time::Timestamp;
use ssh_jit::domain::usage::Connection;
use ssh_jit::host::spool::Spool;

use crate::support::netns::Netns;
use crate::support::openssh::{SshAgent, public_line};
use crate::support::world::{As, Host, Running, World, host_sync};
use crate::support::{dir, output, tool, wait_until};

/// A revocation reaches every host that has a network within this.
const WITHIN: Duration = Duration::from_secs(5);
const HOSTS: [&str; 3] = ["db1", "db2", "db3"];

struct Synced {
    host: Host,
    folder: PathBuf,
    network: Netns,
    sync: Running,
}

/// carol may revoke, and the policy has these hosts' keys.
fn prepare(world: &mut World, hosts: &[(Host, PathBuf)]) {
    let policy = world.usual_policy().replace("[duties]\n", "[duties]\nadmins = [\"carol\"]\nrevokers = [\"carol\"]\n");
    let policy = policy.replace("automatic = { max = \"1m\" }", "automatic = { max = \"1h\" }");
    let keys = hosts.iter().zip(HOSTS).map(|((_, folder), name)| {
        let key = public_line(&folder.with_file_name("sshd_host_key"));
        let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        format!("\n[hosts.{name}]\nkeys = [\"{key}\"]\n")
    });
    world.load_policy(&(policy + &keys.collect::<String>()));
}

fn fleet(world: &mut World) -> Option<Vec<Synced>> {
    let hosts = HOSTS.map(|name| world.synced_host(name, &["quick"]));
    prepare(world, &hosts);
    let (port, mut fleet) = (world.port(), Vec::new());
    for (host, folder) in hosts {
        let network = Netns::with_way_to(port, folder.parent()?)?;
        let mut sync = world.spawn(network.enter(&host_sync(&folder, &[])));
        sync.wait_for("of revoked certificates is");
        fleet.push(Synced { host, folder, network, sync });
    }
    Some(fleet)
}

fn status(world: &World, folder: &std::path::Path) -> serde_json::Value {
    world.run(host_sync(folder, &["--status", "--json"])).good().json()
}

fn login(alice: &As<'_>) -> String {
    let args = ["login", "quick", "--for", "30m", "--reason", "for a moment", "--json"];
    alice.run(&args).good().json()["request"].as_str().expect("an id").to_owned()
}

/// What is revoked is out on all hosts within seconds; the one that is cut off goes on with what it has, says how old
/// that is, and has the news when it is back.
#[test]
fn a_host_that_is_cut_off_works_and_catches_up() {
    let mut world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let Some(fleet) = fleet(&mut world) else { return };
    let (alice, carol) = (world.as_("alice").with(&agent), world.as_("carol"));
    let id = login(&alice);
    for one in &fleet {
        assert!(one.host.admits(Some(&agent), ""), "{}", one.host.sshd.log());
    }
    let [first, second, cut] = &fleet[..] else { panic!("three hosts") };
    cut.network.connect(false);
    let before = status(&world, &cut.folder);
    carol.run(&["revoke", &id, "--reason", "the laptop was stolen"]).good();
    let begun = Instant::now();
    for one in [first, second] {
        let number = || status(&world, &one.folder)["number"].clone();
        while number() == before["number"] {
            assert!(begun.elapsed() < WITHIN, "it did not arrive: {}", one.sync.stderr());
        }
        assert!(!one.host.admits(Some(&agent), ""), "{}", one.host.sshd.log());
    }
    eprintln!("out on two hosts {} ms after the revocation", begun.elapsed().as_millis());
    assert!(cut.host.admits(Some(&agent), ""), "what it had holds: {}", cut.host.sshd.log());
    let stale = status(&world, &cut.folder);
    assert_eq!((&stale["number"], &stale["confirmed"]), (&before["number"], &before["confirmed"]));
    assert!(stale["stale_seconds"].as_i64() > before["stale_seconds"].as_i64().map(|seconds| seconds - 1), "{stale}");
    cut.network.connect(true);
    wait_until(|| status(&world, &cut.folder)["number"] != before["number"], || cut.sync.stderr());
    assert!(!cut.host.admits(Some(&agent), ""), "{}", cut.host.sshd.log());
}

/// A service that stays away keeps nobody out who was let in, and hears later what certificates were used for.
#[test]
fn what_was_used_is_told_when_the_service_is_back() {
    let mut world = World::new();
    let hosts = [world.synced_host("db1", &["quick"])];
    prepare(&mut world, &hosts);
    let [(host, folder)] = hosts;
    let id = login(&world.as_("alice"));
    let certificate =
        fs::read_to_string(world.as_("alice").state().join("requests").join(format!("{id}-cert.pub"))).unwrap();
    let spool = Spool::at(&folder.with_file_name("sessions"));
    let used = |number: u8, certificate: &str, account: &str| Connection {
        session: Digest::from_bytes([number; 32]),
        certificate: certificate.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned(),
        account: account.to_owned(),
        source: "192.0.2.7".to_owned(),
        began: Timestamp::from_unix(1_795_341_718),
        ended: None,
    };
    world.stop();
    let mut sync = world.spawn(host_sync(&folder, &[]));
    sync.wait_for("cannot be reached");
    spool.remember(&used(1, &certificate, "jit")).unwrap();
    // None of these is ever taken, and none stands in the way of the first.
    spool.remember(&used(2, "ssh-ed25519-cert-v01@openssh.com AAAA", "jit")).unwrap();
    spool.remember(&used(3, &certificate, "a\u{202e}b")).unwrap();
    fs::write(spool.folder().join("00.json"), "{").unwrap();
    fs::set_permissions(spool.folder().join("00.json"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    sync.wait_for("what certificates were used for is told later");
    assert_eq!(status(&world, &folder)["untold"], 4);
    assert!(host.sshd.log().contains("listening"), "sshd goes on: {}", host.sshd.log());
    world.start();
    wait_until(|| spool.held().unwrap().waiting == 0, || sync.stderr());
    assert_eq!(spool.held().unwrap().dropped, 3);
    let shown = world.as_("alice").run(&["show", &id]).good().stdout;
    assert!(shown.contains("    db1 as jit from 192.0.2.7, "), "{shown}");
    assert_eq!(status(&world, &folder)["dropped"], 3);
}

/// A disk without room ends neither the daemon nor what sshd has; with room again, it goes on.
#[test]
fn a_full_disk_keeps_what_is_there() {
    let mut world = World::new();
    let (host, folder) = world.synced_host("db1", &["quick"]);
    if !tool("unshare").args(["-m", "true"]).output().is_ok_and(|output| output.status.success()) {
        return eprintln!("SKIPPED: a full disk: no mount namespace can be made");
    }
    let disk = dir();
    for name in ["host.toml", "trust.json", "user-ca.pub", "revoked.krl"] {
        fs::copy(folder.join(name), disk.path().join(name)).unwrap();
    }
    let (shown, program) = (disk.path().display().to_string(), env!("CARGO_BIN_EXE_ssh-jit"));
    let script = "set -e; copy=$(mktemp -d); cp \"$1\"/* \"$copy\"; mount -t tmpfs -o size=64k,mode=755 tmpfs \"$1\"
        cp \"$copy\"/* \"$1\"; rm -r \"$copy\"; mkdir -m 700 \"$1/sessions\"
        dd if=/dev/zero of=\"$1/fill\" bs=4k 2>/dev/null || true
        exec \"$2\" host sync --folder \"$1\" --sessions \"$1/sessions\"";
    let mut command = tool("unshare");
    command.args(["-m", "sh", "-c", script, "sh", &shown, program]);
    let mut sync = world.spawn(command);
    sync.wait_for("is the newest");
    let inside = PathBuf::from(format!("/proc/{}/root{shown}", sync.id()));
    let before = fs::read(inside.join("revoked.krl")).unwrap();
    prepare(&mut world, &[(host, folder.clone())]);
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let id = login(&alice);
    carol.run(&["revoke", &id, "--reason", "not now"]).good();
    sync.wait_for("No space left on device");
    assert_eq!(fs::read(inside.join("revoked.krl")).unwrap(), before);
    let names = fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        names.into_iter().all(|name| Path::new(&name).extension().is_none_or(|e| e != "new")),
        "nothing half is left"
    );
    let connection = Connection {
        session: Digest::from_bytes([1; 32]),
        certificate: "x y".to_owned(),
        account: "jit".to_owned(),
        source: "::1".to_owned(),
        began: Timestamp::from_unix(0),
        ended: None,
    };
    assert!(Spool::at(&inside.join("sessions")).remember(&connection).is_err());
    fs::remove_file(inside.join("fill")).unwrap();
    wait_until(|| fs::read(inside.join("revoked.krl")).unwrap() != before, || sync.stderr());
}

/// A folder that nobody can write in: sshd goes on with what is there, and the daemon says why.
#[test]
fn a_read_only_disk_keeps_what_is_there() {
    let mut world = World::new();
    let hosts = [world.synced_host("db1", &["quick"])];
    prepare(&mut world, &hosts);
    let [(_host, folder)] = hosts;
    let sync = host_sync(&folder, &[]);
    let script = "mount --bind $0 $0 && mount -o remount,bind,ro $0 && exec \"$@\"";
    let mut command = tool("unshare");
    command.args(["-m", "sh", "-c", script]).arg(&folder).arg(sync.get_program()).args(sync.get_args());
    let before = fs::read(folder.join("revoked.krl")).unwrap();
    let mut sync = world.spawn(command);
    sync.wait_for("Read-only file system");
    sync.wait_for("stays, last confirmed");
    assert_eq!(fs::read(folder.join("revoked.krl")).unwrap(), before);
    world.run(host_sync(&folder, &["--once"])).good();
}

/// Killed at any call that changes a file, `host sync` leaves each file as it was or as it is to be, and a host that lets
/// in who it let in.
#[test]
fn killed_at_any_step_a_host_accepts_as_before() {
    if !tool("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        return eprintln!("SKIPPED: strace is not installed");
    }
    let mut world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let hosts = [world.synced_host("db1", &["quick"])];
    prepare(&mut world, &hosts);
    let [(host, folder)] = hosts;
    let (alice, carol) = (world.as_("alice").with(&agent), world.as_("carol"));
    let files = ["revoked.krl", "user-ca.pub", "trust.json"];
    let read = || files.map(|name| fs::read(folder.join(name)).ok());
    let [list, cas, _] = read();
    let before = [list, cas.map(|cas| [b"# older\n", &cas[..]].concat()), None];
    let revoked = login(&alice);
    carol.run(&["revoke", &revoked, "--reason", "not now"]).good();
    login(&alice);
    world.run(host_sync(&folder, &["--once"])).good();
    let after = read();
    let mut killed = 0;
    for call in ["rename", "fsync", "fchmod", "utimensat", "write"] {
        for at in 1.. {
            for (name, content) in files.iter().zip(&before) {
                let path = folder.join(name);
                // Whole, as `host sync` would: this host is in use.
                match content {
                    Some(content) => ssh_jit::files::write_public(&path, content).unwrap(),
                    None => fs::remove_file(path).unwrap_or_default(),
                }
            }
            let (mut strace, sync) = (tool("strace"), host_sync(&folder, &["--once"]));
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={call}:signal=KILL:when={at}")]);
            let ended = output(strace.arg(sync.get_program()).args(sync.get_args()));
            for (now, could) in read().iter().zip(before.iter().zip(&after)) {
                assert!(now == could.0 || now == could.1, "{call} {at}: a file is half");
            }
            assert!(host.admits(Some(&agent), ""), "{call} {at}: {}", host.sshd.log());
            if ended.status.success() {
                break;
            }
            killed += 1;
        }
    }
    eprintln!("killed {killed} times");
    assert!(killed >= 10, "killed {killed} times");
    world.run(host_sync(&folder, &["--once"])).good();
    assert_eq!(read(), after);
}
