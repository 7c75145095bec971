//! `host.toml`: which service a host belongs to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::names::{HostName, InstanceId};
use crate::files;

/// The file's name in the host's folder.
pub const FILE: &str = "host.toml";
/// The host key that signs, where none is named.
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The service's address.
    pub server: String,
    /// The instance that must answer there.
    pub instance: InstanceId,
    /// The only CAs that are believed to certify the service, in PEM, instead of this machine's. Relative to the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// What the policy calls this host: as that it says how far it is, and what certificates were used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<HostName>,
    /// The private half of the SSH host key that the policy has for it, where it is another than the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<PathBuf>,
    /// What the host is certified as, where it has a certificate of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certified>,
}

/// A host that the service certifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// Its name.
    pub host: HostName,
    /// Its SSH host key, the private half.
    pub key: PathBuf,
}

/// A file that cannot be used. Names file, line and field.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(String);

impl HostConfig {
    /// Reads the file of this folder. It must be root's or ours, and nobody else's to write: it says whom to believe.
    pub fn load(folder: &Path) -> Result<Self, BadConfig> {
        let path = folder.join(FILE);
        let fail = |message: &dyn std::fmt::Display| BadConfig(format!("{}: {message}", path.display()));
        let text = files::read_trusted(&path).map_err(|e| fail(&e))?;
        let mut config: Self = toml::from_str(&text).map_err(|e| {
            let line = text.get(..e.span().map_or(0, |span| span.start)).unwrap_or_default().matches('\n').count() + 1;
            fail(&format_args!("line {line}: {}", e.message()))
        })?;
        config.ca_certificate = config.ca_certificate.map(|certificate| folder.join(certificate));
        Ok(config)
    }

    /// The name, which a file that was written by hand may lack; `folder` is where it lies.
    pub(super) fn name(&self, folder: &Path) -> Result<&HostName, BadConfig> {
        let path = folder.join(FILE);
        self.name
            .as_ref()
            .ok_or_else(|| BadConfig(format!("{}: name is missing: what the policy calls this host", path.display())))
    }

    /// The host key that signs.
    pub(super) fn host_key(&self) -> &Path {
        self.host_key.as_deref().unwrap_or(Path::new(HOST_KEY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_whom_to_ask_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            files::write_public(&dir.path().join(FILE), text.as_bytes()).unwrap();
            HostConfig::load(dir.path()).map_err(|e| e.to_string())
        };
        let good = "server = \"https://ca.example\"\ninstance = \"3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f\"\n";
        let config = load(good).unwrap();
        assert_eq!(config.server, "https://ca.example");
        assert_eq!(
            toml::from_str::<HostConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config,
            "setup writes it"
        );
        let config = load(&format!("{good}ca_certificate = \"ca.pem\"\n")).unwrap();
        assert_eq!(config.ca_certificate, Some(dir.path().join("ca.pem")));
        let unnamed = config.name(dir.path()).unwrap_err().to_string();
        assert!(unnamed.contains("host.toml: name is missing"), "{unnamed}");
        assert_eq!(config.host_key(), Path::new(HOST_KEY));
        let config = load(&format!("{good}name = \"db1\"\nhost_key = \"/etc/key\"\n")).unwrap();
        assert_eq!((config.name(dir.path()).unwrap().as_str(), config.host_key()), ("db1", Path::new("/etc/key")));
        let wrong = load(&format!("{good}key = 1\n")).unwrap_err();
        assert!(wrong.contains("host.toml: line 3: unknown field `key`"), "{wrong}");
        assert!(load("server = \"https://ca.example\"\n").unwrap_err().contains("missing field `instance`"));
    }
}
