//! What access leaves on a host: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::openssh::SshAgent;
use crate::support::world::World;

/// Every file of a host's and what is in it, but for sshd's log.
fn files(host: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(host).expect("a folder").map(|entry| entry.expect("an entry"));
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let kept = named.filter(|(name, _)| name != "sshd.log");
    kept.map(|(name, path)| (name, fs::read(path).expect("a file"))).collect()
}

/// R33: a host is the same before access, while there is some, and after it.
#[test]
fn a_grant_leaves_nothing_on_a_host() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    let host = world.host("db1", &["db-prod@db1"]);
    assert!(!host.admits(Some(&agent), ""));
    let before = files(&world.path("host-db1"));
    assert!(before.contains_key("ssh-jit-ca.pub"));
    alice.run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good();
    assert!(host.admits(Some(&agent), ""), "{}", host.sshd.log());
    assert_eq!(files(&world.path("host-db1")), before);
    alice.run(&["done"]).good();
    assert!(!host.admits(Some(&agent), ""));
    assert_eq!(files(&world.path("host-db1")), before);
}
