//! Breaking the glass while the rest is flooded: from the command to the certificate, each time a whole process, idle
//! and while the ordinary listener has 2,000 connections that never finish a request, and ten times as many callers as
//! it can serve.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::commands;
use crate::load::Call;
use crate::server::{SSH_JIT, Server};
use crate::statements::{Cast, ROLE};

/// Connections that send a byte now and then.
const SLOW: usize = 2000;
/// Callers: the other parts find the most lives a second with 64.
const CALLERS: usize = 640;
/// Commands that are measured, idle and flooded.
const TIMES: usize = 100;

/// Somebody with an emergency key, and the service that knows it.
struct Holder {
    home: PathBuf,
    server: String,
    said: AtomicU64,
}

pub(crate) fn run(dir: &Path) {
    let home = dir.join("holder");
    std::fs::create_dir_all(&home).expect("a folder");
    for name in ["id", "safe"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.join(name));
        assert!(keygen.status().expect("ssh-keygen").success());
    }
    let mut cast = Cast::new(crate::PEOPLE, &policy(&home));
    let service = dir.join("flooded");
    commands::init(&service, &cast.policy);
    let server = Server::serve(&service);
    cast.instance = server.instance.clone();
    let holder = Holder { home, server: format!("http://{}", server.address), said: AtomicU64::new(0) };
    // The first contact, which tells of the listener that break-glass has to itself.
    holder.breaks();
    row("break-glass, idle", &holder);
    let ended = Arc::new(AtomicBool::new(false));
    let flood = flood(server.address, &cast, &ended);
    std::thread::sleep(Duration::from_secs(3));
    row("break-glass, the rest flooded", &holder);
    ended.store(true, Ordering::SeqCst);
    let answered: u64 = flood.into_iter().map(|thread| thread.join().unwrap_or_default()).sum();
    println!("calls that the flood was answered: {answered}");
}

fn policy(home: &Path) -> String {
    let line = |name: &str| std::fs::read_to_string(home.join(name)).expect("a key").trim().to_owned();
    let mut text = format!("[people.holder]\nkeys = [\"{}\"]\n", line("id.pub"));
    let key = line("safe.pub");
    write!(
        text,
        "[break_glass]\nper_key = 10000\nin_all = 10000\nextend_alone = 10000\n\
         [[emergency_keys]]\nperson = \"holder\"\nkey = \"{key}\"\nroles = [\"{ROLE}\"]\n"
    )
    .expect("text");
    text
}

impl Holder {
    /// One command, from its start to its end.
    fn breaks(&self) -> Duration {
        let case = self.said.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(SSH_JIT);
        command.args([
            "break-glass",
            ROLE,
            "--category",
            "outage",
            "--user",
            "holder",
            "--server",
            &self.server,
            "--key",
        ]);
        command.arg(self.home.join("safe")).env("HOME", &self.home).env_remove("SSH_AUTH_SOCK");
        command.arg("--reason").arg(format!("the primary is down and nobody answers, case {case}"));
        let begin = Instant::now();
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("ssh-jit");
        let took = begin.elapsed();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        took
    }
}

fn row(what: &str, holder: &Holder) {
    let mut all: Vec<Duration> = (0..TIMES).map(|_| holder.breaks()).collect();
    all.sort_unstable();
    let millis = |percent: usize| all[(TIMES - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.0} ms, p99 {:.0} ms, the longest {:.0} ms", millis(50), millis(99), millis(100));
}

/// Begins the flood; each thread gives how many answers it saw.
fn flood(address: SocketAddr, cast: &Cast, ended: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<u64>> {
    let lives = cast.lives(CALLERS);
    let mut threads: Vec<_> = lives
        .into_iter()
        .map(|life| {
            let ended = Arc::clone(ended);
            thread(move || calls(address, &life.ask, &ended))
        })
        .collect();
    let ended = Arc::clone(ended);
    threads.push(thread(move || drips(address, &ended)));
    threads
}

fn thread(work: impl FnOnce() -> u64 + Send + 'static) -> std::thread::JoinHandle<u64> {
    std::thread::Builder::new().stack_size(128 * 1024).spawn(work).expect("a thread")
}

/// The same call again and again, whatever is answered.
fn calls(address: SocketAddr, call: &Call, ended: &AtomicBool) -> u64 {
    let (mut answers, mut buffer) = (0, [0; 8192]);
    while !ended.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else { continue };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        while !ended.load(Ordering::Relaxed)
            && stream.write_all(call).is_ok()
            && stream.read(&mut buffer).is_ok_and(|length| length > 0)
        {
            answers += 1;
        }
    }
    answers
}

/// Connections that begin a request and never end it; those that were cut off begin anew.
fn drips(address: SocketAddr, ended: &AtomicBool) -> u64 {
    let mut open: Vec<TcpStream> = Vec::with_capacity(SLOW);
    while !ended.load(Ordering::Relaxed) {
        open.retain_mut(|stream| stream.write_all(b"x").is_ok());
        while open.len() < SLOW {
            let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { break };
            let _ = stream.write_all(b"POST /v1/requests HTTP/1.1\r\nx-slow: ");
            open.push(stream);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    0
}
