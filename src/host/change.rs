//! A change of one file, folder or link: made whole or not at all, shown before it is made, and taken back.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::files;

use super::error::HostError;

/// No file that is compared is larger.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder, without what lies in it.
    Folder {
        /// Its permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// All of it.
        content: Vec<u8>,
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link, and where it leads.
    Link(PathBuf),
    /// Something that nobody expects there.
    Other,
}

impl Node {
    /// A folder that everybody may read.
    pub fn folder() -> Self {
        Self::Folder { mode: 0o755 }
    }

    /// A file that everybody may read.
    pub fn public(content: impl Into<Vec<u8>>) -> Self {
        Self::File { content: content.into(), mode: 0o644 }
    }

    /// A program that everybody may run.
    pub fn program(content: impl Into<Vec<u8>>) -> Self {
        Self::File { content: content.into(), mode: 0o755 }
    }

    /// What stands there now, links not followed.
    pub fn at(path: &Path) -> Result<Option<Self>, HostError> {
        let failed = |e: io::Error| HostError::file("read", path, e);
        let facts = match fs::symlink_metadata(path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mode = facts.permissions().mode() & 0o7777;
        Ok(Some(if facts.is_dir() {
            Self::Folder { mode }
        } else if facts.is_symlink() {
            Self::Link(fs::read_link(path).map_err(failed)?)
        } else if facts.is_file() {
            let mut content = Vec::new();
            let file = files::open_no_link(path, fs::OpenOptions::new().read(true)).map_err(failed)?;
            file.take(LONGEST).read_to_end(&mut content).map_err(failed)?;
            Self::File { content, mode }
        } else {
            Self::Other
        }))
    }

    fn mode(&self) -> Option<u32> {
        match self {
            Self::Folder { mode } | Self::File { mode, .. } => Some(*mode),
            Self::Link(_) | Self::Other => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Folder { .. } => String::new(),
            Self::Link(target) => format!("-> {}\n", target.display()),
            Self::File { content, .. } => match str::from_utf8(content) {
                Ok(text) if !text.contains('\0') => text.to_owned(),
                _ => format!("({} bytes)\n", content.len()),
            },
            Self::Other => "(neither file, folder nor link)\n".to_owned(),
        }
    }
}

/// What stands at a path before and after.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    /// Nothing where nothing is.
    pub before: Option<Node>,
    /// Nothing where it is removed.
    pub after: Option<Node>,
}

impl Change {
    /// From what is there now to `after`; none where they are the same.
    pub fn to(path: PathBuf, after: Option<Node>) -> Result<Option<Self>, HostError> {
        let before = Node::at(&path)?;
        Ok(if before == after { None } else { Some(Self { path, before, after }) })
    }

    /// Makes it.
    pub fn apply(&self) -> Result<(), HostError> {
        put(&self.path, self.after.as_ref())
    }

    /// Takes it back if it was made. What somebody else put there is left alone.
    fn revert(&self) -> Result<(), HostError> {
        if Node::at(&self.path)? == self.after { put(&self.path, self.before.as_ref()) } else { Ok(()) }
    }

    /// As `diff -u` shows it, without lines around.
    pub fn diff(&self) -> String {
        let name = |node: &Option<Node>| match node {
            None => "/dev/null".to_owned(),
            Some(Node::Folder { .. }) => format!("{}/", self.path.display()),
            Some(_) => self.path.display().to_string(),
        };
        let (old, new) = (name(&self.before), name(&self.after));
        let text = |node: &Option<Node>| node.as_ref().map(Node::text).unwrap_or_default();
        let mut shown = format!("--- {old}\n+++ {new}\n");
        let mode = |node: &Option<Node>| node.as_ref().and_then(Node::mode);
        if let (Some(old), Some(new)) = (mode(&self.before), mode(&self.after))
            && old != new
        {
            // Writing to a String cannot fail.
            let _ = writeln!(shown, "old mode {old:04o}\nnew mode {new:04o}");
        }
        shown + &hunk(&text(&self.before), &text(&self.after))
    }
}

/// The lines between the first and the last that differ.
fn hunk(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    if old.is_empty() && new.is_empty() {
        return String::new();
    }
    let range = |lines: &[&str]| format!("{},{}", if lines.is_empty() { same } else { same + 1 }, lines.len());
    let mut text = format!("@@ -{} +{} @@\n", range(old), range(new));
    for (sign, lines) in [('-', old), ('+', new)] {
        for line in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{sign}{line}");
        }
    }
    text
}

fn put(path: &Path, node: Option<&Node>) -> Result<(), HostError> {
    let (what, outcome) = match node {
        None => ("remove", remove(path)),
        Some(Node::Folder { mode }) => ("make", make_folder(path, *mode)),
        Some(Node::File { content, mode }) => ("write", files::write(path, content, *mode)),
        Some(Node::Link(target)) => ("make", std::os::unix::fs::symlink(target, path)),
        Some(Node::Other) => ("make", Err(ErrorKind::Unsupported.into())),
    };
    let durable = outcome.and_then(|()| files::sync_folder(files::folder_of(path)));
    durable.map_err(|e| HostError::file(what, path, e))
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => {}
        made => made?,
    }
    // Whatever the umask says.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes all of them in their order, or none: at the first that fails, those before it are taken back.
pub(super) fn apply(changes: &[Change]) -> Result<(), HostError> {
    for (done, change) in changes.iter().enumerate() {
        if let Err(error) = change.apply() {
            // The one that failed may have been made all the same: a sync comes last.
            return Err(back(&changes[..=done], error));
        }
    }
    Ok(())
}

/// Takes changes back, the last first, because of `error`.
pub(super) fn back(changes: &[Change], error: HostError) -> HostError {
    for change in changes.iter().rev() {
        if let Err(undo) = change.revert() {
            return HostError::Half { error: Box::new(error), undo: Box::new(undo) };
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunk_has_what_differs_and_where() {
        for (old, new, shown) in [
            ("", "", ""),
            ("a\nb\n", "a\nb\n", ""),
            ("a\nb\nc\n", "a\nx\nc\n", "@@ -2,1 +2,1 @@\n-b\n+x\n"),
            ("a\nc\n", "a\nb\nc\n", "@@ -1,0 +2,1 @@\n+b\n"),
            ("a\na\n", "a\n", "@@ -2,1 +1,0 @@\n-a\n"),
            ("", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"),
        ] {
            assert_eq!(hunk(old, new), shown, "{old:?} {new:?}");
        }
    }

    /// S01: what somebody else put there meanwhile is neither replaced nor removed.
    #[test]
    fn a_change_is_taken_back_only_where_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let change = Change { path: path.clone(), before: None, after: Some(Node::public("ours")) };
        change.apply().unwrap();
        assert_eq!(Node::at(&path).unwrap(), Some(Node::public("ours")));
        change.revert().unwrap();
        assert_eq!(Node::at(&path).unwrap(), None);
        fs::write(&path, "theirs").unwrap();
        change.revert().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }
}
