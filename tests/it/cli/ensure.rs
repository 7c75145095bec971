//! `ssh-jit ensure`: plain ssh that asks by itself, with a real ssh on a terminal.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use crate::support::openssh::SshAgent;
use crate::support::world::{As, Host, World, held};
use crate::support::{output, tool, wait_until};

const REASON: &str = "replica lag after failover";

/// A world whose alice has plain ssh ask for her.
fn world() -> World {
    let world = World::new();
    let ran = world.as_("alice").run(&["setup"]).good();
    assert!(ran.stderr.contains("plain ssh asks by itself for db1, db2\n"), "{ran:?}");
    world
}

/// What alice types, with ssh-jit where her shell finds it.
fn typed(alice: &As<'_>, agent: Option<&SshAgent>, program: &str) -> Command {
    let mut command = tool(program);
    let binary = Path::new(env!("CARGO_BIN_EXE_ssh-jit")).parent().expect("its folder");
    command.env("PATH", format!("{}:/usr/bin:/bin", binary.display())).env("HOME", alice.home()).env("TZ", "UTC");
    if let Some(agent) = agent {
        command.env("SSH_AUTH_SOCK", agent.socket());
    }
    command
}

/// `ssh db1` and what comes behind it.
fn ssh(host: &Host, alice: &As<'_>) -> String {
    host.ssh(&super::include(alice), "db1").join(" ")
}

/// A shell's line on a terminal.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    shown: PathBuf,
}

impl Terminal {
    fn start(world: &World, agent: Option<&SshAgent>, line: &str) -> Self {
        let shown = world.path("shown");
        let mut command = typed(&world.as_("alice"), agent, "script");
        command.args(["-qfec", line, "/dev/null"]).stdin(Stdio::piped()).stdout(File::create(&shown).expect("a file"));
        let mut child = command.spawn().expect("script (Debian: bsdutils)");
        let keyboard = child.stdin.take().expect("a keyboard");
        Self { child, keyboard, shown }
    }

    fn screen(&self) -> String {
        fs::read_to_string(&self.shown).unwrap_or_default()
    }

    fn wait_for(&self, text: &str) {
        wait_until(|| self.screen().contains(text), || format!("no {text:?}: {}", self.screen()));
    }

    fn type_reason(&mut self) {
        self.wait_for("ssh-jit: why do you need db-prod on db1? ");
        writeln!(self.keyboard, "{REASON}").expect("typing");
        self.wait_for("waiting for carol, dan... (request ");
    }

    /// Gives the exit code and the screen.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("its end");
        (status.code(), self.screen())
    }
}

/// The one request that waits.
fn waiting(world: &World) -> String {
    let listed = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    listed[0]["id"].as_str().expect("an id").to_owned()
}

fn requested(world: &World) -> usize {
    super::events(world, "requested")
}

/// `ssh db1`, a reason, an approval, and she is in; the next one asks nothing.
#[test]
fn plain_ssh_leads_through_the_whole_of_it() {
    for with_agent in [true, false] {
        let world = world();
        let alice = world.as_("alice");
        let agent = with_agent.then(|| SshAgent::start(alice.home()));
        let host = world.host("db1", &["db-prod@db1"]);
        let line = format!("{} echo in", ssh(&host, &alice));
        let mut terminal = Terminal::start(&world, agent.as_ref(), &line);
        terminal.type_reason();
        world.as_("carol").run(&["approve", &waiting(&world), "--for", "30m"]).good();
        let (code, screen) = terminal.end();
        assert_eq!(code, Some(0), "{screen}\n{}", host.sshd.log());
        assert!(screen.contains("ssh-jit: carol approved 30m (asked 1h)") && screen.ends_with("in\r\n"), "{screen}");
        assert_eq!(agent.as_ref().map(|agent| held(agent).len()), with_agent.then_some(1));

        let (code, screen) = Terminal::start(&world, agent.as_ref(), &line).end();
        assert_eq!((code, screen.as_str(), requested(&world)), (Some(0), "in\r\n", 1), "and this time without a word");
    }
}

#[test]
fn a_denial_is_told_and_the_host_refuses() {
    let world = world();
    let host = world.host("db1", &["db-prod@db1"]);
    let mut terminal = Terminal::start(&world, None, &format!("{} echo in", ssh(&host, &world.as_("alice"))));
    terminal.type_reason();
    world.as_("carol").run(&["deny", &waiting(&world), "--reason", "not during the freeze"]).good();
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(255), "{screen}");
    let lines: Vec<&str> = screen.lines().skip_while(|line| !line.contains("denied: ")).collect();
    assert_eq!(lines[0], "ssh-jit: carol denied: \"not during the freeze\"");
    assert!(lines[1].ends_with(" is denied"), "{screen}");
    assert_eq!(lines[2], "hint: ssh goes on without access, and db1 will refuse it");
    assert!(lines[3].contains("Permission denied"), "{screen}");
}

/// Many at once, as a tool starts them: one question, one request, one answer for all.
#[test]
fn many_at_once_ask_once() {
    let world = world();
    let agent = SshAgent::start(world.as_("alice").home());
    let host = world.host("db1", &["db-prod@db1"]);
    let one = ssh(&host, &world.as_("alice"));
    let line = format!("for i in 1 2 3 4 5 6; do {one} echo in || echo out & done; wait");
    let many = |decide: &dyn Fn(&str), word: &str| {
        let mut terminal = Terminal::start(&world, Some(&agent), &line);
        terminal.type_reason();
        decide(&waiting(&world));
        let (_, screen) = terminal.end();
        assert_eq!(screen.lines().filter(|line| *line == word).count(), 6, "{screen}\n{}", host.sshd.log());
        assert_eq!(screen.matches("why do you need").count(), 1, "{screen}");
    };
    let deny = |id: &str| {
        // All six are there before it is decided.
        wait_until(|| shown(&world).matches("is being asked for already").count() == 5, || shown(&world));
        world.as_("carol").run(&["deny", id, "--reason", "not during the freeze"]).good();
    };
    many(&deny, "out");
    assert_eq!(requested(&world), 1);
    many(&|id| drop(world.as_("carol").run(&["approve", id]).good()), "in");
    assert_eq!((requested(&world), held(&agent).len()), (2, 1));
}

fn shown(world: &World) -> String {
    fs::read_to_string(world.path("shown")).unwrap_or_default()
}

/// Ctrl-C keeps the request, and the next ssh goes on with it.
#[test]
fn an_interrupted_ssh_is_resumed_by_the_next() {
    let world = world();
    let host = world.host("db1", &["db-prod@db1"]);
    let line = format!("{} echo in", ssh(&host, &world.as_("alice")));
    let mut first = Terminal::start(&world, None, &line);
    first.type_reason();
    first.keyboard.write_all(&[3]).expect("typing");
    assert_ne!(first.end().0, Some(0));
    let second = Terminal::start(&world, None, &line);
    second.wait_for("waiting for carol, dan... (request ");
    world.as_("dan").run(&["approve", &waiting(&world)]).good();
    let (code, screen) = second.end();
    assert_eq!((code, requested(&world)), (Some(0), 1), "{screen}");
    assert!(!screen.contains("why do you need"), "{screen}");
}

/// Nobody who could be asked for a reason: no reason is made up, and no request sent.
#[test]
fn without_a_terminal_nothing_is_asked_for() {
    let world = world();
    let alice = world.as_("alice");
    let host = world.host("db1", &["db-prod@db1"]);
    let run = |line: &[String]| -> Output { output(typed(&alice, None, "setsid").arg("-w").args(line)) };
    let ssh = host.ssh(&super::include(&alice), "db1");
    let refused = run(&[&ssh[..], &["true".to_owned()]].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let why = "ssh-jit: db-prod is needed for db1, with a reason, and there is no terminal to ask for it\n\
               hint: ssh-jit login db-prod --reason \"...\", then ssh db1\n";
    assert!(said.starts_with(why), "{said}");
    assert_eq!((refused.status.code(), requested(&world)), (Some(255), 0));

    // `ssh -G` is told by its options, before anything else is looked at.
    // Some shells stay between ssh and its command, others make way.
    for shell in ["/bin/sh", "/bin/bash"] {
        let line = [&ssh[..1], &["-G".to_owned()], &ssh[1..]].concat();
        let shown = output(typed(&alice, None, "setsid").env("SHELL", shell).arg("-w").args(line));
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.status.success() && !String::from_utf8_lossy(&shown.stderr).contains("ssh-jit"), "{shown:?}");
        assert!(text.contains("controlmaster false\n") && !text.contains("controlpath"), "{text}");
    }
}

/// Access that is here costs no question to anybody: the service may be gone.
#[test]
fn access_that_is_here_is_enough() {
    let mut world = world();
    let agent = SshAgent::start(world.as_("alice").home());
    let login = ["login", "db-prod", "--for", "10m", "--host", "db1", "--reason", "look at the lag"];
    world.as_("alice").with(&agent).run(&login).good();
    world.stop();
    let alice = world.as_("alice").with(&agent);
    let least = (0..5).map(|_| {
        let ran = alice.run(&["ensure", "db1"]).good();
        ran.is(0, &[], &[]);
        ran.took
    });
    eprintln!("measured: ensure with access at hand {:?} (a debug build)", least.min().expect("one"));
    assert_eq!(alice.run(&["ensure", "db2"]).code, 20, "another host needs another certificate");
    assert_eq!(alice.run(&["ensure", "db1", "--role", "vault"]).code, 20, "as does another role");
    assert_eq!(world.as_("alice").run(&["ensure", "db1"]).code, 20, "the agent has it, and nobody else");
}

/// What runs inside of `run` has access already.
#[test]
fn inside_of_run_nothing_is_asked_for() {
    let world = world();
    let host = world.host("db1", &["db-prod@db1"]);
    let alice = world.as_("alice");
    let mut command = typed(&alice, None, env!("CARGO_BIN_EXE_ssh-jit"));
    command.args(["run", "db-prod", "--for", "10m", "--reason", "look at the lag", "--", "sh", "-c"]);
    let output = output(command.arg(format!("{} echo in", ssh(&host, &alice))));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\n", "{output:?}");
    assert_eq!(requested(&world), 1);
}

/// Where several roles cover a host, it is the one that was used last; before that, nobody guesses.
#[test]
fn the_role_that_was_used_last() {
    let mut world = world();
    let more = "[roles.db-read]\nhosts = [\"db1\"]\nprincipals = [\"reader\"]\nrequesters = [\"sre\"]\n\
                approvers = [\"dba\"]\nautomatic = { max = \"1h\" }\nmax = \"1h\"\n\n[roles.vault]";
    let policy = world.usual_policy().replace("[roles.vault]", more);
    world.load_policy(&policy);
    let alice = world.as_("alice");
    alice.run(&["setup"]).good();
    let several = alice.run(&["ensure", "db1"]);
    assert_eq!(several.code, 2, "{several:?}");
    assert!(several.stderr.contains("several roles cover db1: db-prod, db-read"), "{several:?}");
    alice.run(&["login", "db-read", "--for", "1m", "--reason", "count the rows"]).good();
    alice.run(&["done"]).good();
    let none = output(typed(&alice, None, "setsid").args(["-w", env!("CARGO_BIN_EXE_ssh-jit"), "ensure", "db1"]));
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(said.starts_with("ssh-jit: db-read is needed for db1"), "{said}");

    let unknown = alice.run(&["ensure", "db9"]);
    unknown.is(
        13,
        &[],
        &["ssh-jit: no role that you may ask for covers db9", "hint: ssh-jit roles lists what you may ask for"],
    );
    assert_eq!(alice.run(&["ensure", "db1;evil"]).code, 2);
}

/// The snippet is written by every setup, and left out where it is not wanted, or not to be had.
#[test]
fn setup_writes_the_snippet() {
    let world = world();
    let alice = world.as_("alice");
    let written = || fs::read_to_string(alice.home().join(".config/ssh-jit/ssh_config")).expect("a file");
    assert!(written().contains("Match host db1,db2 exec \"ssh-jit ensure %h\"\n"), "{}", written());
    alice.run(&["setup", "--no-ensure"]).good();
    assert!(!written().contains("exec"), "{}", written());
    let ran = alice.run(&["setup", "--user", "bob"]).good();
    assert!(ran.stderr.contains("plain ssh does not ask by itself yet: "), "{ran:?}");
    assert!(!written().contains("exec"), "{}", written());
}
