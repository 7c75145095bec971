//! What certificates were used for: hosts say it, and a certificate that was made behind the service's back shows itself
//! at its first use.

use std::fs;

use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_key::certificate::Builder;
use ssh_key::private::Ed25519Keypair;
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PrivateKey};

use crate::session_ends::machine::{Issue, Machine, Way};
use crate::support::openssh::public_line;
use crate::support::service::{Answer, Asked, Bench, Key, policy, with};
use crate::support::world::World;
use crate::support::{run, tool, wait_until};
use crate::web::{Browser, carol};
use crate::web_acts::in_browser;

const NAMESPACE: &str = "use@ssh-jit";

/// The part of a policy that names hosts.
pub(crate) fn hosts() -> String {
    ["db1", "db2"].map(|host| format!("[hosts.{host}]\nkeys = [{:?}]\n", Key::of(host).line())).concat()
}

fn bench() -> Bench {
    let mut bench = Bench::unstarted();
    bench.start(&(policy() + &hosts())).expect("a service that starts");
    bench
}

pub(crate) fn active(bench: &Bench) -> (Asked, String) {
    let asked = bench.ask("alice", "web", &json!({}));
    bench.approve("carol", &asked).ok();
    let certificate = bench.claim(&asked).certificate();
    (asked, certificate)
}

/// What db1 says about one of its connections.
fn stated(bench: &Bench, certificate: &str) -> Value {
    let instance = bench.service().trust().instance.clone();
    json!({
        "v": 1, "kind": "use", "instance": instance, "host": "db1", "at": bench.at(0),
        "connection": {
            "session": Digest::from_bytes([0; 32]), "certificate": certificate, "account": "postgres",
            "source": "192.0.2.7", "began": bench.at(-60), "ended": null,
        },
    })
}

pub(crate) fn says(bench: &Bench, key: &str, stated: &Value) -> Answer {
    let text = stated.to_string();
    bench.post("/v1/uses", &text, &Key::of(key).sign(NAMESPACE, text.as_bytes()))
}

fn uses(bench: &Bench, asked: &Asked) -> Value {
    bench.get(&format!("/v1/requests/{}", asked.id), &bench.session("alice")).ok().json()["uses"].clone()
}

#[test]
fn a_use_is_noted_once_and_so_is_its_end() {
    let bench = bench();
    let (asked, certificate) = active(&bench);
    assert_eq!(uses(&bench, &asked), json!([]), "never used");
    let carol = carol(&bench);
    let page = || carol.opens(&bench, &format!("/requests/{}", asked.id)).ok().body;
    assert!(page().contains("The certificate was never used, as hosts say."));
    let before = bench.events().len();
    let begun = stated(&bench, &certificate);
    assert_eq!(says(&bench, "db1", &begun).ok().json(), json!({"known": true}));
    assert_eq!(says(&bench, "db1", &begun).ok().json(), json!({"known": true}));
    let ended = {
        let mut ended = begun.clone();
        ended["connection"]["ended"] = json!(bench.at(-1));
        ended
    };
    says(&bench, "db1", &ended).ok();
    let expected = json!([{
        "host": "db1", "account": "postgres", "source": "192.0.2.7", "began": bench.at(-60), "ended": bench.at(-1),
    }]);
    assert_eq!(uses(&bench, &asked), expected);
    assert!(page().contains("The certificate was used on db1, 59 s, as hosts say."), "{}", page());
    let story = bench.story(before);
    assert_eq!(story.iter().filter(|event| event.starts_with("used")).collect::<Vec<_>>(), ["used (postgres on db1)"]);
}

/// Whoever is no host of the policy says nothing, and a host speaks for itself alone, now, and of certificates of ours.
#[test]
fn words_that_are_not_heard() {
    let bench = bench();
    let (asked, certificate) = active(&bench);
    let good = stated(&bench, &certificate);
    let real = read(&certificate);
    let foreign = {
        let mut blob = real.to_bytes().expect("bytes");
        let last = blob.len() - 1;
        blob[last] ^= 1;
        Certificate::from_bytes(&blob).expect("a certificate").to_openssh().expect("a line")
    };
    let of_another_ca = PrivateKey::from(Ed25519Keypair::from_seed(&[3; 32]));
    let connection = |field: &str, value: &str| {
        let mut changed = good.clone();
        changed["connection"][field] = json!(value);
        changed
    };
    let table = [
        ("unknown-host-key", "mallory", good.clone()),
        ("unknown-host-key", "alice", good.clone()),
        ("unknown-host-key", "db2", good.clone()),
        ("unknown-host-key", "db1", with(good.clone(), &json!({"host": "db2"}))),
        ("unknown-host-key", "db1", with(good.clone(), &json!({"host": "db3"}))),
        ("other-instance", "db1", with(good.clone(), &json!({"instance": "00000000000000000000000000000000"}))),
        ("stale", "db1", with(good.clone(), &json!({"at": bench.at(-61)}))),
        ("future", "db1", with(good.clone(), &json!({"at": bench.at(6)}))),
        ("malformed", "db1", with(good.clone(), &json!({"more": 1}))),
        ("malformed", "db1", connection("account", "a\u{202e}b")),
        ("malformed", "db1", connection("source", &"a".repeat(256))),
        ("malformed", "db1", connection("certificate", "ssh-ed25519-cert-v01@openssh.com AAAA")),
        ("foreign-certificate", "db1", connection("certificate", &foreign)),
        ("foreign-certificate", "db1", connection("certificate", &signed(&real, &of_another_ca, real.serial(), "www"))),
    ];
    for (code, key, stated) in table {
        assert_eq!(says(&bench, key, &stated).code(), code, "{key}: {stated}");
    }
    let text = good.to_string();
    for signature in [Key::of("db1").sign("session@ssh-jit", text.as_bytes()), Key::of("db1").sign(NAMESPACE, b"{}")] {
        assert_eq!(bench.post("/v1/uses", &text, &signature).code(), "bad-signature");
    }
    assert_eq!(uses(&bench, &asked), json!([]));
}

pub(crate) fn read(line: &str) -> Certificate {
    Certificate::from_openssh(line).expect("a certificate")
}

pub(crate) fn ca(bench: &Bench, name: &str) -> PrivateKey {
    PrivateKey::read_openssh_file(bench.folder().join("ca-keys").join(name)).expect("a CA key")
}

/// The same certificate with another serial and principal, signed by `ca`.
pub(crate) fn signed(real: &Certificate, ca: &PrivateKey, serial: u64, principal: &str) -> String {
    signed_for(real.public_key().clone(), real, ca, serial, principal)
}

fn signed_for(key: KeyData, real: &Certificate, ca: &PrivateKey, serial: u64, principal: &str) -> String {
    let (after, before) = (real.valid_after(), real.valid_before());
    let mut builder = Builder::new(real.nonce(), key, after, before).expect("a certificate");
    builder.serial(serial).expect("a serial").key_id(real.key_id()).expect("a key id");
    builder.valid_principal(principal).expect("a principal");
    builder.sign(ca).expect("a signature").to_openssh().expect("a line")
}

/// What db1 says about another connection of its.
pub(crate) fn stated_of(bench: &Bench, certificate: &str, number: u8) -> Value {
    let mut stated = stated(bench, certificate);
    stated["connection"]["session"] = json!(Digest::from_bytes([number; 32]));
    stated
}

/// A certificate that differs from the recorded one in anything is not the recorded one, whatever its serial.
#[test]
fn what_the_log_does_not_know_is_an_alarm() {
    let bench = bench();
    let (asked, certificate) = active(&bench);
    let (ca, real) = (ca(&bench, "user-ca"), read(&certificate));
    let table = [(real.serial(), "root"), (real.serial() + 1000, "www"), (u64::MAX, "www"), (0, "www")];
    for ((serial, principal), number) in table.into_iter().zip(1..) {
        let line = signed(&real, &ca, serial, principal);
        let heard = says(&bench, "db1", &stated_of(&bench, &line, number));
        assert_eq!(heard.ok().json(), json!({"known": false}), "{serial}");
    }
    let alarms = bench.get("/v1/alarms", &bench.session("olga")).ok().json();
    let mut told: Vec<&str> = alarms.as_array().expect("alarms").iter().filter_map(|a| a["serial"].as_str()).collect();
    told.sort_unstable();
    let mut serials = table.map(|(serial, _)| serial.to_string());
    serials.sort_unstable();
    assert_eq!(told, serials);
    assert_eq!(bench.events().iter().filter(|event| event.kind.to_string() == "unknown-certificate").count(), 4);
    assert_eq!(uses(&bench, &asked), json!([]), "none of them is the request's");
    assert_eq!(bench.get("/v1/alarms", &bench.session("alice")).code(), "no-duty");
    // Pages tell those who may read the log, for a week.
    let tells = |browser: &Browser| browser.opens(&bench, "/").ok().body.contains("ALARM");
    let (mut olga, bob) = (in_browser(&bench, "olga", 31), in_browser(&bench, "bob", 32));
    assert!(tells(&olga) && !tells(&bob));
    bench.advance(7 * 86_400);
    olga.signs_in(&bench, "olga").ok();
    assert!(!tells(&olga));
}

/// Whoever has a CA key and can write the database, too, has not written the log.
#[test]
fn a_row_makes_no_certificate_known() {
    let mut bench = bench();
    let (_, certificate) = active(&bench);
    let real = read(&certificate);
    let line = signed(&real, &ca(&bench, "user-ca"), real.serial(), "root");
    let blob = read(&line).to_bytes().expect("bytes");
    bench.tamper();
    // What follows is the signature: a string of an algorithm's name and 64 bytes.
    let tbs = &blob[..blob.len() - (4 + 4 + "ssh-ed25519".len() + 4 + 64)];
    assert_eq!(bench.sql().execute("UPDATE certificates SET tbs = ?1", [tbs]).expect("a row"), 1);
    assert_eq!(says(&bench, "db1", &stated(&bench, &line)).ok().json(), json!({"known": false}));
}

/// Broken glass is known by its journal: the emergency key itself, under its own id, by its own CA.
#[test]
fn broken_glass_is_known() {
    let bench = bench();
    let certificate = bench.break_glass(&bench.breaking("alice", "db-prod")).certificate();
    let (real, emergency) = (read(&certificate), ca(&bench, "break-glass-ca"));
    let other = Ed25519Keypair::from_seed(&[3; 32]).public.into();
    let table = [
        (certificate.clone(), true),
        (signed_for(other, &real, &emergency, real.serial(), "root"), false),
        (signed(&real, &emergency, real.serial() + 1, "root"), false),
        (signed(&real, &ca(&bench, "user-ca"), real.serial(), "root"), false),
    ];
    for ((line, known), number) in table.into_iter().zip(1..) {
        let heard = says(&bench, "db1", &stated_of(&bench, &line, number));
        assert_eq!(heard.ok().json(), json!({"known": known}), "{number}");
    }
}

/// On a real sshd, from the login to the page: what was used, and the alarm over what was signed outside.
#[test]
fn a_certificate_made_with_a_stolen_key_shows_itself() {
    let Some(machine) = Machine::start(Way::Pam) else { return };
    let mut world = World::new();
    let host_key = public_line(&machine.path("sshd_host_key"));
    let host_key = host_key.rsplit_once(' ').map_or(host_key.as_str(), |(key, _)| key);
    world.load_policy(&format!("{}\n[hosts.db1]\nkeys = [\"{host_key}\"]\n", world.usual_policy()));
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let cas = alice.run(&["ca", "show", "--sshd"]).good().stdout;
    for file in ["user-ca.pub", "all-ca.pub"] {
        fs::write(machine.host_file(file), &cas).expect("the CAs");
    }
    fs::write(machine.host_file("principals/jit"), "quick\ndb-prod\n").expect("principals");
    let trust = alice.run(&["ca", "show", "--json"]).good().json();
    let (url, key) = (world.url(), machine.path("sshd_host_key"));
    let host = format!("server = {url:?}\ninstance = {}\nname = \"db1\"\nhost_key = {key:?}\n", trust["instance"]);
    fs::write(machine.host_file("host.toml"), host).expect("host.toml");
    alice.run(&["login", "quick", "--for", "1m", "--reason", "for a moment"]).good();
    let held = alice.state().join("requests");
    let mut names =
        fs::read_dir(&held).expect("what alice holds").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let id = names.find_map(|name| name.strip_suffix("-cert.pub").map(str::to_owned)).expect("a certificate");
    let key = held.join(&id).display().to_string();
    let real = machine.client("real", &format!("IdentityFile {key}\nCertificateFile {key}-cert.pub"));
    let stolen = world.path("ca/ca-keys/user-ca").display().to_string();
    let (forged, _) = machine.issue("forged", &Issue { ca: &stolen, serial: 4711, ..Issue::default() });
    let told = |machine: &Machine, sent: &str| {
        wait_until(|| machine.watchers().is_empty(), || "a watcher stays".to_owned());
        let (folder, sessions) = (machine.host_file(""), machine.path("lib/ssh-jit/sessions"));
        let (folder, sessions) = (folder.display().to_string(), sessions.display().to_string());
        let ran = alice.run(&["host", "report", "--folder", &folder, "--sessions", &sessions, "--json"]).good();
        assert_eq!(ran.stdout.trim(), sent);
    };
    let shown = alice.run(&["show", &id]).good().stdout;
    assert!(shown.contains("  never used\n"), "{shown}");
    run(tool("ssh").arg("-F").arg(&real).args(["jit", "true"]));
    told(&machine, r#"{"dropped":0,"sent":1}"#);
    told(&machine, r#"{"dropped":0,"sent":0}"#);
    let shown = alice.run(&["show", &id]).good().stdout;
    assert!(shown.contains("  used on db1, ") && shown.contains("    db1 as jit from 127.0.0.1, "), "{shown}");
    assert!(!carol.run(&["doctor"]).stdout.contains("ALARM"));
    run(tool("ssh").arg("-F").arg(&forged).args(["jit", "true"]));
    told(&machine, r#"{"dropped":0,"sent":1}"#);
    let doctor = carol.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("NOT  ALARM"), "{doctor:?}");
    assert!(doctor.stdout.contains("a certificate that is not in the log opened db1 as jit"), "{doctor:?}");
    let log = carol.run(&["audit", "list"]).good().stdout;
    assert!(log.contains("unknown-certificate") && log.contains("serial 4711"), "{log}");
}
