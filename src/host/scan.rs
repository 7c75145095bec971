//! Standing access: ways into a host that no request, approval and end belong to, and that ssh-jit should replace.
//! sshd says which files and settings count; nothing is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::domain::time::Timestamp;

use super::accounts::{Account, accounts, with_password};
use super::authorized_keys::Entry;
use super::error::HostError;
use super::layout::Layout;
use super::sshd::{Settings, Sshd};
use super::sshd_config::{self, Line};

pub use super::finding::{Finding, KeyFacts, Level};

/// No file of keys that is read is larger.
const LONGEST: u64 = 4 * 1024 * 1024;
const DAY: i64 = 86_400;

/// Everything that lets somebody in who asks nobody.
pub fn scan(layout: &Layout, sshd: &Sshd, now: Timestamp) -> Result<Vec<Finding>, HostError> {
    let common = sshd.settings(None)?;
    let lines = sshd_config::lines(layout);
    let scan = Scan { layout, lines: &lines, now };
    let mut found = scan.ways(&common, None);
    found.extend(scan.authorities(&common, None));
    let matches = lines.iter().any(|line| line.keyword == "match");
    for account in accounts(layout)? {
        // Without a Match everybody has the same settings.
        let own = account.parsed().filter(|_| matches).map(|name| sshd.settings(Some(&name))).transpose()?;
        if let Some(own) = own.as_ref().filter(|own| **own != common) {
            let differs =
                |finding: &Finding| !scan.ways(&common, None).iter().any(|other| other.found == finding.found);
            found.extend(scan.ways(own, Some(&account)).into_iter().filter(differs));
            if own.one("TrustedUserCAKeys") != common.one("TrustedUserCAKeys") {
                found.extend(scan.authorities(own, Some(&account)));
            }
        }
        found.extend(scan.keys(own.as_ref().unwrap_or(&common), &account));
    }
    Ok(found)
}

struct Scan<'a> {
    layout: &'a Layout,
    lines: &'a [Line],
    now: Timestamp,
}

impl Scan<'_> {
    /// Ways in that a setting opens.
    fn ways(&self, settings: &Settings, account: Option<&Account>) -> Vec<Finding> {
        let at = |keyword: &str| match account {
            None => sshd_config::first(self.lines, keyword).unwrap_or_else(|| "sshd's default".to_owned()),
            Some(account) => format!("a Match for {}", account.name),
        };
        let mut found = Vec::new();
        let passwords = [("PasswordAuthentication", true), ("KbdInteractiveAuthentication", settings.yes("UsePAM"))];
        for (keyword, _) in passwords.iter().filter(|(keyword, counts)| *counts && settings.yes(keyword)) {
            let who = with_password(self.layout).map_or_else(String::new, |names| {
                let names = if names.is_empty() { vec!["none".to_owned()] } else { names.into_iter().collect() };
                format!("; accounts with a password: {}", names.join(", "))
            });
            let found_there = format!("{keyword} yes{who}");
            found.push(Finding::warning("passwords", at(keyword), found_there, format!("{keyword} no")));
        }
        if settings.yes("PermitEmptyPasswords") {
            let mend = "PermitEmptyPasswords no";
            found.push(Finding::error("passwords", at("PermitEmptyPasswords"), "PermitEmptyPasswords yes", mend));
        }
        match settings.one("PermitRootLogin") {
            "no" => {}
            "yes" => found.push(Finding::error(
                "root",
                at("PermitRootLogin"),
                "PermitRootLogin yes",
                "PermitRootLogin prohibit-password, or no where no role opens root",
            )),
            other => {
                found.push(Finding::note("root", at("PermitRootLogin"), format!("PermitRootLogin {other}")));
            }
        }
        for keyword in ["AuthorizedKeysCommand", "AuthorizedPrincipalsCommand"] {
            if settings.one(keyword) != "none" {
                let value = format!("{keyword} {}: what it lets in is not seen here", settings.one(keyword));
                found.push(Finding::warning("command", at(keyword), value, "ask it, and take it out"));
            }
        }
        if settings.yes("HostbasedAuthentication") {
            let mend = "HostbasedAuthentication no";
            found.push(Finding::warning("hosts", at("HostbasedAuthentication"), "HostbasedAuthentication yes", mend));
        }
        found
    }

    /// CAs of others, whose certificates let in.
    fn authorities(&self, settings: &Settings, account: Option<&Account>) -> Vec<Finding> {
        let named = settings.one("TrustedUserCAKeys");
        let path = self.layout.at(named);
        if named == "none" || path == self.layout.user_ca() {
            return Vec::new();
        }
        let restricted = ["AuthorizedPrincipalsFile", "AuthorizedPrincipalsCommand"];
        let restricted = restricted.iter().any(|keyword| settings.one(keyword) != "none");
        let who = account.map_or("everybody", |account| account.name.as_str());
        let finding = |at: String, key: KeyFacts| {
            let shown = format!("{} signs certificates for {who}", key.shown());
            let mend = "take TrustedUserCAKeys out; ssh-jit host setup trusts the service";
            let finding = if restricted {
                Finding::warning("ca", at, shown, mend)
            } else {
                Finding::error("ca", at, format!("{shown}, and no principals are demanded"), mend)
            };
            Finding { key: Some(key), ..finding }
        };
        self.entries(&path, who, "ca", finding)
    }

    /// Keys that open one account.
    fn keys(&self, settings: &Settings, account: &Account) -> Vec<Finding> {
        let patterns = settings.one("AuthorizedKeysFile").split_whitespace().filter(|pattern| *pattern != "none");
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in patterns.map(|pattern| self.layout.at(account.expand(pattern))) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let finding = |at: String, key: KeyFacts| key_finding(account, at, key);
        paths.iter().flat_map(|path| self.entries(path, &account.name, "key", finding)).collect()
    }

    /// The keys of one file. One that is not there has none; one that cannot be read is a finding.
    fn entries(
        &self,
        path: &Path,
        account: &str,
        what: &'static str,
        finding: impl Fn(String, KeyFacts) -> Finding,
    ) -> Vec<Finding> {
        let (text, changed) = match read(path) {
            Ok(read) => read,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Vec::new(),
            Err(e) => {
                return vec![Finding::warning(what, path.display(), format!("cannot be read: {e}"), "look there")];
            }
        };
        let days = self.now.since(Timestamp::from_unix(changed)) / DAY;
        let entries = text.lines().enumerate().filter_map(|(number, line)| Some((number + 1, Entry::parse(line)?)));
        let found = entries.map(|(number, entry)| {
            let key = KeyFacts {
                account: account.to_owned(),
                algorithm: entry.algorithm,
                fingerprint: entry.fingerprint.to_string(),
                comment: entry.comment,
                options: entry.options,
                days,
            };
            finding(format!("{}:{number}", path.display()), key)
        });
        found.collect()
    }
}

fn key_finding(account: &Account, at: String, key: KeyFacts) -> Finding {
    let shown = key.shown();
    let name = &account.name;
    let role = "give the account to a role, then take the line out";
    let finding = match (key.has("cert-authority"), key.has("principals"), account.uid) {
        (true, false, _) => {
            let shown = format!("{shown} signs certificates for {name}, and no principals are demanded");
            Finding::error("ca", at, shown, "take the line out, or write principals=\"...\" before it")
        }
        (true, true, _) => Finding::warning("ca", at, format!("{shown} signs certificates for {name}"), role),
        (false, _, 0) => Finding::error("key", at, format!("{shown} opens {name}"), role),
        (false, ..) => Finding::warning("key", at, format!("{shown} opens {name}"), role),
    };
    Finding { key: Some(key), ..finding }
}

/// A file's text, and when it was changed. Its owner may have put anything there: nothing is waited for.
fn read(path: &Path) -> io::Result<(String, i64)> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((text(file)?, modified(&facts)))
}

fn text(file: File) -> io::Result<String> {
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn modified(facts: &fs::Metadata) -> i64 {
    std::os::unix::fs::MetadataExt::mtime(facts)
}
