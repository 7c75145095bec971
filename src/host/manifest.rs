//! What host setup wrote, kept beside it, so that it is known again and can be taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::digest::Digest;
use crate::domain::names::{AccountName, HostName};

use super::change::Node;
use super::error::HostError;
use super::layout::Layout;

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// What the host is called in the policy.
    pub(super) name: HostName,
    /// The files and links, each with the SHA-256 of what it may hold: what was written last, and, until it is
    /// written, what was there before. Nothing for those that `host sync` replaces.
    pub(super) files: BTreeMap<PathBuf, BTreeSet<Digest>>,
    /// The folders that were not there.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Whether our line was put into sshd_config.
    pub(super) include: bool,
    /// Whether our line was put into PAM's file.
    #[serde(default)]
    pub(super) pam: bool,
}

impl Manifest {
    /// Reads it; none where nothing was set up.
    pub(super) fn load(layout: &Layout) -> Result<Option<Self>, HostError> {
        let path = layout.manifest();
        layout.check_folders(&path)?;
        let content = match Node::at(&path)? {
            None => return Ok(None),
            Some(Node::File { content, .. }) => content,
            Some(_) => return Err(HostError::Foreign(path)),
        };
        let bad = |why: String| HostError::Content { path: path.clone(), why };
        let manifest: Self = serde_json::from_slice(&content).map_err(|e| bad(e.to_string()))?;
        let strange = manifest.files.keys().find(|file| !is_ours(layout, file));
        match strange.or(manifest.folders.iter().find(|folder| !is_our_folder(layout, folder))) {
            Some(path) => Err(bad(format!("it names {}, which host setup never writes", path.display()))),
            None => Ok(Some(manifest)),
        }
    }

    /// As it is written.
    pub(super) fn node(&self) -> Node {
        // A map of paths and digests can always be written.
        Node::public(serde_json::to_vec_pretty(self).unwrap_or_default())
    }

    /// Whether this is what was written there.
    pub(super) fn knows(&self, layout: &Layout, path: &Path, node: &Node) -> bool {
        let known = self.files.get(path);
        known.is_some_and(|known| layout.is_kept_by_sync(path) && is_file(node) || known.contains(&digest(node)))
    }

    /// The accounts that were opened.
    pub(super) fn accounts(&self, layout: &Layout) -> Vec<AccountName> {
        self.files.keys().filter_map(|path| account(layout, path)).collect()
    }
}

fn is_file(node: &Node) -> bool {
    matches!(node, Node::File { .. })
}

/// The SHA-256 of a file's content, or of where a link leads.
pub(super) fn digest(node: &Node) -> Digest {
    match node {
        Node::File { content, .. } => Digest::of(content),
        Node::Link(target) => Digest::of(target.as_os_str().as_encoded_bytes()),
        Node::Folder { .. } | Node::Other => Digest::of(b""),
    }
}

/// The account whose principals this file has.
pub(super) fn account(layout: &Layout, path: &Path) -> Option<AccountName> {
    path.strip_prefix(layout.principals()).ok()?.to_str()?.parse().ok()
}

fn is_ours(layout: &Layout, path: &Path) -> bool {
    let fixed = [layout.host_toml(), layout.tls_ca(), layout.trust(), layout.user_ca(), layout.krl(), layout.session()];
    let elsewhere = [layout.drop_in(), layout.unit(), layout.unit_link(), layout.host_certificate()];
    fixed.iter().chain(&elsewhere).any(|ours| ours == path) || account(layout, path).is_some()
}

fn is_our_folder(layout: &Layout, path: &Path) -> bool {
    [layout.drop_in(), layout.unit(), layout.unit_link(), layout.host_toml(), layout.principals()]
        .iter()
        .any(|file| file.parent() == Some(path))
        || path == layout.principals()
}
