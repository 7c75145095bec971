//! `receipt` and `verify`: what proves one request, years later and without the service.

use serde_json::Value;

use crate::support::world::{Ran, World};

/// A world in which alice has what carol approved, and the receipt for it.
fn with_receipt() -> (World, Value) {
    let world = World::new();
    let alice = world.as_("alice");
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    world.as_("carol").run(&["approve", &id, "--for", "1h", "--comment", "enough"]).good();
    alice.run(&["login", &id]).good();
    let ran = alice.run(&["receipt", &id]).good();
    assert_eq!(ran.stderr, "ssh-jit: keep it; ssh-jit verify FILE checks it without the service\n");
    let receipt = ran.json();
    (world, receipt)
}

/// What verify says to it, with the service stopped or not.
fn verify(world: &World, receipt: &Value, more: &[&str]) -> Ran {
    world.write("receipt.json", &receipt.to_string());
    let file = world.path("receipt.json").display().to_string();
    world.as_("alice").run(&[&["verify", &file], more].concat())
}

#[test]
fn it_proves_who_asked_and_who_approved() {
    let (mut world, receipt) = with_receipt();
    world.stop().good();
    verify(&world, &receipt, &[]).is(
        0,
        &[
            "alice asked for db-prod at WHEN: \"replica lag after failover\"",
            "carol approved 1h at WHEN",
            "certified db-prod@db1 db-prod@db2 from WHEN to WHEN",
            "key id ssh-jit/REQUEST/alice/db-prod/SHA256",
        ],
        &["ssh-jit: proven by 3 statements and 3 events of the log"],
    );
    let json = verify(&world, &receipt, &["--json"]).good().json();
    assert_eq!(
        (&json["approvers"][0], &json["certified"], &json["person"]),
        (&"carol".into(), &true.into(), &"alice".into())
    );
}

/// Every part counts: a byte that is another one leaves no proof.
#[test]
fn one_byte_changed_proves_nothing() {
    let (world, receipt) = with_receipt();
    let parts = [
        "/trust/text",
        "/trust/signature",
        "/policy",
        "/statements/0/text",
        "/statements/0/signature",
        "/statements/1/text",
        "/statements/1/signature",
        "/statements/2/text",
        "/statements/2/signature",
        "/tbs",
        "/head/text",
        "/head/signature",
        "/events/0/leaf",
        "/events/1/leaf",
        "/events/2/leaf",
        "/events/0/proof/0",
        "/events/2/proof/0",
    ];
    for part in parts {
        let text = receipt.pointer(part).and_then(Value::as_str).unwrap_or_else(|| panic!("{part}")).to_owned();
        // In the middle of armor, JSON and base64 alike stands something that counts.
        for at in [text.len() / 2, text.len() / 3] {
            let mut changed = receipt.clone();
            *changed.pointer_mut(part).unwrap() = one_byte_changed(&text, at).into();
            let ran = verify(&world, &changed, &[]);
            assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{part} at {at}: {ran:?}");
            assert!(ran.stderr.starts_with("ssh-jit: "), "{ran:?}");
        }
    }
    verify(&world, &receipt, &[]).good();
}

fn one_byte_changed(text: &str, at: usize) -> String {
    let at = (at..text.len()).find(|&i| text.as_bytes()[i].is_ascii_alphanumeric()).expect("a letter");
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'k' { b'w' } else { b'k' };
    String::from_utf8(bytes).expect("ASCII")
}

/// Leaving something out is no better than changing it.
#[test]
fn what_is_missing_is_missed() {
    let (world, receipt) = with_receipt();
    for list in ["statements", "events"] {
        for at in 0..3 {
            let mut changed = receipt.clone();
            changed[list].as_array_mut().unwrap().remove(at);
            let ran = verify(&world, &changed, &[]);
            assert_eq!(ran.code, 1, "{list} without {at}: {ran:?}");
        }
    }
    let mut changed = receipt.clone();
    changed["tbs"] = Value::Null;
    assert_eq!(verify(&world, &changed, &[]).code, 1);
}

#[test]
fn it_is_held_to_the_trust_that_its_reader_has() {
    let (world, receipt) = with_receipt();
    let other = World::prepared();
    let trust = |world: &World| world.path("ca/ca-keys/trust.json").display().to_string();
    verify(&world, &receipt, &["--trust", &trust(&world)]).good();
    let ran = verify(&world, &receipt, &["--trust", &trust(&other)]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(
        ran.stderr.contains("the receipt proves nothing: its trust document is not the pinned service's"),
        "{ran:?}"
    );

    // Somebody who knows no service is told what they are asked to believe.
    let file = world.path("receipt.json").display().to_string();
    let mut command = crate::support::world::ssh_jit();
    command.args(["verify", &file]).env("HOME", world.path("stranger"));
    let ran = world.run(command).good();
    assert!(ran.stderr.contains("no trust document is pinned here, so the receipt's own is believed"), "{ran:?}");
    assert!(ran.stderr.contains("user CA SHA256:"), "{ran:?}");
}

#[test]
fn what_is_no_receipt_is_said_to_be_none() {
    let world = World::new();
    let ran = verify(&world, &serde_json::json!({ "dear": "reader" }), &[]);
    assert!(ran.code == 1 && ran.stderr.contains("DIR") || ran.stderr.contains("it is not a receipt"), "{ran:?}");
    let missing = world.path("nothing").display().to_string();
    world.as_("alice").run(&["verify", &missing]).is(
        1,
        &[],
        &["ssh-jit: DIR/nothing: No such file or directory (os error 2)"],
    );
    let id = world.as_("alice").ask(&["vault", "--reason", "rotate the root token"]);
    let none = ["ssh-jit: request: there is none of this id that you may see"];
    world.as_("bob").run(&["receipt", &id]).is(1, &[], &none);
}
