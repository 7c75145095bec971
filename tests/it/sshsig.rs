//! Signatures by SSH keys: what `ssh-keygen -Y sign` makes we accept, what we make `ssh-keygen -Y verify`
//! accepts, and nothing that was changed or made for another purpose passes.

use std::path::{Path, PathBuf};

use curve25519_dalek::Scalar;
use sha2::{Digest as _, Sha512};
use signature::{Signer as _, Verifier as _};
use ssh_encoding::Encode as _;
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::sshsig::BadSignature::{
    Malformed, Mismatch, Namespace, NotPresent, NotVerified, Origin, OtherKey,
};
use ssh_jit::domain::sshsig::{BadSignature, Expect, SshSig, signed_blob};
use ssh_key::HashAlg;
use ssh_key::private::{KeypairData, PrivateKey};

use crate::support::openssh::{keygen, public_key, public_line, signing, ssh_keygen_sign, ssh_keygen_verify};
use crate::support::wire::{armor, dearmor, sshsig, string};
use crate::support::{dir, run_with};

const NAMESPACE: &str = "request@ssh-jit";
const STATEMENT: &[u8] = br#"{"v":1,"kind":"request","reason":"replica lag"}"#;
const SSH_KEY: Expect<'_> = Expect::SshKey { verified: false };
const VERIFIED_KEY: Expect<'_> = Expect::SshKey { verified: true };
const PLAIN_KINDS: [&str; 5] = ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 3072"];
const FIDO_KINDS: [&str; 2] = ["ed25519-sk", "ecdsa-sk"];

/// Everything that the service checks of a signature, on its armored form.
fn check(armored: &str, statement: &[u8], key: &PublicKey, expect: Expect<'_>) -> Result<(), BadSignature> {
    let signature = SshSig::from_armor(armored)?;
    signature.expect(statement, NAMESPACE, key, expect)?;
    signature.check(statement)
}

/// One key of each kind that may sign.
fn keys(dir: &Path) -> Vec<PathBuf> {
    let kinds = PLAIN_KINDS.iter().chain(&FIDO_KINDS).enumerate();
    kinds.map(|(i, kind)| keygen(dir, &format!("id{i}"), kind)).collect()
}

#[test]
fn what_ssh_keygen_signs_is_accepted_and_nothing_else() {
    let dir = dir();
    let stranger = public_key(&keygen(dir.path(), "stranger", "ed25519"));
    for path in keys(dir.path()) {
        let key = public_key(&path);
        let armored = ssh_keygen_sign(&path, NAMESPACE, STATEMENT);
        let algorithm = key.algorithm();
        assert_eq!(check(&armored, STATEMENT, &key, SSH_KEY), Ok(()), "{algorithm}");
        assert_eq!(check(&armored, STATEMENT, &stranger, SSH_KEY), Err(OtherKey), "{algorithm}");
        let passkey = Expect::Passkey { origin: "https://ca.example" };
        assert_eq!(check(&armored, STATEMENT, &key, passkey), Err(Origin), "{algorithm}");
        assert_eq!(check(&armored, STATEMENT, &key, VERIFIED_KEY), Err(NotVerified), "{algorithm}");

        for i in 0..STATEMENT.len() {
            let mut changed = STATEMENT.to_vec();
            changed[i] ^= 1;
            assert_eq!(check(&armored, &changed, &key, SSH_KEY), Err(Mismatch), "{algorithm}, byte {i}");
        }
        for changed in [&STATEMENT[1..], &STATEMENT[..STATEMENT.len() - 1], &[STATEMENT, b"\n"].concat(), b""] {
            assert_eq!(check(&armored, changed, &key, SSH_KEY), Err(Mismatch), "{algorithm}");
        }
    }
}

/// A signature for one purpose serves no other, neither as it is nor with another namespace written into it.
#[test]
fn a_namespace_cannot_be_exchanged() {
    let dir = dir();
    for path in keys(dir.path()) {
        let key = public_key(&path);
        let armored = ssh_keygen_sign(&path, "approval@ssh-jit", STATEMENT);
        assert_eq!(check(&armored, STATEMENT, &key, SSH_KEY), Err(Namespace), "{}", key.algorithm());
        let relabelled = sshsig(key.blob(), NAMESPACE, "sha512", &raw_signature(&dearmor(&armored)));
        assert_eq!(check(&armor(&relabelled), STATEMENT, &key, SSH_KEY), Err(Mismatch), "{}", key.algorithm());
    }
}

/// The last field of an SSHSIG: the signature proper.
fn raw_signature(blob: &[u8]) -> Vec<u8> {
    let mut fields = &blob[b"SSHSIG\0\0\0\x01".len()..];
    let mut last: &[u8] = &[];
    while let Some((length, rest)) = fields.split_at_checked(4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        (last, fields) = rest.split_at(length);
    }
    last.to_vec()
}

#[test]
fn a_signature_has_one_form_only() {
    let dir = dir();
    for path in keys(dir.path()) {
        let key = public_key(&path);
        let blob = dearmor(&ssh_keygen_sign(&path, NAMESPACE, STATEMENT));
        for length in 0..blob.len() {
            assert_eq!(SshSig::from_blob(&blob[..length]).err(), Some(Malformed), "{} to {length}", key.algorithm());
        }
        let raw = raw_signature(&blob);
        let reserved = [b"SSHSIG\0\0\0\x01".to_vec(), string(key.blob()), string(NAMESPACE), string("x")].concat();
        let malformed = [
            ("trailing byte", [&blob[..], b"\0"].concat()),
            ("trailing byte in the signature", sshsig(key.blob(), NAMESPACE, "sha512", &[&raw[..], b"\0"].concat())),
            ("trailing byte in the key", sshsig(&[key.blob(), b"\0"].concat(), NAMESPACE, "sha512", &raw)),
            ("hash", sshsig(key.blob(), NAMESPACE, "sha256", &raw)),
            ("no hash", sshsig(key.blob(), NAMESPACE, "", &raw)),
            ("no namespace", sshsig(key.blob(), "", "sha512", &raw)),
            ("no signature", sshsig(key.blob(), NAMESPACE, "sha512", b"")),
            ("reserved", [reserved, string("sha512"), string(&raw)].concat()),
            ("version 0", [b"SSHSIG\0\0\0\0", &blob[10..]].concat()),
            ("version 2", [b"SSHSIG\0\0\0\x02", &blob[10..]].concat()),
            ("magic", [b"sSHSIG", &blob[6..]].concat()),
            ("longer than any signature", [blob.clone(), vec![0; 16 * 1024]].concat()),
        ];
        for (case, changed) in malformed {
            assert_eq!(SshSig::from_blob(&changed).err(), Some(Malformed), "{}: {case}", key.algorithm());
        }
        assert_eq!(SshSig::from_blob(&blob).map(|s| dearmor(&s.armor())), Ok(blob));
    }
    for text in ["", "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----", "U1NIU0lH"] {
        assert_eq!(SshSig::from_armor(text).err(), Some(Malformed), "{text:?}");
    }
}

/// A signature that names another algorithm than its key's, or SHA-1, is not even checked.
#[test]
fn a_signature_is_of_the_kind_of_its_key() {
    let dir = dir();
    let keys = keys(dir.path());
    let raw = |path: &PathBuf| raw_signature(&dearmor(&ssh_keygen_sign(path, NAMESPACE, STATEMENT)));
    let signatures: Vec<Vec<u8>> = keys.iter().map(raw).collect();
    for (i, path) in keys.iter().enumerate() {
        let key = public_key(path);
        let read = |raw: &[u8]| SshSig::from_signature(&key, NAMESPACE, raw).and_then(|s| s.check(STATEMENT));
        for (j, raw) in signatures.iter().enumerate() {
            assert_eq!(read(raw), if i == j { Ok(()) } else { Err(Malformed) }, "{} {j}", key.algorithm());
        }
        // The body begins with its length, behind the algorithm's name.
        let name = u32::from_be_bytes(signatures[i][..4].try_into().unwrap()) as usize;
        let body = &signatures[i][4 + name..];
        for algorithm in ["ssh-rsa", "ssh-dss", "rsa-sha2-384", "none", ""] {
            let renamed = [&string(algorithm), body].concat();
            assert_eq!(read(&renamed), Err(Malformed), "{} as {algorithm}", key.algorithm());
        }
        // Found by comparing: of FIDO's names only the beginning was looked at.
        let known = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "sk-x", "sk-"];
        for algorithm in known.into_iter().filter(|name| *name != key.algorithm()) {
            let renamed = [&string(algorithm), body].concat();
            assert_eq!(read(&renamed), Err(Malformed), "{} as {algorithm}", key.algorithm());
        }
    }
}

/// `ssh-keygen -O hashalg=sha256` is legal SSHSIG, but not a form that this service takes.
#[test]
fn sha256_signatures_are_refused() {
    let dir = dir();
    for path in keys(dir.path()) {
        let armored = run_with(signing(&path, NAMESPACE).args(["-O", "hashalg=sha256"]), STATEMENT);
        assert!(ssh_keygen_verify(&public_line(&path), NAMESPACE, STATEMENT, &armored));
        assert_eq!(SshSig::from_armor(&armored).err(), Some(Malformed));
    }
}

#[test]
fn a_security_key_must_be_touched() {
    let dir = dir();
    for (i, kind) in FIDO_KINDS.iter().enumerate() {
        let path = keygen(dir.path(), &format!("sk{i}"), kind);
        let log = dir.path().join(format!("touches{i}"));
        let sign = |variable: &str| run_with(signing(&path, NAMESPACE).env(variable, &log), STATEMENT);
        let (touched, untouched) = (sign("SK_TOUCH_LOG"), sign("SK_NO_TOUCH"));
        assert_eq!(check(&touched, STATEMENT, &public_key(&path), SSH_KEY), Ok(()));
        assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 1);

        assert!(ssh_keygen_verify(&public_line(&path), NAMESPACE, STATEMENT, &untouched), "stock OpenSSH looks away");
        assert_eq!(check(&untouched, STATEMENT, &public_key(&path), SSH_KEY), Err(NotPresent));
        let counter = |armored: &str| SshSig::from_armor(armored).unwrap().counter().unwrap();
        assert!(counter(&untouched) > counter(&touched), "the counter rises");
    }
}

#[test]
fn a_security_key_that_verifies_its_user_satisfies_both_demands() {
    let dir = dir();
    for (i, kind) in ["ed25519-sk -O verify-required", "ecdsa-sk -O verify-required"].iter().enumerate() {
        let path = keygen(dir.path(), &format!("uv{i}"), kind);
        let (key, armored) = (public_key(&path), ssh_keygen_sign(&path, NAMESPACE, STATEMENT));
        assert_eq!(check(&armored, STATEMENT, &key, SSH_KEY), Ok(()));
        assert_eq!(check(&armored, STATEMENT, &key, VERIFIED_KEY), Ok(()));
    }
}

/// Flags and counter are signed: nobody can write a touch into a signature, or turn the counter.
#[test]
fn flags_and_counter_cannot_be_changed() {
    let dir = dir();
    for (i, kind) in FIDO_KINDS.iter().enumerate() {
        let path = keygen(dir.path(), &format!("sk{i}"), kind);
        let blob = dearmor(&run_with(signing(&path, NAMESPACE).env("SK_NO_TOUCH", "1"), STATEMENT));
        // Flags and counter are the last five bytes.
        for (byte, bit) in [(5, 0x01), (5, 0x05), (4, 0x80), (1, 0x01)] {
            let mut changed = blob.clone();
            changed[blob.len() - byte] ^= bit;
            assert_eq!(SshSig::from_blob(&changed).and_then(|s| s.check(STATEMENT)), Err(Mismatch), "{kind}");
        }
    }
}

#[test]
fn ssh_keygen_accepts_what_we_write() {
    let dir = dir();
    for (i, kind) in PLAIN_KINDS.iter().enumerate() {
        let path = keygen(dir.path(), &format!("id{i}"), kind);
        let key = PrivateKey::read_openssh_file(&path).unwrap();
        let raw = key.try_sign(&signed_blob(NAMESPACE, STATEMENT)).unwrap().encode_vec().unwrap();
        assert_both_accept(&path, &raw);
        if let KeypairData::Rsa(pair) = key.key_data() {
            // The older of the two hashes that RFC 8332 has: agents choose it when asked without flags.
            let signer = (pair, Some(HashAlg::Sha256));
            assert_both_accept(
                &path,
                &signer.try_sign(&signed_blob(NAMESPACE, STATEMENT)).unwrap().encode_vec().unwrap(),
            );
        }
    }
}

fn assert_both_accept(path: &Path, raw: &[u8]) {
    let armored = SshSig::from_signature(&public_key(path), NAMESPACE, raw).expect("a signature").armor();
    assert_eq!(check(&armored, STATEMENT, &public_key(path), SSH_KEY), Ok(()), "{armored}");
    assert!(ssh_keygen_verify(&public_line(path), NAMESPACE, STATEMENT, &armored), "{armored}");
    assert!(!ssh_keygen_verify(&public_line(path), NAMESPACE, b"", &armored), "the judge is awake");
}

/// K13: with the identity for R, the laxer equation holds for a signature that commits to no nonce.
#[test]
fn an_ed25519_signature_commits_to_a_nonce() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    let mut r = [0; 32];
    r[0] = 1;
    let message = signed_blob(NAMESPACE, STATEMENT);
    let k = Sha512::new().chain_update(r).chain_update(public).chain_update(&message).finalize();
    let s = Scalar::from_bytes_mod_order_wide(&k.into()) * key.to_scalar();
    let signature = [r, s.to_bytes()].concat();
    let lax = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    assert!(public.verify(&message, &lax).is_ok(), "else this proves nothing");

    let key = PublicKey::from_blob(&[string("ssh-ed25519"), string(public)].concat()).unwrap();
    let raw = [string("ssh-ed25519"), string(&signature)].concat();
    assert_eq!(SshSig::from_signature(&key, NAMESPACE, &raw).and_then(|s| s.check(STATEMENT)), Err(Mismatch));
}

/// K13: S and S + L are the same scalar; only one of them is a signature.
#[test]
fn an_ed25519_scalar_has_one_form() {
    /// L, the order of the group (RFC 8032, 5.1), little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let dir = dir();
    let path = keygen(dir.path(), "id", "ed25519");
    let mut blob = dearmor(&ssh_keygen_sign(&path, NAMESPACE, STATEMENT));
    let start = blob.len() - 32;
    let mut carry = 0;
    for (byte, order) in blob[start..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(check(&armor(&blob), STATEMENT, &public_key(&path), SSH_KEY), Err(Mismatch));
}
