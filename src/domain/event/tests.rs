//! Leaves are read for as long as the log lives, so their form is pinned.

use super::*;
use crate::domain::testing::*;

const KINDS: &[(EventKind, &str)] = &[
    (EventKind::ServiceStarted, "service-started"),
    (EventKind::PolicyLoaded, "policy-loaded"),
    (EventKind::SessionOpened, "session-opened"),
    (EventKind::Requested, "requested"),
    (EventKind::ApprovedAutomatically, "approved-automatically"),
    (EventKind::Approved, "approved"),
    (EventKind::Denied, "denied"),
    (EventKind::Reminded, "reminded"),
    (EventKind::Escalated, "escalated"),
    (EventKind::Undelivered, "undelivered"),
    (EventKind::Withdrawn, "withdrawn"),
    (EventKind::Lapsed, "lapsed"),
    (EventKind::Claimed, "claimed"),
    (EventKind::Returned, "returned"),
    (EventKind::Revoked, "revoked"),
    (EventKind::Expired, "expired"),
    (EventKind::Refused, "refused"),
    (EventKind::BreakGlass, "break-glass"),
    (EventKind::BreakGlassRefused, "break-glass-refused"),
    (EventKind::Reviewed, "reviewed"),
    (EventKind::HostEnrolled, "host-enrolled"),
    (EventKind::HostCertified, "host-certified"),
    (EventKind::HostRemoved, "host-removed"),
];

fn moment() -> Moment {
    Moment::from_unix_millis(NOW * 1000 + 42)
}

#[test]
fn leaves_survive_writing_and_reading() {
    for (kind, name) in KINDS {
        let event = Event { seq: 7, ..Event::new(*kind, moment()) };
        let leaf = String::from_utf8(event.to_leaf()).unwrap();
        assert_eq!(leaf, format!(r#"{{"v":1,"seq":7,"at":"2026-11-22T10:01:58.042Z","kind":"{name}"}}"#));
        assert_eq!(serde_json::from_str::<Event>(&leaf).unwrap(), event);
        assert_eq!(kind.to_string(), *name);
    }
    let full = Event {
        person: Some(person("alice")),
        request: Some(request_id()),
        role: Some(role("db-prod")),
        serial: Some(parsed("281474976710698")),
        statement: Some(Digest::of(b"statement")),
        policy: Some(Digest::of(b"policy")),
        tbs: Some(Digest::of(b"tbs")),
        detail: Some("line\nbreak \"quoted\"".to_owned()),
        ..Event::new(EventKind::Claimed, moment())
    };
    let leaf = full.to_leaf();
    assert!(!leaf.contains(&b'\n'), "one line");
    assert_eq!(serde_json::from_slice::<Event>(&leaf).unwrap(), full);
}

#[test]
fn a_leaf_has_its_fields_once_and_no_others() {
    let leaf = String::from_utf8(Event::new(EventKind::Claimed, moment()).to_leaf()).unwrap();
    for bad in [
        leaf.replacen('{', "{\"prev\":\"x\",", 1),
        leaf.replacen('{', "{\"seq\":1,", 1),
        leaf.replace("\"v\":1", "\"v\":2"),
        leaf.replace("claimed", "Claimed"),
        leaf.replace(".042Z", "Z"),
        leaf.replace("\"seq\":0,", ""),
    ] {
        assert_ne!(bad, leaf);
        assert!(serde_json::from_str::<Event>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_head_is_nothing_but_a_head() {
    let head =
        Head { v: Version, kind: HeadTag::Head, instance: instance(), size: 7, root: Digest::of(b""), at: moment() };
    let json = serde_json::to_string(&head).unwrap();
    assert_eq!(serde_json::from_str::<Head>(&json).unwrap(), head);
    assert!(serde_json::from_str::<Head>(&json.replace("\"head\"", "\"trust\"")).is_err());
    assert!(serde_json::from_str::<Head>(&json.replacen('{', "{\"x\":1,", 1)).is_err());
}
