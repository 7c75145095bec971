//! `revoke` and `host sync`: what is ended is refused by a real sshd within seconds, and a host on which something is
//! wrong goes on as before.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::between::Between;
use crate::support::world::{As, Host, World, host_sync};
use crate::support::{dir, wait_until};

/// From the moment it is on record.
const WITHIN: Duration = Duration::from_secs(5);

/// One in which carol and dan may revoke.
fn world() -> World {
    let mut world = World::prepared();
    let policy = world.usual_policy().replace("[duties]\n", "[duties]\nrevokers = [\"dba\"]\n");
    world.write("ca/policy.toml", &policy);
    world.start();
    world
}

/// What somebody may have copied from a client: a subject key and its certificate.
struct Copied {
    id: String,
    key: PathBuf,
    certificate: PathBuf,
}

/// Logs in without an agent, and copies what that leaves.
fn logged_in(person: &As<'_>, folder: &Path) -> Copied {
    let args = ["login", "quick", "--for", "1m", "--reason", "replica lag after failover", "--json"];
    let said: serde_json::Value = serde_json::from_str(&person.run(&args).good().stdout).expect("JSON");
    let id = said["request"].as_str().expect("an id").to_owned();
    let copy = |from: PathBuf, to: PathBuf| {
        fs::copy(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        to
    };
    let state = person.state().join("requests");
    let key = copy(state.join(&id), folder.join(&id));
    let certificate = copy(state.join(format!("{id}-cert.pub")), folder.join(format!("{id}-cert.pub")));
    Copied { id, key, certificate }
}

impl Copied {
    fn admitted(&self, host: &Host) -> bool {
        let (key, certificate) = (self.key.display(), self.certificate.display());
        host.admits(None, &format!("IdentityFile {key}\nCertificateFile {certificate}\nIdentitiesOnly yes"))
    }

    #[track_caller]
    fn is_refused_soon(&self, host: &Host) {
        let ended = Instant::now();
        wait_until(|| !self.admitted(host), || format!("{} still gets in", self.id));
        assert!(ended.elapsed() < WITHIN, "{:?}", ended.elapsed());
    }
}

#[test]
fn what_ended_is_refused_by_sshd_within_seconds() {
    let world = world();
    let (host, folder) = world.synced_host("web1", &["quick"]);
    let mut sync = world.spawn(host_sync(&folder, &[]));
    sync.wait_for("of revoked certificates");
    let (scratch, alice, bob) = (dir(), world.as_("alice"), world.as_("bob"));
    let (given_back, revoked) = (logged_in(&alice, scratch.path()), logged_in(&bob, scratch.path()));
    assert!(given_back.admitted(&host) && revoked.admitted(&host), "{}", host.sshd.log());
    alice.run(&["done", &given_back.id]).good();
    given_back.is_refused_soon(&host);
    assert!(revoked.admitted(&host), "somebody else's stays");
    let reason = "the laptop was stolen";
    world.as_("carol").run(&["revoke", &revoked.id, "--reason", reason]).is(
        0,
        &[],
        &["ssh-jit: REQUEST (quick, bob): its certificate is revoked"],
    );
    revoked.is_refused_soon(&host);
    assert!(host.sshd.log().contains("revoked by file"), "{}", host.sshd.log());
    let shown = bob.run(&["show", &revoked.id]).good().stdout;
    assert!(shown.contains("revoked by carol \"the laptop was stolen\""), "{shown}");
    let receipt = bob.run(&["receipt", &revoked.id]).good().stdout;
    world.write("receipt.json", &receipt);
    let verified = bob.run(&["verify", &world.path("receipt.json").display().to_string()]).good().stdout;
    assert!(verified.contains("carol revoked it at "), "{verified}");
    let again = logged_in(&bob, scratch.path());
    assert!(again.admitted(&host));
    world.as_("dan").run(&["revoke", "--person", "bob", "--reason", reason]).good();
    again.is_refused_soon(&host);
}

/// A host that cannot reach the service, or cannot write, lets in whom it let in before.
#[test]
fn a_host_that_is_cut_off_goes_on() {
    let mut world = world();
    let (host, folder) = world.synced_host("web1", &["quick"]);
    let scratch = dir();
    let copied = logged_in(&world.as_("alice"), scratch.path());
    let list = fs::read(folder.join("revoked.krl")).unwrap();
    // Nobody's: an account that may read the folder and not write into it.
    let locked = Locked::new(&folder);
    if let Some(locked) = &locked {
        world.as_("carol").run(&["revoke", "--person", "bob", "--reason", "left the company"]).good();
        world.as_("alice").run(&["done", &logged_in(&world.as_("alice"), scratch.path()).id]).good();
        let mut command = host_sync(&locked.folder, &["--once"]);
        command.uid(locked.account).gid(locked.account);
        let ran = world.run(command);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("revoked.krl: Permission denied"), "{ran:?}");
        assert_eq!(fs::read(locked.folder.join("revoked.krl")).unwrap(), list, "the old list stays");
    }
    world.stop();
    let ran = world.run(host_sync(&folder, &["--once"]));
    assert_eq!(ran.code, 20, "{ran:?}");
    assert!(!ran.stderr.contains("hint:"), "{ran:?}");
    assert_eq!(fs::read(folder.join("revoked.krl")).unwrap(), list);
    assert!(copied.admitted(&host), "{}", host.sshd.log());
    let status = world.run(host_sync(&folder, &["--status"])).good();
    assert!(status.stdout.contains("confirmed") && status.stdout.contains(" ago"), "{status:?}");
    let mut sync = world.spawn(host_sync(&folder, &[]));
    sync.wait_for("stays, last confirmed");
}

/// A copy of a host's folder that belongs to another account and that it may not write into.
struct Locked {
    folder: PathBuf,
    account: u32,
    _dir: tempfile::TempDir,
}

impl Locked {
    /// Only root can make one.
    fn new(of: &Path) -> Option<Self> {
        let (dir, account) = (dir(), 65_534);
        let folder = dir.path().join("ssh-jit");
        fs::create_dir(&folder).expect("a folder");
        for entry in fs::read_dir(of).expect("a folder") {
            let (from, to) = {
                let from = entry.expect("an entry").path();
                (from.clone(), folder.join(from.file_name()?))
            };
            fs::copy(from, &to).expect("a copy");
            chown(&to, Some(account), Some(account)).ok()?;
        }
        chown(&folder, Some(account), Some(account)).ok()?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).expect("a mode");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        Some(Self { folder, account, _dir: dir })
    }
}

/// Who may not, and what is no target.
#[test]
fn it_takes_the_duty_and_one_target() {
    let world = world();
    let (carol, alice) = (world.as_("carol"), world.as_("alice"));
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    alice.run(&["revoke", &id, "--reason", "mine"]).is(1, &[], &["ssh-jit: person: this needs the duty revokers"]);
    for args in [
        &["revoke", "--reason", "x"][..],
        &["revoke", &id, "--person", "alice", "--reason", "x"],
        &["revoke", "--key", "SHA256:x", "--reason", "x"],
        &["revoke", &id],
    ] {
        assert_eq!(carol.run(args).code, 2, "{args:?}");
    }
    carol.run(&["revoke", "--person", "nobody", "--reason", "to see"]).is(
        0,
        &[],
        &[
            "ssh-jit: there was nothing to end",
            "ssh-jit: nobody can ask again: to prevent that, take nobody out of the policy",
        ],
    );
    // Approved and not claimed: whoever comes for it learns it from the exit code.
    carol.run(&["approve", &id]).good();
    let key = crate::support::openssh::public_line(&world.key("alice"));
    let said = carol.run(&["revoke", "--key", &key, "--reason", "the laptop was stolen", "--json"]).good().stdout;
    assert!(said.starts_with(&format!("[{{\"id\":\"{id}\",\"person\":\"alice\"")), "{said}");
    let ran = alice.run(&["login", &id]);
    assert_eq!((ran.code, ran.stdout.as_str()), (14, ""), "{ran:?}");
    let shown = carol.run(&["show", &id]).good().stdout;
    assert!(shown.contains("revoked  carol"), "{shown}");
}

/// The claim itself is refused with the code, when a revocation comes after the client looked.
#[test]
fn a_claim_of_what_was_revoked_ends_with_14() {
    let world = world();
    let between = Between::before(world.port(), |path, answer| {
        if path.contains("/wait") {
            answer["state"] = json!({"name": "approved", "claim_by": "2100-01-01T00:00:00Z"});
        }
    });
    let (carol, alice, url) = (world.as_("carol"), world.as_("alice"), between.url());
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover", "--server", &url]);
    carol.run(&["approve", &id]).good();
    carol.run(&["revoke", &id, "--reason", "not now"]).good();
    let ran = alice.run(&["login", &id, "--server", &url]);
    assert_eq!(ran.code, 14, "{ran:?}");
    assert!(ran.stderr.contains("request: it was revoked; ask again if you still need it"), "{ran:?}");
}

/// A host believes the machine's CAs, or those that its file names and no others.
#[test]
fn a_host_asks_over_https() {
    let world = World::https();
    let (_host, folder) = world.synced_host("web1", &["quick"]);
    let file = folder.join("host.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (without, _) = text.split_once("ca_certificate").expect("the CA");
    fs::write(&file, without).unwrap();
    let ran = world.run(host_sync(&folder, &["--once"]));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("its certificate is not trusted"), "{ran:?}");
}

/// And whoever waits for a decision hears of it at once.
#[test]
fn waiting_for_what_was_revoked_ends_with_14() {
    let world = world();
    let (carol, alice) = (world.as_("carol"), world.as_("alice"));
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    let mut waits = alice.spawn(&["login", &id]);
    waits.wait_for("waiting");
    carol.run(&["revoke", &id, "--reason", "not now"]).is(
        0,
        &[],
        &["ssh-jit: REQUEST (db-prod, alice): it cannot be claimed any more"],
    );
    assert_eq!(waits.end().code, 14);
}
