//! The processes of one connection, as proc(5) shows them: its sshd, what runs below it, and what left that tree
//! for a session of its own but stayed in the login's audit session or in its systemd scope.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// proc(5), `sessionid`: what a process has that never was in an audit session.
const NO_AUDIT_SESSION: u32 = u32::MAX;
/// How long what is shown on a terminal may take on its way to the person.
const SHOWN_WITHIN: Duration = Duration::from_millis(200);
/// How long processes have to leave by themselves.
const GRACE: Duration = Duration::from_secs(1);
/// How often those are killed that are still there: one that forks all the time can be missed a few times.
const ROUNDS: u32 = 40;

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// proc(5), `stat`, field 22: when it started, in clock ticks since boot.
    pub start: u64,
}

/// What proc(5) says in `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    process: Process,
    name: String,
    parent: i32,
    /// Field 7: the device number of the controlling terminal, 0 without one.
    terminal: u32,
    ended: bool,
}

impl Process {
    /// The sshd of the connection in which process `pid` runs: itself, or the nearest one above it.
    pub fn sshd_above(mut pid: i32) -> io::Result<Self> {
        while pid > 1 {
            let stat = Stat::read(pid)?;
            // From 9.8 on it is called sshd-session.
            if matches!(stat.name.as_str(), "sshd" | "sshd-session") {
                return Ok(stat.process);
            }
            pid = stat.parent;
        }
        Err(io::Error::other("no sshd runs above this program"))
    }

    /// Holds on to the process, so that its number is not given to another one. An error when it is gone.
    fn open(self) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::NotFound)?;
        let held = pidfd_open(pid, PidfdFlags::empty())?;
        let stat = Stat::read(self.pid)?;
        if stat.process == self && !stat.ended { Ok(held) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn signal(self, signal: Signal) {
        // It may have ended meanwhile, which is what is wanted.
        let _ = self.open().and_then(|held| Ok(pidfd_send_signal(held, signal)?));
    }
}

/// A connection: its sshd, held on to, and what tells the processes of the login from others.
#[derive(Debug)]
pub struct Connection {
    sshd: Process,
    held: OwnedFd,
    /// The audit session of whatever started this sshd: not the login's.
    outer: Option<u32>,
}

/// What processes of one login have in common wherever they stand in the tree.
#[derive(Debug, PartialEq, Eq)]
struct Marks {
    audit: Option<u32>,
    scope: Option<String>,
}

impl Connection {
    /// The connection of this sshd. An error when it is gone.
    pub fn open(sshd: Process) -> io::Result<Self> {
        let held = sshd.open()?;
        let outer = audit_session(Stat::read(sshd.pid)?.parent);
        Ok(Self { sshd, held, outer })
    }

    /// Waits for its end, and says whether it came within `time`.
    pub fn ends_within(&self, time: Duration) -> bool {
        let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
        let mut ended = [PollFd::from_borrowed_fd(self.held.as_fd(), PollFlags::IN)];
        matches!(poll(&mut ended, Some(&time)), Ok(1..))
    }

    /// Shows a line on each terminal of its sessions. Sessions without one, such as sftp and rsync, would take it for
    /// their data.
    pub fn tell(&self, line: &str) {
        for path in self.terminals() {
            let flags = OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
            let opened = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path);
            // Nobody may read there any more.
            let _ = opened.and_then(|mut terminal| write!(terminal, "\r\n{line}\r\n"));
        }
    }

    fn terminals(&self) -> HashSet<PathBuf> {
        below(&HashSet::from([self.sshd.pid]), &Stat::all()).iter().filter_map(|stat| terminal(stat.terminal)).collect()
    }

    /// Ends it and all that runs in it, saying why on its terminals: everything is asked to end, and killed a second
    /// later.
    pub fn end(&self, why: &str) {
        self.tell(why);
        sleep(SHOWN_WITHIN);
        let marks = self.marks();
        let members = self.members(&marks, &[]);
        for process in &members {
            process.signal(Signal::TERM);
        }
        self.ends_within(GRACE);
        for _ in 0..ROUNDS {
            let left = self.members(&marks, &members);
            if left.is_empty() {
                return;
            }
            for process in left {
                process.signal(Signal::KILL);
            }
            sleep(GRACE / ROUNDS);
        }
    }

    fn marks(&self) -> Marks {
        // Without an audit session of its own, the login has that of whoever started sshd, and so have all others.
        let audit = audit_session(self.sshd.pid).filter(|session| Some(*session) != self.outer);
        let scope = fs::read_to_string(format!("/proc/{}/cgroup", self.sshd.pid)).ok().and_then(|text| scope(&text));
        Marks { audit, scope }
    }

    /// The processes of the login that live, its sshd included and this one not. `known` were found before: what runs
    /// below them belongs to it, too, when sshd is gone.
    fn members(&self, marks: &Marks, known: &[Process]) -> Vec<Process> {
        let all = Stat::all();
        let roots: HashSet<i32> = living([&[self.sshd], known].concat()).map(|process| process.pid).collect();
        let tree: HashSet<i32> = below(&roots, &all).iter().map(|stat| stat.process.pid).chain(roots).collect();
        let this = rustix::process::getpid().as_raw_pid();
        let others = all.iter().filter(|stat| !stat.ended && stat.process.pid != this);
        others.filter(|s| tree.contains(&s.process.pid) || marks.are_on(s.process.pid)).map(|s| s.process).collect()
    }
}

impl Marks {
    fn are_on(&self, pid: i32) -> bool {
        let in_scope = |wanted: &String| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup"));
            text.is_ok_and(|text| scope(&text).as_ref() == Some(wanted))
        };
        self.audit.is_some() && audit_session(pid) == self.audit || self.scope.as_ref().is_some_and(in_scope)
    }
}

impl Stat {
    fn read(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as proc(5) says")))
    }

    fn all() -> Vec<Self> {
        let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Self::read(pid).ok()).collect()
    }

    /// `PID (NAME) STATE PARENT ...`; the name may hold anything, parentheses and spaces included.
    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            process: Process { pid: pid.parse().ok()?, start: field(22)?.parse().ok()? },
            name: name.to_owned(),
            parent: field(4)?.parse().ok()?,
            terminal: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
            ended: matches!(field(3)?, "Z" | "X"),
        })
    }
}

/// Everything below these processes.
fn below<'s>(roots: &HashSet<i32>, all: &'s [Stat]) -> Vec<&'s Stat> {
    let mut tree = roots.clone();
    let mut found: Vec<&Stat> = Vec::new();
    loop {
        let child = |stat: &&Stat| tree.contains(&stat.parent) && !tree.contains(&stat.process.pid);
        let next: Vec<&Stat> = all.iter().filter(child).collect();
        if next.is_empty() {
            return found;
        }
        tree.extend(next.iter().map(|stat| stat.process.pid));
        found.extend(next);
    }
}

/// Those whose numbers still mean them.
fn living(processes: Vec<Process>) -> impl Iterator<Item = Process> {
    processes.into_iter().filter(|process| process.open().is_ok())
}

/// The pseudo-terminal of a device number. Linux, devices.txt: majors 136 to 143, 256 of them for each.
fn terminal(device: u32) -> Option<PathBuf> {
    // proc(5): "The minor device number is contained in the combination of bits 31 to 20 and 7 to 0; the major device
    // number is in bits 15 to 8."
    let (major, minor) = (device >> 8 & 0xff, device >> 12 & 0xfff00 | device & 0xff);
    (136..=143).contains(&major).then(|| PathBuf::from(format!("/dev/pts/{}", (major - 136) * 256 + minor)))
}

/// The audit session of a process: given when pam_loginuid(8) runs, inherited for ever, and no process can leave it
/// without a capability that only root has.
fn audit_session(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/sessionid")).ok()?;
    text.trim().parse().ok().filter(|session| *session != NO_AUDIT_SESSION)
}

/// The path of the scope that systemd made for a login, from `/proc/PID/cgroup`. Nothing else will do: without one,
/// sshd runs in the unit of its service, beside every other connection.
fn scope(text: &str) -> Option<String> {
    // cgroups(7): `HIERARCHY:CONTROLLERS:PATH`, of which systemd's are `0::` and `name=systemd`.
    let paths =
        text.lines().filter_map(|line| line.strip_prefix("0::").or(line.split_once(":name=systemd:").map(|l| l.1)));
    let mut scopes = paths.filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.strip_prefix("session-").is_some_and(|name| name.strip_suffix(".scope").is_some())
    });
    scopes.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_fields_is_a_name() {
        let text = "4711 (a) S 1 (b) S 4242 4711 4711 34816 4711 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2\n";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.process, Process { pid: 4711, start: 987_654 });
        assert_eq!((stat.name.as_str(), stat.parent, stat.ended), ("a) S 1 (b", 4242, false));
        assert_eq!(terminal(stat.terminal), Some(PathBuf::from("/dev/pts/0")));
        assert_eq!(Stat::parse("4711 (a) S 1"), None);
    }

    #[test]
    fn only_pseudo_terminals_are_written_to() {
        let pts = |number| Some(PathBuf::from(format!("/dev/pts/{number}")));
        for (device, path) in
            [(0, None), (0x8803, pts(3)), (0x89ff, pts(511)), (0x0401, None), (0x9001, None), (0x0010_8800, pts(256))]
        {
            assert_eq!(terminal(device), path, "{device:x}");
        }
    }

    /// Who started sshd by hand, and every other connection of an sshd without a scope, must stay.
    #[test]
    fn no_scope_but_a_logins_is_ended() {
        for (text, found) in [
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Some("/user.slice/user-1000.slice/session-3.scope")),
            ("12:pids:/x\n1:name=systemd:/user.slice/session-c1.scope\n0::/\n", Some("/user.slice/session-c1.scope")),
            ("0::/system.slice/ssh.service\n", None),
            ("0::/user.slice/user-1000.slice/session-3.scope/inner\n", None),
            ("9:pids:/session-3.scope\n", None),
            ("0::/init.scope\n", None),
            ("", None),
        ] {
            assert_eq!(scope(text).as_deref(), found, "{text}");
        }
    }

    /// A number that was given to another process is not signalled.
    #[test]
    fn a_process_is_its_number_and_its_start() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let real = Stat::read(child.id().cast_signed()).unwrap().process;
        let other = Process { start: real.start + 1, ..real };
        assert!(other.open().is_err());
        other.signal(Signal::KILL);
        sleep(Duration::from_millis(50));
        assert!(child.try_wait().unwrap().is_none(), "the wrong process was killed");
        assert!(!Connection::open(real).unwrap().ends_within(Duration::ZERO));
        real.signal(Signal::KILL);
        child.wait().unwrap();
        assert!(Connection::open(real).is_err());
    }

    #[test]
    fn what_runs_below_is_found_to_any_depth() {
        let stat = |pid, parent| Stat {
            process: Process { pid, start: 1 },
            name: String::new(),
            parent,
            terminal: 0,
            ended: false,
        };
        let all = [stat(5, 4), stat(4, 3), stat(3, 2), stat(9, 1), stat(2, 1), stat(6, 3)];
        let mut found: Vec<i32> = below(&HashSet::from([2]), &all).iter().map(|stat| stat.process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4, 5, 6]);
    }
}
