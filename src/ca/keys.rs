//! The `ca-keys/` folder: made once, read at every start, and refused when anybody else could have
//! read or changed it.

use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ssh_key::getrandom::SysRng;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::rand_core::UnwrapErr;
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::{CaKey, Pair, ServiceKey};
use crate::domain::key::PublicKey;
use crate::files;

/// The passphrase of the key files: asked at start, never from the command line or the environment.
pub type Passphrase = Zeroizing<String>;

/// All keys of a service.
pub struct Keys {
    /// Certifies people on the ordinary path.
    pub user_ca: CaKey,
    /// Certifies emergency keys.
    pub break_glass_ca: CaKey,
    /// Certifies hosts.
    pub host_ca: CaKey,
    /// Signs heads of the log.
    pub log: ServiceKey,
    /// Signs the break-glass journal.
    pub journal: ServiceKey,
    /// Signs the list of revoked keys and serials.
    pub krl: ServiceKey,
}

/// Why a key cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file or folder cannot be read, or others can read it too.
    #[error("{path}: {error}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The file holds no key of the right kind.
    #[error("{0}: it is not an Ed25519 private key in OpenSSH's format")]
    NotAKey(PathBuf),
    /// The key is encrypted and no passphrase was given, or a wrong one.
    #[error("{0}: the key is encrypted, and the passphrase is missing or wrong")]
    Passphrase(PathBuf),
    /// The key is public knowledge.
    #[error("{0}: this key stands in ca-keys.example, so everybody may have it; run ssh-jit init to make your own")]
    Example(PathBuf),
    /// Making keys would destroy others.
    #[error("{0}: it exists already, and its keys are not replaced")]
    Exists(PathBuf),
    /// One key in two places.
    #[error("{0}: it holds the same key as another file of the folder; each needs its own")]
    Twice(PathBuf),
}

/// The private key files, and what each is for.
const FILES: [&str; 6] = ["user-ca", "break-glass-ca", "host-ca", "log", "journal", "krl"];

/// What the repository shows to everybody.
const EXAMPLES: &str = include_str!("../../ca-keys.example/public-keys");

impl Keys {
    /// Makes a new folder with new keys.
    pub fn create(folder: &Path, passphrase: Option<&Passphrase>) -> Result<(), KeyError> {
        if folder.exists() {
            return Err(KeyError::Exists(folder.to_owned()));
        }
        files::make_private_folder(folder).map_err(|e| file_error(folder, e))?;
        for name in FILES {
            write_key(&folder.join(name), name, passphrase)?;
        }
        Ok(())
    }

    /// Reads the folder. Asks `passphrase` at most once, when a key is encrypted.
    pub fn load(folder: &Path, passphrase: impl FnOnce() -> io::Result<Passphrase>) -> Result<Self, KeyError> {
        files::check_private_folder(folder).map_err(|e| file_error(folder, e))?;
        let mut asking = Some(passphrase);
        let mut answer = None;
        let mut pairs: Vec<Pair> = Vec::with_capacity(FILES.len());
        for name in FILES {
            let path = folder.join(name);
            let mut key = read_key(&path)?;
            if key.is_encrypted() {
                if let Some(ask) = asking.take() {
                    answer = Some(ask().map_err(|e| file_error(&path, e))?);
                }
                let secret = answer.as_ref().ok_or_else(|| KeyError::Passphrase(path.clone()))?;
                key = key.decrypt(secret.as_bytes()).map_err(|_| KeyError::Passphrase(path.clone()))?;
            }
            let pair = pair(&path, &key)?;
            if pairs.iter().any(|other| other.public == pair.public) {
                return Err(KeyError::Twice(path));
            }
            pairs.push(pair);
        }
        let [user_ca, break_glass_ca, host_ca, log, journal, krl]: [Pair; 6] =
            pairs.try_into().map_err(|_| KeyError::NotAKey(folder.to_owned()))?;
        Ok(Self {
            user_ca: CaKey(user_ca),
            break_glass_ca: CaKey(break_glass_ca),
            host_ca: CaKey(host_ca),
            log: ServiceKey(log),
            journal: ServiceKey(journal),
            krl: ServiceKey(krl),
        })
    }
}

fn write_key(path: &Path, name: &str, passphrase: Option<&Passphrase>) -> Result<(), KeyError> {
    let mut rng = UnwrapErr(SysRng);
    let not_a_key = |_| KeyError::NotAKey(path.to_owned());
    let mut key = PrivateKey::random(&mut rng, Algorithm::Ed25519).map_err(not_a_key)?;
    key.set_comment(format!("ssh-jit-{name}"));
    let public = key.public_key().to_openssh().map_err(not_a_key)?;
    if let Some(secret) = passphrase {
        key = key.encrypt(&mut rng, secret.as_bytes()).map_err(not_a_key)?;
    }
    let text = key.to_openssh(LineEnding::LF).map_err(not_a_key)?;
    files::write_private(path, text.as_bytes()).map_err(|e| file_error(path, e))?;
    let pub_path = path.with_extension("pub");
    files::write_public(&pub_path, format!("{public}\n").as_bytes()).map_err(|e| file_error(&pub_path, e))
}

fn read_key(path: &Path) -> Result<PrivateKey, KeyError> {
    let text = files::read_private(path).map_err(|e| file_error(path, e))?;
    PrivateKey::from_openssh(text.as_slice()).map_err(|_| KeyError::NotAKey(path.to_owned()))
}

fn pair(path: &Path, key: &PrivateKey) -> Result<Pair, KeyError> {
    let not_a_key = || KeyError::NotAKey(path.to_owned());
    let KeypairData::Ed25519(Ed25519Keypair { private, .. }) = key.key_data() else { return Err(not_a_key()) };
    let private = SigningKey::from_bytes(private.as_ref());
    let public: PublicKey =
        key.public_key().to_openssh().ok().and_then(|text| text.parse().ok()).ok_or_else(not_a_key)?;
    // RUSTSEC-2022-0093: the public half is derived, never taken from the file.
    if public.data().ed25519().map(AsRef::as_ref) != Some(private.verifying_key().as_bytes()) {
        return Err(not_a_key());
    }
    if stands_in(EXAMPLES, &public) {
        return Err(KeyError::Example(path.to_owned()));
    }
    Ok(Pair { private, public })
}

/// Whether one of these lines is this key.
fn stands_in(lines: &str, key: &PublicKey) -> bool {
    lines.lines().filter_map(|line| line.parse::<PublicKey>().ok()).any(|example| example == *key)
}

pub(super) fn file_error(path: &Path, error: io::Error) -> KeyError {
    KeyError::File { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that are gone are trust that is gone: nothing that is there is written over.
    #[test]
    fn a_folder_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("ca-keys");
        Keys::create(&folder, None).unwrap();
        let before = std::fs::read(folder.join("user-ca")).unwrap();
        assert!(matches!(Keys::create(&folder, None), Err(KeyError::Exists(path)) if path == folder));
        assert_eq!(std::fs::read(folder.join("user-ca")).unwrap(), before);
    }

    /// Nobody has the private half of a published example, so this is as near as a test comes to one.
    #[test]
    fn published_examples_are_recognized() {
        let examples: Vec<PublicKey> = EXAMPLES.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(examples.len(), FILES.len());
        assert!(examples.iter().all(|key| stands_in(EXAMPLES, key)));

        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("ca-keys");
        Keys::create(&folder, None).unwrap();
        let key = read_key(&folder.join("log")).unwrap();
        let public: PublicKey = key.public_key().to_openssh().unwrap().parse().unwrap();
        assert!(!stands_in(EXAMPLES, &public));
        let other_comment = key.public_key().to_openssh().unwrap().replace("ssh-jit-log", "innocent");
        let published = format!("{EXAMPLES}\n# a comment\n\n{other_comment}\n");
        assert!(stands_in(&published, &public), "whatever its comment is and whatever stands around it");
    }
}
