//! The key with which a person signs: in their agent, or in a file that OpenSSH wrote. FIDO and RSA
//! keys sign through an agent only: the first need hardware, and for the second no implementation that
//! could run in this process is free of the timing flaw RUSTSEC-2023-0071.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use signature::Signer as _;
use ssh_encoding::Encode as _;
use ssh_key::PrivateKey;
use ssh_key::public::KeyData;
use zeroize::Zeroizing;

use super::agent::{Agent, AgentError};
use crate::domain::key::PublicKey;
use crate::domain::names::Invalid;
use crate::domain::sshsig::{BadSignature, Expect, SshSig, signed_blob};

/// As many as ssh asks for.
const PASSPHRASE_TRIES: usize = 3;
/// No key file is longer: OpenSSH's own `MAX_KEY_FILE_SIZE`.
const LONGEST_FILE: u64 = 1024 * 1024;
const PRIVATE: &str = "-----BEGIN ";

/// Why there is nothing to sign with, or no signature. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such file, or not for us.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Whoever can read it can sign as its owner, so ssh refuses it too.
    #[error("{} has mode {mode:04o}, so others could sign with it; try: chmod 600 {}", path.display(), path.display())]
    Loose {
        /// The private key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A private key in another form than OpenSSH's own, or a damaged one.
    #[error(
        "{} is not a private key in OpenSSH's format; add it to your agent (ssh-add {}), or convert it (ssh-keygen -p -f {})",
        path.display(), path.display(), path.display()
    )]
    NotOpenSsh {
        /// The private key.
        path: PathBuf,
    },
    /// A key that nobody should sign with.
    #[error("{}: {invalid}", path.display())]
    Key {
        /// The file with the key.
        path: PathBuf,
        /// What is wrong with it.
        invalid: Invalid,
    },
    /// Only the public half is there.
    #[error("your agent does not hold {}, and {} is only its public half; try: ssh-add", key.fingerprint(), path.display())]
    NotInAgent {
        /// The file with the public half.
        path: PathBuf,
        /// What it holds.
        key: Box<PublicKey>,
    },
    /// A FIDO or RSA key, which signs through an agent only.
    #[error("{} keys sign through an agent only; try: ssh-add {}", key.algorithm(), path.display())]
    NeedsAgent {
        /// The private key.
        path: PathBuf,
        /// Its public half.
        key: Box<PublicKey>,
    },
    /// Nobody typed one.
    #[error("no passphrase for {}: {reason}", path.display())]
    NoPassphrase {
        /// The private key.
        path: PathBuf,
        /// What the question came to.
        reason: io::Error,
    },
    /// Three wrong ones, or an empty one.
    #[error("wrong passphrase for {}", path.display())]
    WrongPassphrase {
        /// The private key.
        path: PathBuf,
    },
    /// The agent did not do it.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// What came back is not what the service would accept.
    #[error("the signature that {0} made is not good: {1}")]
    Signature(Box<PublicKey>, BadSignature),
}

/// Asks the person for a passphrase, showing the prompt it is given.
pub type AskPassphrase<'a> = &'a dyn Fn(&str) -> io::Result<Zeroizing<String>>;

/// A key that can sign statements.
#[derive(Debug)]
pub struct Identity {
    key: PublicKey,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Agent(Agent),
    File(Box<PrivateKey>),
}

impl Identity {
    /// Opens the key at `path`, either half of a pair, as ssh takes its `IdentityFile`: from the agent
    /// if that holds it, else from the private file, whose passphrase is then asked for. A private
    /// file need not exist where `path.pub` does.
    pub fn open(path: &Path, agent: Option<Agent>, ask: AskPassphrase<'_>) -> Result<Self, IdentityError> {
        let stored = Stored::read(path)?;
        if let (Some(mut agent), Some(key)) = (agent, stored.public_half())
            && agent.identities()?.iter().any(|held| held.blob == key.blob())
        {
            return Ok(Self { key: key.clone(), holder: Holder::Agent(agent) });
        }
        let (path, key, private) = stored.private_half()?;
        match key.data() {
            KeyData::Ed25519(_) | KeyData::Ecdsa(_) => {
                let private = unlock(&path, private, ask)?;
                Ok(Self { key, holder: Holder::File(private) })
            }
            _ => Err(IdentityError::NeedsAgent { path, key: Box::new(key) }),
        }
    }

    /// Whose signatures these are.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Signs a statement's bytes. A FIDO key waits for a touch. The signature is verified before it is
    /// returned: a faulty signer (or a flipped bit) can give away an Ed25519 key.
    pub fn sign(&mut self, namespace: &str, message: &[u8]) -> Result<SshSig, IdentityError> {
        let bad = |why| IdentityError::Signature(Box::new(self.key.clone()), why);
        let blob = signed_blob(namespace, message);
        let raw = match &mut self.holder {
            Holder::Agent(agent) => agent.sign(&self.key, &blob)?,
            Holder::File(private) => {
                let signature = private.try_sign(&blob).map_err(|_| bad(BadSignature::Mismatch))?;
                signature.encode_vec().map_err(|_| bad(BadSignature::Malformed))?
            }
        };
        let signature = SshSig::from_signature(&self.key, namespace, &raw).map_err(bad)?;
        signature.expect(message, namespace, &self.key, Expect::SshKey { verified: false }).map_err(bad)?;
        signature.check(message).map_err(bad)?;
        Ok(signature)
    }
}

/// What a key file holds.
enum Stored {
    Public {
        path: PathBuf,
        key: PublicKey,
    },
    Private {
        path: PathBuf,
        key: PublicKey,
        private: Box<PrivateKey>,
    },
    /// PEM of before OpenSSH 7.8, or PKCS #8: only an agent can use it, found by the public half beside it.
    Foreign {
        path: PathBuf,
        key: Option<PublicKey>,
    },
}

impl Stored {
    fn read(path: &Path) -> Result<Self, IdentityError> {
        match Self::read_file(path) {
            Err(IdentityError::Unreadable { reason, .. })
                if reason.kind() == io::ErrorKind::NotFound && with_pub(path).exists() =>
            {
                Self::read_file(&with_pub(path))
            }
            Ok(Self::Foreign { path, key: None }) => {
                let key = match Self::read_file(&with_pub(&path)) {
                    Ok(Self::Public { key, .. }) => Some(key),
                    _ => None,
                };
                Ok(Self::Foreign { path, key })
            }
            stored => stored,
        }
    }

    fn read_file(path: &Path) -> Result<Self, IdentityError> {
        let unreadable = |reason| IdentityError::Unreadable { path: path.to_owned(), reason };
        let invalid = |invalid| IdentityError::Key { path: path.to_owned(), invalid };
        let file = File::open(path).map_err(unreadable)?;
        // Of the file that was opened, not of whatever has its name by now.
        let metadata = file.metadata().map_err(unreadable)?;
        // Room for the whole file, so that growing leaves no copy of a key behind.
        let size = metadata.len().min(LONGEST_FILE) as usize;
        let mut text = Zeroizing::new(String::with_capacity(size + 1));
        file.take(LONGEST_FILE).read_to_string(&mut text).map_err(unreadable)?;
        if !text.starts_with(PRIVATE) {
            let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            let key = line.unwrap_or_default().parse().map_err(invalid)?;
            return Ok(Self::Public { path: path.to_owned(), key });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Loose { path: path.to_owned(), mode });
        }
        let Ok(private) = PrivateKey::from_openssh(text.as_bytes()) else {
            return Ok(Self::Foreign { path: path.to_owned(), key: None });
        };
        // The public half is in the clear, even when the private one is encrypted.
        let blob = private.public_key().to_bytes().unwrap_or_default();
        let key = PublicKey::from_blob(&blob).map_err(invalid)?;
        Ok(Self::Private { path: path.to_owned(), key, private: Box::new(private) })
    }

    /// From this file, or from the one that ssh-keygen wrote beside it.
    fn private_half(self) -> Result<(PathBuf, PublicKey, Box<PrivateKey>), IdentityError> {
        let (path, key) = match self {
            Self::Private { path, key, private } => return Ok((path, key, private)),
            Self::Foreign { path, .. } => return Err(IdentityError::NotOpenSsh { path }),
            Self::Public { path, key } => (path, key),
        };
        let beside = path.with_extension("");
        if path.extension().is_some_and(|extension| extension == "pub") && beside.exists() {
            match Self::read_file(&beside)? {
                Self::Private { path, key: found, private } if found == key => return Ok((path, key, private)),
                Self::Foreign { path, .. } => return Err(IdentityError::NotOpenSsh { path }),
                _ => {}
            }
        }
        Err(IdentityError::NotInAgent { path, key: Box::new(key) })
    }

    fn public_half(&self) -> Option<&PublicKey> {
        match self {
            Self::Public { key, .. } | Self::Private { key, .. } => Some(key),
            Self::Foreign { key, .. } => key.as_ref(),
        }
    }
}

fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn unlock(path: &Path, private: Box<PrivateKey>, ask: AskPassphrase<'_>) -> Result<Box<PrivateKey>, IdentityError> {
    if !private.is_encrypted() {
        return Ok(private);
    }
    for _ in 0..PASSPHRASE_TRIES {
        let passphrase = ask(&format!("Enter passphrase for key '{}': ", path.display()))
            .map_err(|reason| IdentityError::NoPassphrase { path: path.to_owned(), reason })?;
        if passphrase.is_empty() {
            break;
        }
        match private.decrypt(passphrase.as_bytes()) {
            Ok(opened) => return Ok(Box::new(opened)),
            Err(ssh_key::Error::Crypto) => {}
            Err(_) => return Err(IdentityError::NotOpenSsh { path: path.to_owned() }),
        }
    }
    Err(IdentityError::WrongPassphrase { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::super::agent::real::{RealAgent, keygen};
    use super::*;

    fn nobody(_: &str) -> io::Result<Zeroizing<String>> {
        Err(io::Error::other("nobody is there"))
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// OpenSSH is the judge.
    fn ssh_keygen_accepts(signature: &SshSig, namespace: &str, message: &[u8]) -> bool {
        let folder = folder();
        let (armor, statement) = (folder.path().join("sig"), folder.path().join("statement"));
        fs::write(&armor, signature.armor()).unwrap();
        fs::write(&statement, message).unwrap();
        Command::new("ssh-keygen")
            .args(["-Y", "check-novalidate", "-n", namespace, "-s"])
            .arg(armor)
            .stdin(File::open(statement).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    #[test]
    fn a_key_file_signs_whichever_half_is_named() {
        let folder = folder();
        let kinds: [&[&str]; 4] = [
            &["-t", "ed25519"],
            &["-t", "ecdsa", "-b", "256"],
            &["-t", "ecdsa", "-b", "384"],
            &["-t", "ecdsa", "-b", "521"],
        ];
        for (n, kind) in kinds.iter().enumerate() {
            let file = folder.path().join(format!("id_{n}"));
            keygen(&file, kind, "");
            for path in [file.clone(), with_pub(&file)] {
                let mut identity = Identity::open(&path, None, &nobody).unwrap();
                let line = fs::read_to_string(with_pub(&file)).unwrap();
                assert_eq!(*identity.public_key(), line.parse().unwrap());
                let signature = identity.sign("request@ssh-jit", b"please").unwrap();
                assert_eq!(signature.key(), identity.public_key());
                assert!(ssh_keygen_accepts(&signature, "request@ssh-jit", b"please"), "{kind:?}");
                assert!(!ssh_keygen_accepts(&signature, "request@ssh-jit", b"pleased"), "{kind:?}");
                assert!(!ssh_keygen_accepts(&signature, "approval@ssh-jit", b"please"), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_passphrase_is_asked_for_until_it_fits() {
        let folder = folder();
        for (cipher, kind) in [("aes256-ctr", "ed25519"), ("aes256-gcm@openssh.com", "ecdsa")] {
            let file = folder.path().join(kind);
            keygen(&file, &["-t", kind, "-Z", cipher, "-a", "1"], "correct horse");
            let asked = Cell::new(0);
            let ask = |prompt: &str| {
                assert_eq!(prompt, format!("Enter passphrase for key '{}': ", file.display()));
                asked.set(asked.get() + 1);
                Ok(Zeroizing::new(if asked.get() < 3 { "wrong" } else { "correct horse" }.to_owned()))
            };
            Identity::open(&file, None, &ask).unwrap().sign("claim@ssh-jit", b"claim").unwrap();
            assert_eq!(asked.get(), 3);
        }
    }

    #[test]
    fn a_wrong_passphrase_opens_nothing() {
        let folder = folder();
        let file = folder.path().join("id");
        keygen(&file, &["-t", "ed25519", "-a", "1"], "correct horse");
        for (answer, tries) in [("wrong", 3), ("", 1)] {
            let asked = Cell::new(0);
            let ask = |_: &str| {
                asked.set(asked.get() + 1);
                Ok(Zeroizing::new(answer.to_owned()))
            };
            let error = Identity::open(&file, None, &ask).unwrap_err();
            assert_eq!(error.to_string(), format!("wrong passphrase for {}", file.display()));
            assert_eq!(asked.get(), tries, "{answer:?}");
        }
        let error = Identity::open(&file, None, &nobody).unwrap_err();
        assert_eq!(error.to_string(), format!("no passphrase for {}: nobody is there", file.display()));
    }

    #[test]
    fn the_agent_signs_with_what_it_holds() {
        let real = RealAgent::start();
        let file = real.folder.path().join("id");
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let _ = fs::remove_file(&file);
            keygen(&file, &["-t", kind], "");
            real.ssh_add(&file);
            // A passphrase that nobody types: the file is not needed, and neither half has to be there.
            let mut change = Command::new("ssh-keygen");
            super::super::agent::real::run(change.args(["-q", "-p", "-N", "secret", "-f"]).arg(&file));
            for gone in [false, true] {
                if gone {
                    fs::remove_file(&file).unwrap();
                }
                for path in [file.clone(), with_pub(&file)] {
                    let mut identity = Identity::open(&path, Some(real.connect()), &nobody).unwrap();
                    let signature = identity.sign("denial@ssh-jit", b"no").unwrap();
                    assert!(ssh_keygen_accepts(&signature, "denial@ssh-jit", b"no"), "{kind}");
                }
            }
        }
    }

    #[test]
    fn an_agent_without_the_key_leaves_the_file() {
        let real = RealAgent::start();
        let file = real.folder.path().join("id");
        keygen(&file, &["-t", "ed25519"], "");
        Identity::open(&file, Some(real.connect()), &nobody).unwrap().sign("claim@ssh-jit", b"claim").unwrap();
    }

    #[test]
    fn a_key_in_the_old_form_signs_through_the_agent() {
        let real = RealAgent::start();
        let file = real.folder.path().join("id");
        keygen(&file, &["-t", "rsa", "-m", "PEM"], "");
        let error = Identity::open(&file, Some(real.connect()), &nobody).unwrap_err();
        assert!(matches!(error, IdentityError::NotOpenSsh { .. }), "{error}");
        real.ssh_add(&file);
        Identity::open(&file, Some(real.connect()), &nobody).unwrap().sign("claim@ssh-jit", b"claim").unwrap();
    }

    #[test]
    fn rsa_and_fido_keys_are_sent_to_the_agent() {
        let folder = folder();
        let rsa = folder.path().join("id_rsa");
        keygen(&rsa, &["-t", "rsa"], "");
        let error = Identity::open(&rsa, None, &nobody).unwrap_err().to_string();
        assert_eq!(error, format!("ssh-rsa keys sign through an agent only; try: ssh-add {}", rsa.display()));

        let fido = folder.path().join("id_sk");
        write_fido_key(&fido);
        let error = Identity::open(&fido, None, &nobody).unwrap_err().to_string();
        let expected = "sk-ssh-ed25519@openssh.com keys sign through an agent only; try: ssh-add ";
        assert_eq!(error, format!("{expected}{}", fido.display()));
    }

    /// What `ssh-keygen -t ed25519-sk` writes, without the hardware.
    fn write_fido_key(path: &Path) {
        let point = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
        let public = ssh_key::public::SkEd25519::new(point.into(), "ssh:".to_owned());
        let sk = ssh_key::private::SkEd25519::new(public, 1, vec![5; 64]).unwrap();
        let key = PrivateKey::new(ssh_key::private::KeypairData::SkEd25519(sk), "").unwrap();
        key.write_openssh_file(path, ssh_key::LineEnding::LF).unwrap();
    }

    #[test]
    fn a_public_half_alone_is_not_enough() {
        let folder = folder();
        let file = folder.path().join("id");
        keygen(&file, &["-t", "ed25519"], "");
        fs::remove_file(&file).unwrap();
        for path in [file.clone(), with_pub(&file)] {
            let error = Identity::open(&path, None, &nobody).unwrap_err();
            assert!(matches!(error, IdentityError::NotInAgent { .. }), "{error}");
        }
    }

    #[test]
    fn another_private_key_is_not_used_for_a_public_one() {
        let folder = folder();
        let (file, other) = (folder.path().join("id"), folder.path().join("other"));
        keygen(&file, &["-t", "ed25519"], "");
        keygen(&other, &["-t", "ed25519"], "");
        fs::copy(&other, &file).unwrap();
        let error = Identity::open(&with_pub(&file), None, &nobody).unwrap_err();
        assert!(matches!(error, IdentityError::NotInAgent { .. }), "{error}");
    }

    #[test]
    fn a_private_key_that_others_may_read_is_refused() {
        let folder = folder();
        let file = folder.path().join("id");
        keygen(&file, &["-t", "ed25519"], "");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            for path in [file.clone(), with_pub(&file)] {
                let error = Identity::open(&path, None, &nobody).unwrap_err().to_string();
                assert!(error.contains(&format!(" has mode {mode:04o}, ")), "{error}");
            }
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        Identity::open(&file, None, &nobody).unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = folder();
        let file = folder.path().join("id");
        let missing = Identity::open(&file, None, &nobody).unwrap_err().to_string();
        assert!(missing.starts_with(&format!("cannot read {}: ", file.display())), "{missing}");
        for text in ["", "\n", "hello", "ssh-ed25519 AAAA", "ssh-ed25519-cert-v01@openssh.com AAAA"] {
            fs::write(&file, text).unwrap();
            assert!(matches!(Identity::open(&file, None, &nobody), Err(IdentityError::Key { .. })), "{text:?}");
        }
        fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Identity::open(&file, None, &nobody), Err(IdentityError::NotOpenSsh { .. })));
    }
}
