//! `ssh-jit host check`: well when all is well, and each thing that is not is named.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::openssh::{keygen, public_line, user};
use crate::support::world::World;
use crate::support::{run, tool};

use super::tree::Tree;

/// The findings that are not well: level, what, and all of what was found.
fn wrong(tree: &Tree<'_>) -> Vec<(String, String, String)> {
    let ran = tree.run(&["check", "--json"]);
    let findings = ran.json();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let all = findings.as_array().expect("findings").iter();
    let wrong = all.filter(|finding| !matches!(finding["level"].as_str(), Some("ok" | "note")));
    let wrong: Vec<_> = wrong.map(|f| (text(f, "level"), text(f, "what"), text(f, "found"))).collect();
    assert_eq!(ran.code, i32::from(!wrong.is_empty()), "{ran:?}");
    wrong
}

/// A host on which everything is as it should be.
fn well(world: &World) -> Tree<'_> {
    let tree = Tree::with(world, "Include @/etc/ssh/sshd_config.d/*.conf\nForceCommand @/etc/ssh/ssh-jit/session");
    tree.setup(&[]).good();
    assert_eq!(wrong(&tree), []);
    tree
}

#[track_caller]
fn is(tree: &Tree<'_>, level: &str, what: &str, found: &str) {
    let wrong = wrong(tree);
    let named = wrong.iter().find(|(_, named, text)| named == what && text.contains(found));
    assert_eq!(named.map(|(level, ..)| level.as_str()), Some(level), "{wrong:#?}");
}

#[test]
fn what_is_not_set_up_is_named() {
    let world = World::new();
    let tree = Tree::new(&world);
    is(&tree, "error", "set-up", "this host is not set up");
}

#[test]
fn a_host_that_is_well_passes_and_says_what_is_there() {
    let world = World::new();
    let tree = well(&world);
    let shown = tree.run(&["check"]).good().stdout;
    for line in
        ["ok       name", "ok       files", "ok       trust", "ok       krl", "ok       krl-age", "ok       sshd"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains(&format!("principals/{}: db-prod@db1 db-prod\n", user())), "{shown}");
}

/// Each file, damaged in each way, is told.
#[test]
fn files_that_are_missing_or_open_to_others_are_named() {
    let world = World::new();
    let tree = well(&world);
    let account = format!("principals/{}", user());
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for name in ["host.toml", "trust.json", "user-ca.pub", "revoked.krl", "manifest.json", account.as_str()] {
        let path = tree.path("/etc/ssh/ssh-jit").join(name);
        mode(&path, 0o666);
        is(&tree, "error", "files", "others may write it (mode 0666)");
        mode(&path, 0o600);
        is(&tree, "error", "files", "accounts cannot read it (mode 0600)");
        mode(&path, 0o644);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let what = if name == "manifest.json" { "set-up" } else { "files" };
        is(&tree, "error", what, "");
        fs::write(&path, kept).unwrap();
        assert_eq!(wrong(&tree), []);
    }
    for folder in ["/etc/ssh/ssh-jit/principals", "/etc/ssh/sshd_config.d"] {
        mode(&tree.path(folder), 0o777);
        is(&tree, "error", "files", "others may use it (mode 777)");
        mode(&tree.path(folder), 0o755);
    }
    // Whoever can write above all of it is told of first.
    mode(&tree.path("/etc/ssh"), 0o777);
    is(&tree, "error", "set-up", "others may use it (mode 777)");
    mode(&tree.path("/etc/ssh"), 0o755);
    assert_eq!(wrong(&tree), []);
}

#[test]
fn what_sshd_trusts_is_what_the_service_names() {
    let world = World::new();
    let tree = well(&world);
    let cas = tree.path("/etc/ssh/ssh-jit/user-ca.pub");
    let text = fs::read_to_string(&cas).unwrap();
    let stranger = public_line(&keygen(&world.path(""), "stranger", "ed25519"));
    fs::write(&cas, format!("{text}{stranger}\n")).unwrap();
    is(&tree, "error", "trust", "has a CA that the service does not name: ssh-ed25519");
    fs::write(&cas, text.lines().next().unwrap()).unwrap();
    is(&tree, "warning", "trust", "lacks SHA256:");
    fs::write(&cas, &text).unwrap();

    let trust = tree.path("/etc/ssh/ssh-jit/trust.json");
    let signed = fs::read_to_string(&trust).unwrap();
    fs::write(&trust, signed.replace("\\\"number\\\":1", "\\\"number\\\":2")).unwrap();
    is(&tree, "error", "trust", "signature");
    fs::write(&trust, &signed).unwrap();
    let host = tree.path("/etc/ssh/ssh-jit/host.toml");
    let named = fs::read_to_string(&host).unwrap();
    let at = named.find("instance = \"").unwrap() + "instance = \"".len();
    fs::write(&host, format!("{}{}{}", &named[..at], "0".repeat(32), &named[at + 32..])).unwrap();
    is(&tree, "error", "trust", "host.toml names another instance");
    is(&tree, "warning", "clock", "another service answers at");
    fs::write(&host, named).unwrap();
    assert_eq!(wrong(&tree), []);
}

#[test]
fn a_list_of_revoked_keys_that_is_old_or_broken_is_named() {
    let world = World::new();
    let tree = well(&world);
    let krl = tree.path("/etc/ssh/ssh-jit/revoked.krl");
    let good = fs::read(&krl).unwrap();
    run(tool("touch").args(["-d", "2 days ago"]).arg(&krl));
    is(&tree, "warning", "krl-age", "the newest 2880 min ago");
    for broken in [&b""[..], &good[..20], b"nonsense"] {
        fs::write(&krl, broken).unwrap();
        is(&tree, "error", "krl", "");
    }
    fs::write(&krl, good).unwrap();
    // Our own CA on it: nobody would get in.
    let ca = tree.path("/etc/ssh/ssh-jit/user-ca.pub");
    run(tool("ssh-keygen").args(["-q", "-k", "-f"]).arg(&krl).arg(ca));
    is(&tree, "error", "krl", "REVOKED");
}

#[test]
fn settings_that_are_not_in_force_are_named() {
    let world = World::new();
    let tree = well(&world);
    let config = tree.path("/etc/ssh/sshd_config");
    let good = fs::read_to_string(&config).unwrap();
    let account = user();
    for (lines, found) in [
        ("RevokedKeys none\n".to_owned(), "RevokedKeys is none, not "),
        ("TrustedUserCAKeys /etc/passwd\n".to_owned(), "TrustedUserCAKeys is /etc/passwd, not "),
        ("PubkeyAuthentication no\n".to_owned(), "PubkeyAuthentication is no, not yes"),
        (
            format!("Match User {account}\nAuthorizedPrincipalsFile none\nMatch all\n"),
            &*format!("AuthorizedPrincipalsFile is none for {account}, not "),
        ),
        ("Nonsense yes\n".to_owned(), "Bad configuration option"),
    ] {
        fs::write(&config, format!("{lines}{good}")).unwrap();
        is(&tree, "error", "sshd", if found.starts_with("Bad") { "sshd -T" } else { found });
    }
    fs::write(&config, good.replace("ForceCommand", "#")).unwrap();
    is(&tree, "warning", "session", "sessions live on when their certificates end");
    fs::write(&config, good).unwrap();
    let principals = tree.path("/etc/ssh/ssh-jit/principals").join(&account);
    for line in ["db-prod@db2", "*", "a,b", "-x"] {
        fs::write(&principals, format!("db-prod@db1\n{line}\n")).unwrap();
        is(&tree, "warning", "principals", "is nothing that a certificate for db1 has");
    }
}

#[test]
fn a_service_that_does_not_answer_is_named() {
    let mut world = World::new();
    world.stop();
    world.start();
    let tree = Tree::new(&world);
    tree.setup(&[]).good();
    let nowhere = tree.run(&["check", "--json", "--server", "http://127.0.0.1:1"]);
    let clock = nowhere.json().as_array().unwrap().iter().find(|f| f["what"] == "clock").cloned().unwrap();
    assert_eq!(clock["level"], "warning");
    assert!(clock["found"].as_str().unwrap().contains("cannot be reached"), "{clock}");
}
