//! The real server, strace beside or around it, and HTTP to it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::sweep::Injection;

const SSH_JIT: &str = env!("CARGO_BIN_EXE_ssh-jit");
/// Nothing here takes so long, on a machine that is busy too; whoever does hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer that has not come by then does not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// `ssh-jit` with one thread for HTTP, so that the order of its calls is the same each time.
fn command(args: &[&str], path: &Path) -> Command {
    let mut command = Command::new(SSH_JIT);
    command.args(args).arg(path);
    calm(&mut command);
    command
}

fn calm(command: &mut Command) {
    command.env_clear().env("TOKIO_WORKER_THREADS", "1").env("PATH", "/usr/bin:/bin");
}

/// The same inside of strace. The server stays a child of ours, and strace ends with it.
fn traced(inject: &Injection, log: &Path, folder: &Path, args: &[&str], path: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-o"]).arg(log).args(inject.arguments(folder)).arg(SSH_JIT).args(args).arg(path);
    calm(&mut command);
    command
}

/// A server, or `init`. Killed with the value.
pub(crate) struct Server {
    child: Child,
    said: PathBuf,
    pub(crate) address: Option<SocketAddr>,
}

impl Server {
    /// `serve` on a folder; waits until it listens or has ended.
    pub(crate) fn serve(folder: &Path) -> Self {
        Self::spawn(command(&["serve", "--config"], &folder.join("ssh-jit.toml")), folder).listening()
    }

    /// The same, with faults from its first instruction.
    pub(crate) fn serve_with(inject: &Injection, folder: &Path) -> Self {
        let (log, config) = (log_of(folder), folder.join("ssh-jit.toml"));
        Self::spawn(traced(inject, &log, folder, &["serve", "--config"], &config), folder).listening()
    }

    /// `init` on a folder that is not there, with faults if so asked; runs to its end.
    pub(crate) fn init(inject: Option<&Injection>, folder: &Path) -> Self {
        let args = ["init", "--url", "http://localhost:0", "--listen", "127.0.0.1:0", "--dir"];
        let command = match inject {
            Some(inject) => traced(inject, &log_of(folder), folder, &args, folder),
            None => command(&args, folder),
        };
        let mut init = Self::spawn(command, folder);
        init.ended_within(PATIENCE);
        init
    }

    fn spawn(mut command: Command, folder: &Path) -> Self {
        let said = folder.with_extension("said");
        let file = File::create(&said).expect("a file for what it says");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, said, address: None }
    }

    fn listening(mut self) -> Self {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let said = self.said();
            let line = said.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains("listening on "));
            if let Some(line) = line {
                let (_, address) = line.split_once("listening on ").expect("that line");
                self.address = address.split(',').next().and_then(|address| address.parse().ok());
                return self;
            }
            if self.status().is_some() {
                return self;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self
    }

    /// What it said on standard error so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits for its end.
    pub(crate) fn ended_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if status.is_some() || begun.elapsed() > patience {
                return status;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        self.ended_within(PATIENCE)
    }

    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended_within(PATIENCE);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a kill that came from strace ended it.
pub(crate) fn was_killed(status: Option<ExitStatus>) -> bool {
    status.and_then(|status| status.signal()) == Some(Signal::KILL.as_raw())
}

/// strace attached to a server: what happens before is not counted.
pub(crate) struct Strace {
    child: Child,
    log: PathBuf,
}

impl Strace {
    pub(crate) fn attach(server: &Server, inject: &Injection, folder: &Path) -> Result<Self, String> {
        let log = log_of(folder);
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &server.child.id().to_string(), "-o"]).arg(&log).args(inject.arguments(folder));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("strace: {e}"))?;
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).map_err(|e| e.to_string())?;
        if !line.contains(" attached") {
            let _ = child.wait();
            return Err(line);
        }
        // So that it never waits for a reader.
        std::thread::spawn(move || io::copy(&mut said, &mut io::sink()));
        Ok(Self { child, log })
    }

    /// Leaves the server alone from now on. Gives whether a fault was injected.
    pub(crate) fn detach(mut self) -> bool {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
        injected(&self.log)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn log_of(folder: &Path) -> PathBuf {
    folder.with_extension("strace")
}

/// Whether strace wrote that it returned an error of ours.
pub(crate) fn injected(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|log| log.contains("(INJECTED)"))
}

/// One request on a connection of its own: status and body, once all of it came.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    if length.is_some_and(|length: usize| length != body.len()) {
        return Err(cut());
    }
    Ok((status, body.to_owned()))
}
