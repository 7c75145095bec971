//! The accounts of a host, from passwd(5) and shadow(5). Those of a directory service are not seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::names::AccountName;

use super::error::HostError;
use super::layout::Layout;

/// An account, as passwd(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) home: PathBuf,
}

impl Account {
    /// The name, where it is one that sshd can be asked about.
    pub(super) fn parsed(&self) -> Option<AccountName> {
        self.name.parse().ok()
    }

    /// A path as sshd's AuthorizedKeysFile has it: `%h`, `%u`, `%U` and `%%` replaced, below the home where it does
    /// not begin with `/`.
    pub(super) fn expand(&self, pattern: &str) -> PathBuf {
        let mut path = String::new();
        let mut letters = pattern.chars();
        while let Some(letter) = letters.next() {
            match (letter, letter == '%') {
                (_, true) => match letters.next() {
                    Some('h') => path.push_str(&self.home.to_string_lossy()),
                    Some('u') => path.push_str(&self.name),
                    Some('U') => path.push_str(&self.uid.to_string()),
                    other => path.extend(other),
                },
                (letter, false) => path.push(letter),
            }
        }
        self.home.join(Path::new(&path))
    }
}

/// All of them, in the file's order. What is no entry is left out, as the system does.
pub(super) fn accounts(layout: &Layout) -> Result<Vec<Account>, HostError> {
    let path = layout.at("/etc/passwd");
    let text = fs::read_to_string(&path).map_err(|e| HostError::file("read", &path, e))?;
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, _] = fields[..] else { return None };
        Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, home: PathBuf::from(home) })
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// The accounts that have a password, where that can be read.
pub(super) fn with_password(layout: &Layout) -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(layout.at("/etc/shadow")).ok()?;
    let entry = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let hash = rest.split(':').next()?;
        // crypt(5): no hash begins with these.
        (!hash.is_empty() && !hash.starts_with(['!', '*'])).then(|| name.to_owned())
    };
    Some(text.lines().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_expanded_as_sshd_does_it() {
        let alice = Account { name: "alice".to_owned(), uid: 1000, home: "/home/alice".into() };
        for (pattern, path) in [
            (".ssh/authorized_keys", "/home/alice/.ssh/authorized_keys"),
            ("%h/.ssh/keys", "/home/alice/.ssh/keys"),
            ("/etc/ssh/keys/%u", "/etc/ssh/keys/alice"),
            ("/k/%U%%u", "/k/1000%u"),
        ] {
            assert_eq!(alice.expand(pattern), Path::new(path), "{pattern}");
        }
    }
}
