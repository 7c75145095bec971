//! Facts as people meet them: a source that signs with a key, and one that shares a secret; what `ssh-jit facts` lists,
//! and what a receipt proves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use ssh_jit::clock::Clock;

use crate::support::pager::{Hook, Pager};
use crate::support::world::{Ran, World};

const PAGER: Pager = Pager("pager");
const PAPER: Pager = Pager("paper");

/// `ssh-jit.toml` names a secret; the policy a key and two roles that hang on facts.
fn prepared() -> World {
    let world = World::prepared();
    let more = format!(
        r#"
[sources.pager]
key = "{}"
facts = ["oncall:*"]

[sources.paper]
facts = ["incident:*"]

[roles.keyed]
principals = ["keyed"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
automatic = {{ max = "1h", when = {{ facts = ["oncall:dba:primary = {{person}}"] }} }}

[roles.shared]
principals = ["shared"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
automatic = {{ max = "1h", when = {{ facts = ["incident:INC-7 = open"] }} }}
"#,
        PAGER.public()
    );
    world.write("ca/policy.toml", &(world.usual_policy() + &more));
    let config = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("a configuration");
    world.write("ca/ssh-jit.toml", &(config + "[sources.paper]\nsecret_file = \"paper.secret\"\n"));
    world.write("ca/paper.secret", &format!("{}\n{}\n", Pager("old").written_secret(), PAPER.written_secret()));
    mode(&world, 0o600);
    world
}

fn mode(world: &World, mode: u32) {
    fs::set_permissions(world.path("ca/paper.secret"), fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Both say that it is so, for two hours.
fn alarmed() -> World {
    let mut world = prepared();
    world.start();
    let now = Clock::System.now().second();
    let is = |name: &str, value: &str| json!([{"name": name, "value": value, "until": now.plus(7200)}]);
    deliver(&world, &PAGER.signs(PAGER.drafts_at(now, 1, &is("oncall:dba:primary", "alice"))));
    deliver(&world, &PAPER.tags(PAPER.drafts_at(now, 2, &is("incident:INC-7", "open"))));
    world
}

fn deliver(world: &World, hook: &Hook) {
    let mut request = ureq::post(format!("{}/v1/facts/{}", world.url(), hook.to));
    for (name, value) in hook.headers() {
        request = request.header(name, value);
    }
    request.send(&hook.body).expect("it is heard");
}

/// alice logs in without asking anybody. Gives the receipt.
fn receipt(world: &World, role: &str) -> Value {
    let alice = world.as_("alice");
    let ran = alice.run(&["login", role, "--for", "30m", "--reason", "replica lag after failover", "--json"]).good();
    let id = ran.json()["request"].as_str().expect("an id").to_owned();
    alice.run(&["receipt", &id]).good().json()
}

fn verify(world: &World, receipt: &Value) -> Ran {
    world.write("receipt.json", &receipt.to_string());
    world.as_("alice").run(&["verify", &world.path("receipt.json").display().to_string()])
}

#[test]
fn what_is_so_is_listed() {
    let world = alarmed();
    world.as_("carol").run(&["facts"]).is(
        0,
        &[
            "FACT                IS     SAYS   UNTIL",
            "incident:INC-7      open   paper  WHEN",
            "oncall:dba:primary  alice  pager  WHEN",
        ],
        &[],
    );
    assert_eq!(world.as_("carol").run(&["facts", "--json"]).good().json()[0]["source"], "paper");
    let no = ["ssh-jit: person: this needs the duty auditors or admins"];
    let ran = world.as_("alice").run(&["facts"]);
    assert!(ran.code == 1 && ran.stderr.starts_with(&no[0][..38]), "{ran:?}");
}

/// A key proves it to everybody; a shared secret only to the service, whose log attests it then.
#[test]
fn a_receipt_proves_what_access_hung_on() {
    let world = alarmed();
    let ran = verify(&world, &receipt(&world, "keyed")).good();
    assert!(ran.stdout.contains("while oncall:dba:primary = alice until "), "{ran:?}");
    assert!(ran.stdout.contains(": signed by pager\n"), "{ran:?}");
    let ran = verify(&world, &receipt(&world, "shared")).good();
    assert!(ran.stdout.contains(": from paper, attested by the service's log only\n"), "{ran:?}");
}

#[test]
fn a_receipt_with_another_message_proves_nothing() {
    let world = alarmed();
    let receipt = receipt(&world, "keyed");
    for (field, to) in [
        ("source", json!("paper")),
        ("id", json!("msg_9")),
        ("sent", json!("1")),
        ("body", json!(receipt["facts"][0]["body"].as_str().expect("a body").replace("alice", "bob"))),
    ] {
        let mut changed = receipt.clone();
        changed["facts"][0][field] = to;
        let ran = verify(&world, &changed);
        assert!(ran.code == 1 && ran.stderr.contains("it lacks the message that stated oncall:dba:primary"), "{ran:?}");
    }
    let mut without = receipt.clone();
    without["facts"] = json!([]);
    assert_eq!(verify(&world, &without).code, 1);
    // The signature is no part of what the log names: without it the log is all that there is.
    let mut unsigned = receipt;
    unsigned["facts"][0]["signature"] = json!("");
    assert!(verify(&world, &unsigned).good().stdout.contains("attested by the service's log only"));
}

#[test]
fn a_secret_that_cannot_be_used_is_refused() {
    let world = prepared();
    let starts = |words: &str| {
        let ran = world.run(world.serve());
        assert!(ran.code == 1 && ran.stderr.contains(words), "{words}: {ran:?}");
        assert!(!ran.stderr.contains("whsec_") || words.contains("whsec_"), "{ran:?}");
    };
    mode(&world, 0o644);
    starts("sources.paper.secret_file: paper.secret: ");
    mode(&world, 0o600);
    world.write("ca/paper.secret", "\n");
    starts("sources.paper.secret_file: paper.secret: it is empty");
    world.write("ca/paper.secret", "5ecret");
    starts("write whsec_ and the base64 of 24 to 64 random bytes");
    world.write("ca/paper.secret", &PAPER.written_secret());
    world.write("ca/policy.toml", &world.usual_policy());
    starts("sources.paper: the policy has no [sources.paper] to say what it may state");
    let config = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("a configuration");
    let config = config.split("[sources").next().expect("a configuration").to_owned();
    world.write("ca/jira.header", "no header");
    fs::set_permissions(world.path("ca/jira.header"), fs::Permissions::from_mode(0o600)).expect("a mode");
    world.write("ca/ssh-jit.toml", &(config.clone() + "[ticket_checks.jira]\nheader_file = \"jira.header\"\n"));
    starts("ticket_checks.jira.header_file: jira.header: write one line, as in Authorization: Bearer ...");
    world.write("ca/jira.header", "Authorization: Bearer 5ecret\n");
    starts("ticket_checks.jira: the policy has no [ticket_checks.jira] to say where");
}
