//! `ssh-jit setup`, and who wins: a flag over the environment over the file.

use std::fs;

use crate::support::openssh::SshAgent;
use crate::support::world::{As, World, ssh_jit};

/// A home where nothing was set up.
fn stranger(world: &World, args: &[&str]) -> crate::support::world::Ran {
    let mut command = ssh_jit();
    command.args(args).env("HOME", world.path("stranger"));
    world.run(command)
}

#[test]
fn a_first_run_pins_the_service() {
    let world = World::new();
    let (url, key) = (world.url(), world.key("alice").display().to_string());
    let first = "ssh-jit: first contact with URL: instance INSTANCE, user CA SHA256";
    let hint = "hint: ssh-jit setup --server URL, or --server URL, or SSH_JIT_SERVER";
    let no_user = "ssh-jit: your name in the policy is not known";
    stranger(&world, &["roles"]).is(2, &[], &[no_user, "hint: ssh-jit setup, or --user NAME, or SSH_JIT_USER"]);
    stranger(&world, &["--user", "alice", "roles"]).is(2, &[], &["ssh-jit: no service is known", hint]);
    stranger(&world, &["setup", "--server", &url]).is(2, &[], &[no_user, "hint: --user NAME"]);
    stranger(&world, &["setup", "--server", &url, "--user", "alice"]).is(
        2,
        &[],
        &["ssh-jit: you have no key in ~/.ssh", "hint: --identity FILE"],
    );
    stranger(&world, &["setup", "--server", &url, "--user", "alice", "--identity", &key]).is(
        0,
        &[],
        &[
            first,
            "ssh-jit: plain ssh asks by itself for db1, db2",
            "ssh-jit: alice at URL signs with DIR/keys/alice",
            "ssh-jit: wrote DIR/stranger/.config/ssh-jit/config.toml",
            "ssh-jit: put this line at the top of ~/.ssh/config: Include DIR/stranger/.config/ssh-jit/ssh_config",
        ],
    );
    let written = fs::read_to_string(world.path("stranger/.config/ssh-jit/config.toml")).unwrap();
    let config: toml::Table = written.parse().unwrap();
    let names: Vec<&str> = config.keys().map(String::as_str).collect();
    assert_eq!(names, ["identity", "instance", "server", "user"]);
    assert!(stranger(&world, &["roles"]).good().stderr.is_empty(), "pinned once");
}

/// The first of the names that ssh itself tries.
#[test]
fn the_usual_key_is_found() {
    let world = World::new();
    let ssh = world.path("stranger/.ssh");
    fs::create_dir_all(&ssh).unwrap();
    for half in ["alice", "alice.pub"] {
        fs::copy(world.key(half), ssh.join(half.replace("alice", "id_ed25519"))).unwrap();
    }
    let ran = stranger(&world, &["setup", "--server", &world.url(), "--user", "alice"]).good();
    assert!(ran.stderr.contains("/stranger/.ssh/id_ed25519.pub\n"), "{ran:?}");
    stranger(&world, &["roles"]).good();
}

/// Who signs in is who the log names.
#[test]
fn a_flag_wins_over_the_environment_over_the_file() {
    let world = World::new();
    let key = |name| world.key(name).display().to_string();
    let known = |person: &As<'_>, args: &[&str]| {
        let ran = person.run(&[args, &["doctor"]].concat());
        let line = ran.stdout.lines().find(|line| line.contains("policy")).map(str::to_owned);
        line.unwrap_or(ran.stdout)
    };
    let agent = SshAgent::start(world.as_("alice").home());
    let file = world.as_("alice").with(&agent);
    assert!(known(&file, &[]).contains("knows alice and this key"));
    let environment = file.clone().env("SSH_JIT_USER", "bob").env("SSH_JIT_IDENTITY", key("bob"));
    assert!(known(&environment, &[]).contains("knows bob and this key"), "{}", known(&environment, &[]));
    assert!(known(&environment, &["--user", "carol", "--identity", &key("carol")]).contains("knows carol"));
    // An empty variable is none.
    let empty = file.clone().env("SSH_JIT_USER", "").env("SSH_JIT_SERVER", "");
    assert!(known(&empty, &[]).contains("knows alice"));

    let nowhere = file.clone().env("SSH_JIT_SERVER", "http://127.0.0.1:1");
    let ran = nowhere.run(&["roles"]);
    assert_eq!(ran.code, 20, "{ran:?}");
    nowhere.run(&["roles", "--server", &world.url()]).good();
}

#[test]
fn what_cannot_be_used_is_named() {
    let world = World::new();
    let alice = world.as_("alice");
    let rule = "use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _";
    alice.clone().env("SSH_JIT_USER", "Alice!").run(&["roles"]).is(
        1,
        &[],
        &[&format!("ssh-jit: SSH_JIT_USER: person \"Alice!\" is not valid: {rule}")],
    );
    let rule = "use 32 lower-case hex digits";
    alice.clone().env("SSH_JIT_INSTANCE", "1").run(&["roles"]).is(
        1,
        &[],
        &[&format!("ssh-jit: SSH_JIT_INSTANCE: instance \"1\" is not valid: {rule}")],
    );
    let config = alice.home().join(".config/ssh-jit/config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let file = "ssh-jit: DIR/alice/.config/ssh-jit/config.toml";
    let refuses = |text: &str, said: &str| {
        fs::write(&config, text).expect("a file");
        alice.run(&["roles"]).is(1, &[], &[&format!("{file}:{said}")]);
    };
    let known = "expected one of `server`, `user`, `identity`, `emergency_identity`, `break_glass_server`, `tls_ca`, `instance`";
    refuses(&good.replace("user =", "usr ="), &format!("5: usr: unknown field `usr`, {known}"));
    refuses("server = 7", "1: server: invalid type: integer `7`, expected a string");
    refuses(
        &good.replace("\"alice\"", "\"Alice\""),
        "5: user: person \"Alice\" is not valid: use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _",
    );
    fs::write(&config, good.replace("http://127", "127")).unwrap();
    let hint = "hint: write http://HOST:PORT or https://HOST";
    alice.run(&["roles"]).is(2, &[], &["ssh-jit: server: \"127.0.0.1:PORT\" is no address of a service", hint]);
    for url in ["http://192.0.2.1:7022", "http://ca.example", "http://localhost.example", "http://localhost@192.0.2.1"]
    {
        let said = format!(
            "ssh-jit: {url}: plain http is spoken with this machine only, since anybody on the way could read along"
        );
        alice.run(&["roles", "--server", url]).is(2, &[], &[&said, "hint: write https://HOST"]);
    }
    for url in ["http://LOCALHOST:1", "http://127.0.0.2:1", "http://[::1]:1"] {
        assert_eq!(alice.run(&["roles", "--server", url]).code, 20, "{url}");
    }
}

/// Keys as they should not lie around.
#[test]
fn a_key_that_others_can_read_signs_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let alice = world.as_("alice");
    let mode = |mode| fs::set_permissions(world.key("alice"), fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o640);
    let said = "ssh-jit: DIR/keys/alice has mode 0640, so others could sign with it; try: chmod 600 DIR/keys/alice";
    alice.run(&["roles"]).is(1, &[], &[said]);
    mode(0o600);
    alice.run(&["roles"]).good();
    let missing = world.path("nothing").display().to_string();
    world.as_("bob").run(&["--identity", &missing, "roles"]).is(
        1,
        &[],
        &["ssh-jit: cannot read DIR/nothing: No such file or directory (os error 2)"],
    );
}
