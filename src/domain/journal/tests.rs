//! The journal proves by itself what was done; what does not follow is not taken in.

use super::*;
use crate::domain::sshsig::BadSignature;
use crate::domain::statement::Is;
use crate::domain::testing::*;

fn journal_key() -> Key {
    Key::from_seed(20)
}

fn issued(counter: u64) -> Outcome {
    Outcome::Issued { serial: Serial::new(3, counter).unwrap(), tbs: Digest::of(b"tbs") }
}

fn refused_before() -> Outcome {
    Outcome::Refused { code: "reason-repeated".to_owned() }
}

/// An entry that follows `replay`, about `statement` by `key`, with this serial counter or refused.
fn entry(replay: &Replay, key: &Key, statement: &BreakGlass, issued_counter: Option<u64>) -> Entry {
    let signed = key.sign_statement(statement);
    let (seq, prev) = replay.next();
    let outcome = issued_counter.map_or_else(refused_before, issued);
    Entry {
        epoch: 3,
        v: Version,
        seq,
        prev,
        at: Moment::from_unix_millis(NOW * 1000),
        statement: String::from_utf8(signed.bytes().to_vec()).unwrap(),
        signature: signed.signature().armor(),
        policy: policy().digest(),
        outcome,
    }
}

fn signed(entry: &Entry) -> Signed {
    journal_key().sign(NAMESPACE, &entry.to_bytes())
}

fn take(replay: &mut Replay, entry: &Entry) -> Result<Entry, Refusal> {
    replay.take(&signed(entry), &journal_key().public())
}

/// A journal with one certificate in it, for dan's FIDO key with counter 7.
fn one_issued() -> Replay {
    let mut replay = Replay::default();
    let issued = entry(&replay, &Key::fido(8, 5, 7), &break_glass(), Some(1));
    take(&mut replay, &issued).unwrap();
    replay
}

#[test]
fn entries_follow_one_another() {
    let mut replay = Replay::default();
    assert_eq!(replay.next(), (1, Digest::of(b"")));
    assert_eq!(replay.next_serial(3).map(Serial::number), Some((3 << 48) + 1));
    for (seq, issued, counter_after) in [(1, Some(1), 2), (2, None, 2), (3, Some(2), 3)] {
        let next = entry(&replay, &alices_emergency_key(), &break_glass(), issued);
        assert_eq!(take(&mut replay, &next), Ok(next.clone()));
        assert_eq!(replay.next(), (seq + 1, Digest::of(&next.to_bytes())));
        assert_eq!(replay.next_serial(3), Serial::new(3, counter_after));
        let inner = next.signed().unwrap();
        assert_eq!(inner, alices_emergency_key().sign_statement(&break_glass()), "the statement, verbatim");
    }
}

/// What is changed, the code of the refusal, and how it is changed.
type Case = (&'static str, &'static str, fn(&mut Entry));

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let good = one_issued();
    let next = entry(&good, &alices_emergency_key(), &break_glass(), Some(2));
    let cases: [Case; 8] = [
        ("a gap", "out-of-order", |e| e.seq += 1),
        ("a repeat", "out-of-order", |e| e.seq -= 1),
        ("after something else", "out-of-order", |e| e.prev = Digest::of(b"")),
        ("of another journal", "out-of-order", |e| (e.epoch, e.outcome) = (4, refused_before())),
        ("a serial again", "out-of-order", |e| e.outcome = issued(1)),
        ("a serial left out", "out-of-order", |e| e.outcome = issued(3)),
        ("a certificate for no statement", "malformed", |e| e.statement = "{}".to_owned()),
        ("a certificate for no signature", "bad-signature", |e| e.signature = String::new()),
    ];
    for (name, code, change) in cases {
        let mut entry = next.clone();
        change(&mut entry);
        let mut replay = good.clone();
        assert_eq!(take(&mut replay, &entry).map_err(|e| e.code()), Err(code), "{name}");
        assert_eq!(replay.next(), good.next(), "{name}");
        assert_eq!(take(&mut replay, &next), Ok(next.clone()), "the right one still follows: {name}");
    }
    let refused = |signed: &Signed| good.clone().take(signed, &journal_key().public()).unwrap_err();
    let other_key = stranger().sign(NAMESPACE, &next.to_bytes());
    assert_eq!(refused(&other_key), Refusal::Signature { why: BadSignature::OtherKey });
    let other_purpose = journal_key().sign("head@ssh-jit", &next.to_bytes());
    assert_eq!(refused(&other_purpose), Refusal::Signature { why: BadSignature::Namespace });
    let altered = Signed::new(good.next().1.hex().into_bytes(), signed(&next).signature().clone());
    assert_eq!(refused(&altered), Refusal::Signature { why: BadSignature::Mismatch });
    let unknown = String::from_utf8(next.to_bytes()).unwrap().replacen('{', "{\"x\":1,", 1);
    assert_eq!(refused(&journal_key().sign(NAMESPACE, unknown.as_bytes())).code(), "malformed");
}

#[test]
fn nothing_is_used_twice() {
    let replay = one_issued();
    let fido = |counter| Key::fido(8, 5, counter);
    let later = BreakGlass {
        id: parsed("0000-0000-02"),
        reason: parsed("replica is down too, nobody answers"),
        ..break_glass()
    };
    let again = |reason: &str| BreakGlass { reason: parsed(reason), ..later.clone() };
    let of_dan = |reason| BreakGlass { person: person("dan"), ..again(reason) };
    let first = "primary is down, nobody answers";
    let cases = [
        ("another one", fido(8), later.clone(), Ok(())),
        ("the same id", fido(8), BreakGlass { id: break_glass().id, ..later.clone() }, Err(Refusal::IdTaken)),
        ("the same bytes", fido(8), break_glass(), Err(Refusal::Replayed)),
        ("the same bytes by another key", alices_emergency_key(), break_glass(), Err(Refusal::Replayed)),
        ("the same reason", fido(8), again(first), Err(Refusal::ReasonRepeated)),
        ("the same reason, shouted", fido(8), again("PRIMARY is  down, nobody answers"), Err(Refusal::ReasonRepeated)),
        ("the same reason of another person", fido(8), of_dan(first), Ok(())),
        ("the counter stands", fido(7), later.clone(), Err(Refusal::Counter { last: 7, got: 7 })),
        ("the counter falls", fido(6), later.clone(), Err(Refusal::Counter { last: 7, got: 6 })),
        ("the counter is gone", fido(0), later.clone(), Err(Refusal::Counter { last: 7, got: 0 })),
        ("another key's counter", Key::fido(9, 5, 1), later.clone(), Ok(())),
        ("a key without one", alices_emergency_key(), later.clone(), Ok(())),
    ];
    for (name, key, statement, expected) in cases {
        assert_eq!(replay.allows(&key.sign_statement(&statement), &statement), expected, "{name}");
    }
    // Keys that do not count send 0 for ever.
    let mut replay = Replay::default();
    let issued = entry(&replay, &fido(0), &break_glass(), Some(1));
    take(&mut replay, &issued).unwrap();
    assert_eq!(replay.allows(&fido(0).sign_statement(&later), &later), Ok(()));
}

fn reviewed(replay: &Replay, id: &RequestId) -> Entry {
    let review = Review {
        v: Version,
        kind: Is,
        instance: instance(),
        person: person("carol"),
        break_glass: Digest::of(b"statement"),
        id: id.clone(),
        outcome: crate::domain::statement::Outcome::Justified,
        comment: parsed("the pager agrees"),
        nonce: nonce(6),
        at: at(60),
    };
    let signed = carol().sign_statement(&review);
    let base = entry(replay, &carol(), &break_glass(), None);
    Entry {
        statement: String::from_utf8(signed.bytes().to_vec()).unwrap(),
        signature: signed.signature().armor(),
        outcome: Outcome::Reviewed,
        ..base
    }
}

/// A use is open until its review, a drill never is, and what is not open cannot be closed.
#[test]
fn the_journal_says_what_waits_for_a_review() {
    let mut replay = Replay::default();
    let used = entry(&replay, &alices_emergency_key(), &break_glass(), Some(1));
    take(&mut replay, &used).unwrap();
    let drill = BreakGlass { id: parsed("0000-0000-02"), drill: Some(vec![]), ..break_glass() };
    let practised = entry(&replay, &alices_emergency_key(), &drill, Some(2));
    take(&mut replay, &practised).unwrap();
    let open: Vec<_> = replay.unreviewed().keys().cloned().collect();
    assert_eq!(open, [request_id()]);
    let digest = alices_emergency_key().sign_statement(&break_glass()).digest();
    assert_eq!(
        (&replay.unreviewed()[&request_id()].person, replay.unreviewed()[&request_id()].digest),
        (&person("alice"), digest)
    );
    let of_the_drill = reviewed(&replay, &drill.id);
    assert_eq!(take(&mut replay, &of_the_drill), Err(Refusal::OutOfOrder));
    let closing = reviewed(&replay, &request_id());
    take(&mut replay, &closing).unwrap();
    assert!(replay.unreviewed().is_empty());
    let again = reviewed(&replay, &request_id());
    assert_eq!(take(&mut replay, &again), Err(Refusal::OutOfOrder));
}
