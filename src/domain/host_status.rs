//! How far a host is: which trust document and which list of revoked certificates it has. It says so itself, signed with
//! its SSH host key: nobody else can have a CA rotated that it does not know yet.

use serde::{Deserialize, Serialize};

use super::host_word::HostWord;
use super::names::{HostName, InstanceId};
use super::statement::Version;
use super::time::Timestamp;

/// How far a host is, as it states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct HostStatus {
    pub v: Version,
    pub kind: HostStatusTag,
    pub instance: InstanceId,
    pub host: HostName,
    /// The number of its trust document.
    pub trust: u64,
    /// The number of its list of revoked certificates.
    pub krl: u64,
    pub at: Timestamp,
}

/// Says that a document states how far a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStatusTag {
    /// `"kind":"host-status"`.
    HostStatus,
}

impl HostWord for HostStatus {
    const NAMESPACE: &'static str = "host-status@ssh-jit";
    fn instance(&self) -> &InstanceId {
        &self.instance
    }
    fn host(&self) -> &HostName {
        &self.host
    }
    fn at(&self) -> Timestamp {
        self.at
    }
}
