//! What a host says: a document that its SSH host key signed, which the policy has for it.

use serde::de::DeserializeOwned;

use super::host::{EnrolledHost, is_hosts_key};
use super::names::{HostName, InstanceId};
use super::policy::Policy;
use super::refusal::Refusal;
use super::time::Timestamp;
use super::verify::{FRESH_FOR, Signed, is_fresh};

/// A kind of document that hosts sign.
pub trait HostWord: DeserializeOwned {
    /// The SSHSIG namespace.
    const NAMESPACE: &'static str;
    /// The service that it was said to.
    fn instance(&self) -> &InstanceId;
    /// Who says it.
    fn host(&self) -> &HostName;
    /// When.
    fn at(&self) -> Timestamp;
}

/// A host's word, when the policy or the host's enrolment says now that the key which signed it is that host's.
pub fn read<T: HostWord>(
    signed: &Signed,
    (policy, enrolled): (&Policy, Option<&EnrolledHost>),
    instance: &InstanceId,
) -> Result<T, Refusal> {
    let stated: T = serde_json::from_slice(signed.bytes()).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
    if stated.instance() != instance {
        return Err(Refusal::OtherInstance);
    }
    let key = signed.signature().key();
    if !is_hosts_key(policy, enrolled, stated.host(), key) {
        return Err(Refusal::UnknownHostKey { host: stated.host().clone() });
    }
    signed.is_by(key, T::NAMESPACE)?;
    Ok(stated)
}

/// The same, when it was said just now.
pub fn hear<T: HostWord>(
    signed: &Signed,
    by: (&Policy, Option<&EnrolledHost>),
    instance: &InstanceId,
    now: Timestamp,
) -> Result<T, Refusal> {
    let stated: T = read(signed, by, instance)?;
    is_fresh(stated.at(), FRESH_FOR, now)?;
    Ok(stated)
}
