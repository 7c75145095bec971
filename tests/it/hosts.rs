//! `host sync` against a service that is not what it should be: on any doubt the files on the host stay as they are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::krl::{Header, Krl, NAMESPACE};
use ssh_jit::domain::names::InstanceId;
use ssh_jit::domain::trust::Trust;
use ssh_jit::domain::usage::Connection;
use ssh_jit::domain::verify::Signed;
use ssh_jit::host::spool::Spool;
use ssh_jit::host::sync::{Look, Sync, SyncError};
use ssh_jit::host::usage::{Reporter, UsageError};
use ssh_jit::wire::SignedText;
use tempfile::TempDir;

use crate::support::between::Between;
use crate::support::openssh::keygen;
use crate::support::service::{Bench, policy};
use crate::support::{dir, wait_until};

/// What is answered at some paths instead of the truth.
type Lies = Arc<Mutex<Vec<(&'static str, Value)>>>;

/// A host, its service, and somebody in between.
struct World {
    bench: Bench,
    between: Between,
    lies: Lies,
    dir: TempDir,
}

impl World {
    /// A host that was synchronized once.
    fn new() -> Self {
        let world = Self::fresh();
        let look = world.look().expect("a first look");
        assert!(look.new_list && look.new_cas);
        world
    }

    fn fresh() -> Self {
        let (bench, lies) = (Bench::new(), Lies::default());
        let told = Arc::clone(&lies);
        let between = Between::before(bench.address().port(), move |path, answer| {
            let path = path.split('?').next().unwrap_or_default();
            for (_, lie) in told.lock().expect("no panic").iter().filter(|(about, _)| *about == path) {
                *answer = lie.clone();
            }
        });
        let dir = dir();
        fs::DirBuilder::new().mode(0o755).create(dir.path().join("host")).expect("a folder");
        let world = Self { bench, between, lies, dir };
        let instance = InstanceId::from_bytes([7; 16]);
        let text = format!("server = \"{}\"\ninstance = \"{instance}\"\n", world.between.url());
        fs::write(world.path("host.toml"), text).expect("a file");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("host").join(name)
    }

    fn sync(&self) -> Sync {
        Sync::open(&self.dir.path().join("host")).expect("a configuration")
    }

    fn look(&self) -> Result<Look, SyncError> {
        self.sync().look(Duration::ZERO, || self.bench.at(0))
    }

    fn lie(&self, about: &'static str, answer: Value) {
        *self.lies.lock().expect("no panic") = vec![(about, answer)];
    }

    fn honest(&self) {
        self.lies.lock().expect("no panic").clear();
    }

    /// Has the service make another list.
    fn new_list(&self) {
        self.bench.load_policy(&policy());
    }

    fn files(&self) -> Vec<Vec<u8>> {
        ["revoked.krl", "trust.json", "user-ca.pub"].map(|name| fs::read(self.path(name)).expect("a file")).to_vec()
    }

    /// The list that the service has now.
    fn list(&self) -> Vec<u8> {
        STANDARD.decode(self.published()["krl"].as_str().expect("base64")).expect("base64")
    }

    fn published(&self) -> Value {
        self.bench.http("GET", "/v1/krl", None, b"").ok().json()
    }
}

fn view(signed: &Signed) -> Value {
    json!({"number": 1, "krl": STANDARD.encode(signed.bytes()), "signature": signed.signature().armor()})
}

#[test]
fn a_host_has_what_the_service_has() {
    let world = World::new();
    assert_eq!(fs::read(world.path("revoked.krl")).expect("a list"), world.list());
    let keys = world.bench.keys();
    let (user, glass) = (keys.user_ca.public(), keys.break_glass_ca.public());
    let cas = fs::read_to_string(world.path("user-ca.pub")).expect("CAs");
    assert_eq!(cas, format!("{user} ssh-jit-user-ca\n{glass} ssh-jit-break-glass-ca\n"));
    let look = world.look().expect("a second look");
    assert!(!look.new_list && !look.new_cas, "nothing is written twice");
    world.new_list();
    assert!(world.look().expect("a third look").new_list);
    assert_eq!(fs::read(world.path("revoked.krl")).expect("a list"), world.list());
}

/// How old a list is: when the service last said that there is no newer one.
#[test]
fn a_host_knows_how_stale_its_list_is() {
    let world = World::fresh();
    assert!(matches!(world.sync().status(), Err(SyncError::Never(_))));
    world.look().expect("a first look");
    let first = world.sync().status().expect("a status");
    assert_eq!((first.confirmed, first.generated, first.trust), (world.bench.at(0), world.bench.at(0), 1));
    world.bench.advance(3 * 86_400);
    assert_eq!(world.sync().status().expect("a status"), first, "cut off, and it goes on with what it has");
    world.look().expect("a later look");
    assert_eq!(world.sync().status().expect("a status").confirmed, world.bench.at(0));
    assert_eq!(world.sync().status().expect("a status").number, first.number);
}

/// Whatever comes in place of a list, by whomever it is signed: the one that is here stays.
#[test]
fn a_doubtful_list_changes_nothing() {
    let world = World::new();
    world.new_list();
    let (keys, good, before) = (world.bench.keys(), world.list(), world.files());
    let signed = |bytes: &[u8]| keys.krl.sign(NAMESPACE, bytes.to_vec()).expect("a signature");
    let krl = |number: u64, instance: u8| {
        let instance = InstanceId::from_bytes([instance; 16]);
        let (certificates, keys) = (Vec::new(), BTreeSet::new());
        Krl { number, generated: world.bench.at(0), instance, certificates, keys }.to_bytes()
    };
    let number = Header::read(&good).expect("a list").number;
    let another = Signed::new(krl(number + 9, 7), signed(&good).signature().clone());
    let by_log = keys.log.sign(NAMESPACE, good.clone()).expect("a signature");
    let elsewhere = keys.krl.sign("head@ssh-jit", good.clone()).expect("a signature");
    let table = [
        ("truncated", view(&signed(&good[..good.len() - 3])), "not used: it is not whole"),
        ("empty", view(&signed(b"")), "not used: it is empty"),
        ("with more behind it", view(&signed(&[&good[..], b"x"].concat())), "not used: it is not whole"),
        ("something else", view(&signed(b"hello")), "not used: it is no KRL"),
        ("older", view(&signed(&krl(7, 7))), "older than the one here: number 7"),
        ("another instance's", view(&signed(&krl(number + 9, 8))), "another service's"),
        ("signed by another key", view(&by_log), "not believed: signature: it was made by another key"),
        ("signed for another purpose", view(&elsewhere), "not believed: signature: it was made in another namespace"),
        ("with another's signature", view(&another), "not believed: signature: it does not match"),
        (
            "without a signature",
            json!({"number": 1, "krl": STANDARD.encode(&good), "signature": ""}),
            "does not answer",
        ),
        (
            "no base64",
            json!({"number": 1, "krl": "!", "signature": signed(&good).signature().armor()}),
            "does not answer",
        ),
        ("nothing", json!(null), "does not answer like an ssh-jit service"),
    ];
    for (what, lie, why) in table {
        world.lie("/v1/krl", lie);
        let error = world.look().expect_err(what).to_string();
        assert!(error.contains(why), "{what}: {error}");
        assert_eq!(world.files(), before, "{what}");
    }
    world.honest();
    assert!(world.look().expect("the truth").new_list);
}

/// A damaged list on the host is replaced, whatever its number was.
#[test]
fn a_damaged_list_is_made_good() {
    let world = World::new();
    for damaged in [&b""[..], b"hello", &world.list()[..30]] {
        fs::write(world.path("revoked.krl"), damaged).expect("a file");
        assert!(world.look().expect("a look").new_list);
        assert_eq!(fs::read(world.path("revoked.krl")).expect("a list"), world.list());
    }
    // One that was cut where a section ends still is a list, though not this one.
    fs::write(world.path("revoked.krl"), [&world.list()[..], &[5, 0, 0, 0, 0]].concat()).expect("a file");
    assert!(world.look().expect("a look").new_list);
}

#[test]
fn only_the_pinned_service_is_listened_to() {
    let world = World::new();
    world.new_list();
    let before = world.files();
    let other = InstanceId::from_bytes([8; 16]);
    world.lie("/v1/now", json!({"now": "2026-11-22T10:00:00.000Z", "instance": other, "trust": 1, "version": "1"}));
    assert!(matches!(world.look(), Err(SyncError::OtherInstance { .. })));
    assert_eq!(world.files(), before);
    // Nor does a first contact pin another than the configured one.
    let fresh = World::fresh();
    let mut trust = first_trust(&fresh);
    trust.instance = other;
    fresh.lie("/v1/trusts", json!([text(&fresh.bench.keys().user_ca.vouch(bytes(&trust)).expect("a signature"))]));
    assert!(matches!(fresh.look(), Err(SyncError::OtherInstance { .. })));
    assert!(!fresh.path("trust.json").exists());
}

/// Nor is another told what certificates were used for, nor in the name of nobody.
#[test]
fn only_the_pinned_service_is_told() {
    let world = World::new();
    let spool = Spool::at(&world.dir.path().join("sessions"));
    let connection = Connection {
        session: Digest::from_bytes([1; 32]),
        certificate: "x y".to_owned(),
        account: "jit".to_owned(),
        source: "::1".to_owned(),
        began: world.bench.at(0),
        ended: None,
    };
    spool.remember(&connection).expect("remembered");
    let reporter = || Reporter::open(&world.dir.path().join("host"), spool.clone());
    assert!(matches!(reporter(), Err(UsageError::Config(_))), "it does not know its name");
    let key = keygen(world.dir.path(), "host-key", "ed25519");
    let text = fs::read_to_string(world.path("host.toml")).expect("a file");
    fs::write(world.path("host.toml"), format!("{text}name = \"db1\"\nhost_key = {key:?}\n")).expect("a file");
    let (other, now) = (InstanceId::from_bytes([8; 16]), "2026-11-22T10:00:00.000Z");
    world.lie("/v1/now", json!({"now": now, "instance": other, "trust": 1, "version": "1"}));
    assert!(matches!(reporter().expect("a name").report(), Err(UsageError::OtherInstance { .. })));
    world.honest();
    let refused = reporter().expect("a name").report().expect_err("the policy has no such host");
    assert!(refused.to_string().contains("db1"), "{refused}");
    assert_eq!(spool.held().expect("a folder").waiting, 1, "it is told later");
}

fn first_trust(world: &World) -> Trust {
    world.bench.service().trust().clone()
}

fn bytes(trust: &Trust) -> Vec<u8> {
    serde_json::to_vec(trust).expect("JSON")
}

fn text(signed: &Signed) -> Value {
    serde_json::to_value(SignedText::from(signed)).expect("JSON")
}

/// The next number, signed by a CA that is trusted already: nothing else replaces the trust document.
#[test]
fn trust_grows_by_what_is_trusted() {
    let world = World::new();
    let (keys, before) = (world.bench.keys(), world.files());
    let announce = |number: u64, answer: Value| {
        let instance = InstanceId::from_bytes([7; 16]);
        let now = json!({"now": "2026-11-22T10:00:00.000Z", "instance": instance, "trust": number, "version": "1"});
        *world.lies.lock().expect("no panic") = vec![("/v1/now", now), ("/v1/trusts", answer)];
    };
    let signed = |trust: &Trust| keys.user_ca.vouch(bytes(trust)).expect("a signature");
    let after = |trust: &Trust| trust.next(Digest::of(&bytes(trust)), trust.at);
    let mut next = after(&first_trust(&world));
    next.user_ca.push(keys.host_ca.public().clone());
    let third = after(&next);
    let cut = json!({"text": text(&signed(&next))["text"].as_str().expect("JSON")[..80], "signature": text(&signed(&next))["signature"]});
    let elsewhere = Trust { instance: InstanceId::from_bytes([8; 16]), ..next.clone() };
    let table = [
        ("by a key that is new itself", json!([text(&keys.host_ca.vouch(bytes(&next)).expect("a signature"))])),
        ("by the KRL key", json!([text(&keys.krl.sign("trust@ssh-jit", bytes(&next)).expect("a signature"))])),
        ("for another purpose", json!([text(&keys.krl.sign("krl@ssh-jit", bytes(&next)).expect("a signature"))])),
        ("an older number", json!([text(&signed(&Trust { number: 0, ..next.clone() }))])),
        ("the same again", json!([text(&signed(&first_trust(&world)))])),
        ("one that is missing before", json!([text(&signed(&third))])),
        ("for another instance", json!([text(&signed(&elsewhere))])),
        ("a good one, then a bad one", json!([text(&signed(&next)), text(&signed(&next))])),
        ("truncated", json!([cut])),
        ("empty", json!([{"text": "", "signature": text(&signed(&next))["signature"]}])),
        ("none", json!([])),
        ("no list", json!(null)),
    ];
    for (what, answer) in table {
        announce(3, answer);
        let refused = world.look().expect_err(what);
        assert!(matches!(refused, SyncError::Trust(_) | SyncError::Api(_)), "{what}: {refused}");
        assert_eq!(world.files(), before, "{what}");
    }
    // A service that says that it has an older one is not asked for it.
    announce(0, json!(null));
    assert!(world.look().is_ok());
    assert_eq!(world.files(), before);
    // Away while there were two.
    announce(3, json!([text(&signed(&next)), text(&signed(&third))]));
    assert!(world.look().expect("successors").new_cas);
    assert_eq!(world.sync().status().expect("a status").trust, 3);
    let cas = fs::read_to_string(world.path("user-ca.pub")).expect("CAs");
    assert!(cas.contains(&keys.host_ca.public().to_string()), "{cas}");
    // The one that was pinned before does not come back.
    world.honest();
    assert!(!world.look().expect("the older one").new_cas);
    assert_eq!(world.sync().status().expect("a status").trust, 3);
}

/// A damaged pin is no reason to take whatever comes.
#[test]
fn a_damaged_pin_is_not_replaced() {
    let world = World::new();
    world.new_list();
    fs::write(world.path("trust.json"), "{").expect("a file");
    let before = world.files();
    assert!(matches!(world.look(), Err(SyncError::Trust(_))));
    assert_eq!(world.files(), before);
}

/// Nor is the pin of another instance, whoever put it there.
#[test]
fn a_pin_of_another_instance_is_refused() {
    let world = World::new();
    world.new_list();
    let other = Trust { instance: InstanceId::from_bytes([8; 16]), ..first_trust(&world) };
    let signed = world.bench.keys().user_ca.vouch(bytes(&other)).expect("a signature");
    fs::write(world.path("trust.json"), text(&signed).to_string()).expect("a file");
    let before = world.files();
    assert!(matches!(world.look(), Err(SyncError::OtherInstance { .. })));
    assert_eq!(world.files(), before);
}

/// H-files: a link that was planted is replaced, and nothing is written through it.
#[test]
fn nothing_is_written_through_a_link() {
    let world = World::new();
    let target = world.dir.path().join("target");
    for name in ["revoked.krl", "user-ca.pub"] {
        fs::rename(world.path(name), &target).expect("moved");
        let before = fs::read(&target).expect("a file");
        symlink(&target, world.path(name)).expect("a link");
        world.new_list();
        world.look().expect("a look");
        assert_eq!(fs::read(&target).expect("a file"), before, "{name}");
        assert!(world.path(name).symlink_metadata().expect("a file").is_file(), "{name}");
    }
    fs::rename(world.path("trust.json"), &target).expect("moved");
    symlink(&target, world.path("trust.json")).expect("a link");
    assert!(matches!(world.look(), Err(SyncError::File { .. })));
}

/// Where others could exchange what sshd reads, nothing is kept up.
#[test]
fn a_folder_of_others_is_refused() {
    let world = World::new();
    world.new_list();
    let (folder, before) = (world.dir.path().join("host"), world.files());
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o777);
    assert!(matches!(world.look(), Err(SyncError::File { .. })));
    mode(0o755);
    let link = world.dir.path().join("link");
    symlink(&folder, &link).expect("a link");
    let through = Sync::open(&link).expect("a configuration").look(Duration::ZERO, || world.bench.at(0));
    assert!(matches!(through, Err(SyncError::File { .. })));
    assert_eq!(world.files(), before);
    fs::set_permissions(world.path("host.toml"), fs::Permissions::from_mode(0o666)).expect("a mode");
    assert!(matches!(Sync::open(&folder), Err(SyncError::Config(_))));
}

/// What cannot be replaced stays, and what can be is not held up by it for longer than that lasts.
#[test]
fn a_list_that_cannot_be_replaced_stays() {
    let world = World::new();
    let before = fs::read(world.path("revoked.krl")).expect("a list");
    let aside = world.dir.path().join("aside");
    fs::rename(world.path("revoked.krl"), &aside).expect("moved");
    // No file takes the place of a folder that is not empty.
    fs::create_dir_all(world.path("revoked.krl/x")).expect("folders");
    world.new_list();
    assert!(matches!(world.look(), Err(SyncError::File { .. })));
    fs::remove_dir_all(world.path("revoked.krl")).expect("gone");
    fs::rename(&aside, world.path("revoked.krl")).expect("moved");
    assert_eq!(fs::read(world.path("revoked.krl")).expect("a list"), before);
    assert_eq!(leftovers(&world.dir.path().join("host")), 0);
    assert!(world.look().expect("a look").new_list);
}

fn leftovers(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".new")).count()
}

/// The loop: what is pushed arrives at once; where questions that wait are cut off, it asks again soon.
#[test]
fn a_revocation_arrives_by_itself() {
    let world = World::new();
    let (sync, clock) = (world.sync(), world.bench.at(0));
    let looks = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&looks);
    // Ends with the test's process.
    std::thread::spawn(move || {
        let tell = |outcome: Result<Look, SyncError>, failures| {
            told.lock().expect("no panic").push((outcome.is_ok(), failures));
        };
        sync.follow(|| clock, tell, |_| {})
    });
    let here = || fs::read(world.path("revoked.krl")).expect("a list") == world.list();
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        world.new_list();
        wait_until(here, || "it did not arrive".to_owned());
    }
    world.lie("/v1/krl", json!(null));
    world.new_list();
    wait_until(
        || looks.lock().expect("no panic").iter().any(|(ok, failures)| !ok && *failures == 2),
        || "no failure was told".to_owned(),
    );
    world.honest();
    wait_until(here, || "it did not arrive after the failures".to_owned());
}
