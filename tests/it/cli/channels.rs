//! Channels as an operator meets them: `[[notify]]` of the service's file, and what `doctor` says of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::openssh::SshAgent;
use crate::support::sinks::{Mood, Sink};
use crate::support::wait_until;
use crate::support::world::World;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

fn secret(world: &World, name: &str, text: &str) {
    world.write(&format!("ca/{name}"), text);
    fs::set_permissions(world.path(&format!("ca/{name}")), fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// Errors name file, line and field; nothing starts on them.
#[test]
fn a_channel_is_whole_or_nothing_starts() {
    let world = World::prepared();
    let good = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("the file");
    let refuses = |table: &str, said: &str| {
        world.write("ca/ssh-jit.toml", &format!("{good}\n[[notify]]\nname = \"ops\"\n{table}"));
        world.run(world.serve()).is(1, &[], &[&format!("ssh-jit: DIR/ca/ssh-jit.toml:{said}")]);
    };
    secret(&world, "hook", SECRET);
    let hook = "kind = \"webhook\"\nurl = \"https://hooks.example/x\"\nsecret_file = \"hook\"\n";
    refuses(
        "kind = \"pigeon\"",
        "10: kind: unknown variant `pigeon`, expected one of `webhook`, `slack`, `smtp`, `syslog`",
    );
    refuses("kind = \"webhook\"", "8: notify.ops.url: it is missing, and a channel of this kind needs it");
    refuses(
        &hook.replace("https:", "http:"),
        "8: notify.ops.url: write https://... (http:// on loopback only), without a name or password in it",
    );
    refuses(&format!("{hook}allow = [\"10.0.0.1/33\"]"), "13: allow: invalid IP address syntax");
    refuses(
        &format!("{hook}\n[[notify]]\nname = \"ops\"\n{hook}"),
        "14: notify.name: there is another channel of the name ops",
    );
    fs::set_permissions(world.path("ca/hook"), fs::Permissions::from_mode(0o644)).expect("a mode");
    refuses(hook, "8: notify.ops.secret_file: hook: others may use it (mode 644); chmod 600 it");
}

/// A channel that fails shows in `doctor` of those with the duty, with its reason and without its secrets.
#[test]
fn doctor_shows_how_channels_do() {
    let mut world = World::new();
    let (hook, room) = (Sink::web(), Sink::web());
    room.be(Mood::Refuse);
    world.stop();
    secret(&world, "hook", SECRET);
    secret(&world, "room", &format!("http://{}/T0/xyzzy\n", room.address));
    let file = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("the file");
    let channels = format!(
        "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"http://{}/in\"\nsecret_file = \"hook\"\n\
         allow = [\"127.0.0.0/8\"]\n[[notify]]\nname = \"room\"\nkind = \"slack\"\nurl_file = \"room\"\n\
         allow = [\"127.0.0.0/8\"]\n",
        hook.address
    );
    world.write("ca/ssh-jit.toml", &(file + &channels));
    world.start();
    let agent = SshAgent::start(world.as_("carol").home());
    let doctor = |name: &str| world.as_(name).with(&agent).run(&["doctor"]).stdout;
    assert!(doctor("carol").contains("ok   channel   ops (webhook): told nobody yet; 0 waiting\n"));
    world.as_("alice").ask(&["vault", "--reason", "rotate the root token"]);
    hook.wait(1);
    room.wait(1);
    let both = |said: &str| said.contains("ops (webhook): last told ") && said.contains("NOT  channel");
    wait_until(|| both(&doctor("carol")), || doctor("carol"));
    let said = doctor("carol");
    assert!(said.contains("NOT  channel   room (slack): told nobody yet; 1 waiting; failed "), "{said}");
    assert!(said.contains(": it answered 403\n               -> look at [[notify]] room"), "{said}");
    assert!(!doctor("alice").contains("channel"), "others have no business there");
    assert!(!said.contains("xyzzy") && !world.server().stderr().contains("xyzzy"), "{said}");
}
