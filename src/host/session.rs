//! The begin of a session: PAM, or sshd itself where PAM is off, has `ssh-jit host session` run when somebody has
//! shown who they are. Whoever came with a certificate of ours gets a watcher beside them, or does not get in.

use std::io;
use std::path::{Path, PathBuf};

use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use crate::domain::key::PublicKey;
use crate::domain::policy::EMERGENCY_LONGEST;
use crate::domain::time::{LONGEST, Timestamp};
use crate::files;

/// Where a host keeps what ssh-jit gave it.
pub const FOLDER: &str = "/etc/ssh/ssh-jit";
/// The program that PAM runs, or sshd as its ForceCommand: see [`wrapper`].
pub const WRAPPER: &str = "/etc/ssh/ssh-jit/session";
/// The lines for `sshd_config` where PAM is off. A connection that only forwards runs no command, so it is refused.
pub const WITHOUT_PAM: &str = "ExposeAuthInfo yes\nForceCommand /etc/ssh/ssh-jit/session\nDisableForwarding yes\n";

/// The CAs whose certificates end sessions: what sshd's `TrustedUserCAKeys` names.
const CA_FILE: &str = "user-ca.pub";
/// What `ssh-jit ca show --sshd` writes after the key of broken glass.
pub(super) const BREAK_GLASS_COMMENT: &str = "ssh-jit-break-glass-ca";
/// How the key id of broken glass begins, whichever CA signed it.
const BREAK_GLASS_KEY_ID: &str = "BREAK-GLASS/";

const WRAPPER_TEXT: &str = r#"#!/bin/sh
# Written by ssh-jit. PAM runs this when a session opens and when it closes; where PAM is off, sshd runs it as its
# ForceCommand. Who came with a certificate is refused unless the helper says that it watches, or that it need not.
# Nobody else needs it.
program=@PROGRAM@

admit() {
    # Comes back when the helper closes its output: it stays, as the watcher.
    answer=$("$program" host session --above "$PPID" 2>&1 </dev/null &)
    if [ "$answer" != admitted ]; then
        printf '%s\n' "${answer:-ssh-jit: this login is refused: $program ended without a word}" >&2
        exit 1
    fi
}

case ${PAM_TYPE-} in
open_session)
    case ${SSH_AUTH_INFO_0-} in
    *-cert-v01@openssh.com*) admit ;;
    esac
    exit 0
    ;;
?*) exit 0 ;;
esac

if [ ! -r "${SSH_USER_AUTH-}" ]; then
    echo "ssh-jit: sshd does not say who came: ExposeAuthInfo yes is missing in sshd_config" >&2
    exit 1
fi
while read -r SSH_AUTH_INFO_0; do
    export SSH_AUTH_INFO_0
    case $SSH_AUTH_INFO_0 in
    *-cert-v01@openssh.com*) admit ;;
    esac
done <"$SSH_USER_AUTH"
unset SSH_AUTH_INFO_0
case ${SSH_ORIGINAL_COMMAND-} in
'') exec "$SHELL" -l ;;
internal-sftp*)
    for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server; do
        [ -x "$server" ] && exec "$server"
    done
    exit 1
    ;;
*) exec "$SHELL" -c "$SSH_ORIGINAL_COMMAND" ;;
esac
"#;

/// The text of [`WRAPPER`], for an `ssh-jit` at this path: mode 0755, root's.
pub fn wrapper(program: &Path) -> Result<String, SessionError> {
    let shown = program.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if !program.is_absolute() || !shown.chars().all(plain) {
        return Err(SessionError::Program(shown));
    }
    Ok(WRAPPER_TEXT.replace("@PROGRAM@", &shown))
}

/// The line for `/etc/pam.d/sshd` that has PAM run this program. It comes before every other `session` line there:
/// `pam_env` can take variables from a file of the person's, and the program, which runs as root, must not see them.
pub fn pam_line(program: &Path) -> String {
    format!("session required pam_exec.so quiet stdout {}", program.display())
}

/// What the helper says on standard output when the login may go on.
pub const ADMITTED: &str = "admitted\n";

/// Why a login is refused.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The path does not fit into a shell script.
    #[error("program: {0:?} is no absolute path of letters, digits and /._+-")]
    Program(String),
    /// The host does not know its CAs.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What sshd took for a certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It is not what its CA signed, or not for a person.
    #[error("the certificate {0}")]
    Wrong(&'static str),
    /// It is valid for longer than any that the service signs.
    #[error("the certificate is valid for {length} s, and {longest} s is the most")]
    TooLong {
        /// The length of its window, in seconds.
        length: u64,
        /// The longest, in seconds.
        longest: u64,
    },
    /// Nothing watches over the session.
    #[error("nobody watches over it: {0}")]
    Watcher(#[from] io::Error),
}

/// The CAs that this host believes.
#[derive(Debug, Default)]
pub struct Authorities {
    ordinary: Vec<PublicKey>,
    break_glass: Vec<PublicKey>,
}

/// A certificate of ours that opened a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Algorithm and base64, as in a `-cert.pub` file.
    pub certificate: String,
    /// The first second in which it counts no more.
    pub ends: Timestamp,
}

impl Authorities {
    /// Reads `user-ca.pub` in a host's folder: a key on each line, that of broken glass with its comment.
    pub fn load(folder: &Path) -> Result<Self, SessionError> {
        let path = folder.join(CA_FILE);
        let text = files::read_trusted(&path).map_err(|e| e.to_string()).and_then(|text| Self::parse(&text));
        text.map_err(|reason| SessionError::Authorities { path, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        {
            let key: PublicKey = line.parse().map_err(|e| format!("line {}: {e}", at + 1))?;
            let broken = line.split(' ').nth(2) == Some(BREAK_GLASS_COMMENT);
            if broken { &mut found.break_glass } else { &mut found.ordinary }.push(key);
        }
        Ok(found)
    }

    /// The certificate of ours that ends first, from the lines of `SSH_AUTH_INFO_0`: a method each, with what was
    /// shown. `None` when none of ours is among them.
    pub fn admit(&self, auth_info: &str) -> Result<Option<Admitted>, SessionError> {
        let mut first: Option<Admitted> = None;
        for line in auth_info.lines() {
            let mut words = line.split(' ').skip_while(|word| !word.ends_with("-cert-v01@openssh.com"));
            let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else { continue };
            if let Some(admitted) = self.check(&format!("{algorithm} {base64}"))?
                && first.as_ref().is_none_or(|first| admitted.ends < first.ends)
            {
                first = Some(admitted);
            }
        }
        Ok(first)
    }

    fn check(&self, line: &str) -> Result<Option<Admitted>, SessionError> {
        let certificate = Certificate::from_openssh(line).map_err(|e| SessionError::Unreadable(e.to_string()))?;
        let by = |keys: &[PublicKey]| keys.iter().any(|key| key.data() == certificate.signature_key());
        let broken = by(&self.break_glass);
        if !broken && !by(&self.ordinary) {
            return Ok(None);
        }
        if certificate.verify_signature().is_err() {
            return Err(SessionError::Wrong("is not signed by its CA"));
        }
        if certificate.cert_type() != CertType::User {
            return Err(SessionError::Wrong("is not a person's"));
        }
        let emergency = broken || certificate.key_id().starts_with(BREAK_GLASS_KEY_ID);
        let longest = if emergency { EMERGENCY_LONGEST } else { u64::from(LONGEST) };
        let length = certificate.valid_before().saturating_sub(certificate.valid_after());
        if length > longest {
            return Err(SessionError::TooLong { length, longest });
        }
        let ends = i64::try_from(certificate.valid_before()).map_err(|e| SessionError::Unreadable(e.to_string()))?;
        Ok(Some(Admitted { certificate: line.to_owned(), ends: Timestamp::from_unix(ends) }))
    }
}

#[cfg(test)]
mod tests;
