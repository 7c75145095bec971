//! Passkeys: bound to a person by one statement that both the passkey and one of the person's SSH keys
//! signed, and worth something only while that SSH key stands in the policy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ssh_encoding::{Encode as _, Mpint};

use super::digest::Digest;
use super::key::PublicKey;
use super::names::{HostName, InstanceId, PersonName};
use super::policy::{Person, Policy};
use super::refusal::Refusal;
use super::sshsig::{BadSignature, Expect, SshSig, WEBAUTHN};
use super::statement::Enrolment;
use super::time::Timestamp;
use super::verify::{Signed, Verified, VerifiedSet};

/// The longest that a passkey is good for: 180 days.
pub const LONGEST_ENROLMENT: i64 = 180 * 86_400;

/// A passkey that is bound to a person.
#[derive(Debug, Clone)]
pub struct Enrolled {
    enrolment: Enrolment,
    ssh_key: PublicKey,
    digest: Digest,
}

/// What a browser gives for `navigator.credentials.get`, as it travels: binary fields in base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    client_data: String,
    authenticator_data: String,
    signature: String,
}

/// Whether an origin (scheme, host, port) is a page of this relying party itself, by HTTPS or on this machine.
pub fn is_site(origin: &str, application: &HostName) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let host = rest.split_once(':').map_or(rest, |(host, _)| host);
    host == application.as_str() && (scheme == "https" || host == "localhost")
}

impl Enrolled {
    /// Verifies the two signatures over one enrolment: by an SSH key in `signed`, by the passkey beside it.
    /// Whether the SSH key is the person's is for the policy of the moment in which it is used.
    pub fn check(
        signed: &Signed,
        by_passkey: &SshSig,
        origin: &str,
        instance: &InstanceId,
        seen: &VerifiedSet,
    ) -> Result<Self, Refusal> {
        let ssh_key = signed.signature().key();
        let expect = Expect::SshKey { verified: false };
        let by_key: Verified<Enrolment> = Verified::check(signed, ssh_key, expect, instance, seen)?;
        let enrolment = by_key.get();
        if enrolment.ssh_key != ssh_key.fingerprint() {
            return Err(Refusal::UnknownKey);
        }
        let again = Signed::new(signed.bytes().to_vec(), by_passkey.clone());
        let _: Verified<Enrolment> =
            Verified::check(&again, &enrolment.key, Expect::Passkey { origin }, instance, seen)?;
        if enrolment.key.application() != Some(enrolment.application.as_str()) {
            return Err(Refusal::Signature { why: BadSignature::Origin });
        }
        let length = enrolment.until.since(enrolment.at);
        if !(1..=LONGEST_ENROLMENT).contains(&length) {
            return Err(Refusal::EnrolmentTooLong);
        }
        Ok(Self { enrolment: enrolment.clone(), ssh_key: ssh_key.clone(), digest: signed.digest() })
    }

    /// The statement.
    pub fn get(&self) -> &Enrolment {
        &self.enrolment
    }

    /// The digest of the statement.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The person who signed something with it at `at`: by the policy of this moment, with the SSH key
    /// that vouches for it still theirs, and neither key revoked.
    pub fn holder<'p>(&self, policy: &'p Policy, person: &PersonName, at: Timestamp) -> Result<&'p Person, Refusal> {
        if self.enrolment.person != *person {
            return Err(Refusal::NotTheirKey { person: person.clone() });
        }
        policy.not_revoked(&self.enrolment.key)?;
        if at > self.enrolment.until || at < self.enrolment.at {
            return Err(Refusal::PasskeyEnded { at: self.enrolment.until });
        }
        policy.signer(person, &self.ssh_key)
    }
}

impl Assertion {
    /// Writes what the browser gave as an SSHSIG (PROTOCOL.u2f, "webauthn-sk-ecdsa-sha2-nistp256"). Nothing
    /// is verified here: what comes out is checked like any other signature.
    pub fn to_sshsig(&self, key: &PublicKey, namespace: &str) -> Result<SshSig, BadSignature> {
        #[derive(Deserialize)]
        struct Origin {
            origin: String,
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| BadSignature::Malformed);
        let (client_data, data) = (decode(&self.client_data)?, decode(&self.authenticator_data)?);
        let origin: Origin = serde_json::from_slice(&client_data).map_err(|_| BadSignature::ClientData)?;
        // WebAuthn, 6.1: 32 bytes of rpIdHash, 1 of flags, 4 of counter, then extensions.
        let (flags, counter) = (data.get(32..33), data.get(33..37));
        let (Some(flags), Some(counter), Some(extensions)) = (flags, counter, data.get(37..)) else {
            return Err(BadSignature::Malformed);
        };
        let mut wire = Vec::new();
        let mut string = |part: &[u8]| {
            wire.extend_from_slice(&(part.len() as u32).to_be_bytes());
            wire.extend_from_slice(part);
        };
        string(WEBAUTHN.as_bytes());
        string(&scalars(&decode(&self.signature)?).ok_or(BadSignature::Malformed)?);
        wire.extend_from_slice(flags);
        wire.extend_from_slice(counter);
        for part in [origin.origin.as_bytes(), &client_data, extensions] {
            wire.extend_from_slice(&(part.len() as u32).to_be_bytes());
            wire.extend_from_slice(part);
        }
        SshSig::from_signature(key, namespace, &wire)
    }
}

/// From the DER that WebAuthn gives (6.5.5) to `mpint r, mpint s`.
fn scalars(der: &[u8]) -> Option<Vec<u8>> {
    let signature = p256::ecdsa::Signature::from_der(der).ok()?;
    let (r, s) = signature.split_bytes();
    let mut wire = Vec::with_capacity(80);
    for number in [r, s] {
        Mpint::from_positive_bytes(&number).encode(&mut wire).ok()?;
    }
    Some(wire)
}
