//! The server: a process of its own, measured from outside.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ssh_jit::domain::names::InstanceId;

/// The command under test.
pub(crate) const SSH_JIT: &str = env!("CARGO_BIN_EXE_ssh-jit");
/// A clock tick in /proc (proc(5), `stat`): Linux shows hundredths of a second on every machine.
const TICK: Duration = Duration::from_millis(10);

/// A server that listens; it ends with the value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) instance: InstanceId,
    /// From its start to its saying that it listens.
    pub(crate) start: Duration,
}

impl Server {
    /// `ssh-jit serve` on the service in `dir`.
    pub(crate) fn serve(dir: &Path) -> Self {
        let mut command = Command::new(SSH_JIT);
        command.arg("serve").arg("--config").arg(dir.join("ssh-jit.toml"));
        Self::spawn(command)
    }

    /// A command that prints `... listening on ADDRESS, instance ID` when it does.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let begin = Instant::now();
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on ")).expect("it ended before it listened");
        let start = begin.elapsed();
        // What it says later is shown, and does not block it.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
        let (_, told) = line.split_once("listening on ").expect("that line");
        let (address, instance) = told.split_once(", instance ").expect("an address and an instance");
        let (address, instance) = (address.parse().expect("an address"), instance.parse().expect("an instance"));
        Self { child, address, instance, start }
    }

    /// CPU time so far, in user and kernel mode.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    /// Resident memory in MiB.
    pub(crate) fn memory(&self) -> f64 {
        memory(self.child.id())
    }
}

/// CPU time of a process so far, in user and kernel mode.
pub(crate) fn cpu(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // Fields 14 and 15 of proc(5), counted from the third.
    let ticks: u32 = [fields[11], fields[12]].map(|n| n.parse::<u32>().expect("a number")).iter().sum();
    TICK * ticks
}

/// Resident memory of a process in MiB.
pub(crate) fn memory(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    f64::from(kib) / 1024.0
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = Pid::from_child(&self.child);
        let _ = kill_process(id, Signal::TERM);
        let _ = self.child.wait();
    }
}
