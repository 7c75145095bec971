//! The command line as people feel it: each time is that of a whole process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load;
use crate::server::{SSH_JIT, Server};
use crate::statements::{Cast, ROLE};

/// Somebody at a terminal, with a key in a file and an agent.
pub(crate) struct Person {
    home: PathBuf,
    agent: Child,
}

impl Person {
    /// Makes the key and starts the agent; everything lies in `home`.
    pub(crate) fn new(home: PathBuf) -> Self {
        std::fs::create_dir_all(&home).expect("a folder");
        let key = home.join("id");
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        let mut agent = Command::new("ssh-agent");
        let agent = agent.args(["-D", "-a"]).arg(home.join("agent")).stdout(Stdio::null()).spawn().expect("ssh-agent");
        Self { home, agent }
    }

    /// What the policy says of this person.
    pub(crate) fn policy(&self) -> String {
        let key = std::fs::read_to_string(self.home.join("id.pub")).expect("a key");
        format!("[people.alice]\ngroups = [\"sre\"]\nkeys = [\"{}\"]\n", key.trim())
    }

    fn ssh_jit(&self, server: &Server) -> Command {
        let mut command = Command::new(SSH_JIT);
        command.args(["--user", "alice", "--identity"]).arg(self.home.join("id"));
        command.env("HOME", &self.home).env("SSH_AUTH_SOCK", self.home.join("agent"));
        command.env("SSH_JIT_SERVER", format!("http://{}", server.address));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn login(&self, server: &Server, length: &str) -> Command {
        let mut command = self.ssh_jit(server);
        command.args(["login", ROLE, "--for", length, "--reason", "replica lag after failover"]);
        command
    }

    pub(crate) fn log_in(&self, server: &Server) {
        succeed(&mut self.login(server, "10m"));
    }

    pub(crate) fn give_back(&self, server: &Server) {
        succeed(self.ssh_jit(server).arg("done"));
    }

    /// A login that the policy approves, from start to certificate in the agent.
    pub(crate) fn automatic(&self, server: &Server) -> Duration {
        let took = succeed(&mut self.login(server, "10m"));
        self.give_back(server);
        took
    }

    /// From sending the approval to the end of the login that waits for it.
    pub(crate) fn approved(&self, server: &Server, cast: &Cast) -> Duration {
        let mut login = self.login(server, "1h").spawn().expect("ssh-jit");
        let answer: Value = json(&load::once(server.address, &cast.session()));
        let list = load::get("/v1/requests?list=pending", answer["bearer"].as_str().expect("a bearer"));
        let signed = loop {
            let pending = json(&load::once(server.address, &list));
            if let Some(request) = pending.get(0) {
                break serde_json::from_value(request["signed"].clone()).expect("a signed request");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        // Until it has put its key away, and really waits.
        std::thread::sleep(Duration::from_millis(100));
        let (approval, begin) = (cast.approve_signed(&signed), Instant::now());
        load::once(server.address, &approval);
        assert!(login.wait().expect("ssh-jit").success(), "a login failed");
        let took = begin.elapsed();
        self.give_back(server);
        took
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// `ssh-jit --version`.
pub(crate) fn version() -> Duration {
    succeed(Command::new(SSH_JIT).arg("--version").stdout(Stdio::null()))
}

/// A new service in `dir`, with this policy.
pub(crate) fn init(dir: &Path, policy: &str) {
    let mut command = Command::new(SSH_JIT);
    command.args(["init", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
    succeed(command.stdout(Stdio::null()).stderr(Stdio::null()));
    std::fs::write(dir.join("policy.toml"), policy).expect("a policy");
}

fn succeed(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
    begin.elapsed()
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}
