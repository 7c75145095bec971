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

use super::{Ca, Pair, ServiceKey};
use crate::domain::key::PublicKey;
use crate::domain::trust::{CaRole, Trust};
use crate::files;

/// The passphrase of the key files: asked at start, never from the command line or the environment.
pub type Passphrase = Zeroizing<String>;

/// All keys of a service.
pub struct Keys {
    /// Certifies people on the ordinary path.
    pub user_ca: Ca,
    /// Certifies emergency keys.
    pub break_glass_ca: Ca,
    /// Certifies hosts.
    pub host_ca: Ca,
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
    /// The file beside a trust document holds no signature.
    #[error("{0}: it is not an SSH signature")]
    NotASignature(PathBuf),
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
    /// Somebody else changes the folder.
    #[error("{0}: another ssh-jit changes it just now")]
    Locked(PathBuf),
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

    /// Reads the folder. Asks `passphrase` at most once, when a key is encrypted. Of each CA the oldest key signs, until
    /// a trust document says otherwise.
    pub fn load(folder: &Path, passphrase: impl FnOnce() -> io::Result<Passphrase>) -> Result<Self, KeyError> {
        files::check_private_folder(folder).map_err(|e| file_error(folder, e))?;
        let mut reader = Reader { asking: Some(passphrase), answer: None, pairs: Vec::new() };
        let mut counts = Vec::with_capacity(FILES.len());
        for name in FILES {
            let several = ROTATED.iter().any(|(_, rotated)| *rotated == name);
            let mut found = if several { numbers(folder, name)? } else { Vec::new() };
            if found.is_empty() {
                found.push(1);
            }
            for number in &found {
                reader.read(&folder.join(numbered(name, *number)))?;
            }
            counts.push(found.len());
        }
        let mut pairs = reader.pairs.into_iter();
        let mut files = counts.into_iter().map(|count| pairs.by_ref().take(count).collect::<Vec<Pair>>());
        let mut next = || files.next().unwrap_or_default();
        let ca = |keys| Ca { keys, signs: 0 };
        let (user_ca, break_glass_ca, host_ca) = (ca(next()), ca(next()), ca(next()));
        let mut only = || next().pop().map(ServiceKey).ok_or_else(|| KeyError::NotAKey(folder.to_owned()));
        Ok(Self { user_ca, break_glass_ca, host_ca, log: only()?, journal: only()?, krl: only()? })
    }

    /// These keys, each CA signing with the first key that the document has for it. `None` where the document names other
    /// keys.
    pub fn spoken_for_by(mut self, trust: &Trust) -> Option<Self> {
        let named = [CaRole::User, CaRole::BreakGlass, CaRole::Host]
            .into_iter()
            .all(|role| self.ca_mut(role).sign_with(trust.cas(role).first()));
        let ours = (self.log.public(), self.journal.public(), self.krl.public());
        let agrees = named && (&trust.log_key, &trust.journal_key, &trust.krl_key) == ours;
        agrees.then_some(self)
    }

    /// One of the CAs.
    pub fn ca(&self, role: CaRole) -> &Ca {
        match role {
            CaRole::User => &self.user_ca,
            CaRole::BreakGlass => &self.break_glass_ca,
            CaRole::Host => &self.host_ca,
        }
    }

    fn ca_mut(&mut self, role: CaRole) -> &mut Ca {
        match role {
            CaRole::User => &mut self.user_ca,
            CaRole::BreakGlass => &mut self.break_glass_ca,
            CaRole::Host => &mut self.host_ca,
        }
    }

    /// Makes another key for a CA, in a file of its own; gives its public half. It signs nothing yet.
    pub fn make_another(folder: &Path, role: CaRole, passphrase: Option<&Passphrase>) -> Result<PublicKey, KeyError> {
        let name = file_of(role);
        let number = numbers(folder, name)?.last().map_or(1, |last| last + 1);
        let path = folder.join(numbered(name, number));
        // Of somebody who was killed while they did the same.
        for leftover in files::leftovers(&path).map_err(|e| file_error(folder, e))? {
            std::fs::remove_file(&leftover).map_err(|e| file_error(&leftover, e))?;
        }
        write_key(&path, name, passphrase)
    }
}

/// The public halves of a CA's keys that lie in the folder, oldest first, as their files have them. Nothing is decrypted.
pub fn held(folder: &Path, role: CaRole) -> Result<Vec<PublicKey>, KeyError> {
    let keys = files_of(folder, role)?.into_iter().map(|path| {
        let public = read_key(&path)?.public_key().to_openssh();
        public.ok().and_then(|text| text.parse().ok()).ok_or(KeyError::NotAKey(path))
    });
    keys.collect()
}

/// Removes the files of those keys of a CA that are not to be kept.
pub fn remove(folder: &Path, role: CaRole, keep: impl Fn(&PublicKey) -> bool) -> Result<(), KeyError> {
    for (path, key) in files_of(folder, role)?.into_iter().zip(held(folder, role)?) {
        if keep(&key) {
            continue;
        }
        // The private half goes first: what is killed in between leaves nothing that signs.
        for file in [&path, &path.with_extension("pub")] {
            match std::fs::remove_file(file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(file_error(file, e)),
                _ => {}
            }
        }
    }
    files::sync_folder(folder).map_err(|e| file_error(folder, e))
}

/// The files of the CAs, of which there may be several.
const ROTATED: [(CaRole, &str); 3] =
    [(CaRole::User, "user-ca"), (CaRole::BreakGlass, "break-glass-ca"), (CaRole::Host, "host-ca")];

fn file_of(role: CaRole) -> &'static str {
    ROTATED.iter().find(|(other, _)| *other == role).map_or("", |(_, name)| name)
}

/// `user-ca` is a CA's first key, `user-ca-2` its second.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

fn files_of(folder: &Path, role: CaRole) -> Result<Vec<PathBuf>, KeyError> {
    let name = file_of(role);
    Ok(numbers(folder, name)?.into_iter().map(|number| folder.join(numbered(name, number))).collect())
}

/// The numbers of a CA's keys that lie in the folder, lowest first.
fn numbers(folder: &Path, name: &str) -> Result<Vec<u32>, KeyError> {
    let number = |file: &str| {
        let rest = file.strip_prefix(name)?;
        let number = if rest.is_empty() { 1 } else { rest.strip_prefix('-')?.parse().ok()? };
        (file == numbered(name, number)).then_some(number)
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| file_error(folder, e))? {
        let entry = entry.map_err(|e| file_error(folder, e))?;
        found.extend(number(&entry.file_name().to_string_lossy()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Keeps others from changing the folder as long as the value lives.
pub fn lock(folder: &Path) -> Result<std::fs::File, KeyError> {
    let file = std::fs::File::open(folder).map_err(|e| file_error(folder, e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| KeyError::Locked(folder.to_owned()))?;
    Ok(file)
}

/// Reads key files one after the other.
struct Reader<F> {
    asking: Option<F>,
    answer: Option<Passphrase>,
    pairs: Vec<Pair>,
}

impl<F: FnOnce() -> io::Result<Passphrase>> Reader<F> {
    fn read(&mut self, path: &Path) -> Result<(), KeyError> {
        let mut key = read_key(path)?;
        if key.is_encrypted() {
            if let Some(ask) = self.asking.take() {
                self.answer = Some(ask().map_err(|e| file_error(path, e))?);
            }
            let secret = self.answer.as_ref().ok_or_else(|| KeyError::Passphrase(path.to_owned()))?;
            key = key.decrypt(secret.as_bytes()).map_err(|_| KeyError::Passphrase(path.to_owned()))?;
        }
        let pair = pair(path, &key)?;
        if self.pairs.iter().any(|other| other.public == pair.public) {
            return Err(KeyError::Twice(path.to_owned()));
        }
        self.pairs.push(pair);
        Ok(())
    }
}

fn write_key(path: &Path, name: &str, passphrase: Option<&Passphrase>) -> Result<PublicKey, KeyError> {
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
    files::write_public(&pub_path, format!("{public}\n").as_bytes()).map_err(|e| file_error(&pub_path, e))?;
    public.parse().map_err(|_| KeyError::NotAKey(pub_path))
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

    /// K12: a file whose two halves are of different keys would have us sign for one with the other.
    #[test]
    fn a_public_half_that_is_another_keys_is_refused() {
        let made = || PrivateKey::random(&mut UnwrapErr(SysRng), Algorithm::Ed25519).unwrap();
        let (one, other) = (made(), made());
        let half = |key: &PrivateKey| key.key_data().ed25519().unwrap().clone();
        let mixed = |public, private| PrivateKey::new(Ed25519Keypair { public, private }.into(), "x").unwrap();
        let path = Path::new("user-ca");
        assert!(pair(path, &mixed(half(&one).public, half(&one).private)).is_ok());
        let wrong = pair(path, &mixed(half(&other).public, half(&one).private));
        assert!(matches!(wrong, Err(KeyError::NotAKey(_))));
    }

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
