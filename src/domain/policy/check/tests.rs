//! Each kind of finding, from the smallest policy that has it; and none where nothing is wrong.

use super::*;
use crate::domain::testing::Key;

/// ann and bob ask; cid, dee, eli and fay approve; hosts h1 and h2.
fn sound() -> String {
    emergency(250) + &emergency(251) + &bare()
}

/// ann's emergency key of this seed.
fn emergency(seed: u8) -> String {
    let key = Key::from_seed(seed).public();
    format!("[[emergency_keys]]\nperson = \"ann\"\nkey = \"{key}\"\nroles = [\"db\"]\n")
}

/// The same without emergency keys.
fn bare() -> String {
    let person = |(i, (name, group)): (usize, &(&str, &str))| {
        let key = Key::from_seed(100 + i as u8).public();
        format!("[people.{name}]\ngroups = [\"{group}\"]\nkeys = [\"{key}\"]\n")
    };
    let people = [
        ("ann", "sre"),
        ("bob", "sre"),
        ("cid", "dba"),
        ("dee", "dba"),
        ("eli", "dba"),
        ("fay", "dba"),
        ("gus", "sec"),
    ];
    let people: String = people.iter().enumerate().map(person).collect();
    people
        + "[roles.db]\nhosts = [\"h1\", \"h2\"]\nprincipals = [\"db\"]\nrequesters = [\"sre\"]\napprovers = [\"dba\"]\n\
           approvals = 1\nautomatic = { max = \"10m\" }\nmax = \"2h\"\ndefault = \"1h\"\n"
}

fn codes(text: &str) -> Vec<(&'static str, Gravity)> {
    let policy = Policy::parse(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    policy.findings().iter().map(|finding| (finding.code, finding.gravity)).collect()
}

fn changed(from: &str, to: &str) -> String {
    crate::domain::testing::edit(&sound(), from, to)
}

#[test]
fn a_sound_policy_has_none() {
    assert_eq!(codes(&sound()), []);
    assert_eq!(codes(""), []);
}

#[test]
fn approvers_are_enough_for_each_requester() {
    use Gravity::{Error, Warning};
    let (dba, automatic) = ("approvers = [\"dba\"]\n", "automatic = { max = \"10m\" }\n");
    let without = |approvers: &str| sound().replace(automatic, "").replace(dba, approvers);
    for (text, expected) in [
        (changed("requesters = [\"sre\"]", "requesters = []"), vec![("nobody-asks", Warning)]),
        (without(""), vec![("nobody-approves", Error)]),
        (without("approvers = []\n"), vec![("nobody-approves", Error)]),
        (changed(dba, ""), vec![("only-automatic", Warning)]),
        (changed(dba, "approvers = [\"cid\"]\n"), vec![("no-spare-approver", Warning)]),
        (changed(dba, "approvers = [\"cid\", \"dee\"]\n"), vec![]),
        // ann has bob alone, bob has ann alone.
        (changed(dba, "approvers = [\"sre\"]\n"), vec![("no-spare-approver", Warning)]),
        (changed(dba, "approvers = [\"ann\"]\n"), vec![("too-few-approvers", Error), ("no-spare-approver", Warning)]),
        (changed("approvals = 1", "approvals = 3"), vec![]),
        (changed("approvals = 1", "approvals = 4"), vec![("no-spare-approver", Warning)]),
        (changed("approvals = 1", "approvals = 5"), vec![("too-few-approvers", Error)]),
    ] {
        assert_eq!(codes(&text), expected, "{text}");
    }
    // Whoever has no key that counts is nobody to ask; nor is a machine.
    let key = Key::from_seed(102).public();
    let two = changed(dba, "approvers = [\"cid\", \"dee\"]\n");
    assert_eq!(codes(&format!("revoked_keys = [\"{key}\"]\n{two}")), [("no-spare-approver", Warning)]);
    let machine = two.replace("[people.dee]\n", "[people.dee]\nkind = \"service\"\n");
    assert_eq!(codes(&machine), [("no-spare-approver", Warning)]);
    // Of two lists each must have one to spare, and nobody counts for both.
    let agree = |lists: &str| codes(&changed("approvers = [\"dba\"]\napprovals = 1", &format!("agree = [{lists}]")));
    assert_eq!(agree("{ of = [\"dba\"] }, { of = [\"gus\"] }"), [("no-spare-approver", Warning)]);
    assert_eq!(agree("{ of = [\"dba\"] }, { of = [\"gus\", \"dee\"] }"), []);
    assert_eq!(agree("{ of = [\"cid\"] }, { of = [\"cid\"] }"), [("too-few-approvers", Error)]);
}

#[test]
fn rules_come_to_something() {
    use Gravity::{Error, Warning};
    let rule = |rest: &str| format!("[[rules]]\nname = \"one\"\n{rest}\n");
    let two = |one: &str, other: &str| format!("{}\n{}[[rules]]\nname = \"two\"\n{other}\n", sound(), rule(one));
    let one = |rest: &str| format!("{}\n{}", sound(), rule(rest));
    let ticket = "when = { ticket = \"INC-[0-9]+\" }";
    let automatic = |max: &str, rest: &str| format!("effect = \"automatic\"\nmax = \"{max}\"\n{rest}");
    for (text, expected) in [
        (one(&automatic("30m", ticket)), vec![]),
        (one(&automatic("5m", ticket)), vec![("unreachable-rule", Warning)]),
        (one(&automatic("10m", "")), vec![("duplicate-rule", Warning)]),
        (one(&automatic("30m", "people = [\"sec\"]")), vec![("rule-for-nobody", Warning)]),
        (one(&automatic("30m", "hosts = [\"h9\"]")), vec![("rule-over-nothing", Warning)]),
        (one("effect = \"deny\"\nhosts = [\"h9\"]"), vec![("rule-over-nothing", Warning)]),
        (one("effect = \"deny\""), vec![("always-denied", Warning), ("unreachable-rule", Warning)]),
        (one(&format!("effect = \"deny\"\n{ticket}")), vec![]),
        (two(&format!("effect = \"deny\"\n{ticket}"), &automatic("30m", ticket)), vec![("contradicting-rules", Error)]),
        (two(&automatic("30m", ticket), &format!("effect = \"deny\"\n{ticket}")), vec![("contradicting-rules", Error)]),
        (
            two(&format!("effect = \"deny\"\n{ticket}"), &format!("effect = \"deny\"\n{ticket}")),
            vec![("duplicate-rule", Warning)],
        ),
        (
            two(
                "effect = \"deny\"\nwhen = { from = [\"10.0.0.0/8\"] }",
                &automatic("1h", "when = { from = [\"10.1.0.0/16\"] }"),
            ),
            vec![("unreachable-rule", Warning)],
        ),
        (
            two(
                "effect = \"deny\"\nwhen = { from = [\"10.1.0.0/16\"] }",
                &automatic("1h", "when = { from = [\"10.0.0.0/8\"] }"),
            ),
            vec![],
        ),
        (two("effect = \"deny\"\npeople = [\"ann\"]", &automatic("1h", "people = [\"bob\"]")), vec![]),
        (
            two("effect = \"deny\"\npeople = [\"sre\"]", &automatic("1h", "people = [\"bob\"]")),
            vec![("unreachable-rule", Warning)],
        ),
        (two("effect = \"deny\"\nhosts = [\"h1\"]", &automatic("1h", "hosts = [\"h2\"]")), vec![]),
        (
            two("effect = \"deny\"\nhosts = [\"h1\"]", &automatic("1h", "hosts = [\"h1\"]")),
            vec![("contradicting-rules", Error)],
        ),
    ] {
        let found = codes(&text);
        for one in &expected {
            assert!(found.contains(one), "{text}: {found:?}");
        }
        if expected.is_empty() {
            assert_eq!(found, [], "{text}");
        }
    }
}

#[test]
fn lengths_hours_and_keys_make_sense() {
    use Gravity::Warning;
    let hours =
        |from: &str, to: &str| format!("{{ days = [\"mon-fri\"], from = \"{from}\", to = \"{to}\", zone = \"UTC\" }}");
    let both = |rule: &str, role: &str| {
        let to =
            format!("automatic = {{ max = \"10m\", when = {{ hours = [{rule}] }} }}\nwhen = {{ hours = [{role}] }}");
        codes(&changed("automatic = { max = \"10m\" }", &to))
    };
    assert_eq!(both(&hours("08:00", "12:00"), &hours("12:00", "18:00")), [("hours-never", Warning)]);
    assert_eq!(both(&hours("08:00", "12:01"), &hours("12:00", "18:00")), []);
    assert_eq!(both(&hours("09:00", "10:00"), &hours("08:00", "18:00")), []);
    assert_eq!(both(&hours("22:00", "02:00"), &hours("01:59", "02:00")), []);
    let role = |more: &str| codes(&changed("default = \"1h\"", &format!("default = \"1h\"\n{more}")));
    assert_eq!(role("daily_max = \"59m\""), [("daily-max-below-default", Warning)]);
    assert_eq!(role("daily_max = \"1h\""), []);
    let sensitive = changed("automatic = { max = \"10m\" }", "sensitive = true");
    assert_eq!(codes(&sensitive), []);
    assert_eq!(codes(&sensitive.replace("hosts = [\"h1\", \"h2\"]\n", "")), [("sensitive-unbound", Warning)]);
    assert_eq!(codes(&sensitive.replace("max = \"2h\"", "max = \"5h\"")), [("sensitive-long", Warning)]);
    assert_eq!(codes(&bare()), [("no-emergency-key", Gravity::Error)]);
    assert_eq!(codes(&(bare() + &emergency(200))), [("one-emergency-key", Warning)]);
    assert_eq!(codes(&(bare() + &emergency(200) + &emergency(201))), []);
    let revoked = format!("revoked_keys = [\"{}\"]\n", Key::from_seed(201).public());
    let found = codes(&(revoked + &bare() + &emergency(200) + &emergency(201)));
    assert_eq!(found, [("one-emergency-key", Warning), ("revoked-emergency-key", Warning)]);
    let oidc = |groups: &str| codes(&(changed("requesters = [\"sre\"]", "requesters = [\"sre\", \"ext\"]") + groups));
    assert_eq!(oidc("[oidc]\ngroups = [\"ext\", \"dba\"]\n"), [("empty-group", Warning), ("idle-claim", Warning)]);
}

/// The line is that of the field, in the file where it stands.
#[test]
fn a_finding_names_its_place() {
    let text = changed("approvals = 1", "approvals = 5");
    let found = Policy::parse(&text).unwrap().findings();
    let line = text.lines().position(|line| line.starts_with("approvers")).unwrap() + 1;
    assert_eq!(
        found[0].to_string(),
        format!("{line}: error: roles.db.approvers: for everybody there are fewer than 5 who could approve")
    );
    let first = format!("include = [\"d/*.toml\"]\n{text}");
    let rule = "# rules\n[[rules]]\nname = \"one\"\neffect = \"deny\"\nhosts = [\"h9\"]\n".to_owned();
    let whole = policy_bundle::join(&first, &[("d/rules.toml".to_owned(), rule)]).unwrap();
    let found = Policy::parse(&whole).unwrap().findings();
    assert_eq!((found[0].file.as_deref(), found[0].line), (None, line + 1));
    assert_eq!(
        found[1].to_string(),
        "d/rules.toml:5: warning: rules.one.hosts: no role that it is over has any of these hosts"
    );
}
