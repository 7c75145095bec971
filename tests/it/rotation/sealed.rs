//! A break-glass CA that the service does not have: in a FIDO key, in a safe.

use std::fs;
use std::path::Path;

use serde_json::json;
use ssh_jit::ca::{read_trust, write_trust};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::trust::Trust;

use crate::support::openssh::public_line;
use crate::support::service::{Bench, Key, policy};
use crate::support::world::{World, host_sync};
use crate::support::{run, tool};

use super::{ca, hang_up, trust};

/// Signs bob's key with a CA in a FIDO key; gives the lines of ssh_config that use it.
fn signed(world: &World, by: &Path, name: &str) -> String {
    let key = world.path(name);
    fs::copy(world.key("bob"), &key).expect("a copy");
    fs::copy(world.key("bob").with_extension("pub"), key.with_extension("pub")).expect("a copy");
    run(tool("ssh-keygen").args(["-q", "-I", "sealed", "-n", "db-prod@db1", "-V", "-1m:+5m", "-s"]).arg(by).arg(&key));
    let key = key.display();
    format!("IdentitiesOnly yes\nIdentityFile {key}\nCertificateFile {key}-cert.pub")
}

/// Hosts take what it signs while the trust document names it, and no longer.
#[test]
fn a_sealed_key_opens_while_the_trust_document_names_it() {
    let mut world = World::new();
    let (host, folder) = world.synced_host("db1", &["db-prod@db1"]);
    for kind in ["ed25519-sk", "ecdsa-sk"] {
        let sealed = crate::support::openssh::keygen(&world.path("keys"), &format!("sealed-{kind}"), kind);
        let lines = signed(&world, &sealed, &format!("by-{kind}"));
        assert!(!host.admits(None, &lines), "{kind}: nobody named it yet");
        let public = sealed.with_extension("pub").display().to_string();
        ca(&world, &["add", "break-glass", &public]).good();
        hang_up(&mut world);
        world.run(host_sync(&folder, &["--once"])).good();
        assert!(host.admits(None, &lines), "{kind}: {}", host.sshd.log());
        ca(&world, &["remove", "break-glass", &public]).good();
        hang_up(&mut world);
        world.run(host_sync(&folder, &["--once"])).good();
        assert!(!host.admits(None, &lines), "{kind}: it was taken away");
    }
}

/// It stays where it is while the service's own key is rotated, and signs nothing of the service's.
#[test]
fn a_sealed_key_is_none_of_a_rotation() {
    let world = World::prepared();
    let public = world.key("other").with_extension("pub").display().to_string();
    ca(&world, &["add", "break-glass", &public]).good();
    let sealed = trust(&world).break_glass_ca[1].clone();
    for _ in 0..3 {
        ca(&world, &["rotate", "break-glass", "--force"]).good();
        assert!(trust(&world).break_glass_ca.contains(&sealed));
        assert_ne!(trust(&world).break_glass_ca[0], sealed);
    }
    assert_eq!(trust(&world).break_glass_ca.len(), 2);
}

/// A key has one purpose, and what the service signs with leaves by rotation only.
#[test]
fn keys_that_cannot_be_added_or_removed() {
    let world = World::prepared();
    let file = |name: &str| world.path(name).display().to_string();
    let own = |name: &str| file(&format!("ca/ca-keys/{name}.pub"));
    world.write("nonsense.pub", "ssh-ed25519 AAAA\n");
    let table = [
        (["add", "user", &file("keys/other.pub")], 2, "user CA: the service itself signs with all of them"),
        (["add", "host", &file("keys/other.pub")], 2, "host CA: the service itself signs with all of them"),
        (["add", "root", &file("keys/other.pub")], 2, "write user, break-glass or host"),
        (["add", "break-glass", &file("nothing.pub")], 1, "nothing.pub: No such file or directory"),
        (["add", "break-glass", &file("nonsense.pub")], 1, "nonsense.pub: "),
        (["add", "break-glass", &own("user-ca")], 1, "the trust document names this key already"),
        (["add", "break-glass", &own("break-glass-ca")], 1, "the trust document names this key already"),
        (["add", "break-glass", &own("log")], 1, "the trust document names this key already"),
        (["add", "break-glass", &file("keys/alice.pub")], 1, "the policy has this key for somebody"),
        (["add", "break-glass", &file("keys/emergency.pub")], 1, "the policy has this key for somebody"),
        (["remove", "break-glass", &own("break-glass-ca")], 1, "the service has this key itself"),
        (["remove", "break-glass", &file("keys/other.pub")], 1, "the trust document has no such break-glass CA"),
    ];
    for (args, code, why) in table {
        let ran = ca(&world, &args);
        assert!(ran.code == code && ran.stderr.contains(why), "{args:?}: {ran:?}");
    }
    assert_eq!(trust(&world).number, 1);
    // A user CA that was retired is no break-glass CA either.
    fs::copy(world.path("ca/ca-keys/user-ca.pub"), world.path("retired.pub")).expect("a copy");
    for _ in 0..3 {
        ca(&world, &["rotate", "user", "--force"]).good();
    }
    let ran = ca(&world, &["add", "break-glass", &file("retired.pub")]);
    assert!(ran.stderr.contains("this key was another CA of this service"), "{ran:?}");
}

/// The log knows nothing of what it signs: its use is an alarm, where hosts tell of uses.
#[test]
fn a_use_of_what_it_signed_is_an_alarm() {
    let mut bench = Bench::unstarted();
    let home = crate::support::dir();
    let folder = bench.folder().join("ca-keys");
    let sealed = crate::support::openssh::keygen(home.path(), "sealed", "ed25519-sk");
    let first = read_trust(&folder).expect("a document");
    let mut next = Trust::first_contact(&first).expect("a document").next(first.digest(), bench.at(0));
    next.break_glass_ca.push(public_line(&sealed).parse().expect("a key"));
    let next = bench.keys().user_ca.vouch(serde_json::to_vec(&next).expect("JSON")).expect("a signature");
    write_trust(&folder, &next).expect("written");
    let host = format!("[hosts.db1]\nkeys = [{:?}]\n", Key::of("db1").line());
    bench.start(&(policy() + &host)).expect("a service that starts");

    let key = crate::support::openssh::keygen(home.path(), "key", "ed25519");
    run(tool("ssh-keygen").args(["-q", "-I", "sealed", "-n", "root", "-z", "7", "-s"]).arg(&sealed).arg(&key));
    let line = fs::read_to_string(home.path().join("key-cert.pub")).expect("a certificate");
    let text = json!({
        "v": 1, "kind": "use", "instance": bench.service().trust().instance, "host": "db1", "at": bench.at(0),
        "connection": {
            "session": Digest::from_bytes([0; 32]), "certificate": line.trim(), "account": "root",
            "source": "192.0.2.7", "began": bench.at(-60), "ended": null,
        },
    });
    let text = text.to_string();
    let heard = bench.post("/v1/uses", &text, &Key::of("db1").sign("use@ssh-jit", text.as_bytes()));
    assert_eq!(heard.ok().json(), json!({"known": false}));
    let alarms = bench.get("/v1/alarms", &bench.session("olga")).ok().json();
    assert_eq!(alarms[0]["serial"], "7");
}
