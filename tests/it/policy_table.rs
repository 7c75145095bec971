//! What a policy makes of requests, as a table in data: `tests/policy/cases/*.toml`, each a request with its time,
//! address, ticket and facts, and the decision that must come of it, with its reason.

use std::fs;
use std::path::{Path, PathBuf};

use ssh_jit::domain::policy::Policy;
use ssh_jit::domain::policy_bundle;
use ssh_jit::domain::policy_cases::Cases;
use ssh_jit::domain::time::Timestamp;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The policy of the table, put together from its files.
fn policy() -> Policy {
    let included = ["policy.d/people.toml", "policy.d/roles.toml"];
    let included = included.map(|name| (name.to_owned(), read(&folder().join(name))));
    let whole = policy_bundle::join(&read(&folder().join("policy.toml")), &included).expect("files");
    Policy::parse(&whole).expect("a policy")
}

#[test]
fn each_case_comes_out_as_it_says() {
    let policy = policy();
    let (mut files, mut count) = (0, 0);
    for entry in fs::read_dir(folder().join("cases")).unwrap() {
        let path = entry.unwrap().path();
        let text = read(&path);
        let cases = Cases::parse(&text).unwrap_or_else(|e| panic!("{}:{e}", path.display()));
        assert_eq!(cases.policy.as_deref(), Some("../policy.toml"), "{}", path.display());
        let failed = cases.failed(&text, &policy, Timestamp::from_unix(0)).unwrap();
        assert!(failed.is_empty(), "{}: {failed:#?}", path.display());
        (files, count) = (files + 1, count + cases.len());
    }
    assert!(files >= 5 && count >= 200, "{count} cases in {files} files");
}

/// A table that cannot fail shows nothing: each kind of expectation is held against what comes.
#[test]
fn a_case_that_is_wrong_fails() {
    let policy = policy();
    let head = "[[case]]\nname = \"x\"\nat = \"2026-03-02T10:00:00Z\"\nperson = \"ann\"\nrole = \"db-read\"\n";
    let failed = |rest: &str| {
        let text = format!("{head}{rest}");
        let cases = Cases::parse(&text).unwrap_or_else(|e| panic!("{e}"));
        cases.failed(&text, &policy, Timestamp::from_unix(0)).unwrap().into_iter().map(|f| f.expected).next()
    };
    for (rest, expected) in [
        ("for = \"15m\"\nexpect = \"automatic\"\nby = \"automatic\"", None),
        ("for = \"15m\"\nexpect = \"approval\"", Some("approval")),
        ("for = \"15m\"\nexpect = \"denied\"", Some("denied")),
        ("for = \"15m\"\nexpect = \"automatic\"\nby = \"near\"", Some("automatic, by near")),
        ("for = \"2h\"\nexpect = \"automatic\"", Some("automatic")),
        ("for = \"2h\"\nexpect = \"approval\"\napprovals = 1\nsays = \"would pass with --for 30m\"", None),
        ("for = \"2h\"\nexpect = \"approval\"\napprovals = 2", Some("approval, approvals 2")),
        ("for = \"2h\"\nexpect = \"approval\"\nsays = \"--for 31m\"", Some("approval, that says --for 31m")),
        ("for = \"5h\"\nexpect = \"denied\"\ncode = \"too-long\"", None),
        ("for = \"5h\"\nexpect = \"denied\"\ncode = \"not-eligible\"", Some("denied, code not-eligible")),
        ("for = \"15m\"\nexpect = \"automatic\"\ncode = \"too-long\"", Some("automatic, code too-long")),
    ] {
        assert_eq!(failed(rest).as_deref(), expected, "{rest}");
    }
    for (rest, error) in [
        ("expect = \"maybe\"", "6: case.expect: unknown variant `maybe`"),
        ("expects = \"denied\"", "6: case.expects: unknown field `expects`"),
        ("for = \"90\"\nexpect = \"denied\"", "6: case.for: duration \"90\" is not valid: add a unit"),
        ("at = \"yesterday\"\nexpect = \"denied\"", "6: case.at: duplicate key"),
    ] {
        let refused = Cases::parse(&format!("{head}{rest}")).unwrap_err().to_string();
        assert!(refused.starts_with(error), "{refused}");
    }
}
