//! How long things take, printed (`cargo test -- --nocapture`). Held only to what no machine should exceed: these
//! are unoptimized builds on machines that do other things.

use std::time::{Duration, Instant};

use crate::support::openssh::SshAgent;
use crate::support::world::{Running, World, ssh_jit};

/// The least of a few: what the machine did besides is not ours.
fn least(what: &str, mut once: impl FnMut() -> Duration) -> Duration {
    let least = (0..5).map(|_| once()).min().unwrap_or_default();
    eprintln!("measured: {what} {least:?}");
    least
}

#[test]
fn measured() {
    let version = least("ssh-jit --version", || {
        let mut command = ssh_jit();
        Running::spawn(command.arg("--version"), Vec::new()).end().good().took
    });
    assert!(version < Duration::from_secs(1));

    let mut world = World::new();
    let start = least("from start to listening", || {
        world.stop().good();
        let begun = Instant::now();
        world.start();
        begun.elapsed()
    });
    assert!(start < Duration::from_secs(2));

    let agent = SshAgent::start(world.as_("alice").home());
    let login = least("an automatic login from end to end", || {
        let alice = world.as_("alice").with(&agent);
        let took = alice.run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good().took;
        alice.run(&["done"]).good();
        took
    });
    assert!(login < Duration::from_secs(2));
}
