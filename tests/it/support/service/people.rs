//! Who is who in the tests: a sample policy, and keys made from names.

use std::path::Path;

use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha512};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::sshsig::signed_blob;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use crate::support::wire::{armor, key_line, sshsig, string};

/// An Ed25519 key.
#[derive(Clone)]
pub(crate) struct Key(SigningKey);

impl Key {
    /// The same key for the same name: `alice`, `alice safe`, `carol 2`.
    pub(crate) fn of(name: &str) -> Self {
        Self(SigningKey::from_bytes(Digest::of(name.as_bytes()).as_bytes()))
    }

    /// Writes it as `ssh-keygen` does.
    pub(crate) fn write_private(&self, path: &Path) {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&self.0.to_bytes()));
        let text = key.to_openssh(LineEnding::LF).expect("a key");
        ssh_jit::files::write_private(path, text.as_bytes()).expect("a file");
    }

    fn blob(&self) -> Vec<u8> {
        [string("ssh-ed25519"), string(self.0.verifying_key().as_bytes())].concat()
    }

    pub(crate) fn line(&self) -> String {
        key_line("ssh-ed25519", &self.blob())
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_blob(&self.blob()).expect("a key")
    }

    pub(crate) fn fingerprint(&self) -> Digest {
        Digest::of(&self.blob())
    }

    /// The armored SSHSIG of these bytes.
    pub(crate) fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        self.armored(namespace, &self.0.sign(&signed_blob(namespace, bytes)).to_bytes())
    }

    /// Another signature of the same bytes that is just as valid: RFC 8032, 5.1.6, with another `r`.
    pub(crate) fn sign_differently(&self, namespace: &str, bytes: &[u8]) -> String {
        let message = signed_blob(namespace, bytes);
        let r = Scalar::from_bytes_mod_order(*Digest::of(&message).as_bytes());
        let point = EdwardsPoint::mul_base(&r).compress();
        let hash = Sha512::new().chain_update(point.as_bytes()).chain_update(self.0.verifying_key().as_bytes());
        let k = Scalar::from_bytes_mod_order_wide(&hash.chain_update(&message).finalize().into());
        let s = r + k * self.0.to_scalar();
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(point.as_bytes());
        signature[32..].copy_from_slice(s.as_bytes());
        self.armored(namespace, &signature)
    }

    fn armored(&self, namespace: &str, signature: &[u8; 64]) -> String {
        let wire = [string("ssh-ed25519"), string(signature)].concat();
        armor(&sshsig(&self.blob(), namespace, "sha512", &wire))
    }
}

/// The sample policy. Tests replace parts of its text.
pub(crate) fn policy() -> String {
    let key = |name: &str| Key::of(name).line();
    let person = |name: &str, groups: &str, more: &str| {
        format!("[people.{name}]\ngroups = [{groups}]\nkeys = [{:?}{more}]\n", key(name))
    };
    let people = [
        person("alice", r#""sre""#, ""),
        person("bob", r#""sre""#, ""),
        person("carol", r#""dba""#, &format!(", {:?}", key("carol 2"))),
        person("dan", r#""dba""#, ""),
        person("erin", "", ""),
        person("frank", r#""dba""#, ""),
        person("olga", r#""audit""#, ""),
        person("robot", r#""sre""#, "") + "kind = \"service\"\n",
    ];
    let roles = r#"
[duties]
admins    = ["erin"]
auditors  = ["audit"]
revokers  = ["dba"]
reviewers = ["dba"]

[roles.db-prod]
description = "PostgreSQL, production"
hosts      = ["db1", "db2"]
principals = ["db-prod"]
requesters = ["sre"]
approvers  = ["dba"]
approvals  = 1
automatic  = { max = "15m" }
max        = "4h"
default    = "1h"
extensions = ["permit-pty", "permit-port-forwarding"]

[roles.web]
principals = ["www"]
requesters = ["sre", "dba", "erin"]
approvers  = ["dba"]
max        = "4h"
default    = "1h"

[roles.vault]
hosts      = ["vault1"]
principals = ["vault", "audit"]
requesters = ["sre"]
approvers  = ["dba"]
approvals  = 2
max        = "2h"
default    = "1h"
critical_options = { source-address = "10.0.0.0/8" }
"#;
    let emergency = |person: &str, role: &str, max: &str| {
        let key = key(&format!("{person} safe"));
        format!("[[emergency_keys]]\nperson = {person:?}\nkey = {key:?}\nroles = [{role:?}]\nmax = {max:?}\n")
    };
    people.concat() + roles + &emergency("alice", "db-prod", "10m") + &emergency("carol", "vault", "15m") + OFTEN
}

/// What tests do many times, and people do not.
const OFTEN: &str = "[break_glass]\nper_key = 100\nin_all = 1000\nextend_alone = 100\n";
