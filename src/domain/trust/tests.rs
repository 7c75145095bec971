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
        previous: Some(Digest::of(b"the third")),
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

/// The chain of these documents, signed by the old CA.
fn chain(documents: &[Trust]) -> Chain {
    let all: Vec<Signed> = documents.iter().map(|document| signed(&old_ca(), document)).collect();
    Chain::first_contact(all[0].clone()).unwrap().forward(&all[1..]).unwrap()
}

fn after(known: &Trust) -> Trust {
    known.next(Digest::of(&serde_json::to_vec(known).unwrap()), at(60))
}

#[test]
fn a_successor_is_vouched_for_by_its_predecessor() {
    let known = document();
    let next = Trust { user_ca: vec![new_ca().public()], ..after(&known) };
    let follow = |known: &Trust, signed: Signed| chain(std::slice::from_ref(known)).forward(&[signed]);
    let newest = |known: &Trust, signed: Signed| follow(known, signed).map(|chain| chain.newest().clone());
    assert_eq!(newest(&known, signed(&old_ca(), &next)), Ok(next.clone()));
    let overlap = Trust { user_ca: vec![old_ca().public(), new_ca().public()], ..known.clone() };
    let after_overlap = Trust { user_ca: next.user_ca.clone(), ..after(&overlap) };
    assert_eq!(newest(&overlap, signed(&new_ca(), &after_overlap)), Ok(after_overlap.clone()), "either of two");
    let older = Refusal::Certificate { what: "the trust document is older than the one known" };
    let strange = Refusal::Certificate { what: "the trust document does not follow the one known" };
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
        ("the same number", old_ca(), Trust { number: 4, ..next.clone() }, older.clone()),
        ("a number too far", old_ca(), Trust { number: 6, ..next.clone() }, strange.clone()),
        ("after another one", old_ca(), Trust { previous: Some(Digest::of(b"")), ..next.clone() }, strange.clone()),
        ("after none", old_ca(), Trust { previous: None, ..next.clone() }, strange),
    ] {
        assert_eq!(follow(&known, signed(&key, &document)).map(|_| ()), Err(expected), "{name}");
    }
}

/// Two rotations while somebody was away: each document is believed because of the one before.
#[test]
fn a_chain_is_followed_however_long_it_grew() {
    let first = document();
    let both = Trust { user_ca: vec![old_ca().public(), new_ca().public()], ..after(&first) };
    let new = Trust { user_ca: vec![new_ca().public()], ..after(&both) };
    let last_ca = Key::from_seed(27);
    let last = Trust { user_ca: vec![last_ca.public()], ..after(&new) };
    let all = [signed(&old_ca(), &first), signed(&old_ca(), &both), signed(&new_ca(), &new), signed(&new_ca(), &last)];
    let away = Chain::first_contact(all[0].clone()).unwrap().forward(&all[1..]).unwrap();
    assert_eq!(away.newest(), &last);
    assert_eq!(away.after(5).map(Signed::digest).collect::<Vec<_>>(), [all[2].digest(), all[3].digest()]);
    assert!(away.has(&all[1].digest()) && !away.has(&Digest::of(b"")));
    let gap = Chain::first_contact(all[0].clone()).unwrap().forward(&all[2..]);
    assert_eq!(gap.map_err(|e| e.code()).map(|_| ()), Err("certificate"), "nothing is left out");
    assert_eq!(away.since(|trust| trust.user_ca.contains(&new_ca().public())), None);
    assert_eq!(away.since(|trust| trust.user_ca.contains(&last_ca.public())), Some(7));
    assert_eq!(away.since(|trust| !trust.user_ca.contains(&old_ca().public())), Some(6));
}

/// Who was there in former times is known by SHA-256 alone: a forged beginning that trusts the real CA leads nowhere.
#[test]
fn what_was_before_is_what_the_newest_names() {
    let first = Trust { previous: None, number: 1, ..document() };
    let second = Trust { user_ca: vec![new_ca().public()], ..after(&first) };
    let (real, newest) = (signed(&old_ca(), &first), signed(&new_ca(), &second));
    let forged = Trust { user_ca: vec![stranger().public(), old_ca().public()], ..first.clone() };
    let forged = signed(&stranger(), &forged);
    let pinned = || Chain::first_contact(newest.clone()).unwrap();
    let cas = |chain: &Chain| chain.every(CaRole::User).cloned().collect::<Vec<_>>();
    assert_eq!(cas(&pinned().backward(std::slice::from_ref(&forged))), [new_ca().public()]);
    let whole = pinned().backward(&[forged, newest.clone(), real]);
    assert_eq!(cas(&whole), [new_ca().public(), old_ca().public()]);
}
