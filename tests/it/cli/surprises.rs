//! A service that is wrong, or not the one that was pinned: the person signs nothing for it, and uses
//! nothing that it hands out.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Certificate, PrivateKey, PublicKey};

use crate::support::between::Between;
use crate::support::openssh::SshAgent;
use crate::support::world::{As, Ran, World, held};

const AUTOMATIC: [&str; 6] = ["login", "db-prod", "--for", "10m", "--reason", "look at the lag"];

/// Alice's login through somebody in between, whose service she has pinned.
fn login_through(world: &World, between: &Between) -> Ran {
    let url = between.url();
    world.as_("alice").run(&[&["--server", &url], &AUTOMATIC[..]].concat()).without("first contact")
}

#[test]
fn a_clock_that_is_off_dates_nothing() {
    let world = World::new();
    for off in [-600, 600] {
        let between = Between::before(world.port(), move |path, answer| {
            if path == "/v1/now" {
                let now =
                    chrono::DateTime::parse_from_rfc3339(answer["now"].as_str().expect("a time")).expect("a time");
                let wrong = (now + chrono::TimeDelta::seconds(off)).to_utc();
                answer["now"] = wrong.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into();
            }
        });
        let ran = login_through(&world, &between);
        assert_eq!(ran.code, 1, "{ran:?}");
        let (said, hint) = ran.stderr.split_once('\n').unwrap();
        let seconds = said.strip_prefix("ssh-jit: this machine's clock is ").unwrap();
        let seconds: u32 = seconds.strip_suffix(" s off the service's, so nothing is signed").unwrap().parse().unwrap();
        assert!((599..=601).contains(&seconds), "{said}");
        assert_eq!(hint, "hint: set the clock; if it is right, the service's is wrong: tell an administrator\n");
    }
    assert_eq!(super::events(&world, "requested"), 0);
    // Breaking the glass goes on when somebody says so, and their word is on record.
    let between = Between::before(world.port(), |path, answer| {
        if path == "/v1/now" {
            let now = chrono::DateTime::parse_from_rfc3339(answer["now"].as_str().expect("a time")).expect("a time");
            let wrong = (now + chrono::TimeDelta::seconds(330)).to_utc();
            answer["now"] = wrong.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into();
        }
    });
    let url = between.url();
    let broken = ["break-glass", "db-prod", "--category", "outage", "--reason", "primary is down and nobody answers"];
    let ran = world.as_("alice").run(&[&["--server", &url], &broken[..]].concat()).without("first contact");
    let hint = "hint: set the clock that is wrong; to go on all the same, on record: --clock-off";
    assert!(ran.code == 30 && ran.stderr.contains("and the certificate goes by the service's"), "{ran:?}");
    assert!(ran.stderr.contains(hint), "{ran:?}");
    // What the service itself thinks of the time is another matter: here its clock is right.
    let ran = world.as_("alice").run(&[&["--server", &url], &broken[..], &["--clock-off"]].concat());
    assert!(ran.code == 30 && ran.stderr.contains("at: signed"), "{ran:?}");
    let journal = fs::read_to_string(world.path("ca/break-glass.journal")).unwrap();
    assert_eq!(journal.matches("clock_off").count(), 0, "what is not fresh is not journaled: {journal}");
}

/// Another service at the address that was pinned.
#[test]
fn another_service_is_not_spoken_to() {
    let mut world = World::new();
    let _home = world.as_("alice").home();
    world.stop().good();
    let mut other = World::prepared();
    other.listen_on(world.port());
    other.start();
    let hint = "hint: instance INSTANCE is configured";
    let said = "ssh-jit: another service answers at URL: instance INSTANCE";
    world.as_("alice").run(&AUTOMATIC).is(1, &[], &[said, hint]);
    world.as_("alice").run(&["doctor"]).is(
        1,
        &[
            "ok   service   URL answers, version 0.1.0",
            "NOT  trust     another service answers at URL: instance INSTANCE",
            "               -> instance INSTANCE is configured",
            "NOT  clock     another service answers at URL: instance INSTANCE",
            "               -> instance INSTANCE is configured",
            "NOT  ssh-agent SSH_AUTH_SOCK is not set",
            "               -> eval $(ssh-agent); without one, keys lie in files",
            "ok   identity  ssh-ed25519 SHA256 is at hand",
        ],
        &[],
    );
    // Where the configuration names none, the state folder has it pinned.
    let config = world.as_("alice").home().join(".config/ssh-jit/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("instance")).collect();
    fs::write(&config, without.join("\n")).unwrap();
    let hint = "hint: somebody may be in between; ask an administrator before you trust it";
    world.as_("alice").run(&AUTOMATIC).is(1, &[], &[said, hint]);
}

/// The same instance id does not help an impostor who has other keys.
#[test]
fn a_trust_document_that_nobody_vouches_for_is_refused() {
    let world = World::new();
    let between = Between::before(world.port(), |path, answer| {
        if path.starts_with("/v1/trusts") {
            let text = answer[0]["text"].as_str().expect("a text").replace("\"number\":1", "\"number\":2");
            answer[0]["text"] = text.into();
        }
    });
    let ran = world.as_("alice").run(&["--server", &between.url(), "roles"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("signature"), "{ran:?}");
}

/// Every field of the certificate is compared with what was asked for.
#[test]
fn a_certificate_that_was_not_asked_for_is_not_used() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let ca = private(&world, "ca/ca-keys/user-ca");
    let pinned = ca.clone();
    let other = private(&world, "keys/other");
    let other_key = other.public_key().clone();
    let swaps: Vec<(&str, Swap)> = vec![
        ("CA", Box::new(move |made| made.sign(&other))),
        ("CA", Box::new(move |made| spoiled(&made.sign(&pinned)))),
        ("key", with(&ca, move |made| made.key = other_key.clone())),
        ("key id", with(&ca, |made| made.key_id = made.key_id.replace("alice", "carol"))),
        ("principals", with(&ca, |made| made.principals.push("root".to_owned()))),
        ("principals", with(&ca, |made| made.principals = vec!["db-prod".to_owned()])),
        ("principals", with(&ca, |made| made.principals.clear())),
        ("window", with(&ca, |made| made.before += 1)),
        ("window", with(&ca, |made| (made.after, made.before) = (made.after - 7200, made.after))),
        ("window", with(&ca, |made| (made.after, made.before) = (made.after - 600, made.after))),
        ("window", with(&ca, |made| made.before = u64::MAX)),
        ("type", with(&ca, |made| made.kind = CertType::Host)),
        ("options", with(&ca, |made| made.extensions.push(("evil@example.org", "")))),
        ("options", with(&ca, |made| made.options.push(("strange", "")))),
        ("form", Box::new(|_| "ssh-ed25519-cert-v01@openssh.com AAAA".to_owned())),
        ("form", Box::new(|_| String::new())),
    ];
    for (what, swap) in swaps {
        let between = Between::before(world.port(), move |path, answer| swap_certificate(path, answer, &swap));
        let url = between.url();
        let alice = world.as_("alice").with(&agent);
        let ran = alice.run(&[&["--server", &url], &AUTOMATIC[..]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{what}: {ran:?}");
        let said = format!("ssh-jit: the certificate is not used: its {what} is not what was asked for");
        assert_eq!(ran.stderr.lines().last(), Some(said.as_str()), "{ran:?}");
        assert!(held(&agent).iter().all(|line| !line.contains("-cert-")), "{what}");
        assert_eq!(certificates(&alice), 0, "{what}");
    }
    // The very same way without a swap, so that it is the swap that was refused.
    let between = Between::before(world.port(), move |path, answer| swap_certificate(path, answer, &with(&ca, |_| {})));
    login_through(&world, &between).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 10m: until WHEN, if it begins now",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
}

fn certificates(person: &As<'_>) -> usize {
    let folders = fs::read_dir(person.home().join(".local/state/ssh-jit")).expect("a folder");
    let count = |folder: fs::DirEntry| {
        let files = fs::read_dir(folder.path().join("requests")).expect("a folder");
        files.filter(|file| file.as_ref().is_ok_and(|f| f.path().to_string_lossy().ends_with("-cert.pub"))).count()
    };
    folders.map(|folder| count(folder.expect("a folder"))).sum()
}

fn private(world: &World, name: &str) -> PrivateKey {
    PrivateKey::from_openssh(fs::read(world.path(name)).expect("a key file")).expect("a key")
}

/// What to hand out in place of what the service made.
type Swap = Box<dyn Fn(&Made) -> String + Send>;

/// A certificate that can be changed.
#[derive(Clone)]
struct Made {
    key: PublicKey,
    key_id: String,
    kind: CertType,
    principals: Vec<String>,
    after: u64,
    before: u64,
    extensions: Vec<(&'static str, &'static str)>,
    options: Vec<(&'static str, &'static str)>,
}

impl Made {
    fn of(certificate: &Certificate) -> Self {
        Self {
            key: PublicKey::from(certificate.public_key().clone()),
            key_id: certificate.key_id().to_owned(),
            kind: CertType::User,
            principals: certificate.valid_principals().to_vec(),
            after: certificate.valid_after(),
            before: certificate.valid_before(),
            extensions: vec![("permit-pty", "")],
            options: Vec::new(),
        }
    }

    fn sign(&self, ca: &PrivateKey) -> String {
        let mut builder = Builder::new(vec![7; 32], &self.key, self.after, self.before).expect("a window");
        builder
            .serial(7)
            .expect("a serial")
            .key_id(&self.key_id)
            .expect("a key id")
            .cert_type(self.kind)
            .expect("a type");
        if self.principals.is_empty() {
            builder.all_principals_valid().expect("for everybody");
        }
        for principal in &self.principals {
            builder.valid_principal(principal).expect("a principal");
        }
        for (name, value) in &self.extensions {
            builder.extension(*name, *value).expect("an extension");
        }
        for (name, value) in &self.options {
            builder.critical_option(*name, *value).expect("an option");
        }
        builder.sign(ca).expect("a certificate").to_openssh().expect("a line")
    }
}

/// A certificate in the name of its CA, whose signature is not the CA's.
fn spoiled(line: &str) -> String {
    let mut blob = ssh_jit::client::certificate::blob(line).expect("a certificate");
    *blob.last_mut().expect("a signature") ^= 1;
    format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(blob))
}

fn with(ca: &PrivateKey, change: impl Fn(&mut Made) + Send + 'static) -> Swap {
    let ca = ca.clone();
    Box::new(move |made| {
        let mut made = made.clone();
        change(&mut made);
        made.sign(&ca)
    })
}

fn swap_certificate(path: &str, answer: &mut Value, swap: &Swap) {
    if path == "/v1/claims" {
        let line = answer["certificate"].as_str().expect("a certificate");
        answer["certificate"] = swap(&Made::of(&line.parse().expect("a certificate"))).into();
    }
}

/// What was asked for is what the person typed, whatever the service says that it was.
#[test]
fn more_than_was_asked_is_not_used() {
    let world = World::new();
    let ca = private(&world, "ca/ca-keys/user-ca");
    let longer = with(&ca, |made| made.before += 1);
    let wider = with(&ca, |made| made.principals.push("db-prod@db2".to_owned()));
    for (what, swap) in [("window", longer), ("principals", wider)] {
        let between = Between::before(world.port(), move |path, answer| {
            if path == "/v1/requests" {
                answer["request"]["terms"]["seconds"] = json!(4200);
                answer["request"]["terms"]["principals"] = json!(["db-prod@db1", "db-prod@db2"]);
            }
            swap_certificate(path, answer, &swap);
        });
        let url = between.url();
        let ran = world.as_("alice").run(&[&["--server", &url, "--json"], &AUTOMATIC[..], &["--host", "db1"]].concat());
        let said = format!("the certificate is not used: its {what} is not what was asked for");
        assert_eq!((ran.code, &ran.json()["error"]["message"]), (1, &said.into()), "{ran:?}");
    }
}

#[test]
fn what_is_no_ssh_jit_is_said_to_be_none() {
    let world = World::new();
    let between = Between::before(world.port(), |_, answer| *answer = json!("welcome"));
    let url = between.url();
    let ran = world.as_("alice").run(&["--server", &url, "roles"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("does not answer like an ssh-jit service"), "{ran:?}");
    assert!(ran.stderr.ends_with("hint: see --server\n"), "{ran:?}");
}
