//! Who may speak for a service, and who may say that somebody else does from now on.

use super::*;
use crate::domain::sshsig::BadSignature;
use crate::domain::testing::*;

fn old_ca() -> Key {
    user_ca()
}
fn new_ca() -> Key {
    Key::from_seed(21)
}
fn break_glass_ca() -> Key {
    Key::from_seed(22)
}

fn document() -> Trust {
    Trust {
        v: Version,
        kind: TrustTag::Trust,
        instance: instance(),
        number: 4,
        user_ca: vec![old_ca().public()],
        break_glass_ca: vec![break_glass_ca().public()],
        host_ca: vec![Key::from_seed(23).public()],
        krl_key: Key::from_seed(24).public(),
        journal_key: Key::from_seed(25).public(),
        log_key: Key::from_seed(26).public(),
        at: at(0),
    }
}

fn signed(key: &Key, document: &Trust) -> Signed {
    key.sign(NAMESPACE, &serde_json::to_vec(document).unwrap())
}

#[test]
fn a_first_document_vouches_for_itself() {
    let document = document();
    assert_eq!(Trust::first_contact(&signed(&old_ca(), &document)), Ok(document.clone()));
    for key in [stranger(), break_glass_ca(), Key::from_seed(23), Key::from_seed(24), Key::from_seed(26)] {
        assert_eq!(Trust::first_contact(&signed(&key, &document)), Err(Refusal::UnknownKey), "no user CA");
    }
    let nobody = Trust { user_ca: vec![], ..document.clone() };
    assert_eq!(Trust::first_contact(&signed(&old_ca(), &nobody)), Err(Refusal::UnknownKey));
    let bytes = serde_json::to_vec(&document).unwrap();
    let namespace = Refusal::Signature { why: BadSignature::Namespace };
    assert_eq!(Trust::first_contact(&old_ca().sign("journal@ssh-jit", &bytes)), Err(namespace));
    let other = serde_json::to_vec(&Trust { number: 5, ..document.clone() }).unwrap();
    let altered = Signed::new(other, signed(&old_ca(), &document).signature().clone());
    assert_eq!(Trust::first_contact(&altered), Err(Refusal::Signature { why: BadSignature::Mismatch }));
    for text in ["", "{}", "[]", &String::from_utf8(bytes).unwrap().replacen('{', "{\"x\":1,", 1)] {
        let refused = Trust::first_contact(&old_ca().sign(NAMESPACE, text.as_bytes()));
        assert_eq!(refused.map_err(|e| e.code()), Err("malformed"), "{text}");
    }
    assert_eq!(document.keys().count(), 6);
}

#[test]
fn a_successor_is_vouched_for_by_its_predecessor() {
    let known = document();
    let next = Trust { number: 5, user_ca: vec![new_ca().public()], ..known.clone() };
    assert_eq!(known.successor(&signed(&old_ca(), &next)), Ok(next.clone()));
    assert_eq!(known.successor(&signed(&old_ca(), &known)), Ok(known.clone()), "the same again");
    let overlap = Trust { user_ca: vec![old_ca().public(), new_ca().public()], ..known.clone() };
    assert_eq!(overlap.successor(&signed(&new_ca(), &next)), Ok(next.clone()), "either of two");
    let older = Refusal::Certificate { what: "the trust document is older than the one known" };
    for (name, key, document, expected) in [
        ("by the new CA alone", new_ca(), next.clone(), Refusal::UnknownKey),
        ("by the break-glass CA", break_glass_ca(), next.clone(), Refusal::UnknownKey),
        (
            "of another service",
            old_ca(),
            Trust { instance: parsed(&"0".repeat(32)), ..next.clone() },
            Refusal::OtherInstance,
        ),
        ("an older number", old_ca(), Trust { number: 3, ..next.clone() }, older.clone()),
        ("the same number, other keys", old_ca(), Trust { number: 4, ..next.clone() }, older.clone()),
        ("the same number, another time", old_ca(), Trust { at: at(1), ..known.clone() }, older),
    ] {
        assert_eq!(known.successor(&signed(&key, &document)), Err(expected), "{name}");
    }
}
