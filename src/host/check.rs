//! Whether a host does what it was set up for: its files, what sshd makes of them, its clock, and how old what it
//! knows is. Nothing is changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::published;
use crate::domain::names::{HostName, Principal};
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;

use super::certificate;
use super::config::HostConfig;
use super::first_line::pam_runs;
use super::layout::Layout;
use super::manifest::Manifest;
use super::setup::settings;
use super::spool::Spool;
use super::sshd::{Sshd, ended, last_line};
use super::{sshd_config, version};

pub use super::finding::{Finding, Level};

/// Windows are shifted early by five seconds, for clocks that are behind.
const CLOCK_GOOD: u64 = 5;
/// Short certificates are over before they begin, or live on.
const CLOCK_BAD: u64 = 60;
/// `host sync` sets the time of the list when the service says that there is no newer one: all the time. In seconds.
const KRL_GOOD: i64 = 3600;
/// `host sync` tells what certificates were used for within seconds. In seconds.
const TOLD_WITHIN: i64 = 3600;

/// Looks at all of it. `ahead` is the service's time less this machine's in seconds, or why that is not known.
pub fn check(layout: &Layout, sshd: &Sshd, ahead: Result<i64, String>, now: Timestamp) -> Vec<Finding> {
    let manifest = match Manifest::load(layout) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return vec![not_set_up(layout, "this host is not set up")],
        Err(error) => return vec![not_set_up(layout, &error.to_string())],
    };
    let check = Check { layout, sshd, manifest };
    let mut found = vec![Finding::ok("name", layout.manifest().display(), &check.manifest.name)];
    found.extend(check.places());
    found.extend([check.trust(), check.krl(), check.krl_age(now)]);
    found.extend(check.principals());
    found.extend(check.settings());
    found.extend(check.certificate(now));
    found.extend([clock(ahead), check.session(), check.uses(now)]);
    found.extend(check.sync());
    found.extend(check.version());
    found
}

fn not_set_up(layout: &Layout, found: &str) -> Finding {
    Finding::error("set-up", layout.manifest().display(), found, "ssh-jit host setup")
}

fn clock(ahead: Result<i64, String>) -> Finding {
    let mend = "set the clock, by NTP for instance: it is what ends access";
    match ahead.map(i64::unsigned_abs) {
        Ok(off @ 0..=CLOCK_GOOD) => Finding::ok("clock", "GET /v1/now", format!("{off} s off the service's")),
        Ok(off @ ..=CLOCK_BAD) => Finding::warning("clock", "GET /v1/now", format!("{off} s off the service's"), mend),
        Ok(off) => Finding::error("clock", "GET /v1/now", format!("{off} s off the service's"), mend),
        Err(why) => Finding::warning("clock", "GET /v1/now", why, "have the service answer"),
    }
}

struct Check<'a> {
    layout: &'a Layout,
    sshd: &'a Sshd,
    manifest: Manifest,
}

impl Check<'_> {
    /// Every file of ours is there, is a file, and only its owner can change it or a folder above it.
    fn places(&self) -> Vec<Finding> {
        let manifest = self.layout.manifest();
        let paths: Vec<&PathBuf> = self.manifest.files.keys().chain([&manifest]).collect();
        let wrong: Vec<Finding> = paths.iter().filter_map(|path| self.place(path)).collect();
        if !wrong.is_empty() {
            return wrong;
        }
        vec![Finding::ok("files", self.layout.folder().display(), format!("{} files in place", paths.len()))]
    }

    fn place(&self, path: &Path) -> Option<Finding> {
        let error = |found: &str, mend: &str| Some(Finding::error("files", path.display(), found, mend));
        if let Err(e) = self.layout.check_folders(path) {
            return error(&e.to_string(), "let nobody else write there: who can, decides who logs in");
        }
        let facts = match fs::symlink_metadata(path) {
            Err(e) => return error(&e.to_string(), "ssh-jit host setup"),
            Ok(facts) if facts.is_symlink() && path == self.layout.unit_link() => return None,
            Ok(facts) => facts,
        };
        let owner = rustix::process::geteuid().as_raw();
        if !facts.is_file() {
            error("it is no regular file", "move it away, then ssh-jit host setup")
        } else if facts.uid() != owner && facts.uid() != 0 {
            error(&format!("it belongs to user {}", facts.uid()), "chown root")
        } else if facts.mode() & 0o022 != 0 {
            error(&format!("others may write it (mode {:04o})", facts.mode() & 0o7777), "chmod 644")
        } else if facts.mode() & 0o444 != 0o444 {
            // sshd reads AuthorizedPrincipalsFile as the account.
            error(&format!("accounts cannot read it (mode {:04o})", facts.mode() & 0o7777), "chmod 644")
        } else {
            None
        }
    }

    /// The trust document holds, is of the service that is configured, and sshd trusts its CAs and no others.
    fn trust(&self) -> Finding {
        let (path, mend) = (self.layout.trust(), "ssh-jit host setup, or host sync");
        let error = |found: String| Finding::error("trust", path.display(), found, mend);
        let trust = match self.trust_document() {
            Ok(trust) => trust,
            Err(e) => return error(e.to_string()),
        };
        match HostConfig::load(&self.layout.folder()) {
            Ok(host) if host.instance == trust.instance => {}
            _ => return error(format!("it is of {}, host.toml names another instance", trust.instance)),
        }
        let text = fs::read_to_string(self.layout.user_ca()).unwrap_or_default();
        let lines = || text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let known = || trust.user_ca.iter().chain(&trust.break_glass_ca);
        if let Some(strange) = lines().find(|line| !known().any(|key| line.parse().as_ref() == Ok(key))) {
            let strange: String = strange.chars().take(60).collect();
            return error(format!(
                "{} has a CA that the service does not name: {strange}",
                self.layout.user_ca().display()
            ));
        }
        if let Some(missing) = known().find(|key| !lines().any(|line| line.parse().as_ref() == Ok(*key))) {
            let found = format!("{} lacks {}", self.layout.user_ca().display(), missing.fingerprint());
            return Finding::warning("trust", path.display(), found, mend);
        }
        Finding::ok("trust", path.display(), format!("document {} of {}", trust.number, trust.instance))
    }

    fn trust_document(&self) -> io::Result<Trust> {
        let signed = published::at(&self.layout.trust())?.ok_or(io::ErrorKind::NotFound)?;
        Trust::first_contact(&signed).map_err(io::Error::other)
    }

    /// The host's own certificate, where it is to have one, is the service's, sshd shows it, and it is renewed in time.
    fn certificate(&self, now: Timestamp) -> Option<Finding> {
        let path = self.layout.host_certificate();
        let (certified, trust) =
            (HostConfig::load(&self.layout.folder()).ok()?.certificate?, self.trust_document().ok()?);
        let error = |found: String, mend: &str| Finding::error("certificate", path.display(), found, mend);
        let held = match certificate::held(&path, &certified, &trust) {
            Ok(held) => held,
            Err(why) => return Some(error(why, "ssh-jit host enrol")),
        };
        let names: Vec<&str> = held.names.iter().map(HostName::as_str).collect();
        let days = held.valid_before.since(now).div_euclid(86_400);
        let found = format!("{}: {days} days are left of it", names.join(" "));
        let mend = "have host sync run: its log says what keeps it from a new one";
        Some(if !(held.valid_after..held.valid_before).contains(&now) {
            error(format!("it counts from {} until {}", held.valid_after, held.valid_before), mend)
        } else if certificate::is_due(&held, now) {
            Finding::warning("certificate", path.display(), found, mend)
        } else if self.layout.unread().exists() {
            Finding::warning("certificate", path.display(), "sshd may not have read it", "ssh-jit host sync --once")
        } else {
            Finding::ok("certificate", path.display(), found)
        })
    }

    /// sshd can read the list of what is revoked, and our CAs are not on it.
    fn krl(&self) -> Finding {
        let path = self.layout.krl();
        let output = ended(Command::new("ssh-keygen").arg("-Qf").arg(&path).arg(self.layout.user_ca()));
        let mend = "ssh-jit host sync; until then sshd refuses every key and certificate";
        match output {
            Ok(output) if output.status.success() => Finding::ok("krl", path.display(), "sshd can read it"),
            Ok(output) => Finding::error("krl", path.display(), last_line(&output), mend),
            Err(e) => Finding::warning("krl", path.display(), format!("ssh-keygen: {e}"), "install openssh-client"),
        }
    }

    fn krl_age(&self, now: Timestamp) -> Finding {
        let path = self.layout.krl();
        let Ok(facts) = fs::metadata(&path) else {
            return Finding::error("krl-age", path.display(), "there is none", "ssh-jit host setup");
        };
        let age = now.since(Timestamp::from_unix(facts.mtime())).max(0);
        let found = format!("the newest {} min ago", age / 60);
        match age {
            ..=KRL_GOOD => Finding::ok("krl-age", path.display(), found),
            _ => Finding::warning("krl-age", path.display(), found, "have ssh-jit host sync run"),
        }
    }

    /// What is let into each account is a principal of this host, or of roles that are bound to none.
    fn principals(&self) -> Vec<Finding> {
        let accounts = self.manifest.accounts(self.layout);
        if accounts.is_empty() {
            let mend = "ssh-jit host setup --account ACCOUNT=PRINCIPAL";
            return vec![Finding::warning(
                "principals",
                self.layout.principals().display(),
                "no account is open",
                mend,
            )];
        }
        accounts.iter().map(|account| self.principals_of(&self.layout.principals_of(account))).collect()
    }

    fn principals_of(&self, path: &Path) -> Finding {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let strange = lines.iter().find(|line| match line.parse::<Principal>() {
            Ok(principal) => principal.host().is_some_and(|host| *host != self.manifest.name),
            Err(_) => true,
        });
        match strange {
            Some(line) => Finding::warning(
                "principals",
                path.display(),
                format!("{line:?} is nothing that a certificate for {} has", self.manifest.name),
                "take the line out",
            ),
            None => Finding::ok("principals", path.display(), lines.join(" ")),
        }
    }

    /// sshd takes its configuration, and what it makes of it is ours, for everybody and for each account.
    fn settings(&self) -> Vec<Finding> {
        let accounts = self.manifest.accounts(self.layout);
        let config = self.layout.sshd_config();
        let mut wrong = Vec::new();
        for account in [None].into_iter().chain(accounts.iter().map(Some)) {
            let found = match self.sshd.settings(account) {
                Ok(found) => found,
                Err(e) => return vec![Finding::error("sshd", config.display(), e, "sshd -t says what is wrong")],
            };
            let keys = [("PubkeyAuthentication", "yes".to_owned())];
            for (keyword, ours) in settings(self.layout).into_iter().chain(keys) {
                if found.one(keyword) != ours {
                    let lines = sshd_config::lines(self.layout);
                    let at = sshd_config::first(&lines, keyword).unwrap_or_else(|| config.display().to_string());
                    let who = account.map_or(String::new(), |account| format!(" for {account}"));
                    let found = format!("{keyword} is {}{who}, not {ours}", found.one(keyword));
                    wrong.push(Finding::error("sshd", at, found, "what comes first wins: take it out"));
                }
            }
        }
        if wrong.is_empty() { vec![Finding::ok("sshd", config.display(), "all settings are in force")] } else { wrong }
    }

    /// What ends sessions with their certificates, and refuses broken glass that is too long.
    fn session(&self) -> Finding {
        let (pam, program) = (self.layout.at("/etc/pam.d/sshd"), self.layout.session());
        let program = program.display().to_string();
        let settings = self.sshd.settings(None).unwrap_or_default();
        if settings.one("ForceCommand") == program {
            return Finding::ok("session", self.layout.sshd_config().display(), "sshd runs it as ForceCommand");
        }
        let runs = pam_runs(self.layout, Path::new(&program));
        match (runs, settings.yes("UsePAM"), Path::new(&program).is_file()) {
            (true, true, true) => Finding::ok("session", pam.display(), "PAM runs it when a session opens"),
            (true, true, false) => Finding::error(
                "session",
                program,
                "PAM is to run it, and it is not there",
                "install it, or take PAM's line out",
            ),
            (true, false, _) => Finding::warning("session", pam.display(), "UsePAM is no", "UsePAM yes"),
            (false, ..) => Finding::warning(
                "session",
                pam.display(),
                "sessions live on when their certificates end, and broken glass may be longer than 15 min",
                "ssh-jit host setup --pam",
            ),
        }
    }

    /// The service hears what certificates are used for.
    fn uses(&self, now: Timestamp) -> Finding {
        let spool = self.layout.sessions();
        let folder = spool.display().to_string();
        let held = match Spool::at(&spool).held() {
            Ok(held) => held,
            Err(e) => return Finding::warning("uses", &folder, e, "have root alone read and write it"),
        };
        let age = held.since.map_or(0, |since| now.since(since));
        if held.dropped > 0 {
            let found = format!("{} were dropped: the service never hears of them", held.dropped);
            return Finding::warning("uses", &folder, found, format!("look why, then rm {folder}/dropped"));
        }
        if age > TOLD_WITHIN {
            let found = format!("{} wait to be told, the oldest for {} min", held.waiting, age / 60);
            return Finding::warning("uses", &folder, found, "ssh-jit host report says why");
        }
        Finding::ok("uses", folder, format!("{} wait to be told", held.waiting))
    }

    fn sync(&self) -> Option<Finding> {
        let link = self.layout.unit_link();
        if !self.layout.has_systemd() {
            return None;
        }
        Some(match link.symlink_metadata() {
            Ok(_) => Finding::ok("sync", link.display(), "systemd starts host sync"),
            Err(_) => {
                Finding::warning("sync", link.display(), "systemd does not start host sync", "ssh-jit host setup")
            }
        })
    }

    fn version(&self) -> Vec<Finding> {
        let version = match self.sshd.version() {
            Ok(version) => version,
            Err(e) => return vec![Finding::warning("version", self.layout.sshd_config().display(), e, "--sshd FILE")],
        };
        let mut found = vec![Finding::ok("version", "sshd -V", &version)];
        found.extend(version::lacks(&version).into_iter().map(|lack| Finding::note("version", "sshd -V", lack)));
        found.extend(version::flaws(&version).into_iter().map(|flaw| match flaw.vendor {
            // Distributions mend flaws without a new version.
            Some(vendor) => Finding::note("version", "sshd -V", format!("{}; see the changes of {vendor}", flaw.what)),
            None => Finding::warning("version", "sshd -V", flaw.what, "a newer OpenSSH"),
        }));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_as_bad_as_it_is_off() {
        for (off, level) in [
            (0, Level::Ok),
            (5, Level::Ok),
            (-5, Level::Ok),
            (6, Level::Warning),
            (-60, Level::Warning),
            (61, Level::Error),
            (-3600, Level::Error),
            (i64::MAX, Level::Error),
        ] {
            assert_eq!(clock(Ok(off)).level, level, "{off}");
        }
        assert_eq!(clock(Err("no answer".to_owned())).level, Level::Warning);
    }
}
