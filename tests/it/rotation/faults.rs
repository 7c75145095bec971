//! What a service does not take up, and what hosts say that is not believed.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};
use ssh_jit::ca::read_trusts;

use crate::support::service::{Answer, Bench, Key, policy, with};
use crate::support::wait_until;
use crate::support::world::World;

use super::{ca, hang_up, trust};

/// Truncated, empty, signed by another key, without what it follows: the running one stays, whole.
#[test]
fn a_damaged_document_is_not_taken_up() {
    let mut world = World::new();
    ca(&world, &["rotate", "user"]).good();
    let path = |name: &str| world.path(&format!("ca/ca-keys/{name}"));
    let (document, signature) = (path("trust-2.json"), path("trust-2.json.sig"));
    let good = (fs::read(&document).expect("a file"), fs::read(&signature).expect("a file"));
    let first = fs::read(path("trust.json.sig")).expect("a file");
    let table: [(&str, &[u8], &[u8]); 5] = [
        ("truncated", &good.0[..40], &good.1),
        ("empty", b"", &good.1),
        ("no signature", &good.0, b""),
        ("half a signature", &good.0, &good.1[..60]),
        ("another's signature", &good.0, &first),
    ];
    let refused = |world: &mut World| {
        let before = world.server().stderr().matches("the CA keys were refused").count();
        world.server().signal(Signal::HUP);
        let server = world.server();
        wait_until(|| server.stderr().matches("the CA keys were refused").count() > before, || server.stderr());
    };
    let key = path("user-ca");
    let served = |world: &World| crate::support::between::get(world.port(), "/v1/now")["trust"].clone();
    for (what, text, armor) in table {
        fs::write(&document, text).expect("a file");
        fs::write(&signature, armor).expect("a file");
        refused(&mut world);
        assert_eq!(served(&world), 1, "{what}");
    }
    fs::write(&document, &good.0).expect("a file");
    fs::write(&signature, &good.1).expect("a file");
    // A document without the key that signs by it.
    let aside = world.path("aside");
    fs::rename(&key, &aside).expect("moved");
    refused(&mut world);
    fs::rename(&aside, &key).expect("moved");
    hang_up(&mut world);
    assert_eq!(served(&world), 2);
    // What was in force does not go back.
    world.stop();
    fs::remove_file(&document).expect("gone");
    let ran = world.run(world.serve());
    assert!(
        ran.code == 1 && ran.stderr.contains("trust document 2 was in force, and ca-keys holds another"),
        "{ran:?}"
    );
    fs::write(&document, &good.0).expect("a file");
    world.start();
    assert_eq!(trust(&world).number, 2);
}

/// Nor are the documents of somebody else, however well they are signed.
#[test]
fn another_services_documents_are_not_taken_up() {
    let (bench, other) = (Bench::new(), Bench::new());
    let documents = read_trusts(&other.folder().join("ca-keys")).expect("documents");
    let refused = bench.run(bench.service().take_authority(other.keys(), documents)).expect_err("refused");
    assert!(refused.to_string().contains("do not follow from the one in force"), "{refused}");
}

fn bench() -> Bench {
    let mut bench = Bench::unstarted();
    let hosts = ["db1", "db2"].map(|host| format!("[hosts.{host}]\nkeys = [{:?}]\n", Key::of(host).line()));
    bench.start(&(policy() + &hosts.concat())).expect("a service that starts");
    bench
}

fn status(bench: &Bench, trust: u64, at: i64) -> Value {
    let instance = bench.service().trust().instance;
    json!({
        "v": 1, "kind": "host-status", "instance": instance, "host": "db1", "trust": trust, "krl": 7,
        "at": bench.at(at),
    })
}

fn says(bench: &Bench, key: &str, status: &Value) -> Answer {
    let text = status.to_string();
    bench.post("/v1/host-status", &text, &Key::of(key).sign("host-status@ssh-jit", text.as_bytes()))
}

/// What the hosts said, and nothing else of them.
fn hosts(bench: &Bench) -> Value {
    let all = bench.get("/v1/hosts", &bench.session("olga")).ok().json();
    let said =
        |host: &Value| json!({"host": host["host"], "trust": host["trust"], "krl": host["krl"], "at": host["at"]});
    all.as_array().expect("hosts").iter().map(said).collect()
}

fn said(bench: &Bench, trust: u64, at: i64) -> Value {
    json!([
        {"host": "db1", "trust": trust, "krl": 7, "at": bench.at(at)},
        {"host": "db2", "trust": null, "krl": null, "at": null},
    ])
}

/// A host speaks for itself, now; what it said last counts, in whatever order it arrives.
#[test]
fn a_host_says_how_far_it_is() {
    let bench = bench();
    assert_eq!(hosts(&bench)[0]["trust"], Value::Null);
    says(&bench, "db1", &status(&bench, 2, -10)).ok();
    assert_eq!(hosts(&bench), said(&bench, 2, -10));
    says(&bench, "db1", &status(&bench, 1, -30)).ok();
    assert_eq!(hosts(&bench), said(&bench, 2, -10), "an older word changes nothing");
    says(&bench, "db1", &status(&bench, 3, 0)).ok();
    assert_eq!(hosts(&bench), said(&bench, 3, 0));
    assert_eq!(bench.get("/v1/hosts", &bench.session("alice")).code(), "no-duty");
}

#[test]
fn a_status_that_is_not_heard() {
    let bench = bench();
    let good = status(&bench, 2, 0);
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
        ("malformed", "db1", with(good.clone(), &json!({"kind": "use"}))),
    ];
    for (code, key, status) in table {
        assert_eq!(says(&bench, key, &status).code(), code, "{key}: {status}");
    }
    let text = good.to_string();
    for signature in
        [Key::of("db1").sign("use@ssh-jit", text.as_bytes()), Key::of("db1").sign("host-status@ssh-jit", b"{}")]
    {
        assert_eq!(bench.post("/v1/host-status", &text, &signature).code(), "bad-signature");
    }
    assert_eq!(hosts(&bench)[0]["trust"], Value::Null);
}

/// Whoever writes the database cannot have a host be further than it is.
#[test]
fn a_row_makes_no_host_follow() {
    let mut bench = bench();
    says(&bench, "db1", &status(&bench, 1, 0)).ok();
    bench.tamper();
    let further = status(&bench, 9, 0).to_string();
    bench.sql().execute("UPDATE host_statuses SET bytes = ?1", [further.as_bytes()]).expect("a row");
    assert_eq!(hosts(&bench)[0]["trust"], Value::Null);
    // Nor by what another host said.
    let text = with(status(&bench, 9, 0), &json!({"host": "db2"})).to_string();
    let signature = Key::of("db1").sign("host-status@ssh-jit", text.as_bytes());
    let blob = ssh_jit::domain::sshsig::SshSig::from_armor(&signature).expect("a signature").blob().to_vec();
    let values = rusqlite::params![text.as_bytes(), blob];
    bench.sql().execute("UPDATE host_statuses SET bytes = ?1, signature = ?2", values).expect("a row");
    assert!(hosts(&bench).as_array().expect("hosts").iter().all(|host| host["trust"].is_null()));
}
