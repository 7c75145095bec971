//! One fault at one call of one flow, and the search for them: the first call, the second, and so on, until a run in
//! which the fault does not come.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cast::{Act, Cast, Known};
use crate::check::{check, is_imported};
use crate::flows::{Flow, Kind, copy};
use crate::server::{Server, Strace, call, injected, log_of, was_killed};

/// A flow that makes more calls than this does not end.
const MOST: u32 = 400;
/// What runs beside the answers (the import of the journal) is done by then; if not, it is a later point's.
const BESIDE: Duration = Duration::from_millis(150);
/// The service looks after the journal every 5 seconds.
const IMPORTED_WITHIN: Duration = Duration::from_secs(12);

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Error { name: &'static str, sticky: bool },
}

/// A fault at the `n`th call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Injection {
    pub(crate) syscall: &'static str,
    /// Only calls on this file of the folder.
    pub(crate) file: Option<&'static str>,
    pub(crate) fault: Fault,
    pub(crate) n: u32,
}

/// A search: the same fault at each call of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series {
    pub(crate) flow: usize,
    pub(crate) first: Injection,
    pub(crate) stride: u32,
}

/// What came of a search.
pub(crate) struct Found {
    pub(crate) points: u32,
    pub(crate) wrong: Vec<String>,
}

impl Injection {
    pub(crate) fn arguments(&self, folder: &Path) -> Vec<String> {
        let (syscall, n) = (self.syscall, self.n);
        let fault = match self.fault {
            Fault::Kill => format!("signal=KILL:when={n}"),
            Fault::Error { name, sticky } => format!("error={name}:when={n}{}", if sticky { "+" } else { "" }),
        };
        let mut arguments = vec!["-y".to_owned(), "-e".to_owned(), format!("trace={syscall}"), "-e".to_owned()];
        arguments.push(format!("inject={syscall}:{fault}"));
        if let Some(file) = self.file {
            arguments.extend(["-P".to_owned(), folder.join(file).display().to_string()]);
        }
        arguments
    }

    fn is_sync(&self) -> bool {
        matches!(self.syscall, "fsync" | "fdatasync")
    }

    /// A write that fails is survived: nothing was promised yet.
    fn is_survivable(&self) -> bool {
        self.fault != Fault::Kill && matches!(self.syscall, "pwrite64" | "write" | "ftruncate")
    }
}

impl Series {
    pub(crate) fn run(&self, cast: &Cast, flow: &Flow, scratch: &Path) -> Found {
        let mut found = Found { points: 0, wrong: Vec::new() };
        for n in (self.first.n..MOST).step_by(self.stride as usize) {
            let injection = Injection { n, ..self.first };
            let folder = scratch.join("ca");
            let (fired, wrong) = point(cast, flow, &injection, &folder);
            let at = format!("{} {}", flow.name, injection.arguments(Path::new("")).join(" "));
            found.wrong.extend(wrong.into_iter().map(|wrong| format!("{at}: {wrong}")));
            if !fired {
                return found;
            }
            found.points += 1;
        }
        found.wrong.push(format!("{}: {} has no end", flow.name, self.first.syscall));
        found
    }
}

/// Runs a flow once. Gives whether the fault came, and what does not hold after it.
fn point(cast: &Cast, flow: &Flow, injection: &Injection, folder: &Path) -> (bool, Vec<String>) {
    let _ = fs::remove_dir_all(folder);
    let _ = fs::remove_file(log_of(folder));
    let mut wrong = Vec::new();
    if flow.kind == Kind::Init {
        return (init(cast, injection, folder, &mut wrong), wrong);
    }
    copy(&flow.template.folder, folder).expect("a copy of the template");
    let mut known = flow.template.known.clone();
    let before = known.sent.len();
    let fired = match flow.kind {
        Kind::Start => start(injection, folder, &mut wrong),
        _ => serve(cast, flow, injection, folder, &mut known, &mut wrong),
    };
    aftermath(cast, folder, &mut known, before, &mut wrong);
    (fired, wrong)
}

fn serve(
    cast: &Cast,
    flow: &Flow,
    injection: &Injection,
    folder: &Path,
    known: &mut Known,
    wrong: &mut Vec<String>,
) -> bool {
    let mut server = Server::serve(folder);
    let Some(address) = server.address else {
        wrong.push(format!("it does not start: {}", server.said()));
        return false;
    };
    let before = known.sent.len();
    known.see_head(address);
    let strace = Strace::attach(&server, injection, folder).expect("strace attaches");
    for act in &flow.acts {
        match known.perform(cast, *act, address) {
            Some(200..300) => {}
            Some(status) if status >= 500 && status != 503 => wrong.push(format!("{act:?} is answered {status}")),
            // Refused, or nobody answers any more.
            _ => break,
        }
    }
    if flow.kind == Kind::End {
        server.signal(Signal::TERM);
    }
    let patience = if flow.kind == Kind::End { Duration::from_secs(10) } else { BESIDE };
    let status = server.ended_within(patience);
    if injection.fault == Fault::Kill {
        let fired = was_killed(status);
        if !fired && status.is_some() && flow.kind != Kind::End {
            wrong.push(format!("it ended by itself: {}", server.said()));
        }
        server.kill();
        strace.detach();
        return fired;
    }
    let fired = strace.detach();
    let broken = known.sent[before..].iter().find(|sent| sent.act == Act::BreakGlass);
    if broken.is_some_and(|sent| !sent.acknowledged && injection.syscall == "pwrite64") {
        wrong.push("break-glass was refused because of the database".to_owned());
    }
    match status {
        Some(status) if flow.kind != Kind::End => {
            let said = server.said();
            if status.code() == Some(0) || !said.lines().last().is_some_and(|line| line.contains("ending")) {
                wrong.push(format!("it ended with {status}, and its last line does not say why: {said}"));
            }
            if fired && injection.is_survivable() {
                wrong.push(format!("it ended because of a write: {said}"));
            }
        }
        None if flow.kind == Kind::End => wrong.push("it was asked to end and does not".to_owned()),
        None if fired && injection.is_sync() => wrong.push("a sync failed, and it goes on".to_owned()),
        // The fault is over: what was refused is taken now.
        None => known.send_again(address, before, wrong),
        Some(_) => {}
    }
    server.kill();
    fired
}

fn start(injection: &Injection, folder: &Path, wrong: &mut Vec<String>) -> bool {
    let mut server = Server::serve_with(injection, folder);
    let listens = server.address.is_some();
    let status = server.ended_within(if listens { BESIDE } else { Duration::ZERO });
    if injection.fault == Fault::Kill {
        server.kill();
        return was_killed(status);
    }
    let said = server.said();
    match status {
        None if !listens => wrong.push(format!("it neither listens nor ends: {said}")),
        Some(status) if status.success() || said.trim().is_empty() => {
            wrong.push(format!("it ended with {status} and says {said:?}"));
        }
        _ => {}
    }
    let lives = status.is_none();
    server.kill();
    let fired = was_injected(folder);
    if fired && lives && injection.is_sync() {
        wrong.push("a sync failed, and it goes on".to_owned());
    }
    fired
}

/// The log that strace around a process leaves behind, once it is complete.
fn was_injected(folder: &Path) -> bool {
    let (log, begun) = (log_of(folder), Instant::now());
    let ended = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().last().is_some_and(|line| line.contains("+++"))
    };
    while !ended() && begun.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(2));
    }
    injected(&log)
}

/// SQLite ignores it when the sync of a folder fails; `init` syncs the folder itself at the end.
fn only_folders(folder: &Path) -> bool {
    let log = fs::read_to_string(log_of(folder)).unwrap_or_default();
    let mut failed = log.lines().filter(|line| line.contains("(INJECTED)"));
    failed.all(|line| line.contains(&format!("<{}>", folder.display())))
}

fn init(cast: &Cast, injection: &Injection, folder: &Path, wrong: &mut Vec<String>) -> bool {
    let mut made = Server::init(Some(injection), folder);
    let Some(status) = made.status() else {
        wrong.push("init does not end".to_owned());
        return false;
    };
    let fired = if injection.fault == Fault::Kill { was_killed(Some(status)) } else { was_injected(folder) };
    let mute = matches!((injection.syscall, injection.fault), ("write", Fault::Error { sticky: true, .. }));
    if injection.fault != Fault::Kill && !mute && !status.success() && made.said().trim().is_empty() {
        wrong.push(format!("init ended with {status} and says nothing"));
    }
    if fired && injection.is_sync() && status.success() && !only_folders(folder) {
        wrong.push("a sync failed, and init says that all is well".to_owned());
    }
    // The configuration comes last: where it is, everything is.
    if status.success() || folder.join("ssh-jit.toml").exists() {
        fs::write(folder.join("policy.toml"), &cast.policy).expect("a policy");
        let served = Server::serve(folder);
        if served.address.is_none() {
            wrong.push(format!("init was done, and it does not start: {}", served.said()));
        }
    } else {
        let mut served = Server::serve(folder);
        let code = served.ended_within(Duration::from_secs(1)).and_then(|status| status.code());
        if code != Some(1) || served.said().trim().is_empty() {
            wrong.push(format!("it starts on a half of an installation: {code:?}, {}", served.said()));
        }
    }
    let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    let mut again = Server::init(None, folder);
    let done = again.status().is_some_and(|status| status.success());
    if done != empty || (!empty && !again.said().contains("nothing in it is replaced")) {
        wrong.push(format!("init again: {}", again.said()));
    }
    fired
}

/// The next start, without faults: what was sent is sent again, and the files are checked.
fn aftermath(cast: &Cast, folder: &Path, known: &mut Known, before: usize, wrong: &mut Vec<String>) {
    let server = Server::serve(folder);
    let Some(address) = server.address else {
        wrong.push(format!("it does not start again: {}", server.said()));
        return;
    };
    known.see_head(address);
    known.send_again(address, before, wrong);
    known.go_on(cast, address, before, wrong);
    let begun = Instant::now();
    while !is_imported(folder) && begun.elapsed() < IMPORTED_WITHIN {
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = server.said();
    if !server.stop().is_some_and(|status| status.success()) {
        wrong.push(format!("it did not end when asked: {said}"));
    }
    wrong.extend(check(folder, known));
}

/// What people do.
impl Known {
    pub(crate) fn see_head(&mut self, address: std::net::SocketAddr) {
        if let Ok((200, body)) = call(address, "GET", "/v1/head", b"") {
            self.heads.extend(serde_json::from_str::<ssh_jit::wire::SignedText>(&body));
        }
    }

    /// Signs and sends. Gives the status, if there was an answer.
    pub(crate) fn perform(&mut self, cast: &Cast, act: Act, address: std::net::SocketAddr) -> Option<u16> {
        let sent = cast.sign(act, self);
        self.sent.push(sent);
        self.send(self.sent.len() - 1, address).map(|(status, _)| status)
    }

    /// Sends what was signed before.
    fn send(&mut self, index: usize, address: std::net::SocketAddr) -> Option<(u16, String)> {
        let sent = &mut self.sent[index];
        let body = serde_json::to_vec(&sent.body).expect("JSON");
        let (status, answer) = call(address, "POST", sent.path, &body).ok()?;
        if (200..300).contains(&status) {
            sent.acknowledged = true;
            let act = sent.act;
            if let Ok(got) = serde_json::from_str::<ssh_jit::wire::Certified>(&answer) {
                if act == Act::Claim {
                    self.serial = Some(got.serial);
                    self.claimed = Some(got.certificate.clone());
                }
                self.certificates.push(got.certificate);
            }
        }
        Some((status, answer))
    }

    /// Sends the same statements again: each is taken if it was not yet, and refused as done if it was.
    fn send_again(&mut self, address: std::net::SocketAddr, from: usize, wrong: &mut Vec<String>) {
        for index in from..self.sent.len() {
            let (act, acknowledged) = (self.sent[index].act, self.sent[index].acknowledged);
            let Some((status, answer)) = self.send(index, address) else {
                wrong.push(format!("{act:?} is not answered afterwards"));
                continue;
            };
            let code: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
            let done =
                ["replayed", "not-pending", "not-approved", "not-active", "revoked", "denied", "decided-already"];
            let done = code["code"].as_str().is_some_and(|code| done.contains(&code));
            match (acknowledged, status) {
                (true, 200..300) => wrong.push(format!("spent: {act:?} was taken twice")),
                (false, 200..300) => {}
                // Then it must be on record, whether anybody heard of it or not.
                (_, 400..500) if done => self.sent[index].acknowledged = true,
                _ => wrong.push(format!("{act:?} is answered {status} afterwards: {answer}")),
            }
        }
    }

    /// What follows from what was done: the same certificate again, a denial that stays, glass that still breaks.
    fn go_on(&mut self, cast: &Cast, address: std::net::SocketAddr, from: usize, wrong: &mut Vec<String>) {
        let sent: Vec<Act> = self.sent[from..].iter().map(|sent| sent.act).collect();
        if sent.contains(&Act::Claim) && !sent.contains(&Act::Return) {
            let first = self.claimed.take();
            let status = self.perform(cast, Act::Claim, address);
            if let Some(again) = self.sent.last_mut() {
                again.event = None;
            }
            match (&first, &self.claimed) {
                (_, None) => wrong.push(format!("claiming again is answered {status:?}")),
                (Some(first), Some(again)) if first != again => wrong.push("claiming again gives another".to_owned()),
                _ => {}
            }
        }
        if sent.last() == Some(&Act::Deny) {
            let sent = cast.second_opinion(self);
            let body = serde_json::to_vec(&sent.body).expect("JSON");
            let answer = call(address, "POST", sent.path, &body);
            if !matches!(answer, Ok((400..500, _))) {
                wrong.push(format!("denied, and then approved: {answer:?}"));
            }
        }
        if sent.contains(&Act::BreakGlass) {
            let status = self.perform(cast, Act::BreakGlass, address);
            if status != Some(200) {
                wrong.push(format!("break-glass is answered {status:?} afterwards"));
            }
        }
    }
}
