//! Setting a host up, and taking it back.

use crate::support::openssh::SshAgent;
use crate::support::world::World;

use super::tree::Tree;

/// The whole of it: set up, let in by certificate, taken back byte for byte. Who got in before gets in all along.
#[test]
fn a_host_is_set_up_and_taken_back() {
    let world = World::new();
    let tree = Tree::new(&world);
    let agent = SshAgent::start(world.as_("alice").home());
    world.as_("alice").with(&agent).run(&["login", "db-prod", "--for", "10m", "--reason", "a look at it"]).good();
    let before = tree.picture();
    assert!(tree.admits_standing() && !tree.host.admits(Some(&agent), ""));

    tree.setup(&[]).good();
    assert!(tree.admits_standing() && tree.host.admits(Some(&agent), ""), "{}", tree.host.sshd.log());
    let once = tree.picture();
    tree.setup(&[]).good();
    assert_eq!(tree.picture(), once, "twice is once");

    tree.run(&["setup", "--undo"]).good();
    assert!(tree.admits_standing() && !tree.host.admits(Some(&agent), ""));
    assert_eq!(tree.picture(), before);
}
