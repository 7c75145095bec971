//! Why a host is not set up, checked or scanned.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// One line of fact; `hint` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The system refuses something about a file.
    #[error("cannot {what} {path}: {error}")]
    File {
        /// A verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file that holds something else than it should.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A path that cannot stand in the configuration of sshd or systemd.
    #[error("{0:?} has characters that configuration files give a meaning to")]
    Special(PathBuf),
    /// There is no sshd here.
    #[error("there is no sshd in {0}")]
    NoSshd(String),
    /// A program that did not do what it was asked to.
    #[error("{program}: {said}")]
    Program {
        /// Its name and arguments.
        program: String,
        /// What it said last.
        said: String,
    },
    /// Something else lies where a file of ours is to be.
    #[error("{0} is there already, and host setup did not write it")]
    Foreign(PathBuf),
    /// Files of ours that somebody changed.
    #[error("changed since host setup wrote them: {}", listed(.0))]
    Changed(Vec<PathBuf>),
    /// A setting that sshd has from elsewhere, and that it takes once only.
    #[error("{keyword} is set to {value} already{}", placed(.at.as_ref()))]
    Conflict {
        /// As sshd_config(5) has it.
        keyword: &'static str,
        /// In force now.
        value: String,
        /// File and line, where they were found.
        at: Option<String>,
    },
    /// A setting that did not come into force.
    #[error("{keyword} of {drop_in} is not in force: it is {value}{}", placed(.at.as_ref()))]
    NotInForce {
        /// As sshd_config(5) has it.
        keyword: &'static str,
        /// In force instead.
        value: String,
        /// File and line, where they were found.
        at: Option<String>,
        /// Where ours stands.
        drop_in: PathBuf,
    },
    /// sshd does not read the drop-in.
    #[error("sshd does not read {drop_in}: no Include in {config} leads to it")]
    NotIncluded {
        /// The drop-in.
        drop_in: PathBuf,
        /// sshd's configuration.
        config: PathBuf,
    },
    /// sshd's configuration still names files that are to be removed.
    #[error("sshd still uses {0}, so nothing more is taken back: without it nobody could log in by key")]
    StillUsed(PathBuf),
    /// The certificate that sshd is to show is gone.
    #[error("{0} is not there: sshd would show no certificate")]
    Uncertified(PathBuf),
    /// Another CA certifies the host's key.
    #[error("{0} is there already: sshd shows one certificate for a key, and this would take its place")]
    Certified(PathBuf),
    /// PAM would not run what ends sessions.
    #[error("PAM cannot be had to end sessions: {0}")]
    NoPam(String),
    /// PAM still runs what is to be removed.
    #[error("{pam} still runs {program}, so nothing more is taken back: without it nobody could log in")]
    PamRuns {
        /// PAM's file.
        pam: PathBuf,
        /// The program.
        program: PathBuf,
    },
    /// Nothing was set up.
    #[error("{0} is not there: this host is not set up")]
    NotSetUp(PathBuf),
    /// It failed on the way, and what was written could not be taken back, either.
    #[error("{error}; and it was not taken back: {undo}")]
    Half {
        /// The first error.
        error: Box<HostError>,
        /// The second.
        undo: Box<HostError>,
    },
}

impl HostError {
    /// An error about a file.
    pub fn file(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::File { what, path: path.to_owned(), error }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { error, .. } => match error.kind() {
                io::ErrorKind::PermissionDenied => "this takes root".to_owned(),
                io::ErrorKind::StorageFull => "make room, then run it again; nothing was changed".to_owned(),
                io::ErrorKind::ReadOnlyFilesystem => "nothing was changed".to_owned(),
                _ => return None,
            },
            Self::Special(_) => "use a path of letters, digits and / . _ -".to_owned(),
            Self::NoSshd(_) => "install openssh-server, or name it: --sshd FILE".to_owned(),
            Self::Foreign(_) => "move it away if nothing needs it, then run this again".to_owned(),
            Self::Changed(_) => "look at them; --force goes on all the same".to_owned(),
            Self::Conflict { keyword, .. } => {
                format!("sshd takes one {keyword} only: take that out, or do by hand what README.md says")
            }
            Self::NotInForce { .. } => "what comes first wins: take that out, or move it behind the Include".to_owned(),
            Self::NotIncluded { drop_in, config } => {
                format!("put this at the top of {}, or say --include: Include {}", config.display(), drop_in.display())
            }
            Self::StillUsed(_) => "take it out of sshd's configuration, then run this again".to_owned(),
            Self::Uncertified(_) => "ssh-jit host enrol".to_owned(),
            Self::Certified(_) => "move it away if nobody needs it".to_owned(),
            Self::NoPam(_) => "mend that, or leave --pam out: sessions then live on when certificates end".to_owned(),
            Self::PamRuns { .. } => "take that line out, then run this again".to_owned(),
            Self::NotSetUp(_) => "ssh-jit host setup --server URL --account ACCOUNT=PRINCIPAL".to_owned(),
            Self::Half { .. } => "ssh-jit host setup --undo".to_owned(),
            Self::Content { .. } | Self::Program { .. } => return None,
        })
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn placed(at: Option<&String>) -> String {
    let mut text = String::new();
    if let Some(at) = at {
        // Writing to a String cannot fail.
        let _ = write!(text, ", by {at}");
    }
    text
}
