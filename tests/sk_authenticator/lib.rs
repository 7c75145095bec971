//! A FIDO authenticator in software, so that `sk-` keys are tested without hardware: a middleware
//! library for `SSH_SK_PROVIDER` (openssh-portable: PROTOCOL.u2f, sk-api.h, version 10). Not for
//! anything but tests: a key handle *is* the private key, and nobody has to touch anything.
//!
//! `SK_NO_TOUCH` in the environment leaves the user-present flag out. `SK_TOUCH_LOG` names a file that
//! gets one line for each signature, so that a test can count the touches that people would make.
#![expect(unsafe_code, reason = "OpenSSH calls this through a C interface and passes pointers")]
#![expect(
    clippy::disallowed_methods,
    reason = "a library that sshd's tools load has the clock and the environment only"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};

/// sk-api.h, `SSH_SK_VERSION_MAJOR`.
const API_VERSION: u32 = 0x000a_0000;
/// sk-api.h, "Flags": user presence required.
const USER_PRESENT: u8 = 0x01;
/// sk-api.h, `SSH_SK_ERR_GENERAL`.
const ERR_GENERAL: c_int = -1;
/// sk-api.h, `SSH_SK_ERR_UNSUPPORTED`.
const ERR_UNSUPPORTED: c_int = -2;
/// How often the signature counter ticks.
const TICK: Duration = Duration::from_millis(10);

/// A key of one of the two algorithms that sk-api.h has.
enum Key {
    /// `SSH_SK_ECDSA`
    Ecdsa(p256::ecdsa::SigningKey),
    /// `SSH_SK_ED25519`
    Ed25519(ed25519_dalek::SigningKey),
}

impl Key {
    fn new(algorithm: u32, secret: &[u8; 32]) -> Option<Self> {
        match algorithm {
            0 => p256::ecdsa::SigningKey::from_slice(secret).ok().map(Self::Ecdsa),
            1 => Some(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(secret))),
            _ => None,
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Self::Ecdsa(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::Ed25519(key) => key.verifying_key().to_bytes().to_vec(),
        }
    }

    /// The two halves that `sk_sign_response` has; an Ed25519 signature fills the first only.
    fn sign(&self, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Ecdsa(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                let (r, s) = signature.split_bytes();
                (r.to_vec(), s.to_vec())
            }
            Self::Ed25519(key) => (key.sign(message).to_bytes().to_vec(), Vec::new()),
        }
    }
}

/// A number that rises with every signature, also across processes, for OpenSSH starts a new one for
/// each: ticks of the clock, each used up before the signature is handed out. It wraps once in 497 days.
fn counter() -> u32 {
    let ticks = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() / TICK.as_millis();
    let mine = ticks();
    while ticks() == mine {
        std::thread::sleep(TICK / 4);
    }
    mine as u32
}

fn log_touch(application: &CStr, flags: u8, counter: u32) -> std::io::Result<()> {
    let Some(path) = std::env::var_os("SK_TOUCH_LOG") else { return Ok(()) };
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    // One write, so that lines of processes that sign at once do not mix.
    log.write_all(format!("{} {flags:#04x} {counter}\n", application.to_string_lossy()).as_bytes())
}

/// sk-api.h, `struct sk_enroll_response`.
#[repr(C)]
struct EnrollResponse {
    flags: u8,
    public_key: Buffer,
    key_handle: Buffer,
    signature: Buffer,
    attestation_cert: Buffer,
    authdata: Buffer,
}

/// sk-api.h, `struct sk_sign_response`.
#[repr(C)]
struct SignResponse {
    flags: u8,
    counter: u32,
    sig_r: Buffer,
    sig_s: Buffer,
}

/// A pointer and its length, as they follow each other in both responses.
#[repr(C)]
struct Buffer {
    start: *mut u8,
    length: usize,
}

impl Buffer {
    /// A copy of `bytes` from malloc(3), because OpenSSH gives it to free(3). Empty is null.
    fn copy(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self { start: std::ptr::null_mut(), length: 0 };
        }
        // SAFETY: the allocation has as many bytes as are written to it, and is checked.
        unsafe {
            let start: *mut u8 = libc::malloc(bytes.len()).cast();
            assert!(!start.is_null(), "out of memory");
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            Self { start, length: bytes.len() }
        }
    }
}

/// Hands a response to OpenSSH, which gives it to free(3).
///
/// # Safety
/// `out` must be valid for one write.
unsafe fn hand_over<T>(response: T, out: *mut *mut T) -> c_int {
    // SAFETY: malloc(3) aligns for every type, the result is checked, `out` is the caller's promise.
    unsafe {
        let place: *mut T = libc::malloc(size_of::<T>()).cast();
        assert!(!place.is_null(), "out of memory");
        place.write(response);
        out.write(place);
    }
    0
}

/// sk-api.h, `sk_api_version`.
#[unsafe(no_mangle)]
extern "C" fn sk_api_version() -> u32 {
    API_VERSION
}

/// sk-api.h, `sk_enroll`. The attestation stays empty: nothing here looks at it.
///
/// # Safety
/// OpenSSH calls it with pointers as sk-api.h has them.
#[unsafe(no_mangle)]
unsafe extern "C" fn sk_enroll(
    algorithm: u32,
    _challenge: *const u8,
    _challenge_length: usize,
    _application: *const c_char,
    flags: u8,
    _pin: *const c_char,
    _options: *mut *mut c_void,
    out: *mut *mut EnrollResponse,
) -> c_int {
    let mut secret = [0; 32];
    if getrandom::fill(&mut secret).is_err() {
        return ERR_GENERAL;
    }
    let Some(key) = Key::new(algorithm, &secret) else { return ERR_UNSUPPORTED };
    let response = EnrollResponse {
        flags,
        public_key: Buffer::copy(&key.public()),
        key_handle: Buffer::copy(&secret),
        signature: Buffer::copy(&[]),
        attestation_cert: Buffer::copy(&[]),
        authdata: Buffer::copy(&[]),
    };
    // SAFETY: `out` is where OpenSSH wants the response.
    unsafe { hand_over(response, out) }
}

/// sk-api.h, `sk_sign`: signs as PROTOCOL.u2f, "SSH U2F Signatures" has it.
///
/// # Safety
/// OpenSSH calls it with pointers as sk-api.h has them.
#[unsafe(no_mangle)]
unsafe extern "C" fn sk_sign(
    algorithm: u32,
    data: *const u8,
    data_length: usize,
    application: *const c_char,
    key_handle: *const u8,
    key_handle_length: usize,
    flags: u8,
    _pin: *const c_char,
    _options: *mut *mut c_void,
    out: *mut *mut SignResponse,
) -> c_int {
    // SAFETY: OpenSSH passes whole buffers with their lengths, and a terminated string.
    let (data, handle, application) = unsafe {
        (
            std::slice::from_raw_parts(data, data_length),
            std::slice::from_raw_parts(key_handle, key_handle_length),
            CStr::from_ptr(application),
        )
    };
    let Some(key) = handle.try_into().ok().and_then(|secret| Key::new(algorithm, secret)) else {
        return ERR_GENERAL;
    };
    let flags = if std::env::var_os("SK_NO_TOUCH").is_some() { flags & !USER_PRESENT } else { flags };
    let counter = counter();
    if log_touch(application, flags, counter).is_err() {
        return ERR_GENERAL;
    }
    let mut signed = Sha256::digest(application.to_bytes()).to_vec();
    signed.push(flags);
    signed.extend_from_slice(&counter.to_be_bytes());
    signed.extend_from_slice(&Sha256::digest(data));
    let (r, s) = key.sign(&signed);
    let response = SignResponse { flags, counter, sig_r: Buffer::copy(&r), sig_s: Buffer::copy(&s) };
    // SAFETY: `out` is where OpenSSH wants the response.
    unsafe { hand_over(response, out) }
}

/// sk-api.h, `sk_load_resident_keys`: there are none.
#[unsafe(no_mangle)]
extern "C" fn sk_load_resident_keys(
    _pin: *const c_char,
    _options: *mut *mut c_void,
    _keys: *mut *mut *mut c_void,
    _count: *mut usize,
) -> c_int {
    ERR_UNSUPPORTED
}
