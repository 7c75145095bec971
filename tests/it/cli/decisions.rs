//! `approve`, `deny`, `withdraw` and `done`: what they do once, and refuse the second time.

use crate::support::openssh::SshAgent;
use crate::support::world::{World, held};

const ASKED: [&str; 5] = ["db-prod", "--for", "2h", "--reason", "replica lag after failover"];

/// What the last line of talk is, and how the command ended.
#[track_caller]
fn ends(ran: &crate::support::world::Ran, code: i32, said: &str) {
    let last = ran.stderr.lines().rfind(|line| line.starts_with("ssh-jit: "));
    assert_eq!((ran.code, last, ran.stdout.as_str()), (code, Some(format!("ssh-jit: {said}").as_str()), ""), "{ran:?}");
}

/// Duty separation is on people: a requester decides on nothing of their own, approver or not.
#[test]
fn nobody_decides_for_themselves() {
    let world = World::new();
    let alice = world.as_("alice");
    let id = alice.ask(&ASKED);
    let own = "person: nobody decides on a request of their own; somebody else must";
    ends(&alice.run(&["approve", &id]), 1, own);
    ends(&alice.run(&["deny", &id, "--reason", "never mind"]), 1, own);
    world.as_("carol").run(&["approve", &id]).good();
}

#[test]
fn only_approvers_decide() {
    let world = World::new();
    let id = world.as_("alice").ask(&["vault", "--reason", "rotate the root token"]);
    // bob may ask for the role and decide on nothing: for him there is no such request.
    let none = "request: there is none of this id that you may see";
    ends(&world.as_("bob").run(&["approve", &id]), 1, none);
    ends(&world.as_("bob").run(&["approve", "0000-0000-00"]), 1, none);
    ends(&world.as_("robot").run(&["approve", &id]), 1, none);
    let form = "request \"7\" is not valid: a request id looks like 7F3K-9QPX-M2";
    ends(&world.as_("carol").run(&["approve", "7"]), 2, form);
}

#[test]
fn a_decision_is_made_once() {
    let world = World::new();
    let (carol, dan) = (world.as_("carol"), world.as_("dan"));
    let vault = world.as_("alice").ask(&["vault", "--reason", "rotate the root token"]);
    carol.run(&["approve", &vault]).good();
    ends(&carol.run(&["approve", &vault]), 1, "person: carol has decided on this already");
    ends(
        &carol.run(&["deny", &vault, "--reason", "on second thought"]),
        1,
        "person: carol has decided on this already",
    );
    dan.run(&["approve", &vault]).good();
    ends(&dan.run(&["approve", &vault]), 1, "request: it is approved already");

    let denied = world.as_("alice").ask(&ASKED);
    carol.run(&["deny", &denied, "--reason", "use the replica"]).good();
    ends(&dan.run(&["approve", &denied]), 1, "request: it is denied already");
    let withdrawn = world.as_("alice").ask(&ASKED);
    world.as_("alice").run(&["withdraw", &withdrawn]).is(0, &[], &["ssh-jit: REQUEST is withdrawn"]);
    ends(&dan.run(&["approve", &withdrawn]), 1, "request: it is withdrawn already");
}

#[test]
fn an_approval_gives_no_more_than_was_asked() {
    let world = World::new();
    let carol = world.as_("carol");
    let id = world.as_("alice").ask(&[&ASKED[..], &["--host", "db1"]].concat());
    let wider = |field| format!("{field}: an approval may give less than was asked, never more or something else");
    ends(&carol.run(&["approve", &id, "--for", "3h"]), 1, &wider("seconds"));
    let ran = carol.run(&["approve", &id, "--host", "db2"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let ran = carol.run(&["approve", &id, "--for", "90"]);
    assert!(ran.code == 2 && ran.stderr.contains("add a unit, as in 90m, 2h or 1h30m"), "{ran:?}");
    let ran = carol.run(&["approve", &id, "--comment", "two\nlines"]);
    assert!(ran.code == 2 && ran.stderr.contains("use one line without control"), "{ran:?}");
    let ran = carol.run(&["deny", &id]);
    assert!(ran.code == 2 && ran.stderr.contains("--reason <TEXT>"), "{ran:?}");
    ends(&carol.run(&["approve", &id]), 0, &format!("{id} is approved"));
}

#[test]
fn json_says_where_the_request_is() {
    let world = World::new();
    let id = world.as_("alice").ask(&ASKED);
    let json = world.as_("carol").run(&["approve", &id, "--json"]).good().json();
    assert_eq!((&json["id"], &json["state"]["name"]), (&id.as_str().into(), &"approved".into()));
    let refused = world.as_("dan").run(&["approve", &id, "--json"]);
    let error = serde_json::json!({ "error": { "code": "not-pending", "message": "request: it is approved already" } });
    assert_eq!((refused.code, refused.json()), (1, error));
    let json = world.as_("alice").run(&["withdraw", &id, "--json"]).good().json();
    assert_eq!(json, serde_json::json!({ "id": id, "state": { "name": "withdrawn" } }));
}

/// For somebody else it is as if it did not exist.
#[test]
fn only_the_requester_withdraws() {
    let world = World::new();
    let id = world.as_("alice").ask(&ASKED);
    let none = ["ssh-jit: request: there is none of this id that you may see"];
    world.as_("bob").run(&["withdraw", &id]).is(1, &[], &none);
    world.as_("bob").run(&["withdraw", "0000-0000-00"]).is(1, &[], &none);
    world.as_("carol").run(&["withdraw", &id]).is(1, &[], &none);
    world.as_("alice").run(&["withdraw", &id]).good();
    world.as_("alice").run(&["withdraw", &id]).is(1, &[], &["ssh-jit: request: it is withdrawn already"]);
    let gone = ["ssh-jit: REQUEST was not asked for from here", "hint: ssh-jit status lists your requests"];
    world.as_("alice").run(&["login", &id]).is(1, &[], &gone);
}

/// A waiting login hears of it from another terminal.
#[test]
fn a_withdrawal_ends_the_wait() {
    let world = World::new();
    let mut login = world.as_("alice").spawn(&[&["login"], &ASKED[..]].concat());
    login.wait_for("waiting (");
    let mine = world.as_("alice").run(&["status", "--json"]).good().json();
    world.as_("alice").run(&["withdraw", mine[0]["id"].as_str().unwrap()]).good();
    let ran = login.end();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("is withdrawn\n"), "{ran:?}");
}

#[test]
fn done_leaves_nothing() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    alice.run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good();
    let status = alice.run(&["status", "--json"]).good().json();
    let id = status[0]["id"].as_str().unwrap();
    let given = ["ssh-jit: db-prod is given back; the key and its certificate are gone from here"];
    alice.run(&["done"]).is(0, &[], &given);
    assert_eq!(held(&agent), Vec::<String>::new());
    alice.run(&["done"]).is(1, &[], &["ssh-jit: nothing is active from here", "hint: ssh-jit status"]);
    alice.run(&["done", id]).is(1, &[], &["ssh-jit: REQUEST was not asked for from here"]);
    alice.run(&["status"]).is(0, &[], &["ssh-jit: nothing is open; ssh-jit roles lists what you may ask for"]);
    assert!(alice.run(&["show", id]).good().stdout.starts_with("alice asks for db-prod: returned\n"));
}

#[test]
fn done_asks_which() {
    let world = World::new();
    let alice = world.as_("alice");
    alice.run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good();
    alice.run(&["login", "quick", "--for", "1m", "--reason", "for a moment"]).good();
    let ran = alice.run(&["done"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("several are active: ") && ran.stderr.ends_with("hint: ssh-jit done REQUEST\n"),
        "{ran:?}"
    );
    let waiting = alice.ask(&["vault", "--reason", "rotate the root token"]);
    alice.run(&["done", &waiting]).is(
        1,
        &[],
        &["ssh-jit: REQUEST has no certificate yet", "hint: ssh-jit withdraw REQUEST"],
    );
    let status = alice.run(&["status", "--json"]).good().json();
    for request in status.as_array().unwrap().iter().filter(|r| r["state"]["name"] == "active") {
        alice.run(&["done", request["id"].as_str().unwrap()]).good();
    }
    assert_eq!(alice.run(&["status", "--json"]).json().as_array().unwrap().len(), 1);
}
