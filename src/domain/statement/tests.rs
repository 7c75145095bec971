//! Statements: each kind in each way it can be written wrong.

use serde_json::{Value, json};

use super::*;
use crate::domain::sshsig::{BadSignature, Expect};
use crate::domain::testing::*;
use crate::domain::verify::{Verified, VerifiedSet};

/// One of each kind.
fn sample(kind: Kind) -> Value {
    let mut sample = match kind {
        Kind::Request => serde_json::to_value(request()).unwrap(),
        Kind::Approval => serde_json::to_value(approval("carol")).unwrap(),
        Kind::Claim => serde_json::to_value(claim()).unwrap(),
        Kind::BreakGlass => serde_json::to_value(break_glass()).unwrap(),
        Kind::Withdrawal => json!({ "request": this_request(), "id": request_id(), "reason": "" }),
        Kind::Return => json!({ "request": this_request(), "id": request_id(), "serial": "281474976710657" }),
        Kind::Revocation => json!({ "target": { "person": "alice" }, "reason": "left the company" }),
        Kind::Seconding => {
            json!({ "requester": "bob", "role": "db-prod", "reason": "it is down, and he has used his key up" })
        }
        Kind::Review => {
            json!({ "break_glass": this_request(), "id": request_id(), "outcome": "drill", "comment": "a planned drill" })
        }
        Kind::Acknowledgement => json!({ "break_glass": this_request(), "id": request_id(), "comment": "" }),
        Kind::Drill => json!({
            "break_glass": this_request(), "id": request_id(), "reason_ms": 0, "certificate_ms": 412, "shell_ms": 902,
            "alert_ms": null, "acknowledgement_ms": null
        }),
        Kind::Enrolment => json!({
            "key": ecdsa_key(), "application": "localhost", "ssh_key": this_request(), "until": at(86400)
        }),
        Kind::Removal => json!({ "key": this_request(), "reason": "" }),
        Kind::Invitation => json!({
            "host": "db1", "aliases": ["db1.example.org"], "key": ecdsa_key(), "until": at(3600)
        }),
        Kind::HostRemoval => json!({ "host": "db1", "reason": "it was broken into" }),
        Kind::BreakGlassCheck | Kind::Session => json!({}),
    };
    let common = json!({
        "v": 1, "kind": kind.as_str(), "instance": instance(), "person": "alice",
        "nonce": "00112233445566778899aabbccddeeff", "at": at(0)
    });
    sample.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
    sample
}

/// Parses `bytes` as `kind`, and gives the bytes that we would write.
fn reread(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    match kind {
        Kind::Request => parse::<Request>(bytes).map(|s| to_bytes(&s)),
        Kind::Approval => parse::<Approval>(bytes).map(|s| to_bytes(&s)),
        Kind::Withdrawal => parse::<Withdrawal>(bytes).map(|s| to_bytes(&s)),
        Kind::Claim => parse::<Claim>(bytes).map(|s| to_bytes(&s)),
        Kind::Return => parse::<Return>(bytes).map(|s| to_bytes(&s)),
        Kind::Revocation => parse::<Revocation>(bytes).map(|s| to_bytes(&s)),
        Kind::BreakGlass => parse::<BreakGlass>(bytes).map(|s| to_bytes(&s)),
        Kind::Seconding => parse::<Seconding>(bytes).map(|s| to_bytes(&s)),
        Kind::BreakGlassCheck => parse::<BreakGlassCheck>(bytes).map(|s| to_bytes(&s)),
        Kind::Review => parse::<Review>(bytes).map(|s| to_bytes(&s)),
        Kind::Acknowledgement => parse::<Acknowledgement>(bytes).map(|s| to_bytes(&s)),
        Kind::Drill => parse::<Drill>(bytes).map(|s| to_bytes(&s)),
        Kind::Enrolment => parse::<Enrolment>(bytes).map(|s| to_bytes(&s)),
        Kind::Removal => parse::<Removal>(bytes).map(|s| to_bytes(&s)),
        Kind::Invitation => parse::<Invitation>(bytes).map(|s| to_bytes(&s)),
        Kind::HostRemoval => parse::<HostRemoval>(bytes).map(|s| to_bytes(&s)),
        Kind::Session => parse::<Session>(bytes).map(|s| to_bytes(&s)),
    }
}

fn is_malformed(kind: Kind, text: &str) -> bool {
    matches!(reread(kind, text.as_bytes()), Err(Refusal::Malformed { .. }))
}

#[test]
fn each_kind_survives_writing_and_reading() {
    for &kind in Kind::ALL {
        let written = reread(kind, sample(kind).to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), sample(kind), "{kind:?}");
        assert_eq!(reread(kind, &written), Ok(written), "{kind:?}");
    }
}

/// The words are signed for years: renaming one makes old evidence unreadable.
#[test]
fn kinds_and_namespaces_keep_their_names() {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let expected = [
        "request",
        "approval",
        "withdrawal",
        "claim",
        "return",
        "revocation",
        "break-glass",
        "seconding",
        "break-glass-check",
        "review",
        "acknowledgement",
        "drill",
        "enrolment",
        "removal",
        "invitation",
        "host-removal",
        "session",
    ];
    assert_eq!(names, expected);
    for kind in Kind::ALL {
        assert_eq!(kind.namespace(), format!("{}@ssh-jit", kind.as_str()));
    }
}

/// Every field of every kind: absent, twice, of another type, null; and one that does not exist.
#[test]
fn a_statement_has_each_field_once_and_no_other() {
    let nullable = |kind, field: &str| match kind {
        Kind::Request => ["seconds", "start", "extends", "ticket"].contains(&field),
        Kind::Approval => field == "start",
        Kind::BreakGlass => ["seconds", "extends"].contains(&field),
        Kind::Drill => ["shell_ms", "alert_ms", "acknowledgement_ms"].contains(&field),
        _ => false,
    };
    for &kind in Kind::ALL {
        let sample = sample(kind);
        let fields = sample.as_object().unwrap();
        for (field, value) in fields {
            let with = |value: Value| {
                let mut changed = fields.clone();
                changed.insert(field.clone(), value);
                Value::Object(changed).to_string()
            };
            let mut without = fields.clone();
            without.remove(field);
            assert!(is_malformed(kind, &Value::Object(without).to_string()), "{kind:?} without {field}");
            let twice = sample.to_string().replacen('{', &format!("{{\"{field}\":{value},"), 1);
            assert!(is_malformed(kind, &twice), "{kind:?} with {field} twice");
            assert!(is_malformed(kind, &with(json!(true))), "{kind:?} with {field} true");
            assert!(is_malformed(kind, &with(json!({ "x": [] }))), "{kind:?} with {field} a map");
            assert_eq!(is_malformed(kind, &with(Value::Null)), !nullable(kind, field), "{kind:?} with {field} null");
        }
        let unknown = sample.to_string().replacen('{', "{\"x\":1,", 1);
        assert!(is_malformed(kind, &unknown), "{kind:?} with x");
        for v in [json!(0), json!(2), json!("1"), json!(1.0), json!(257)] {
            let mut other = sample.clone();
            other["v"] = v;
            assert!(is_malformed(kind, &other.to_string()), "{kind:?} of {}", other["v"]);
        }
    }
}

#[test]
fn a_statement_is_of_its_own_kind_only() {
    for &kind in Kind::ALL {
        for &other in Kind::ALL.iter().filter(|other| **other != kind) {
            assert!(is_malformed(other, &sample(kind).to_string()), "{kind:?} as {other:?}");
            let mut renamed = sample(kind);
            renamed["kind"] = json!(other.as_str());
            assert!(is_malformed(kind, &renamed.to_string()), "{kind:?} that says {other:?}");
        }
    }
}

#[test]
fn what_is_not_one_json_object_is_malformed() {
    let good = sample(Kind::Approval).to_string();
    assert!(!is_malformed(Kind::Approval, &good));
    let array = |text: &str| {
        let values: Vec<Value> =
            ["v", "kind", "instance", "person", "nonce", "at"].map(|f| sample(Kind::Session)[f].clone()).to_vec();
        format!("{text}{}", Value::Array(values))
    };
    assert!(is_malformed(Kind::Session, &array("")), "the fields without their names");
    assert!(is_malformed(Kind::Session, &array(" ")));
    for (name, text) in [
        ("nothing", String::new()),
        ("null", "null".to_owned()),
        ("text behind it", format!("{good}x")),
        ("a second statement", format!("{good}{good}")),
        ("a NUL behind it", format!("{good}\0")),
        ("cut short", good[..good.len() - 1].to_owned()),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("an option twice", good.replace("\"critical_options\":{}", "\"critical_options\":{\"a\":\"x\",\"a\":\"y\"}")),
        (
            "an option twice, spelt otherwise",
            good.replace("\"critical_options\":{}", "\"critical_options\":{\"a\":\"x\",\"\\u0061\":\"y\"}"),
        ),
        ("half a character", good.replace("\"comment\":\"\"", "\"comment\":\"\\ud800\"")),
        ("a decision in another form", good.replace("\"approve\"", "{\"approve\":null}")),
        ("deep nesting", "[".repeat(LONGEST)),
        ("10 MB", format!("{good}{}", " ".repeat(10_000_000))),
        ("a byte too many", format!("{good}{}", " ".repeat(LONGEST + 1 - good.len()))),
    ] {
        assert_ne!(text, good, "{name}");
        assert!(is_malformed(Kind::Approval, &text), "{name}");
    }
    let mut latin1 = good.into_bytes();
    *latin1.iter_mut().find(|b| **b == b'S').unwrap() = 0xe9;
    assert!(reread(Kind::Approval, &latin1).is_err());
}

#[test]
fn a_revocation_has_one_target() {
    let with = |target: Value| {
        let mut changed = sample(Kind::Revocation);
        changed["target"] = target;
        changed.to_string()
    };
    for good in [json!({ "request": request_id() }), json!({ "person": "alice" }), json!({ "key": this_request() })] {
        assert!(!is_malformed(Kind::Revocation, &with(good)));
    }
    for bad in [json!({}), json!("person"), json!({ "person": "a", "key": this_request() }), json!({ "role": "web" })] {
        assert!(is_malformed(Kind::Revocation, &with(bad.clone())), "{bad}");
    }
}

/// A signature that was made for one purpose serves no other, for each pair of kinds.
#[test]
fn a_signature_serves_its_own_kind_only() {
    fn verify<T: Statement>(bytes: &[u8], namespace: &str) -> Result<(), Refusal> {
        let signed = alice().sign(namespace, bytes);
        let expect = Expect::SshKey { verified: false };
        Verified::<T>::check(&signed, &alice().public(), expect, &instance(), &VerifiedSet::new(0)).map(|_| ())
    }
    let as_kind = |kind, bytes: &[u8], namespace: &str| match kind {
        Kind::Request => verify::<Request>(bytes, namespace),
        Kind::Approval => verify::<Approval>(bytes, namespace),
        Kind::Withdrawal => verify::<Withdrawal>(bytes, namespace),
        Kind::Claim => verify::<Claim>(bytes, namespace),
        Kind::Return => verify::<Return>(bytes, namespace),
        Kind::Revocation => verify::<Revocation>(bytes, namespace),
        Kind::BreakGlass => verify::<BreakGlass>(bytes, namespace),
        Kind::Seconding => verify::<Seconding>(bytes, namespace),
        Kind::BreakGlassCheck => verify::<BreakGlassCheck>(bytes, namespace),
        Kind::Review => verify::<Review>(bytes, namespace),
        Kind::Acknowledgement => verify::<Acknowledgement>(bytes, namespace),
        Kind::Drill => verify::<Drill>(bytes, namespace),
        Kind::Enrolment => verify::<Enrolment>(bytes, namespace),
        Kind::Removal => verify::<Removal>(bytes, namespace),
        Kind::Invitation => verify::<Invitation>(bytes, namespace),
        Kind::HostRemoval => verify::<HostRemoval>(bytes, namespace),
        Kind::Session => verify::<Session>(bytes, namespace),
    };
    for &kind in Kind::ALL {
        let bytes = sample(kind).to_string().into_bytes();
        let namespaces = Kind::ALL.iter().map(|kind| kind.namespace());
        for namespace in namespaces.chain(["trust@ssh-jit", "journal@ssh-jit", "head@ssh-jit", "git", "file"]) {
            let outcome = as_kind(kind, &bytes, namespace);
            if namespace == kind.namespace() {
                assert_eq!(outcome, Ok(()), "{kind:?}");
            } else {
                let why = BadSignature::Namespace;
                assert_eq!(outcome, Err(Refusal::Signature { why }), "{kind:?} signed for {namespace}");
            }
        }
    }
}

/// K08: serials survive every form they take, and none is 0 or above 2^63.
#[test]
fn serials_have_their_limits() {
    assert_eq!(Serial::new(0, 0), None);
    assert_eq!(Serial::new(1, 0), None);
    assert_eq!(Serial::new(0, 1 << 48), None);
    assert_eq!(Serial::new(1 << 15, 1), None);
    assert_eq!(Serial::new(0, 1).map(Serial::number), Some(1));
    assert_eq!(Serial::new((1 << 15) - 1, (1 << 48) - 1).map(Serial::number), Some((1 << 63) - 1));
    for number in [1, 1 << 31, 1 << 32, (1 << 53) + 1, (1 << 63) - 1] {
        let serial = Serial::from_number(number).unwrap();
        let json = serde_json::to_string(&serial).unwrap();
        assert_eq!(json, format!("\"{number}\""), "a string, for JavaScript");
        assert_eq!(serde_json::from_str::<Serial>(&json).unwrap().number(), number);
    }
    for number in [0, 1 << 48, 1 << 63, u64::MAX] {
        assert_eq!(Serial::from_number(number), None, "{number}");
    }
    for text in ["0", "", "01", "+1", "-1", " 1", "1.0", "1e3", "0x1", "9223372036854775808", "99999999999999999999"] {
        assert!(text.parse::<Serial>().is_err(), "{text:?}");
    }
    assert!(serde_json::from_str::<Serial>("1").is_err(), "a number is no serial");
}
