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
        second: None,
        from: None,
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

/// BG-02: a key acts once it was named for so long. Whoever writes the policy alone cannot make it older.
#[test]
fn a_new_key_cools_off() {
    let mut replay = Replay::default();
    let names = |keys: &[&Key]| keys.iter().map(|key| (person("alice"), key.public().fingerprint())).collect();
    let (old, new) = (alices_emergency_key(), stranger());
    let tell = |replay: &mut Replay, keys: &[&Key], seconds: i64| {
        let (seq, prev) = replay.next();
        let entry = Entry {
            at: Moment::from_unix_millis((NOW + seconds) * 1000),
            seq,
            prev,
            outcome: Outcome::Keys(names(keys)),
            statement: String::new(),
            signature: String::new(),
            ..entry(replay, &old, &break_glass(), None)
        };
        take(replay, &entry).unwrap();
    };
    let cool = |replay: &Replay, key: &Key, seconds| replay.is_cool(&person("alice"), &key.public(), 3600, at(seconds));
    assert!(replay.names_others(&BTreeSet::new()), "even that there are none is told");
    assert!(!cool(&replay, &old, 1_000_000), "what the journal does not tell of acts never");
    tell(&mut replay, &[&old], 0);
    assert!(cool(&replay, &old, 0) && !cool(&replay, &new, 1_000_000), "those of the first entry act at once");
    tell(&mut replay, &[&old, &new], 100);
    assert!(!replay.names_others(&names(&[&old, &new])) && replay.names_others(&names(&[&old])));
    assert!(cool(&replay, &old, 100) && !cool(&replay, &new, 3699) && cool(&replay, &new, 3700));
    assert!(!replay.is_cool(&person("bob"), &new.public(), 3600, at(3700)), "it is one person's");
    tell(&mut replay, &[&old], 5000);
    tell(&mut replay, &[&old, &new], 5001);
    assert!(!cool(&replay, &new, 8600) && cool(&replay, &new, 8601), "named anew, it cools off anew");
    assert!(cool(&replay, &old, 5001), "the other was there all the time");
}

/// BG-15, BG-16: so often alone, and then not without another person.
#[test]
fn what_nobody_does_alone() {
    let rules = EmergencyRules { per_key: 3, in_all: 5, ..EmergencyRules::default() };
    let said = |number: i64, name: &str, seconds: i64| BreakGlass {
        id: crate::domain::names::RequestId::from_bits(number.unsigned_abs()),
        person: person(name),
        reason: parsed(&format!("primary is down, nobody answers, {number}")),
        at: at(seconds),
        ..break_glass()
    };
    let (mut replay, mut number) = (Replay::default(), 0);
    let mut uses = |replay: &mut Replay, key: &Key, name: &str, seconds: i64| {
        number += 1;
        let serial = replay.next_serial(3).unwrap().number() & 0xffff;
        let entry = entry(replay, key, &said(number, name, seconds), Some(serial));
        take(replay, &entry).unwrap();
    };
    let alone = |replay: &Replay, key: &Key, name: &str, seconds: i64| {
        let statement = said(99, name, seconds);
        replay.alone(&key.sign_statement(&statement), &statement, &rules).map_err(|e| e.code())
    };
    let (safe, other) = (alices_emergency_key(), stranger());
    uses(&mut replay, &safe, "alice", 0);
    assert_eq!(alone(&replay, &safe, "alice", 100), Ok(()), "one goes on alone once");
    uses(&mut replay, &safe, "alice", 100);
    assert_eq!(alone(&replay, &safe, "alice", 200), Err("needs-second"), "and not twice");
    assert_eq!(alone(&replay, &safe, "alice", 999), Err("needs-second"));
    assert_eq!(alone(&replay, &safe, "alice", 1000), Ok(()), "after its end it is another emergency");
    uses(&mut replay, &safe, "alice", 1000);
    assert_eq!(alone(&replay, &safe, "alice", 3599), Err("needs-second"), "three times in an hour");
    assert_eq!(alone(&replay, &safe, "alice", 3600), Ok(()));
    assert_eq!(alone(&replay, &other, "bob", 1100), Ok(()), "each key counts for itself");
    uses(&mut replay, &other, "bob", 1100);
    uses(&mut replay, &other, "bob", 1200);
    assert_eq!(alone(&replay, &stranger(), "carol", 1300), Err("needs-second"), "all of them together, too");
    let drill = BreakGlass { drill: Some(vec![]), ..said(98, "carol", 1300) };
    assert_eq!(replay.alone(&stranger().sign_statement(&drill), &drill, &rules), Ok(()), "drills are free");
    let last = said(5, "bob", 1200);
    let extends = |id: &RequestId, seconds| {
        let statement = BreakGlass { extends: Some(id.clone()), ..said(50, "bob", seconds) };
        replay.allows(&other.sign_statement(&statement), &statement)
    };
    assert_eq!(extends(&last.id, 1300), Ok(()));
    assert_eq!(extends(&said(4, "bob", 0).id, 1300), Err(Refusal::NotTheLast));
    assert_eq!(extends(&last.id, 2100), Err(Refusal::NotTheLast), "what is over is not extended");
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
