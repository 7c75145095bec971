//! Tells the service how far this host is: which trust document it is at, and which list of revoked certificates.

use crate::client::api::{Api, ApiError};
use crate::client::identity::{Identity, IdentityError};
use crate::domain::host_status::{HostStatus, HostStatusTag};
use crate::domain::host_word::HostWord as _;
use crate::domain::names::HostName;
use crate::domain::statement::Version;
use crate::domain::verify::Signed;

use super::config::HostConfig;

/// Why the service was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    /// The host's key does not sign.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The service does not take it.
    #[error(transparent)]
    Service(#[from] ApiError),
}

/// Tells the numbers of the trust document and of the list, in this host's name.
pub(super) fn tell(config: &HostConfig, name: &HostName, api: &Api, (trust, krl): (u64, u64)) -> Result<(), Untold> {
    let mut key = Identity::open(config.host_key(), None, &|_| Err(std::io::ErrorKind::Unsupported.into()))?;
    // By the service's clock: a host whose own is off is to be heard all the same.
    let (_, at) = api.time()?;
    let (instance, host) = (config.instance.clone(), name.clone());
    let status = HostStatus { v: Version, kind: HostStatusTag::HostStatus, instance, host, trust, krl, at };
    // Names and numbers always serialize.
    let bytes = serde_json::to_vec(&status).unwrap_or_default();
    let signature = key.sign(HostStatus::NAMESPACE, &bytes)?;
    Ok(api.post_only("/v1/host-status", &(&Signed::new(bytes, signature)).into())?)
}
