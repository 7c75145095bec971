//! Lines of ours at the top of files that are somebody else's: sshd's Include, and what PAM runs when a session opens.
//! Nothing comes before them there, and without them the file is what it was.

use std::fs;
use std::path::{Path, PathBuf};

use super::change::{Change, Node};
use super::error::HostError;
use super::layout::Layout;
use super::session::pam_line;

/// Where systems keep PAM's modules: here, or in a folder below that is named after the machine.
const LIBRARIES: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];
const PAM_EXEC: &str = "security/pam_exec.so";

/// A line and its file.
pub(super) struct FirstLine {
    path: PathBuf,
    line: String,
}

impl FirstLine {
    /// What leads sshd to the drop-in.
    pub(super) fn include(layout: &Layout) -> Self {
        Self { path: layout.sshd_config(), line: format!("Include {}\n", layout.drop_in().display()) }
    }

    /// What has PAM run the program that ends sessions.
    pub(super) fn pam(layout: &Layout) -> Self {
        Self { path: layout.pam(), line: format!("{}\n", pam_line(&layout.session())) }
    }

    /// The file with the line, where it is not there yet.
    pub(super) fn added(&self, layout: &Layout) -> Result<(PathBuf, Node), HostError> {
        layout.check_folders(&self.path)?;
        let Some(Node::File { content, mode }) = Node::at(&self.path)? else {
            return Err(HostError::Foreign(self.path.clone()));
        };
        let has = content.starts_with(self.line.as_bytes());
        let content = if has { content } else { [self.line.as_bytes(), &content].concat() };
        Ok((self.path.clone(), Node::File { content, mode }))
    }

    /// The file without the line, where it is there.
    pub(super) fn removed(&self) -> Result<Option<Change>, HostError> {
        let Some(Node::File { content, mode }) = Node::at(&self.path)? else { return Ok(None) };
        let mut lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
        let Some(at) = lines.iter().position(|line| *line == self.line.as_bytes()) else { return Ok(None) };
        lines.remove(at);
        Change::to(self.path.clone(), Some(Node::File { content: lines.concat(), mode }))
    }
}

/// Whether PAM has a session of sshd run this program, by whatever line.
pub(super) fn pam_runs(layout: &Layout, program: &Path) -> bool {
    let (text, program) = (fs::read_to_string(layout.pam()).unwrap_or_default(), program.display().to_string());
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("session" | "-session")) && words.any(|word| word == program)
    })
}

/// Refuses where PAM's line would do nothing, or keep everybody out.
pub(super) fn check_pam(layout: &Layout, uses_pam: bool) -> Result<(), HostError> {
    if !uses_pam {
        return Err(HostError::NoPam("sshd does not use it: UsePAM is no".to_owned()));
    }
    if !layout.pam().is_file() {
        return Err(HostError::NoPam(format!("there is no {}", layout.pam().display())));
    }
    // A module that is missing fails, and so would every login.
    let below =
        |library: &str| fs::read_dir(library).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders = LIBRARIES.iter().flat_map(|library| below(library).chain([PathBuf::from(library)]));
    if folders.any(|folder| folder.join(PAM_EXEC).is_file()) {
        return Ok(());
    }
    Err(HostError::NoPam("pam_exec.so is not installed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_first_and_taken_out_the_file_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let layout = Layout::below(&root).unwrap();
        fs::create_dir_all(root.join("etc/pam.d")).unwrap();
        let (pam, ours) = (FirstLine::pam(&layout), pam_line(&layout.session()));
        for before in ["", "auth required x.so\n", "no end", "# a\r\n\n@include common-session\n\u{e9}"] {
            fs::write(layout.pam(), before).unwrap();
            assert!(!pam_runs(&layout, &layout.session()));
            let (path, node) = pam.added(&layout).unwrap();
            Change::to(path, Some(node)).unwrap().unwrap().apply().unwrap();
            assert_eq!(fs::read_to_string(layout.pam()).unwrap(), format!("{ours}\n{before}"));
            assert!(pam_runs(&layout, &layout.session()));
            let (path, node) = pam.added(&layout).unwrap();
            assert!(Change::to(path, Some(node)).unwrap().is_none(), "once is enough");
            pam.removed().unwrap().unwrap().apply().unwrap();
            assert_eq!(fs::read_to_string(layout.pam()).unwrap(), before);
            assert!(pam.removed().unwrap().is_none());
        }
    }
}
