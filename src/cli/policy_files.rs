//! Reads a policy and the files that it includes, for the service and for every `policy` verb.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::domain::policy::Policy;
use crate::domain::policy_bundle::{self, Pattern};
use crate::files;

use super::Failure;

/// The policy that a service decides by: nobody else may have written any of its files, nor put some beside them.
pub(super) fn load(path: &Path) -> Result<Policy, Failure> {
    parsed(path, files::read_trusted, files::check_trusted_folder)
}

/// A policy that is only looked at, from whoever's files.
pub(super) fn look_at(path: &Path) -> Result<Policy, Failure> {
    parsed(path, |path| fs::read_to_string(path), |_| Ok(()))
}

/// Every error begins with the name of the file that it speaks of.
fn parsed(
    path: &Path,
    read: impl Fn(&Path) -> io::Result<String>,
    check: impl Fn(&Path) -> io::Result<()>,
) -> Result<Policy, Failure> {
    let unread = |path: &Path, e: io::Error| Failure::new(format!("{}: {e}", path.display()));
    let base = files::folder_of(path);
    let wrong = |e: policy_bundle::PolicyError| match e.file() {
        None => Failure::new(format!("{}:{e}", path.display())),
        Some(_) => Failure::new(base.join(e.to_string()).display()),
    };
    let first = read(path).map_err(|e| unread(path, e))?;
    let mut names = BTreeSet::new();
    for pattern in policy_bundle::includes(&first).map_err(wrong)? {
        for folder in folders(base, pattern.folder()) {
            check(&folder).map_err(|e| unread(&folder, e))?;
        }
        names.extend(found(base, &pattern).map_err(|e| unread(&base.join(pattern.folder()), e))?);
    }
    let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let others = names.into_iter().filter(|name| name != own);
    let read = |name: String| {
        let path = base.join(&name);
        let text = read(&path).map_err(|e| unread(&path, e))?;
        Ok::<_, Failure>((name, text))
    };
    let included = others.map(read).collect::<Result<Vec<_>, _>>()?;
    let whole = policy_bundle::join(&first, &included).map_err(wrong)?;
    Policy::parse(&whole).map_err(wrong)
}

/// The folders from that of the first file down to the included ones: whoever writes one of them can exchange what
/// is below.
fn folders(base: &Path, below: &str) -> Vec<std::path::PathBuf> {
    let mut folders = vec![base.to_owned()];
    for part in below.split('/').filter(|part| !part.is_empty()) {
        let next = folders.last().map(|folder| folder.join(part));
        folders.extend(next);
    }
    folders
}

/// The files of a pattern. One that is named and not there is an error when it is read.
fn found(base: &Path, pattern: &Pattern) -> io::Result<Vec<String>> {
    if !pattern.is_wild() {
        return Ok(vec![pattern.as_str().to_owned()]);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(base.join(pattern.folder()))? {
        let file = entry?.file_name();
        let name = Path::new(pattern.folder()).join(&file);
        names.extend(name.to_str().filter(|name| pattern.matches(name)).map(str::to_owned));
    }
    Ok(names)
}
