//! What integration tests share: running programs here, OpenSSH's programs and passkeys below.

pub(crate) mod between;
pub(crate) mod mutations;
pub(crate) mod netns;
pub(crate) mod openssh;
pub(crate) mod pager;
pub(crate) mod passkey;
pub(crate) mod plain;
pub(crate) mod service;
pub(crate) mod sinks;
pub(crate) mod tls;
pub(crate) mod tracker;
pub(crate) mod wire;
pub(crate) mod world;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder that goes away with the value.
pub(crate) fn dir() -> TempDir {
    tempfile::Builder::new().prefix("ssh-jit-").tempdir().expect("a temporary folder")
}

/// A command that sees nothing of the developer's own agent, and FIDO keys in software only.
pub(crate) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "SK_NO_TOUCH", "SK_TOUCH_LOG"] {
        command.env_remove(variable);
    }
    command.env("SSH_SK_PROVIDER", sk_authenticator());
    command
}

/// Runs it without input, whether it succeeds or not.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Runs it without input, demands success, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    stdout_of_success(command, output)
}

/// Runs it with `input`, whether it succeeds or not.
pub(crate) fn output_of(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    match child.stdin.take().map(|mut stdin| stdin.write_all(input)) {
        // A program that refuses early does not read its input.
        Some(Err(e)) if e.kind() != ErrorKind::BrokenPipe => panic!("{command:?}: {e}"),
        _ => child.wait_with_output().unwrap_or_else(|e| panic!("{command:?}: {e}")),
    }
}

/// Runs it with `input`, demands success, and returns what it printed.
pub(crate) fn run_with(command: &mut Command, input: &[u8]) -> String {
    let output = output_of(command, input);
    stdout_of_success(command, output)
}

fn stdout_of_success(command: &Command, output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Waits until `ready` says so, and panics with what `problem` says after ten seconds.
pub(crate) fn wait_until(mut ready: impl FnMut() -> bool, problem: impl Fn() -> String) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", problem());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The FIDO authenticator of tests/sk_authenticator, which `cargo test` builds as an example.
fn sk_authenticator() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let name = format!("{}sk_authenticator{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = target.join("examples").join(name);
    assert!(path.exists(), "{} is missing: cargo build --example sk_authenticator", path.display());
    path
}
