//! `ssh-jit init`: what it makes, and that it replaces nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::dir;
use crate::support::world::{Ran, Running, ssh_jit};

fn init(dir: &Path, more: &[&str]) -> Ran {
    let mut command = ssh_jit();
    command.args(["init", "--dir"]).arg(dir.join("ca")).args(more);
    Running::spawn(&mut command, vec![(dir.display().to_string(), "DIR")]).end()
}

#[test]
fn what_it_makes_is_its_owners_alone() {
    let dir = dir();
    init(dir.path(), &[]).is(
        0,
        &[],
        &[
            "ssh-jit: made DIR/ca: instance INSTANCE",
            "ssh-jit: next: write who may do what into DIR/ca/policy.toml",
            "ssh-jit: then: ssh-jit serve --config DIR/ca/ssh-jit.toml",
        ],
    );
    let mut found = BTreeMap::new();
    for below in ["", "ca", "ca/ca-keys"] {
        for entry in std::fs::read_dir(dir.path().join(below)).unwrap().map(Result::unwrap) {
            let name = entry.path().strip_prefix(dir.path()).unwrap().display().to_string();
            found.insert(name, entry.metadata().unwrap().permissions().mode() & 0o7777);
        }
    }
    let mut expected = BTreeMap::from([("ca".to_owned(), 0o700), ("ca/ca-keys".to_owned(), 0o700)]);
    for key in ["break-glass-ca", "host-ca", "journal", "krl", "log", "user-ca"] {
        expected.insert(format!("ca/ca-keys/{key}"), 0o600);
        expected.insert(format!("ca/ca-keys/{key}.pub"), 0o644);
    }
    for file in ["policy.schema.json", "policy.toml", "ssh-jit.db", "ssh-jit.toml"] {
        expected.insert(format!("ca/{file}"), 0o600);
    }
    // The folder keeps others out; public halves may be copied as they are.
    for file in ["trust.json", "trust.json.sig"] {
        expected.insert(format!("ca/ca-keys/{file}"), 0o644);
    }
    assert_eq!(found, expected);
}

#[test]
fn json_names_what_was_made() {
    let dir = dir();
    let made = init(dir.path(), &["--json"]).good();
    assert_eq!((made.stderr.as_str(), made.stdout.lines().count()), ("", 1));
    let json = made.json();
    assert_eq!(json["config"], dir.path().join("ca/ssh-jit.toml").display().to_string());
    let user_ca = std::fs::read_to_string(dir.path().join("ca/ca-keys/user-ca.pub")).unwrap();
    assert!(user_ca.starts_with(json["user_ca"][0].as_str().unwrap()), "{json}");
    assert_eq!(json["instance"].as_str().unwrap().len(), 32);
}

#[test]
fn nothing_is_replaced() {
    let dir = dir();
    std::fs::create_dir(dir.path().join("ca")).unwrap();
    std::fs::write(dir.path().join("ca/letter"), "dear").unwrap();
    let refused = ["ssh-jit: DIR/ca: the folder is not empty, and nothing in it is replaced"];
    init(dir.path(), &[]).is(1, &[], &refused);
    assert_eq!(std::fs::read_dir(dir.path().join("ca")).unwrap().count(), 1);

    std::fs::remove_dir_all(dir.path().join("ca")).unwrap();
    init(dir.path(), &[]).good();
    init(dir.path(), &[]).is(1, &[], &refused);
}

/// A folder that is there and empty is closed to others too.
#[test]
fn an_empty_folder_is_used() {
    let dir = dir();
    std::fs::create_dir(dir.path().join("ca")).unwrap();
    std::fs::set_permissions(dir.path().join("ca"), std::fs::Permissions::from_mode(0o755)).unwrap();
    init(dir.path(), &[]).good();
    let mode = std::fs::metadata(dir.path().join("ca")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755, "whose folder it was decides");
}
