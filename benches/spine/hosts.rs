//! What a fleet of hosts costs the service, and what keeping in step costs a host.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_jit::domain::digest::Digest;
use ssh_jit::host::session::wrapper;

use super::commands::Person;
use super::load::{self, Call};
use super::server::{self, SSH_JIT, Server};
use super::{micros, millis};

/// So many hosts wait for news at once.
const HOSTS: usize = 200;
/// How often something is revoked.
const ROUNDS: usize = 20;
/// An idle host is watched so long.
const IDLE: Duration = Duration::from_mins(1);
/// One look of a host that does not wait.
const LOOKS: usize = 20_000;

pub(crate) fn run(server: &Server, alice: &Person, dir: &Path) {
    reach(server, alice);
    looks(server);
    session(dir);
    idle(server, dir);
}

/// From the beginning of the command that ends access until the last of the hosts has the list.
fn reach(server: &Server, alice: &Person) {
    let before = server.memory();
    let mut last: Vec<Duration> = (0..ROUNDS).map(|_| round(server, alice)).collect();
    last.sort_unstable();
    let at = |percent: usize| millis(last[(last.len() - 1) * percent / 100]);
    println!("\n{HOSTS} hosts wait: {:.1} MiB of the service's memory are theirs", server.memory() - before);
    println!("from the start of `ssh-jit done` to the list at the last host: p50 {}, longest {}", at(50), at(100));
}

fn round(server: &Server, alice: &Person) -> Duration {
    alice.log_in(server);
    let call = question(server, 25);
    let (address, calls) = (server.address, vec![call; HOSTS]);
    let waiting = std::thread::spawn(move || load::answered(address, calls));
    sleep(Duration::from_secs(1));
    let begin = Instant::now();
    alice.give_back(server);
    let heard = waiting.join().expect("all of them heard");
    heard.into_iter().max().expect("some").duration_since(begin)
}

/// What a host asks that has the newest list.
fn question(server: &Server, wait: u32) -> Call {
    let answer = load::once(server.address, &load::get("/v1/krl", ""));
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    let list = STANDARD.decode(answer["krl"].as_str().expect("a list")).expect("base64");
    let head = format!(
        "GET /v1/krl?wait={wait} HTTP/1.1\r\nhost: localhost\r\nif-none-match: \"{}\"\r\n\r\n",
        Digest::of(&list)
    );
    head.into_bytes().into()
}

/// How many looks the service answers in a second, and what each costs.
fn looks(server: &Server) {
    println!("\n| a host asks for | in flight | a second | p50 | p99 | server CPU | bytes there and back |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let get = |path: &str| load::get(path, "");
    for (what, call) in [
        ("/v1/now", get("/v1/now")),
        ("/v1/trust", get("/v1/trust")),
        ("/v1/krl, a whole list", get("/v1/krl")),
        ("/v1/krl, nothing new (304)", question(server, 0)),
    ] {
        for in_flight in [1, 64] {
            let jobs = vec![vec![Arc::clone(&call)]; LOOKS];
            let before = server.cpu();
            let outcome = load::run(server.address, in_flight, jobs);
            let each = micros(server.cpu().saturating_sub(before) / outcome.jobs);
            let (p50, p99) = (millis(outcome.percentile(50)), millis(outcome.percentile(99)));
            let bytes = format!("{} and {}", call.len(), length(server, &call));
            println!("| {what} | {in_flight} | {:.0} | {p50} | {p99} | {each} | {bytes} |", outcome.per_second());
        }
    }
}

/// The whole answer, in bytes.
fn length(server: &Server, call: &Call) -> usize {
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let closing = String::from_utf8_lossy(call).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    stream.write_all(closing.as_bytes()).expect("the server is there");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer.len()
}

/// What PAM's line adds to a login: the script alone, and with the helper, which stays as the watcher. Its parent is
/// called `sshd`, in a mount namespace with a host's folder.
const LOGINS: &str = r"#!/bin/sh
export PAM_TYPE=open_session PAM_USER=jit PAM_RHOST=192.0.2.7
for number in $(seq 200); do
    begin=$(date +%s%N)
    /etc/ssh/ssh-jit/session || exit 1
    end=$(date +%s%N)
    echo $((end - begin))
done
";
const MACHINE: &str = "mount -t tmpfs tmpfs /etc/ssh && mount -t tmpfs tmpfs /var/lib && mkdir /etc/ssh/ssh-jit \
    && cp \"$0\"/user-ca.pub \"$0\"/revoked.krl \"$0\"/session /etc/ssh/ssh-jit && exec \"$0\"/sshd";

fn session(dir: &Path) {
    if !rustix::process::geteuid().is_root() {
        return println!("\nwhat PAM's line adds to a login: not measured, which takes root");
    }
    let keygen = |args: &[&str]| {
        let ran = Command::new("ssh-keygen").current_dir(dir).arg("-q").args(args).status();
        assert!(ran.expect("ssh-keygen").success(), "{args:?}");
    };
    for key in ["host-ca", "subject"] {
        keygen(&["-t", "ed25519", "-N", "", "-f", key]);
    }
    keygen(&["-s", "host-ca", "-I", "x", "-n", "jit", "-V", "-1m:+1h", "subject.pub"]);
    keygen(&["-k", "-f", "revoked.krl"]);
    fs::copy(dir.join("host-ca.pub"), dir.join("user-ca.pub")).expect("a copy");
    for (name, text) in [("session", wrapper(Path::new(SSH_JIT)).expect("a plain path")), ("sshd", LOGINS.to_owned())] {
        ssh_jit::files::write(&dir.join(name), text.as_bytes(), 0o755).expect("a script");
    }
    let certificate = fs::read_to_string(dir.join("subject-cert.pub")).expect("a certificate");
    println!();
    for (who, shown) in [("without a certificate", String::new()), ("with one", format!("publickey {certificate}"))] {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", MACHINE]).arg(dir).env("SSH_AUTH_INFO_0", shown.trim());
        let output = command.output().expect("a mount namespace");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let mut each: Vec<_> = text.lines().map(|line| Duration::from_nanos(line.parse().expect("a number"))).collect();
        each.sort_unstable();
        let at = |percent: usize| millis(each[(each.len() - 1) * percent / 100]);
        println!("PAM's line, for somebody {who}: p50 {}, p99 {}", at(50), at(99));
    }
}

/// What an idle `ssh-jit host sync` takes.
fn idle(server: &Server, dir: &Path) {
    let folder = dir.join("host");
    fs::create_dir(&folder).expect("a folder");
    let (address, instance) = (server.address, &server.instance);
    let text = format!("server = \"http://{address}\"\ninstance = \"{instance}\"\nname = \"db1\"\n");
    fs::write(folder.join("host.toml"), text).expect("a file");
    let mut command = Command::new(SSH_JIT);
    command.args(["host", "sync", "--folder"]).arg(&folder).arg("--sessions").arg(dir.join("sessions"));
    let mut child = command.stderr(Stdio::null()).spawn().expect("host sync");
    sleep(Duration::from_secs(5));
    let before = server::cpu(child.id());
    sleep(IDLE);
    let (cpu, resident) = (server::cpu(child.id()).saturating_sub(before), server::memory(child.id()));
    let parts = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).expect("/proc");
    let sum = |names: &[&str]| {
        let lines = parts.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.sum::<f64>() / 1024.0
    };
    let (pss, own) = (sum(&["Pss:"]), sum(&["Private_Clean:", "Private_Dirty:"]));
    println!("\nhost sync, idle for a minute: {resident:.1} MiB resident, {pss:.1} its share, {own:.1} its own alone");
    println!("CPU in that minute: {}", millis(cpu));
    // It is ours, and has nothing to lose.
    let _ = child.kill();
    let _ = child.wait();
}
