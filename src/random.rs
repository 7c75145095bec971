//! Randomness, from the operating system. The domain gets it as arguments.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::domain::names::{Nonce, RequestId};

/// So many random bytes.
///
/// # Panics
/// When the operating system has no randomness to give: then nothing here is safe to do.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A statement's nonce.
pub fn nonce() -> Nonce {
    Nonce::from_bytes(bytes())
}

/// A request's id.
pub fn request_id() -> RequestId {
    RequestId::from_bits(u64::from_be_bytes(bytes()))
}

/// A bearer or a capability: 256 bits, in base64.
pub fn token() -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(Zeroizing::new(bytes::<32>())))
}
