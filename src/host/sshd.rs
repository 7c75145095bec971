//! The host's sshd: what it makes of its configuration, which version it is, and telling it to read anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::domain::names::AccountName;

use super::error::HostError;
use super::layout::Layout;

/// Where systems keep it. sshd has to be started by its whole path.
const PLACES: [&str; 4] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/lib/ssh/sshd", "/usr/local/sbin/sshd"];

/// systemd's names for it.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];

/// A reloaded sshd that cannot start anew is gone by then.
const SETTLES_WITHIN: Duration = Duration::from_millis(500);

/// A program, and the configuration that it is to read.
#[derive(Debug, Clone)]
pub struct Sshd {
    program: PathBuf,
    config: PathBuf,
}

/// What is in force: keywords in lower case, each with its values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, Vec<String>>);

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// This was told.
    Told(String),
    /// Nothing runs that could be told; it reads its configuration when it starts.
    NotRunning,
}

impl Sshd {
    /// `program`, or the first that lies where systems keep it.
    pub fn find(layout: &Layout, program: Option<&Path>) -> Result<Self, HostError> {
        let usual = || PLACES.iter().map(PathBuf::from).find(|path| path.exists());
        let program = program.map(Path::to_owned).or_else(usual).ok_or_else(|| HostError::NoSshd(PLACES.join(", ")))?;
        Ok(Self { program, config: layout.sshd_config() })
    }

    /// Where it lies.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Refuses a configuration that sshd would not start with.
    pub fn test(&self) -> Result<(), HostError> {
        self.run(&["-t"]).map(|_| ())
    }

    /// What is in force for everybody, or for an account that logs in from this machine.
    pub fn settings(&self, account: Option<&AccountName>) -> Result<Settings, HostError> {
        let connection =
            account.map(|name| format!("user={name},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"));
        let text = match &connection {
            None => self.run(&["-T"])?,
            Some(connection) => self.run(&["-T", "-C", connection])?,
        };
        Ok(Settings::parse(&text))
    }

    /// How it calls itself: `OpenSSH_9.2p1 Debian-2+deb12u10`.
    pub fn version(&self) -> Result<String, HostError> {
        // sshd -V is 9.2's; before, it is an option that is not known, and the version stands above the usage. The
        // client of the same package says more: its distribution.
        let mut shown = [Command::new(&self.program), Command::new("ssh")].into_iter().filter_map(|mut command| {
            let output = ended(command.arg("-V")).ok()?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            let at = text.find("OpenSSH_")?;
            text[at..].lines().next().map(|line| line.split(',').next().unwrap_or(line).trim().to_owned())
        });
        let own = shown.next();
        let own = own.ok_or_else(|| self.failed(&["-V"], "it does not say which version it is".to_owned()))?;
        // Only where both are of one build.
        Ok(shown.find(|longer| longer.starts_with(&own)).unwrap_or(own))
    }

    /// Has the sshd that runs read its configuration, which must have been tested before.
    pub fn reload(&self, layout: &Layout, settings: &Settings) -> Result<Reloaded, HostError> {
        if layout.is_this_machine() && layout.has_systemd() {
            return reload_unit();
        }
        let by_file = running(&layout.at(settings.one("pidfile")));
        let Some(pid) = by_file.or_else(|| self.listening(layout)) else { return Ok(Reloaded::NotRunning) };
        rustix::process::kill_process(pid, Signal::HUP)
            .map_err(|e| HostError::file("reload", &self.program, e.into()))?;
        std::thread::sleep(SETTLES_WITHIN);
        if is_sshd(pid) {
            Ok(Reloaded::Told(format!("process {}", pid.as_raw_nonzero())))
        } else {
            Err(self.failed(&["(reloaded)"], "it ended as it was told to read anew; start it".to_owned()))
        }
    }

    /// An sshd on this configuration that writes no pid file. It shows its arguments and `[listener]` in its title.
    fn listening(&self, layout: &Layout) -> Option<Pid> {
        let named = format!("-f {}", self.config.display());
        let ours = |title: &str| {
            let usual = layout.is_this_machine() && !title.contains(" -f ");
            title.starts_with("sshd: ") && title.contains("[listener]") && (title.contains(&named) || usual)
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        numbers.filter(|pid| is_sshd(*pid) && is_of_this_system(*pid)).find(|pid| {
            let title = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            ours(&String::from_utf8_lossy(&title).replace('\0', " "))
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, HostError> {
        let mut command = Command::new(&self.program);
        let output = ended(command.args(arguments).arg("-f").arg(&self.config));
        let output = output.map_err(|e| HostError::file("run", &self.program, e))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(self.failed(arguments, last_line(&output)))
        }
    }

    fn failed(&self, arguments: &[&str], said: String) -> HostError {
        HostError::Program { program: format!("{} {}", self.program.display(), arguments.join(" ")), said }
    }
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (keyword, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            settings.entry(keyword.to_owned()).or_default().push(value.trim_end().to_owned());
        }
        Self(settings)
    }

    /// The value of a keyword that has one; `none` where it is not set.
    pub fn one(&self, keyword: &str) -> &str {
        self.0.get(&keyword.to_ascii_lowercase()).and_then(|values| values.first()).map_or("none", String::as_str)
    }

    /// The first path below this folder that a setting names.
    pub fn names_below(&self, folder: &Path) -> Option<PathBuf> {
        let words = self.0.values().flatten().flat_map(|value| value.split_whitespace());
        words.map(Path::new).find(|path| path.starts_with(folder)).map(Path::to_owned)
    }

    /// Whether it says `yes`.
    pub fn yes(&self, keyword: &str) -> bool {
        self.one(keyword) == "yes"
    }
}

/// Runs a program without input to its end.
pub(super) fn ended(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

/// What a program said last, which is where it says why it failed.
pub(super) fn last_line(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map_or_else(|| output.status.to_string(), str::to_owned)
}

/// Runs `systemctl`.
pub(super) fn systemctl(arguments: &[&str]) -> Result<(), HostError> {
    let program = || format!("systemctl {}", arguments.join(" "));
    let output = ended(Command::new("systemctl").args(arguments));
    let output = output.map_err(|e| HostError::Program { program: program(), said: e.to_string() })?;
    let failed = || HostError::Program { program: program(), said: last_line(&output) };
    if output.status.success() { Ok(()) } else { Err(failed()) }
}

fn reload_unit() -> Result<Reloaded, HostError> {
    let active = UNITS.into_iter().find(|unit| systemctl(&["is-active", "--quiet", unit]).is_ok());
    let Some(unit) = active else { return Ok(Reloaded::NotRunning) };
    systemctl(&["reload", unit])?;
    Ok(Reloaded::Told(unit.to_owned()))
}

/// The sshd of a pid file.
fn running(pid_file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file).ok()?;
    text.trim().parse().ok().and_then(Pid::from_raw).filter(|pid| is_sshd(*pid))
}

/// A pid file may be older than the process that has its number now.
fn is_sshd(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).is_ok_and(|name| name.trim_end() == "sshd")
}

/// Containers have daemons of their own, which this machine's processes are listed with.
fn is_of_this_system(pid: Pid) -> bool {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt"));
    namespace("self").is_ok_and(|own| namespace(&pid.as_raw_nonzero().to_string()).is_ok_and(|other| other == own))
}
