//! The list of guards is in step with the code: what it would switch off stands there, once, and the tests that it
//! names exist. That each test goes red without its guard is for `scripts/guards.sh` to see.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    guard: Vec<Guard>,
}

/// An entry; its fields are explained at the head of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guard {
    name: String,
    threat: Option<String>,
    file: String,
    old: String,
    new: String,
    test: String,
    #[serde(default)]
    #[expect(dead_code, reason = "how it is built is the script's affair")]
    alone: bool,
}

fn list() -> Vec<Guard> {
    let text = fs::read_to_string(root().join("tests/guards.toml")).expect("the list");
    toml::from_str::<List>(&text).unwrap_or_else(|e| panic!("tests/guards.toml: {e}")).guard
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_guard_stands_once_where_the_list_says() {
    for guard in list() {
        let source = fs::read_to_string(root().join(&guard.file)).unwrap_or_else(|e| panic!("{}: {e}", guard.file));
        let count = source.matches(&guard.old).count();
        assert_eq!(count, 1, "{}: this stands {count} times in {}:\n{}", guard.name, guard.file, guard.old);
        assert_ne!(guard.old, guard.new, "{}", guard.name);
        // What a switch in a test would show is nothing about the code.
        let tests = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
        assert!(source.find(&guard.old).is_some_and(|at| at < tests), "{} stands in a test", guard.name);
    }
}

#[test]
fn each_test_that_is_named_exists() {
    for guard in list() {
        assert!(is_a_test(&guard.test), "{}: there is no test {:?}", guard.name, guard.test);
    }
}

/// Whether `lib a::tests::f` stands as a test in the file of its module.
fn is_a_test(named: &str) -> bool {
    let Some((binary, path)) = named.split_once(' ') else { return false };
    let mut modules: Vec<&str> = path.split("::").collect();
    let Some(name) = modules.pop() else { return false };
    let beside = |folder: &str, modules: &[&str]| {
        let path = root().join(folder).join(modules.join("/"));
        [path.with_extension("rs"), path.join("mod.rs")]
    };
    let files: Vec<PathBuf> = match (binary, modules.split_last()) {
        ("lib", Some((&"tests", parent))) => [beside("src", &modules), beside("src", parent)].concat(),
        ("it", Some(_)) => beside("tests/it", &modules).to_vec(),
        ("layers", None) => vec![root().join("tests/layers.rs")],
        _ => return false,
    };
    let has = |text: String| {
        let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
        // The attributes of this very function: nothing ends between them and it.
        let attributes = before.rsplit_once('}').map_or(before, |(_, attributes)| attributes);
        attributes.contains("#[test]") || attributes.contains("#[tokio::test")
    };
    files.into_iter().filter_map(|file| fs::read_to_string(file).ok()).any(has)
}

#[test]
fn names_tell_guards_apart() {
    let list = list();
    assert!(list.len() >= 80, "{} guards", list.len());
    let names: BTreeSet<&str> = list.iter().map(|guard| guard.name.as_str()).collect();
    assert_eq!(names.len(), list.len(), "a name stands there twice");
    let kebab = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    assert!(names.iter().all(kebab), "names are words and dashes");
    let code = |threat: &str| threat.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    assert!(list.iter().all(|guard| guard.threat.as_deref().is_none_or(code)), "threats are codes such as R05");
}
