//! How one CA key takes the place of another: announced beside the old one, then signing, then alone. What stage it is at
//! is read from the trust document and from the keys at hand, so that whoever was killed in between goes on from there.

use serde::Serialize;

use super::host_status::HostStatus;
use super::key::PublicKey;
use super::names::HostName;
use super::time::Timestamp;
use super::trust::{CaRole, Chain, Trust};

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// A new key is to stand beside the old one, which still signs.
    Announce {
        /// A key that was made for it before.
        made: Option<PublicKey>,
    },
    /// The new key is to sign; the old one stays beside it.
    Activate {
        /// The new key.
        next: PublicKey,
    },
    /// The old keys are to go.
    Retire {
        /// Them.
        old: Vec<PublicKey>,
    },
}

impl Step {
    /// What comes next for one of the CAs. `held` are its keys of which the private half is at hand, oldest first.
    pub fn next(trust: &Trust, role: CaRole, held: &[PublicKey]) -> Self {
        let cas = trust.cas(role);
        let signs = held.iter().position(|key| cas.first() == Some(key)).unwrap_or(0);
        let (old, new) = (&held[..signs], held.get(signs + 1..).unwrap_or_default());
        let old: Vec<PublicKey> = old.iter().filter(|key| cas.contains(key)).cloned().collect();
        match new.iter().find(|key| cas.contains(key)) {
            _ if !old.is_empty() => Self::Retire { old },
            Some(next) => Self::Activate { next: next.clone() },
            None => Self::Announce { made: new.first().cloned() },
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Announce { .. } => "announce",
            Self::Activate { .. } => "activate",
            Self::Retire { .. } => "retire",
        }
    }

    /// What it waits for.
    pub fn waits(&self, chain: &Chain, role: CaRole, progress: &Progress) -> Vec<Wait> {
        match self {
            Self::Announce { .. } => Vec::new(),
            Self::Activate { next } => {
                let announced = chain.since(|trust| trust.cas(role).contains(next)).unwrap_or(u64::MAX);
                let service = progress.service_behind(announced);
                service.into_iter().chain(progress.hosts_behind(announced)).collect()
            }
            Self::Retire { .. } => {
                let signs = chain.newest().cas(role).first();
                let activated = chain.since(|trust| trust.cas(role).first() == signs).unwrap_or(u64::MAX);
                let service = progress.service_behind(activated);
                let last = progress.last_end.filter(|end| *end > progress.now).map(|until| Wait::Certificate { until });
                service.into_iter().chain(last).collect()
            }
        }
    }
}

/// How far everybody is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The newest trust document that the running service took.
    pub taken: u64,
    /// The hosts that the policy has keys of, and what each said last.
    pub hosts: Vec<(HostName, Option<HostStatus>)>,
    /// When the last certificate ends that an old key signed.
    pub last_end: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

impl Progress {
    fn service_behind(&self, document: u64) -> Option<Wait> {
        (self.taken < document).then_some(Wait::Service { document, taken: self.taken })
    }

    fn hosts_behind(&self, document: u64) -> impl Iterator<Item = Wait> + '_ {
        let at = |status: &Option<HostStatus>| status.as_ref().map(|status| status.trust);
        let behind = self.hosts.iter().filter(move |(_, status)| at(status).is_none_or(|trust| trust < document));
        behind.map(move |(host, status)| Wait::Host {
            host: host.clone(),
            document: at(status),
            heard: status.as_ref().map(|status| status.at),
        })
    }
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "waits_for", rename_all = "kebab-case")]
pub enum Wait {
    /// The running service has not taken a document yet.
    Service {
        /// Its number.
        document: u64,
        /// The number of the newest that it took.
        taken: u64,
    },
    /// A host has not followed.
    Host {
        /// Its name.
        host: HostName,
        /// The number of the document that it is at. `None` when it never said.
        document: Option<u64>,
        /// When it said so.
        heard: Option<Timestamp>,
    },
    /// A certificate that an old key signed has not ended.
    Certificate {
        /// When the last one ends.
        until: Timestamp,
    },
}

#[cfg(test)]
mod tests;
