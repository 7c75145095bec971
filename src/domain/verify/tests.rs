//! What makes signed bytes a fact, and that the memory of earlier checks never stands in for one.

use super::*;
use crate::domain::sshsig::{BadSignature, SshSig};
use crate::domain::statement::Session;
use crate::domain::testing::*;

const PLAIN: Expect<'_> = Expect::SshKey { verified: false };

fn session(seconds: i64) -> Session {
    let claim = claim();
    Session {
        v: claim.v,
        kind: statement::Is,
        instance: claim.instance,
        person: claim.person,
        nonce: claim.nonce,
        at: at(seconds),
    }
}

fn check(signed: &Signed, key: &Key, expect: Expect<'_>, seen: &VerifiedSet) -> Result<(), Refusal> {
    Verified::<Session>::check(signed, &key.public(), expect, &instance(), seen).map(|_| ())
}

fn bad(why: BadSignature) -> Result<(), Refusal> {
    Err(Refusal::Signature { why })
}

#[test]
fn a_statement_counts_for_a_minute() {
    for (signed_at, expected) in [
        (0, Ok(())),
        (-60, Ok(())),
        (-61, Err(Refusal::Stale { seconds: 61 })),
        (-NOW, Err(Refusal::Stale { seconds: NOW })),
        (5, Ok(())),
        (6, Err(Refusal::Future { seconds: 6 })),
        (86400, Err(Refusal::Future { seconds: 86400 })),
    ] {
        let verified = alice().verified(&session(signed_at));
        assert_eq!(verified.fresh(at(0)).map(|_| ()), expected, "signed at {signed_at}");
    }
}

#[test]
fn a_statement_for_another_service_says_nothing() {
    let signed = alice().sign_statement(&session(0));
    let other = InstanceId::from_bytes([1; 16]);
    let outcome = Verified::<Session>::check(&signed, &alice().public(), PLAIN, &other, &VerifiedSet::new(0));
    assert_eq!(outcome.map(|_| ()), Err(Refusal::OtherInstance));
}

/// Whatever was seen before, and however much is remembered.
#[test]
fn other_bytes_and_other_keys_never_pass() {
    for capacity in [0, 1, 100] {
        let seen = VerifiedSet::new(capacity);
        let good = alice().sign_statement(&session(0));
        let later = Signed::new(statement::to_bytes(&session(1)), good.signature().clone());
        let by_bob = bob().sign_statement(&session(0));
        for round in 0..3 {
            assert_eq!(check(&good, &alice(), PLAIN, &seen), Ok(()), "{capacity} {round}");
            assert_eq!(check(&later, &alice(), PLAIN, &seen), bad(BadSignature::Mismatch), "{capacity} {round}");
            assert_eq!(check(&by_bob, &alice(), PLAIN, &seen), bad(BadSignature::OtherKey), "{capacity} {round}");
            assert_eq!(check(&good, &bob(), PLAIN, &seen), bad(BadSignature::OtherKey), "{capacity} {round}");
            let pin = Expect::SshKey { verified: true };
            assert_eq!(check(&good, &alice(), pin, &seen), bad(BadSignature::NotVerified), "{capacity} {round}");
        }
        let mut blob = good.signature().blob().to_vec();
        *blob.last_mut().unwrap() ^= 1;
        let altered = Signed::new(good.bytes().to_vec(), SshSig::from_blob(&blob).unwrap());
        assert_eq!(check(&altered, &alice(), PLAIN, &seen), bad(BadSignature::Mismatch));
        assert_eq!(check(&altered, &alice(), PLAIN, &seen), bad(BadSignature::Mismatch), "and is not remembered");
    }
}

#[test]
fn the_memory_forgets_and_saves_the_mathematics() {
    let seen = VerifiedSet::new(3);
    for n in 0..20u8 {
        seen.insert(Digest::of(&[n]));
    }
    assert!(seen.contains(&Digest::of(&[19])) && seen.contains(&Digest::of(&[17])), "the last three are there");
    assert!(!seen.contains(&Digest::of(&[0])));
    let none = VerifiedSet::new(0);
    none.insert(Digest::of(b"x"));
    assert!(!none.contains(&Digest::of(b"x")));
    // Only an entry over exactly these bytes, this signature and this key spares the check.
    let mismatch =
        Signed::new(statement::to_bytes(&session(1)), alice().sign_statement(&session(0)).signature().clone());
    let parts = [mismatch.bytes(), mismatch.signature().blob(), alice().public().blob()].map(<[u8]>::to_vec);
    seen.insert(Digest::of_parts(&[&parts[0], &parts[1], &parts[2]]));
    assert_eq!(check(&mismatch, &alice(), PLAIN, &seen), Ok(()));
}

/// K10: stock OpenSSH takes a FIDO signature that nobody touched.
#[test]
fn a_security_key_was_touched() {
    for (flags, verified, expected) in [
        (1, false, Ok(())),
        (5, false, Ok(())),
        (5, true, Ok(())),
        (1, true, bad(BadSignature::NotVerified)),
        (0, false, bad(BadSignature::NotPresent)),
        (4, true, bad(BadSignature::NotPresent)),
    ] {
        let key = Key::fido(1, flags, 7);
        let signed = key.sign_statement(&session(0));
        let outcome = check(&signed, &key, Expect::SshKey { verified }, &VerifiedSet::new(0));
        assert_eq!(outcome, expected, "flags {flags}, verified {verified}");
    }
    let key = Key::fido(1, 5, 7);
    let passkey = Expect::Passkey { origin: "http://localhost:7022" };
    assert_eq!(check(&key.sign_statement(&session(0)), &key, passkey, &VerifiedSet::new(0)), bad(BadSignature::Origin));
    assert_eq!(
        check(&alice().sign_statement(&session(0)), &alice(), passkey, &VerifiedSet::new(0)),
        bad(BadSignature::Origin)
    );
}

#[test]
fn the_services_own_signatures_are_bound_to_key_and_purpose() {
    let signed = user_ca().sign("trust@ssh-jit", b"{}");
    let why = |outcome: Result<(), Refusal>| outcome.map_err(|e| e.to_string());
    assert_eq!(why(signed.is_by(&user_ca().public(), "trust@ssh-jit")), Ok(()));
    assert_eq!(signed.is_by(&user_ca().public(), "head@ssh-jit"), bad(BadSignature::Namespace));
    assert_eq!(signed.is_by(&stranger().public(), "trust@ssh-jit"), bad(BadSignature::OtherKey));
    let altered = Signed::new(b"{ }".to_vec(), signed.signature().clone());
    assert_eq!(altered.is_by(&user_ca().public(), "trust@ssh-jit"), bad(BadSignature::Mismatch));
}
