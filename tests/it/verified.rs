//! From signed bytes to a [`Verified`] statement: which documents, services, keys and moments count.

use std::path::PathBuf;

use serde_json::{Value, json};
use ssh_jit::domain::names::{InstanceId, Ticket};
use ssh_jit::domain::refusal::Refusal;
use ssh_jit::domain::sshsig::{BadSignature, Expect, SshSig};
use ssh_jit::domain::statement::{Claim, Request, Statement, Withdrawal};
use ssh_jit::domain::time::Timestamp;
use ssh_jit::domain::verify::{Signed, Verified, VerifiedSet};
use tempfile::TempDir;

use crate::support::dir;
use crate::support::openssh::{keygen, public_key, public_line, ssh_keygen_sign};

const AT: &str = "2026-11-22T10:01:58Z";
const SSH_KEY: Expect<'_> = Expect::SshKey { verified: false };

/// Alice, with one key, at one service.
struct Bench {
    dir: TempDir,
    key: PathBuf,
    instance: InstanceId,
    seen: VerifiedSet,
}

impl Bench {
    fn new() -> Self {
        let dir = dir();
        let key = keygen(dir.path(), "id", "ed25519");
        Self { dir, key, instance: InstanceId::from_bytes([7; 16]), seen: VerifiedSet::new(16) }
    }

    /// A request that passes.
    fn request(&self) -> Value {
        json!({
            "v": 1, "kind": "request", "instance": self.instance, "person": "alice", "id": "7F3K-9QPX-M2",
            "role": "db-prod", "principals": ["db-prod@db1"], "hosts": ["db1"], "key": public_line(&self.key),
            "seconds": 7200, "start": null, "extends": null, "ticket": "INC-412", "reason": "replica lag after failover",
            "nonce": "00112233445566778899aabbccddeeff", "at": AT,
        })
    }

    fn sign(&self, bytes: impl Into<Vec<u8>>, namespace: &str) -> Signed {
        let bytes = bytes.into();
        let signature = SshSig::from_armor(&ssh_keygen_sign(&self.key, namespace, &bytes)).expect("a signature");
        Signed::new(bytes, signature)
    }

    fn check<T: Statement>(&self, signed: &Signed) -> Result<Verified<T>, Refusal> {
        Verified::check(signed, &public_key(&self.key), SSH_KEY, &self.instance, &self.seen)
    }

    /// Signs `text` as a request and says why it is refused, if it is.
    fn refusal(&self, text: impl Into<Vec<u8>>) -> Option<Refusal> {
        self.check::<Request>(&self.sign(text, "request@ssh-jit")).err()
    }
}

fn at() -> Timestamp {
    AT.parse().expect("a time")
}

#[test]
fn a_good_statement_is_verified_from_its_bytes() {
    let bench = Bench::new();
    // Blanks are the signer's, but for the first byte: the bytes count, and are kept.
    let text = format!("{:#} ", bench.request());
    let signed = bench.sign(text.clone(), "request@ssh-jit");
    let verified = bench.check::<Request>(&signed).and_then(|v| v.fresh(at())).unwrap();
    assert_eq!(verified.get().ticket.as_ref().map(Ticket::as_str), Some("INC-412"));
    assert_eq!(verified.signed().bytes(), text.as_bytes());
    assert_eq!((verified.digest(), verified.key()), (signed.digest(), &public_key(&bench.key)));
}

#[test]
fn every_field_stands_there_once() {
    let bench = Bench::new();
    let good = bench.request();
    let malformed = |text: &str, field: &str| match bench.refusal(text) {
        Some(Refusal::Malformed { what }) => assert!(what.contains(field), "{text}: {what}"),
        other => panic!("{text}: {other:?}"),
    };
    for field in good.as_object().unwrap().keys() {
        let mut missing = good.clone();
        missing.as_object_mut().unwrap().remove(field);
        malformed(&missing.to_string(), &format!("missing field `{field}`"));
        let twice = good.to_string().replacen('{', &format!("{{\"{field}\":{},", good[field]), 1);
        malformed(&twice, &format!("duplicate field `{field}`"));
        let capital = format!("\"{}\":", field.to_uppercase());
        malformed(&good.to_string().replacen(&format!("\"{field}\":"), &capital, 1), "unknown field");
    }
    for field in ["admin", "extensions", ""] {
        let mut unknown = good.clone();
        unknown[field] = Value::Null;
        malformed(&unknown.to_string(), &format!("unknown field `{field}`"));
    }
}

#[test]
fn a_statement_is_of_one_version_kind_and_size() {
    let bench = Bench::new();
    for (field, value) in [
        ("v", json!(2)),
        ("v", json!(0)),
        ("v", json!("1")),
        ("v", json!(1.0)),
        ("v", json!(257)),
        ("v", Value::Null),
        ("kind", json!("approval")),
        ("kind", json!("Request")),
        ("kind", Value::Null),
        ("seconds", json!(0)),
        ("seconds", json!("7200")),
        ("seconds", json!(43201)),
        ("key", json!("")),
        ("hosts", Value::Null),
        ("hosts", json!("db1")),
        ("at", json!(1_795_341_718)),
    ] {
        let mut changed = bench.request();
        changed[field] = value;
        assert!(matches!(bench.refusal(changed.to_string()), Some(Refusal::Malformed { .. })), "{changed}");
    }
    let good = bench.request().to_string();
    for text in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        format!("[{good}]"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        good[..good.len() - 1].to_owned(),
        format!("{good}{}", " ".repeat(96 * 1024)),
        "[".repeat(90 * 1024),
    ] {
        assert!(matches!(bench.refusal(text), Some(Refusal::Malformed { .. })));
    }
    assert!(matches!(bench.refusal(b"\xff\xfe".to_vec()), Some(Refusal::Malformed { .. })));
}

#[test]
fn a_statement_for_another_service_is_refused() {
    let bench = Bench::new();
    let mut request = bench.request();
    request["instance"] = json!(InstanceId::from_bytes([8; 16]));
    assert_eq!(bench.refusal(request.to_string()), Some(Refusal::OtherInstance));
}

/// One key and one document, but another purpose.
#[test]
fn a_statement_of_one_kind_is_no_other() {
    let bench = Bench::new();
    let text = bench.request().to_string();
    let signed = bench.sign(text.clone(), "withdrawal@ssh-jit");
    let namespace = Refusal::Signature { why: BadSignature::Namespace };
    assert_eq!(bench.check::<Request>(&signed).err(), Some(namespace));
    assert!(matches!(bench.check::<Withdrawal>(&signed), Err(Refusal::Malformed { .. })));
    assert!(matches!(bench.check::<Claim>(&bench.sign(text, "claim@ssh-jit")), Err(Refusal::Malformed { .. })));
}

#[test]
fn a_statement_counts_for_a_minute() {
    let bench = Bench::new();
    let signed = bench.sign(bench.request().to_string(), "request@ssh-jit");
    let verified = bench.check::<Request>(&signed).unwrap();
    let at_age = |age: i64| verified.clone().fresh(at().plus(age)).map(|_| ());
    for age in [-5, -1, 0, 1, 60] {
        assert_eq!(at_age(age), Ok(()), "{age} s");
    }
    for age in [61, 3600, i64::MAX] {
        assert!(matches!(at_age(age), Err(Refusal::Stale { seconds }) if seconds >= 61), "{age} s");
    }
    assert_eq!(at_age(61), Err(Refusal::Stale { seconds: 61 }));
    assert_eq!(at_age(-6), Err(Refusal::Future { seconds: 6 }));
    assert!(matches!(at_age(i64::MIN), Err(Refusal::Future { .. })));
}

/// The set of verified statements saves the mathematics of an exact repeat, and nothing else.
#[test]
fn a_verified_statement_lets_no_other_pass() {
    let bench = Bench::new();
    let text = bench.request().to_string();
    let signed = bench.sign(text.clone(), "request@ssh-jit");
    for _ in 0..3 {
        assert!(bench.check::<Request>(&signed).is_ok());
    }
    let refused = |result: Result<Verified<Request>, Refusal>, why| {
        assert_eq!(result.err(), Some(Refusal::Signature { why }));
    };
    let longer = Signed::new(text.replace("7200", "7201").into(), signed.signature().clone());
    refused(bench.check(&longer), BadSignature::Mismatch);
    let blank = Signed::new(format!("{text} ").into(), signed.signature().clone());
    refused(bench.check(&blank), BadSignature::Mismatch);
    // A repeat still meets every check that is not mathematics.
    let (key, other) = (public_key(&bench.key), public_key(&keygen(bench.dir.path(), "other", "ed25519")));
    refused(Verified::check(&signed, &other, SSH_KEY, &bench.instance, &bench.seen), BadSignature::OtherKey);
    let verified = Expect::SshKey { verified: true };
    refused(Verified::check(&signed, &key, verified, &bench.instance, &bench.seen), BadSignature::NotVerified);
    let elsewhere = InstanceId::from_bytes([8; 16]);
    let result = Verified::<Request>::check(&signed, &key, SSH_KEY, &elsewhere, &bench.seen);
    assert_eq!(result.err(), Some(Refusal::OtherInstance));
}

/// What failed is not remembered, and a set that overflows forgets, but never errs.
#[test]
fn a_set_of_any_size_gives_the_same_answers() {
    let bench = Bench::new();
    let key = public_key(&bench.key);
    let good: Vec<Signed> = (0..5)
        .map(|i| {
            let mut request = bench.request();
            request["seconds"] = json!(60 + i);
            bench.sign(request.to_string(), "request@ssh-jit")
        })
        .collect();
    for capacity in [0, 1, 2, 100] {
        let seen = VerifiedSet::new(capacity);
        for _ in 0..2 {
            for (i, signed) in good.iter().enumerate() {
                let check = |s: &Signed| Verified::<Request>::check(s, &key, SSH_KEY, &bench.instance, &seen).is_ok();
                let swapped = Signed::new(signed.bytes().to_vec(), good[(i + 1) % good.len()].signature().clone());
                assert!(check(signed) && !check(&swapped), "capacity {capacity}");
            }
        }
    }
}
