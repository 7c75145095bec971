//! What a client remembers between runs, in a folder of mode 0700 for each service: the pinned trust
//! document, the last head of the log it saw, requests that wait, certificates that live.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::digest::Digest;
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, PersonName, RequestId, RoleName};
use crate::domain::statement::Serial;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::trust::Chain;
use crate::files;
use crate::wire::SignedText;

/// The folder for one service.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

/// A request that was sent, with what it takes to claim and to give back.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Pending {
    pub id: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    pub digest: Digest,
    pub key: PublicKey,
    /// For how long, where that was said.
    pub seconds: Option<Seconds>,
    /// On which hosts, where that was said.
    pub hosts: Vec<HostName>,
    /// The capability that waits on it.
    pub waiter: String,
    /// The certificate, once it was claimed.
    pub certificate: Option<Held>,
    /// Where the certified key lies when it is the person's own: their emergency key, after break-glass.
    #[serde(default)]
    pub emergency: Option<PathBuf>,
    /// The request that it extends.
    #[serde(default)]
    pub extends: Option<RequestId>,
}

/// A certificate that was claimed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Held {
    pub certificate: String,
    pub serial: Serial,
    pub valid_before: Timestamp,
    /// Whether the agent has it together with the key, so that plain ssh finds it by itself.
    pub in_agent: bool,
}

/// A role that may be asked for, and the hosts that it opens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct KnownRole {
    pub name: RoleName,
    pub hosts: Vec<HostName>,
}

/// The last head of the log that was seen and found right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct SeenHead {
    pub size: u64,
    pub root: Digest,
}

/// A bearer that still reads.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct SavedSession {
    pub bearer: String,
    pub person: PersonName,
    pub until: Timestamp,
}

impl State {
    /// The folder for the service at `url`, made if it is missing.
    pub fn open(root: &Path, url: &str) -> io::Result<Self> {
        let bare = url.split_once("://").map_or(url, |(_, rest)| rest);
        let name: String =
            bare.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let folder = root.join(name);
        files::make_private_folder(&folder.join("requests"))?;
        files::check_private_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The pinned trust document.
    pub fn trust(&self) -> io::Result<Option<SignedText>> {
        self.read("trust.json")
    }

    /// The trust documents that led to the pinned one, as far as they were seen. They prove nothing by themselves.
    pub fn trusts(&self) -> io::Result<Vec<SignedText>> {
        Ok(self.read("trusts.json")?.unwrap_or_default())
    }

    /// Pins the newest of these trust documents, and keeps the others: receipts of former times name them.
    pub fn set_trust(&self, chain: &Chain) -> io::Result<()> {
        self.write("trusts.json", &chain.after(0).map(SignedText::from).collect::<Vec<_>>())?;
        self.write("trust.json", &SignedText::from(chain.signed()))
    }

    /// Where break-glass alone is served, as the service said last.
    pub fn break_glass(&self) -> io::Result<Option<String>> {
        self.read("break-glass.json")
    }

    /// Remembers where that is.
    pub fn set_break_glass(&self, url: &str) -> io::Result<()> {
        self.write("break-glass.json", &url)
    }

    /// The last head that was seen.
    pub fn head(&self) -> io::Result<Option<SeenHead>> {
        self.read("head.json")
    }

    /// Remembers a head.
    pub fn set_head(&self, head: &SeenHead) -> io::Result<()> {
        self.write("head.json", head)
    }

    /// A bearer of this person that has a minute left.
    pub fn session(&self, person: &PersonName, now: Timestamp) -> io::Result<Option<SavedSession>> {
        let saved: Option<SavedSession> = self.read(&session_file(person))?;
        Ok(saved.filter(|session| session.person == *person && session.until > now.plus(60)))
    }

    /// Remembers a bearer.
    pub fn set_session(&self, session: &SavedSession) -> io::Result<()> {
        self.write(&session_file(&session.person), session)
    }

    /// Forgets a person's bearer.
    pub fn forget_session(&self, person: &PersonName) -> io::Result<()> {
        remove(&self.folder.join(session_file(person)))
    }

    /// A request that was sent from here.
    pub fn pending(&self, id: &RequestId) -> io::Result<Option<Pending>> {
        self.read(&format!("requests/{id}.json"))
    }

    /// All requests that were sent from here and not forgotten.
    pub fn all_pending(&self) -> io::Result<Vec<Pending>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder.join("requests"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix(".json").and_then(|stem| stem.parse().ok()) {
                found.extend(self.pending(&id)?);
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Remembers a request.
    pub fn set_pending(&self, pending: &Pending) -> io::Result<()> {
        self.write(&format!("requests/{}.json", pending.id), pending)
    }

    /// When each role was used last from here.
    pub fn used(&self) -> io::Result<BTreeMap<RoleName, Timestamp>> {
        Ok(self.read("used.json")?.unwrap_or_default())
    }

    /// Remembers that a role was used.
    pub fn set_used(&self, role: &RoleName, at: Timestamp) -> io::Result<()> {
        let mut used = self.used()?;
        used.insert(role.clone(), at);
        self.write("used.json", &used)
    }

    /// The roles that the service listed for their person when it was last asked.
    pub fn roles(&self) -> io::Result<Vec<KnownRole>> {
        Ok(self.read("roles.json")?.unwrap_or_default())
    }

    /// Remembers the roles that the service lists.
    pub fn set_roles(&self, roles: &[KnownRole]) -> io::Result<()> {
        self.write("roles.json", &roles)
    }

    /// A file that one process at a time may lock: whoever asks for this role holds it.
    pub fn lock_file(&self, role: &RoleName) -> io::Result<File> {
        let path = self.folder.join(format!("asking-{role}.lock"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        files::open_no_link(&path, &mut options)
    }

    /// Forgets a request, its key and its certificate.
    pub fn forget(&self, id: &RequestId) -> io::Result<()> {
        remove(&self.key_path(id))?;
        remove(&self.certificate_path(id))?;
        remove(&self.folder.join(format!("requests/{id}.json")))
    }

    /// Where the subject key of a request lies when no agent holds it.
    pub fn key_path(&self, id: &RequestId) -> PathBuf {
        self.folder.join("requests").join(id.as_str())
    }

    /// Where the certificate of a request lies, beside its key as ssh expects it.
    pub fn certificate_path(&self, id: &RequestId) -> PathBuf {
        self.folder.join("requests").join(format!("{id}-cert.pub"))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.folder.join(name);
        let content = match files::read_private(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?,
        };
        let damaged = |e| io::Error::other(format!("{}: {e}; move it away", path.display()));
        serde_json::from_slice(&content).map(Some).map_err(damaged)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        files::write_private(&self.folder.join(name), &serde_json::to_vec(value)?)
    }
}

fn session_file(person: &PersonName) -> String {
    format!("session-{person}.json")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
