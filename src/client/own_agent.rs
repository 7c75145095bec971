//! An ssh-agent of our own, for one command: it holds one subject key with its certificate, in this process's memory
//! only, and signs logins with it. Adding, removing, locking and everything else is refused.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::domain::sshsig::ed25519_wire;

use super::agent::{
    FAILURE, IDENTITIES_ANSWER, LONGEST, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE, frame, string,
};
use super::subject::Subject;

/// RFC 4252, "Authentication Protocol Message Numbers".
const USERAUTH_REQUEST: u8 = 50;
/// RFC 4252, section 7, and OpenSSH's PROTOCOL, "publickey-hostbound-v00@openssh.com".
const METHODS: [&[u8]; 2] = [b"publickey", b"publickey-hostbound-v00@openssh.com"];

/// The agent. With the value its socket is gone, and it signs nothing any more.
#[derive(Debug)]
pub struct OwnAgent {
    folder: PathBuf,
    closed: Arc<AtomicBool>,
}

/// What it holds.
struct Holding {
    key: SigningKey,
    certificate: Vec<u8>,
    comment: String,
    closed: Arc<AtomicBool>,
}

impl OwnAgent {
    /// Listens in a folder of its own, mode 0700, made under `runtime` with this random name. `None` when this
    /// process does not have the key.
    pub fn start(
        runtime: &Path,
        name: &str,
        subject: &Subject,
        certificate: &[u8],
        comment: &str,
    ) -> io::Result<Option<Self>> {
        let Some(key) = subject.private().cloned() else { return Ok(None) };
        let folder = runtime.join(format!("ssh-jit-{name}"));
        // Not one that is there already: somebody else could have put it there.
        let private = 0o700;
        DirBuilder::new().mode(private).create(&folder)?;
        let agent = Self { folder, closed: Arc::default() };
        let listener = UnixListener::bind(agent.socket())?;
        let closed = Arc::clone(&agent.closed);
        let holding = Arc::new(Holding { key, certificate: certificate.to_vec(), comment: comment.to_owned(), closed });
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let holding = Arc::clone(&holding);
                // A client that breaks off, or the protocol, ends its own connection only.
                thread::spawn(move || while holding.exchange(&client).is_ok() {});
            }
        });
        Ok(Some(agent))
    }

    /// What `SSH_AUTH_SOCK` has to name.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("agent")
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Nothing but a socket that nobody can use is left when this fails.
        let _ = fs::remove_file(self.socket()).and_then(|()| fs::remove_dir(&self.folder));
    }
}

impl Holding {
    /// One question, one answer.
    fn exchange(&self, mut client: &UnixStream) -> io::Result<()> {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        // Judged before anything is allocated.
        if !(1..=LONGEST).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut question = vec![0; length];
        client.read_exact(&mut question)?;
        let answer = self.answer(&question).map_or_else(|| frame(FAILURE, &[], &[]), Ok).map_err(io::Error::other)?;
        client.write_all(&answer)
    }

    /// The answer, unless it is no.
    fn answer(&self, question: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        match question.split_first()? {
            (&REQUEST_IDENTITIES, []) => {
                let mut list = 1u32.to_be_bytes().to_vec();
                for field in [self.certificate.as_slice(), self.comment.as_bytes()] {
                    list.extend((field.len() as u32).to_be_bytes());
                    list.extend(field);
                }
                frame(IDENTITIES_ANSWER, &[], &list).ok()
            }
            (&SIGN_REQUEST, mut rest) => {
                let (blob, data) = (string(&mut rest)?, string(&mut rest)?);
                if blob != self.certificate || !self.is_login(data) {
                    return None;
                }
                frame(SIGN_RESPONSE, &[&ed25519_wire(&self.key.sign(data).to_bytes())], &[]).ok()
            }
            _ => None,
        }
    }

    /// Whether these bytes are a login with this certificate (RFC 4252, section 7), and nothing else: not a statement
    /// that gives back or claims, and not somebody's commit.
    fn is_login(&self, mut data: &[u8]) -> bool {
        let rest = &mut data;
        let mut login = || {
            let _session = string(rest)?;
            rest.split_off_first().filter(|kind| **kind == USERAUTH_REQUEST)?;
            let (_user, service, method) = (string(rest)?, string(rest)?, string(rest)?);
            rest.split_off_first().filter(|signed| **signed == 1)?;
            let (_algorithm, blob) = (string(rest)?, string(rest)?);
            Some(service == b"ssh-connection" && METHODS.contains(&method) && blob == self.certificate)
        };
        login().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::client::agent::{Agent, AgentError, Identity};

    fn subject() -> Subject {
        Subject::new(&[7; 32]).unwrap()
    }

    fn agent(folder: &Path) -> OwnAgent {
        OwnAgent::start(folder, "x", &subject(), b"a certificate", "ssh-jit").unwrap().unwrap()
    }

    fn login(method: &str, certificate: &[u8]) -> Vec<u8> {
        let field = |text: &[u8]| [&(text.len() as u32).to_be_bytes(), text].concat();
        let [session, user, service] = [&b"session"[..], b"root", b"ssh-connection"].map(field);
        let (method, algorithm, key) = (field(method.as_bytes()), field(b"any"), field(certificate));
        [&session[..], &[50], &user, &service, &method, &[1], &algorithm, &key].concat()
    }

    #[test]
    fn it_shows_one_certificate_and_signs_logins_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = agent(folder.path());
        let mode = fs::metadata(folder.path().join("ssh-jit-x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        let mut client = Agent::connect(&own.socket()).unwrap();
        let held = Identity { blob: b"a certificate".to_vec(), comment: "ssh-jit".to_owned() };
        assert_eq!(client.identities().unwrap(), [held]);
        let key = subject().public().clone();
        for method in ["publickey", "publickey-hostbound-v00@openssh.com"] {
            let data = login(method, b"a certificate");
            let wire = client.sign_certified(b"a certificate", &key, &data).unwrap();
            assert_eq!(wire, ed25519_wire(&subject().private().unwrap().sign(&data).to_bytes()));
        }
    }

    /// Whoever is in the command could otherwise have more signed than logins, or lock the others out.
    #[test]
    fn it_does_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let own = agent(folder.path());
        let (mut client, key) = (Agent::connect(&own.socket()).unwrap(), subject().public().clone());
        let mut refuses = |blob: &[u8], data: &[u8]| {
            assert!(matches!(client.sign_certified(blob, &key, data), Err(AgentError::RefusedToSign(_))), "{data:?}");
        };
        refuses(b"a certificate", b"");
        refuses(b"a certificate", b"SSHSIG and a statement");
        refuses(b"a certificate", &login("password", b"a certificate"));
        refuses(b"a certificate", &login("publickey", b"another one"));
        refuses(b"another one", &login("publickey", b"another one"));
        refuses(b"another one", &login("publickey", b"a certificate"));
        refuses(key.blob(), &login("publickey", key.blob()));
        let added = client.add(&SigningKey::from_bytes(&[9; 32]), None, "more", NonZeroU32::MIN);
        assert!(matches!(added, Err(AgentError::RefusedToAdd)), "{added:?}");
        let removed = client.remove(b"a certificate");
        assert!(matches!(removed, Err(AgentError::RefusedToRemove)), "{removed:?}");
        assert_eq!(client.identities().unwrap().len(), 1);
    }

    #[test]
    fn a_length_that_no_question_has_ends_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let own = agent(folder.path());
        for length in [0, LONGEST as u32 + 1, u32::MAX] {
            let mut client = UnixStream::connect(own.socket()).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            client.write_all(&length.to_be_bytes()).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{length}");
        }
    }

    #[test]
    fn it_ends_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let own = agent(folder.path());
        let mut client = Agent::connect(&own.socket()).unwrap();
        drop(own);
        assert!(matches!(client.identities(), Err(AgentError::RefusedToList)), "nor for who is connected");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_uses_no_folder_of_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ssh-jit-x")).unwrap();
        let error = OwnAgent::start(folder.path(), "x", &subject(), b"a certificate", "ssh-jit").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
