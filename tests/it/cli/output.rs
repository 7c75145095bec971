//! How the command line speaks, whatever the verb: no colour where nobody sees it, no word where nobody
//! reads, nothing of a service's that could drive a terminal.

use std::fs::File;
use std::process::Stdio;

use crate::support::between::Between;
use crate::support::world::{Running, World, ssh_jit};

const VERBS: &[&str] = &[
    "init",
    "serve",
    "setup",
    "login",
    "status",
    "roles",
    "requests",
    "show",
    "approve",
    "deny",
    "withdraw",
    "done",
    "break-glass",
    "review",
    "policy check",
    "audit list",
    "audit verify",
    "audit export",
    "receipt",
    "verify",
    "ca show",
    "doctor",
];

#[test]
fn every_verb_has_help() {
    for verb in VERBS {
        let mut command = ssh_jit();
        command.args(verb.split(' ')).arg("--help");
        let ran = Running::spawn(&mut command, Vec::new()).end().good();
        assert!(ran.stdout.contains(&format!("Usage: ssh-jit {verb}")) && ran.stderr.is_empty(), "{verb}: {ran:?}");
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{verb}: {}", ran.stdout);
    }
    let mut command = ssh_jit();
    command.arg("--help");
    let help = Running::spawn(&mut command, Vec::new()).end().good().stdout;
    for verb in VERBS {
        let first = verb.split(' ').next().expect("a word");
        assert!(help.lines().any(|line| line.trim_start().starts_with(first)), "{verb} is not in: {help}");
    }
}

#[test]
fn misuse_is_two() {
    for args in [&[][..], &["nosuch"], &["login"], &["show"], &["--nosuch"], &["login", "x", "--nosuch"], &["policy"]] {
        let mut command = ssh_jit();
        let ran = Running::spawn(command.args(args), Vec::new()).end();
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {ran:?}");
    }
    let mut command = ssh_jit();
    let ran = Running::spawn(command.args(["log\u{1b}[2Jin"]), Vec::new()).end();
    assert!(ran.code == 2 && !ran.stderr.contains('\u{1b}') && ran.stderr.contains("log\\u{1b}[2Jin"), "{ran:?}");
}

/// `script` (util-linux) gives a command a terminal; without it only the silence is tested.
#[test]
fn colour_is_for_terminals() {
    let world = World::new();
    let roles = world.as_("alice").run(&["login", "quick", "--reason", "for a moment"]).good();
    assert!(!roles.stderr.contains('\u{1b}'), "{roles:?}");
    let on_terminal = |environment: &[(&str, &str)]| {
        let mut command = crate::support::tool("script");
        let line = format!("{} policy check {}", env!("CARGO_BIN_EXE_ssh-jit"), world.path("ca/policy.toml").display());
        command.args(["-qec", &line, "/dev/null"]).envs(environment.iter().copied());
        command.env_remove("NO_COLOR").envs(environment.iter().copied()).stdin(Stdio::null());
        command.output().ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if let Some(seen) = on_terminal(&[]) {
        assert!(seen.contains("\u{1b}[32m"), "{seen:?}");
        assert!(!on_terminal(&[("NO_COLOR", "1")]).expect("script").contains('\u{1b}'));
    }
}

/// `ssh-jit ... | head -0` ends without a word.
#[test]
fn a_reader_that_went_away_is_no_error() {
    let world = World::new();
    let alice = world.as_("alice");
    for args in [&["roles"][..], &["ca", "show"], &["roles", "--json"], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = alice.command(args).stdout(writer).stdin(Stdio::null()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}: {output:?}");
    }
}

/// A result that is lost on a full disk must not look like one that was written.
#[test]
fn a_full_disk_is_an_error() {
    let world = World::new();
    let alice = world.as_("alice");
    for args in [&["roles"][..], &["ca", "show", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = alice.command(args).stdout(full).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = "ssh-jit: standard output: No space left on device (os error 28)\n";
        assert_eq!((output.status.code(), said.as_str()), (Some(1), expected), "{args:?}");
    }
}

/// Whatever a service sends, the terminal gets text. The service's own rules refuse such text; one that is wrong
/// may send it all the same.
#[test]
fn what_a_service_sends_drives_no_terminal() {
    const HOSTILE: &str = "a\u{1b}]0;owned\u{7}b\u{202e}c\nssh-jit: you are root";
    let world = World::new();
    let id = world.as_("alice").ask(&["vault", "--reason", "rotate the root token"]);
    let between = Between::before(world.port(), |path, answer| match path {
        "/v1/roles" => answer[0]["description"] = HOSTILE.into(),
        "/v1/requests?list=all" => answer[0]["reason"] = HOSTILE.into(),
        "/v1/now" => answer["version"] = HOSTILE.into(),
        "/v1/decisions" | "/v1/withdrawals" => *answer = serde_json::json!({ "code": HOSTILE, "message": HOSTILE }),
        path if path.starts_with("/v1/requests/") => {
            answer["events"][0]["detail"] = HOSTILE.into();
            answer["ticket"] = HOSTILE.into();
        }
        _ => {}
    });
    let url = between.url();
    let carol = world.as_("carol");
    carol.run(&["--server", &url, "ca", "show"]).good();
    for args in [&["roles"][..], &["requests"], &["show", &id], &["doctor"], &["approve", &id], &["withdraw", &id]] {
        let ran = carol.run(&[&["--server", &url], args].concat());
        for text in [&ran.stdout, &ran.stderr] {
            let hidden = |c: char| c != '\n' && ssh_jit::domain::text::deceives(c);
            assert!(!text.contains(hidden) && !text.contains("\nssh-jit: you are root"), "{args:?}: {ran:?}");
        }
    }
}

/// Refusals are JSON too, and the exit code is the same.
#[test]
fn refusals_are_json_too() {
    let world = World::new();
    let ran = world.as_("carol").run(&["login", "db-prod", "--reason", "replica lag", "--json"]);
    let error =
        serde_json::json!({ "error": { "code": "not-eligible", "message": "role: carol may not ask for db-prod" } });
    assert_eq!((ran.code, ran.json()), (13, error));
    let alice = world.as_("alice");
    let login = ["login", "quick", "--for", "1m", "--reason", "for a moment", "--json"];
    let first = alice.run(&login).good().json();
    let again = alice.run(&login).good().json();
    assert_eq!(first, again, "what lives is told in the same form");
    let id = first["request"].as_str().unwrap();
    assert_eq!(alice.run(&["login", id, "--json"]).good().json(), first);
}
