//! SSH's binary forms, written without the code under test, so that broken ones can be written too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An SSH `string` (RFC 4251, section 5).
pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u32::try_from(bytes.len()).expect("no test writes 4 GB");
    [&length.to_be_bytes(), bytes].concat()
}

/// An SSH `mpint` (RFC 4251, section 5) of an unsigned big-endian number.
pub(crate) fn mpint(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    match number.first() {
        Some(0x80..) => string([&[0], number].concat()),
        _ => string(number),
    }
}

/// A key as `id_*.pub` has it.
pub(crate) fn key_line(algorithm: &str, blob: &[u8]) -> String {
    format!("{algorithm} {}", STANDARD.encode(blob))
}

/// An SSHSIG (PROTOCOL.sshsig, "Blob format").
pub(crate) fn sshsig(key: &[u8], namespace: &str, hash: &str, signature: &[u8]) -> Vec<u8> {
    let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
    for part in [key, namespace.as_bytes(), b"", hash.as_bytes(), signature] {
        blob.extend(string(part));
    }
    blob
}

/// The armored form of an SSHSIG, right or wrong.
pub(crate) fn armor(blob: &[u8]) -> String {
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob))
}

/// The blob in an armored SSHSIG.
pub(crate) fn dearmor(text: &str) -> Vec<u8> {
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(base64).expect("base64")
}

/// A public key's blob from its line.
pub(crate) fn blob(line: &str) -> Vec<u8> {
    STANDARD.decode(line.split(' ').nth(1).expect("algorithm, then base64")).expect("base64")
}
