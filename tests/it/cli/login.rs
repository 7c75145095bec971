//! `ssh-jit login`.

use crate::support::openssh::SshAgent;
use crate::support::world::{World, held, inspected};

#[test]
fn automatic() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    alice.run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: plain ssh works for LENGTH; ssh-jit done gives it back",
        ],
    );
    let held = held(&agent);
    assert_eq!(held.len(), 1);
    let certificate = inspected(&held[0]);
    for line in ["db-prod@db1", "db-prod@db2", "Critical Options: (none)", "permit-pty", "Serial: 281474976710657"] {
        assert!(certificate.lines().any(|found| found.trim() == line), "{line}: {certificate}");
    }
    let host = world.host("db1", &["db-prod@db1", "db-prod"]);
    assert!(host.admits(Some(&agent), ""));
}
