//! `ssh-jit login --start`: asked for now, decided now, used later.

use crate::support::between::get;
use crate::support::world::World;

const LATER: [&str; 7] = ["login", "db-prod", "--for", "2h", "--reason", "the move of the primary", "--start"];

fn with<'a>(start: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&LATER[..], &[start], more].concat()
}

/// The command waits for the decision, then for the start, and then claims.
#[test]
fn a_login_waits_until_its_start() {
    let world = World::new();
    let now = get(world.port(), "/v1/now")["now"].as_str().expect("a time").to_owned();
    let now = chrono::DateTime::parse_from_rfc3339(&now).expect("a time");
    let start = (now + chrono::Duration::seconds(6)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut login = world.as_("alice").spawn(&with(&start, &[]));
    login.wait_for("waiting (");
    let id = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json()[0]["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    let approved = world.as_("carol").run(&["approve", &id]).good();
    assert!(approved.stderr.contains("begins      "), "{approved:?}");
    login.wait_for("approved; begins ");
    let shown = world.as_("alice").run(&["show", &id]).good();
    assert!(shown.stdout.contains("\n  begins     "), "{shown:?}");
    let status = world.as_("alice").run(&["status"]).good();
    assert!(status.stdout.contains("begins "), "{status:?}");
    let ran = login.end();
    ran.is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 2h: until WHEN, from WHEN",
            "ssh-jit: asked for db-prod as alice: request REQUEST",
            "ssh-jit: 1 of 2 must approve: carol, dan; lapses WHEN",
            "ssh-jit: waiting (Ctrl-C keeps the request; ssh-jit login REQUEST resumes)",
            "ssh-jit: carol approved 2h",
            "ssh-jit: approved; begins WHEN",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
    assert!(ran.took.as_secs() >= 4, "{:?}", ran.took);
}

/// Whoever does not wait comes back, and is told when.
#[test]
fn nobody_has_to_wait_for_a_start() {
    let world = World::new();
    let alice = world.as_("alice");
    let short = ["login", "db-prod", "--for", "10m", "--reason", "look at the lag", "--start", "+2h", "--no-wait"];
    let ran = alice.run(&short);
    ran.is(10, &["REQUEST"], &["ssh-jit: db-prod for 10m: until WHEN, from WHEN"]);
    let json = alice.run(&["login", ran.stdout.trim(), "--no-wait", "--json"]);
    assert_eq!((json.code, &json.json()["state"]), (10, &"approved".into()));
}

#[test]
fn a_start_is_a_time_that_comes() {
    let world = World::new();
    let alice = world.as_("alice");
    let ran = alice.run(&with("tomorrow", &[]));
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("write 22:00, 2026-11-26T08:00 (your time)"), "{ran:?}");
    let past = ["ssh-jit: --start: that lies in the past", "hint: leave it out to begin at once"];
    alice.run(&with("2020-01-01T08:00", &[])).is(2, &[], &past);
    let far = alice.run(&with("2099-01-01T08:00", &["--no-wait"]));
    assert_eq!((far.code, events_of(&world)), (1, 0), "{far:?}");
    assert!(far.stderr.contains("start: it may lie at most 30 days ahead"), "{far:?}");
}

/// Times are the reader's, and one that comes twice there is refused.
#[test]
fn a_start_is_in_the_zone_of_its_reader() {
    let world = World::new();
    let berlin = world.as_("alice").env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    // The last Sunday in October, when the clocks go back.
    let twice = berlin.run(&with("2096-10-28T02:30", &[]));
    twice.is(
        2,
        &[],
        &[
            "ssh-jit: --start: 2096-10-28 02:30 comes twice, as the clocks go back then, in your zone",
            "hint: write 2096-10-28T02:30:00+02:00 or 2096-10-28T02:30:00+01:00",
        ],
    );
    let none = berlin.run(&with("2096-03-25T02:30", &[]));
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("does not exist, as the clocks go forward then"), "{none:?}");
}

/// R20: a length has a unit.
#[test]
fn a_length_has_a_unit() {
    let world = World::new();
    let ran = world.as_("alice").run(&["login", "db-prod", "--for", "90", "--reason", "look at the lag"]);
    assert_eq!((ran.code, events_of(&world)), (2, 0));
    assert!(ran.stderr.contains("add a unit, as in 90m"), "{ran:?}");
}

fn events_of(world: &World) -> usize {
    super::events(world, "requested")
}
