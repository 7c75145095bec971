//! A blocking client of ssh-agent (RFC 9987) over its Unix socket: list, sign, add, remove. Only what
//! a login needs: no forwarding, no smartcards, no locking. The agent is not trusted to be well made:
//! nothing is allocated on its word, and what it signs is checked by who asked.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ssh_key::public::KeyData;
use zeroize::Zeroizing;

use crate::domain::digest::Digest;
use crate::domain::key::PublicKey;

/// RFC 9987, "Message numbers".
pub(super) const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const IDENTITIES_ANSWER: u8 = 12;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const SIGN_RESPONSE: u8 = 14;
const REMOVE_IDENTITY: u8 = 18;
const ADD_ID_CONSTRAINED: u8 = 25;
/// RFC 9987, "Constraint identifiers": a `uint32` of seconds follows.
const CONSTRAIN_LIFETIME: u8 = 1;
/// RFC 9987, "Signature flags": without it an RSA key signs with SHA-1.
const RSA_SHA2_512: u32 = 4;

/// The longest message in either direction: OpenSSH's own `AGENT_MAX_LEN`.
pub(super) const LONGEST: usize = 256 * 1024;
/// An agent that stopped reading is not waited for. Its *answers* are: a FIDO key waits for a touch.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the agent did not do it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody listens there.
    #[error("no ssh-agent at {}: {reason}", path.display())]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// It would not say what it holds.
    #[error("the ssh-agent refused to list its keys")]
    RefusedToList,
    /// Locked, or not able to hold this kind of key or a lifetime: keep the key in a file.
    #[error("the ssh-agent refused to add the key")]
    RefusedToAdd,
    /// Locked, the key is gone, or its holder said no.
    #[error("the ssh-agent refused to sign with {0}")]
    RefusedToSign(Digest),
    /// Most likely it does not hold the key.
    #[error("the ssh-agent refused to remove the key")]
    RefusedToRemove,
    /// The agent ended, or stalled.
    #[error("the ssh-agent does not answer: {0}")]
    Lost(io::Error),
    /// Not an answer that the protocol allows. The connection is closed.
    #[error("the ssh-agent's reply is malformed")]
    Malformed,
    /// More than any agent takes.
    #[error("the message for the ssh-agent is too long ({0} bytes)")]
    TooLong(usize),
}

/// A connection to an agent. After [`AgentError::Lost`] or [`AgentError::Malformed`] it is of no more use.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
}

/// Something that an agent holds: a key, or a key with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Key or certificate on the wire, exactly as the agent has it.
    pub blob: Vec<u8>,
    /// Whatever was written beside it, unchecked: escape it before it is shown.
    pub comment: String,
}

impl Identity {
    /// The key, if it is a plain key of an accepted kind; `None` for certificates and all others.
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_blob(&self.blob).ok()
    }
}

impl Agent {
    /// Connects to the socket that `SSH_AUTH_SOCK` or `IdentityAgent` names.
    pub fn connect(path: &Path) -> Result<Self, AgentError> {
        let no_agent = |reason| AgentError::NoAgent { path: path.to_owned(), reason };
        let stream = UnixStream::connect(path).map_err(no_agent)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(no_agent)?;
        Ok(Self { stream })
    }

    /// What it holds. A locked agent says that it holds nothing.
    pub fn identities(&mut self) -> Result<Vec<Identity>, AgentError> {
        let reply = self.call(&frame(REQUEST_IDENTITIES, &[], &[])?)?;
        let list = match reply.split_first() {
            Some((&IDENTITIES_ANSWER, list)) => identities(list),
            Some((&FAILURE, [])) => return Err(AgentError::RefusedToList),
            _ => None,
        };
        self.well_formed(list)
    }

    /// Signs `data` as it stands. The result is an SSH signature blob (`string algorithm`, then its
    /// fields), not yet verified. Waits as long as a person takes to touch a key or type a PIN.
    pub fn sign(&mut self, key: &PublicKey, data: &[u8]) -> Result<Vec<u8>, AgentError> {
        let flags = if matches!(key.data(), KeyData::Rsa(_)) { RSA_SHA2_512 } else { 0 };
        self.sign_as(key.blob(), key, data, flags)
    }

    /// The same with an Ed25519 key that it holds only together with this certificate.
    pub fn sign_certified(&mut self, certificate: &[u8], key: &PublicKey, data: &[u8]) -> Result<Vec<u8>, AgentError> {
        self.sign_as(certificate, key, data, 0)
    }

    fn sign_as(&mut self, blob: &[u8], key: &PublicKey, data: &[u8], flags: u32) -> Result<Vec<u8>, AgentError> {
        let reply = self.call(&frame(SIGN_REQUEST, &[blob, data], &flags.to_be_bytes())?)?;
        let signature = match reply.split_first() {
            Some((&SIGN_RESPONSE, mut rest)) => string(&mut rest).filter(|_| rest.is_empty()).map(<[u8]>::to_vec),
            Some((&FAILURE, [])) => return Err(AgentError::RefusedToSign(key.fingerprint())),
            _ => None,
        };
        self.well_formed(signature)
    }

    /// Gives it a key, alone or with a certificate (on the wire), until `lifetime` seconds from now.
    /// The same key or certificate once more replaces the first one's lifetime and comment; with and
    /// without certificate are two identities. No lifetime of 0: agents take it as "for ever".
    pub fn add(
        &mut self,
        key: &SigningKey,
        certificate: Option<&[u8]>,
        comment: &str,
        lifetime: NonZeroU32,
    ) -> Result<(), AgentError> {
        let public = key.verifying_key();
        let public = public.as_bytes().as_slice();
        let pair = Zeroizing::new(key.to_keypair_bytes());
        let pair = pair.as_slice();
        // RFC 9987, "EDDSA keys", and its counterpart for certificates in OpenSSH's PROTOCOL.agent.
        let kind = certificate.map_or("ssh-ed25519", |_| "ssh-ed25519-cert-v01@openssh.com");
        let mut fields = vec![kind.as_bytes()];
        fields.extend(certificate);
        fields.extend([public, pair, comment.as_bytes()]);
        let mut constraints = vec![CONSTRAIN_LIFETIME];
        constraints.extend(lifetime.get().to_be_bytes());
        let reply = self.call(&frame(ADD_ID_CONSTRAINED, &fields, &constraints)?)?;
        self.done(&reply, AgentError::RefusedToAdd)
    }

    /// Makes it forget a key or certificate, by the blob that [`Agent::identities`] shows.
    pub fn remove(&mut self, blob: &[u8]) -> Result<(), AgentError> {
        let reply = self.call(&frame(REMOVE_IDENTITY, &[blob], &[])?)?;
        self.done(&reply, AgentError::RefusedToRemove)
    }

    /// One message there, one back: its type, then its contents.
    fn call(&mut self, frame: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut length = [0; 4];
        let exchanged = self.stream.write_all(frame).and_then(|()| self.stream.read_exact(&mut length));
        exchanged.map_err(AgentError::Lost)?;
        // Judged before anything is allocated (GO-2025-4135, RUSTSEC-2026-0153).
        let length = u32::from_be_bytes(length) as usize;
        if !(1..=LONGEST).contains(&length) {
            return self.well_formed(None);
        }
        let mut reply = vec![0; length];
        self.stream.read_exact(&mut reply).map_err(AgentError::Lost)?;
        Ok(reply)
    }

    fn done(&mut self, reply: &[u8], refused: AgentError) -> Result<(), AgentError> {
        match reply {
            [SUCCESS] => Ok(()),
            [FAILURE] => Err(refused),
            _ => self.well_formed(None),
        }
    }

    /// Hangs up on an agent that does not keep to the protocol: the next reply could be to another
    /// question, and a signature would be taken for what it is not.
    fn well_formed<T>(&mut self, parsed: Option<T>) -> Result<T, AgentError> {
        parsed.ok_or_else(|| {
            // It may have hung up first.
            let _ = self.stream.shutdown(Shutdown::Both);
            AgentError::Malformed
        })
    }
}

/// `uint32 length, byte type`, the fields as `string`s, then `rest` as it is. Sized exactly, so that
/// growing leaves no copy of a secret behind.
pub(super) fn frame(kind: u8, fields: &[&[u8]], rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgentError> {
    let length = 1 + fields.iter().map(|field| 4 + field.len()).sum::<usize>() + rest.len();
    if length > LONGEST {
        return Err(AgentError::TooLong(length));
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(4 + length));
    frame.extend((length as u32).to_be_bytes());
    frame.push(kind);
    for field in fields {
        frame.extend((field.len() as u32).to_be_bytes());
        frame.extend_from_slice(field);
    }
    frame.extend_from_slice(rest);
    Ok(frame)
}

/// `uint32 nkeys`, and for each of them `string blob, string comment`.
fn identities(mut list: &[u8]) -> Option<Vec<Identity>> {
    let rest = &mut list;
    let count = number(rest)?;
    // The count decides nothing but where to stop, so a wrong one costs nothing.
    let mut held = Vec::new();
    for _ in 0..count {
        let (blob, comment) = (string(rest)?.to_vec(), String::from_utf8_lossy(string(rest)?).into_owned());
        held.push(Identity { blob, comment });
    }
    rest.is_empty().then_some(held)
}

pub(super) fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)? as usize;
    let (string, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(string)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_be_bytes(*number))
}

/// A real ssh-agent that ends with the test, and the tools that come with it.
#[cfg(test)]
pub(crate) mod real {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::Agent;

    pub(crate) struct RealAgent {
        child: Child,
        pub(crate) folder: tempfile::TempDir,
    }

    impl RealAgent {
        pub(crate) fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut command = Command::new("ssh-agent");
            command.arg("-D").arg("-a").arg(folder.path().join("agent")).stdout(Stdio::null());
            let agent = Self { child: command.spawn().expect("ssh-agent (Debian: openssh-client)"), folder };
            let patience = Instant::now() + Duration::from_secs(10);
            while Agent::connect(&agent.socket()).is_err() {
                assert!(Instant::now() < patience, "ssh-agent does not listen");
                std::thread::sleep(Duration::from_millis(5));
            }
            agent
        }

        pub(crate) fn socket(&self) -> PathBuf {
            self.folder.path().join("agent")
        }

        pub(crate) fn connect(&self) -> Agent {
            Agent::connect(&self.socket()).unwrap()
        }

        /// Hands a key file to the agent, as a person does.
        pub(crate) fn ssh_add(&self, file: &Path) {
            let mut command = Command::new("ssh-add");
            run(command.arg("-q").arg(file).env("SSH_AUTH_SOCK", self.socket()));
        }
    }

    impl Drop for RealAgent {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    /// Makes a key pair with ssh-keygen.
    pub(crate) fn keygen(file: &Path, options: &[&str], passphrase: &str) {
        let mut command = Command::new("ssh-keygen");
        run(command.args(["-q", "-C", "alice@laptop", "-N", passphrase]).args(options).arg("-f").arg(file));
    }

    pub(crate) fn run(command: &mut Command) -> String {
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::thread;
    use std::time::Instant;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::real::{RealAgent, keygen, run};
    use super::*;
    use crate::domain::sshsig::{SshSig, signed_blob};

    const MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

    fn subject() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn public_line(key: &SigningKey) -> String {
        let key = ssh_key::public::Ed25519PublicKey::from(key.verifying_key());
        ssh_key::PublicKey::from(key).to_openssh().unwrap()
    }

    /// An agent that answers everything with `reply` (a whole frame, right or wrong), then hangs up.
    fn scripted(reply: &[u8]) -> Agent {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reply = reply.to_vec();
        thread::spawn(move || {
            let mut length = [0; 4];
            theirs.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            theirs.read_exact(&mut request).unwrap();
            theirs.write_all(&reply).unwrap();
        });
        Agent { stream: ours }
    }

    fn framed(reply: &[u8]) -> Vec<u8> {
        [&(reply.len() as u32).to_be_bytes(), reply].concat()
    }

    #[test]
    fn a_length_that_no_reply_has_is_refused_unread() {
        for length in [0, LONGEST as u32 + 1, 1 << 31, u32::MAX] {
            let mut agent = scripted(&[&length.to_be_bytes()[..], &[IDENTITIES_ANSWER, 0, 0, 0, 0]].concat());
            assert!(matches!(agent.identities(), Err(AgentError::Malformed)), "{length}");
            // The connection is gone, so what follows cannot be taken for the next reply.
            assert!(matches!(agent.identities(), Err(AgentError::Lost(_))), "{length}");
        }
    }

    #[test]
    fn a_reply_that_ends_early_is_an_error() {
        let whole = framed(&[IDENTITIES_ANSWER, 0, 0, 0, 0]);
        assert_eq!(scripted(&whole).identities().unwrap(), []);
        for cut in 0..whole.len() {
            assert!(matches!(scripted(&whole[..cut]).identities(), Err(AgentError::Lost(_))), "{cut}");
        }
    }

    #[test]
    fn a_list_that_does_not_add_up_is_malformed() {
        let lists: [&[u8]; 8] = [
            &[],
            &[0, 0, 0],
            &[0, 0, 0, 1],
            &[0, 0, 0, 0, 9],
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 9, 1, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0],
        ];
        for list in lists {
            let mut agent = scripted(&framed(&[&[IDENTITIES_ANSWER], list].concat()));
            assert!(matches!(agent.identities(), Err(AgentError::Malformed)), "{list:?}");
        }
    }

    #[test]
    fn a_signature_comes_alone_and_whole() {
        let key: PublicKey = public_line(&subject()).parse().unwrap();
        let good = scripted(&framed(&[SIGN_RESPONSE, 0, 0, 0, 2, 8, 9])).sign(&key, b"data");
        assert_eq!(good.unwrap(), [8, 9]);
        for reply in [
            &[SIGN_RESPONSE][..],
            &[SIGN_RESPONSE, 0, 0, 0, 3, 8, 9],
            &[SIGN_RESPONSE, 0, 0, 0, 1, 8, 9],
            &[SIGN_RESPONSE, 0xff, 0xff, 0xff, 0xff, 8],
            &[SUCCESS],
            &[FAILURE, 0],
            &[IDENTITIES_ANSWER, 0, 0, 0, 0],
        ] {
            let answer = scripted(&framed(reply)).sign(&key, b"data");
            assert!(matches!(answer, Err(AgentError::Malformed)), "{reply:?}");
        }
    }

    #[test]
    fn refusals_say_what_was_refused() {
        let no = framed(&[FAILURE]);
        let key: PublicKey = public_line(&subject()).parse().unwrap();
        let list = scripted(&no).identities().unwrap_err().to_string();
        let sign = scripted(&no).sign(&key, b"data").unwrap_err().to_string();
        let add = scripted(&no).add(&subject(), None, "", MINUTE).unwrap_err().to_string();
        let remove = scripted(&no).remove(key.blob()).unwrap_err().to_string();
        assert_eq!(list, "the ssh-agent refused to list its keys");
        assert_eq!(sign, format!("the ssh-agent refused to sign with {}", key.fingerprint()));
        assert_eq!(add, "the ssh-agent refused to add the key");
        assert_eq!(remove, "the ssh-agent refused to remove the key");
        let nobody = Agent::connect(Path::new("/nonexistent/agent")).unwrap_err().to_string();
        assert!(nobody.starts_with("no ssh-agent at /nonexistent/agent: "), "{nobody}");
    }

    #[test]
    fn adding_is_acknowledged_by_success_alone() {
        for reply in [&[SIGN_RESPONSE][..], &[SUCCESS, 0], &[0xff]] {
            let answer = scripted(&framed(reply)).add(&subject(), None, "", MINUTE);
            assert!(matches!(answer, Err(AgentError::Malformed)), "{reply:?}");
        }
    }

    #[test]
    fn nothing_longer_than_an_agent_takes_is_sent() {
        let mut agent = scripted(&framed(&[SUCCESS]));
        assert!(matches!(agent.remove(&vec![0; LONGEST]), Err(AgentError::TooLong(_))));
    }

    #[test]
    fn a_real_agent_lists_and_signs() {
        let real = RealAgent::start();
        let mut agent = real.connect();
        assert_eq!(agent.identities().unwrap(), []);
        let kinds: [&[&str]; 5] = [
            &["-t", "ed25519"],
            &["-t", "ecdsa", "-b", "256"],
            &["-t", "ecdsa", "-b", "384"],
            &["-t", "ecdsa", "-b", "521"],
            &["-t", "rsa", "-b", "3072"],
        ];
        for (n, kind) in kinds.iter().enumerate() {
            let file = real.folder.path().join(n.to_string());
            keygen(&file, kind, "");
            real.ssh_add(&file);
            let key: PublicKey = fs::read_to_string(file.with_extension("pub")).unwrap().parse().unwrap();
            let held = agent.identities().unwrap();
            assert_eq!(held.len(), n + 1);
            assert_eq!((held[n].key(), held[n].comment.as_str()), (Some(key.clone()), "alice@laptop"));
            let raw = agent.sign(&key, &signed_blob("request@ssh-jit", b"please")).unwrap();
            let signature = SshSig::from_signature(&key, "request@ssh-jit", &raw).unwrap();
            signature.check(b"please").unwrap();
            signature.check(b"pleased").unwrap_err();
        }
    }

    #[test]
    fn a_real_agent_refuses_what_it_does_not_hold() {
        let real = RealAgent::start();
        let mut agent = real.connect();
        let key: PublicKey = public_line(&subject()).parse().unwrap();
        assert!(matches!(agent.sign(&key, b"data"), Err(AgentError::RefusedToSign(_))));
        assert!(matches!(agent.remove(key.blob()), Err(AgentError::RefusedToRemove)));
        // A refusal leaves the connection usable.
        assert_eq!(agent.identities().unwrap(), []);
    }

    #[test]
    fn a_key_is_added_replaced_and_removed() {
        let real = RealAgent::start();
        let mut agent = real.connect();
        let key: PublicKey = public_line(&subject()).parse().unwrap();
        agent.add(&subject(), None, "first", MINUTE).unwrap();
        agent.add(&subject(), None, "second", MINUTE).unwrap();
        let held = agent.identities().unwrap();
        assert_eq!(held, [Identity { blob: key.blob().to_vec(), comment: "second".into() }]);
        let raw = agent.sign(&key, &signed_blob("claim@ssh-jit", b"claim")).unwrap();
        SshSig::from_signature(&key, "claim@ssh-jit", &raw).unwrap().check(b"claim").unwrap();
        agent.remove(key.blob()).unwrap();
        assert_eq!(agent.identities().unwrap(), []);
    }

    #[test]
    fn a_key_is_gone_after_its_lifetime() {
        let real = RealAgent::start();
        let mut agent = real.connect();
        agent.add(&subject(), None, "short", NonZeroU32::MIN).unwrap();
        assert_eq!(agent.identities().unwrap().len(), 1);
        // The agent counts whole seconds.
        let patience = Instant::now() + Duration::from_secs(5);
        while !agent.identities().unwrap().is_empty() {
            assert!(Instant::now() < patience, "still there");
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_certificate_is_added_beside_its_key() {
        let real = RealAgent::start();
        let mut agent = real.connect();
        let (ca, file) = (real.folder.path().join("ca"), real.folder.path().join("subject.pub"));
        keygen(&ca, &["-t", "ed25519"], "");
        fs::write(&file, public_line(&subject())).unwrap();
        run(Command::new("ssh-keygen").arg("-q").arg("-s").arg(&ca).args(["-I", "test", "-n", "db"]).arg(&file));
        let line = fs::read_to_string(real.folder.path().join("subject-cert.pub")).unwrap();
        let blob = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();

        agent.add(&subject(), None, "key", MINUTE).unwrap();
        agent.add(&subject(), Some(&blob), "certificate", MINUTE).unwrap();
        let held = agent.identities().unwrap();
        assert_eq!(held.len(), 2);
        assert_eq!((held[1].blob.as_slice(), held[1].key()), (blob.as_slice(), None));
        let listed = run(Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", real.socket()));
        assert!(listed.contains("certificate (ED25519-CERT)"), "{listed}");
        agent.remove(&blob).unwrap();
        assert_eq!(agent.identities().unwrap().len(), 1);
    }
}
