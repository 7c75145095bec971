//! Signatures by passkeys: our verifier against `ssh-keygen -Y verify`. We never accept what stock OpenSSH
//! refuses; where we are stricter, the tests say so by name.

use proptest::prelude::*;
use ssh_jit::domain::sshsig::BadSignature::{
    self, ClientData, Malformed, Mismatch, Namespace, NotPresent, NotVerified, Origin,
};
use ssh_jit::domain::sshsig::{Expect, SshSig};

use crate::support::openssh::ssh_keygen_verify;
use crate::support::passkey::{Assertion, ED, ORIGIN, Passkey, RP_ID, UP, UV};
use crate::support::wire::armor;

const NAMESPACE: &str = "approval@ssh-jit";
const STATEMENT: &[u8] = br#"{"v":1,"kind":"approval","decision":"approve"}"#;

fn ours(passkey: &Passkey, armored: &str, statement: &[u8]) -> Result<(), BadSignature> {
    let signature = SshSig::from_armor(armored)?;
    signature.expect(statement, NAMESPACE, &passkey.public_key(), Expect::Passkey { origin: ORIGIN })?;
    signature.check(statement)
}

fn theirs(passkey: &Passkey, armored: &str, statement: &[u8]) -> bool {
    ssh_keygen_verify(&passkey.line(), NAMESPACE, statement, armored)
}

/// What is wrong, what makes it so, whether stock OpenSSH accepts it all the same, and our answer.
type Case = (&'static str, fn(&mut Assertion<'_>), bool, Result<(), BadSignature>);

const STOCK_ACCEPTS: bool = true;
const STOCK_REFUSES: bool = false;

fn assert_cases(cases: &[Case]) {
    let passkey = Passkey::new(1, RP_ID);
    for (case, tamper, stock, answer) in cases {
        let mut assertion = passkey.assertion(NAMESPACE, STATEMENT);
        tamper(&mut assertion);
        let armored = assertion.armored();
        assert_eq!(ours(&passkey, &armored, STATEMENT), *answer, "{case}");
        assert_eq!(theirs(&passkey, &armored, STATEMENT), *stock, "{case}: stock OpenSSH");
    }
}

#[test]
fn good_assertions_are_accepted_by_both() {
    assert_cases(&[
        ("as it comes", |_| (), STOCK_ACCEPTS, Ok(())),
        ("counter 0, as synced passkeys send it", |a| a.counter = 0, STOCK_ACCEPTS, Ok(())),
        ("highest counter", |a| a.counter = u32::MAX, STOCK_ACCEPTS, Ok(())),
        ("backed up (flags BE, BS)", |a| a.flags |= 0x18, STOCK_ACCEPTS, Ok(())),
        ("extension data", |a| (a.flags, a.extensions) = (UP | UV | ED, b"\xa0".to_vec()), STOCK_ACCEPTS, Ok(())),
        ("no crossOrigin", |a| a.client_data.rest = "}".into(), STOCK_ACCEPTS, Ok(())),
        (
            "a browser's additions",
            |a| a.client_data.rest = r#","crossOrigin":false,"other_keys_can_be_added_here":"do not compare"}"#.into(),
            STOCK_ACCEPTS,
            Ok(()),
        ),
    ]);
}

/// openssh.md: stock OpenSSH proves key and bytes; presence, origin and purpose are ours to check.
#[test]
fn what_stock_openssh_lets_pass_is_refused() {
    assert_cases(&[
        ("flags 0x00", |a| a.flags = 0x00, STOCK_ACCEPTS, Err(NotPresent)),
        ("flags 0x01", |a| a.flags = UP, STOCK_ACCEPTS, Err(NotVerified)),
        ("flags 0x04", |a| a.flags = UV, STOCK_ACCEPTS, Err(NotPresent)),
        ("flags 0x81", |a| (a.flags, a.extensions) = (UP | ED, b"\xa0".to_vec()), STOCK_ACCEPTS, Err(NotVerified)),
        ("crossOrigin", |a| a.client_data.rest = r#","crossOrigin":true}"#.into(), STOCK_ACCEPTS, Err(ClientData)),
        ("other origin", |a| set_origin(a, "https://evil.example"), STOCK_ACCEPTS, Err(Origin)),
        ("other port", |a| set_origin(a, "https://ca.example:8443"), STOCK_ACCEPTS, Err(Origin)),
        ("other scheme", |a| set_origin(a, "http://ca.example"), STOCK_ACCEPTS, Err(Origin)),
        ("origin with a slash", |a| set_origin(a, "https://ca.example/"), STOCK_ACCEPTS, Err(Origin)),
        ("subdomain", |a| set_origin(a, "https://x.ca.example"), STOCK_ACCEPTS, Err(Origin)),
        (
            "topOrigin",
            |a| a.client_data.rest = r#","crossOrigin":false,"topOrigin":"https://evil.example"}"#.into(),
            STOCK_ACCEPTS,
            Err(ClientData),
        ),
        (
            "a second origin",
            |a| a.client_data.rest = r#","origin":"https://evil.example"}"#.into(),
            STOCK_ACCEPTS,
            Err(ClientData),
        ),
        (
            "a second challenge",
            |a| a.client_data.rest = r#","challenge":"AAAA"}"#.into(),
            STOCK_ACCEPTS,
            Err(ClientData),
        ),
        (
            "a second type",
            |a| a.client_data.rest = r#","type":"webauthn.create"}"#.into(),
            STOCK_ACCEPTS,
            Err(ClientData),
        ),
        ("not JSON behind the origin", |a| a.client_data.rest = ",".into(), STOCK_ACCEPTS, Err(ClientData)),
        (
            "longer than any assertion",
            |a| a.client_data.rest = format!(",\"x\":\"{}\"}}", "x".repeat(16 * 1024)),
            STOCK_ACCEPTS,
            Err(Malformed),
        ),
        ("JSON that goes on", |a| a.client_data.rest = "}{}".into(), STOCK_ACCEPTS, Err(ClientData)),
    ]);
}

fn set_origin(assertion: &mut Assertion<'_>, origin: &str) {
    origin.clone_into(&mut assertion.origin);
    origin.clone_into(&mut assertion.client_data.origin);
}

#[test]
fn what_stock_openssh_refuses_is_refused() {
    assert_cases(&[
        ("type", |a| a.client_data.r#type = "webauthn.create".into(), STOCK_REFUSES, Err(ClientData)),
        ("payment", |a| a.client_data.r#type = "payment.get".into(), STOCK_REFUSES, Err(ClientData)),
        (
            "a field ahead of the challenge",
            |a| a.client_data.r#type.push_str(r#"","x":""#),
            STOCK_REFUSES,
            Err(ClientData),
        ),
        ("type, escaped", |a| a.client_data.r#type = r"webauthn\u002eget".into(), STOCK_REFUSES, Err(ClientData)),
        ("challenge", |a| a.client_data.challenge.replace_range(..1, "A"), STOCK_REFUSES, Err(ClientData)),
        ("challenge cut", |a| a.client_data.challenge.truncate(40), STOCK_REFUSES, Err(ClientData)),
        ("challenge padded", |a| a.client_data.challenge.push('='), STOCK_REFUSES, Err(ClientData)),
        ("no challenge", |a| a.client_data.challenge.clear(), STOCK_REFUSES, Err(ClientData)),
        (
            "origin in the client data",
            |a| a.client_data.origin = "https://evil.example".into(),
            STOCK_REFUSES,
            Err(ClientData),
        ),
        ("origin in the signature", |a| a.origin = "https://evil.example".into(), STOCK_REFUSES, Err(Origin)),
        ("origin with a quote", |a| set_origin(a, r#"https://ca.example","x":""#), STOCK_REFUSES, Err(Origin)),
        ("relying party", |a| a.rp_id = "evil.example".into(), STOCK_REFUSES, Err(Mismatch)),
        ("attested data", |a| a.flags |= 0x40, STOCK_REFUSES, Err(ClientData)),
        ("extension flag without data", |a| a.flags |= ED, STOCK_REFUSES, Err(ClientData)),
        ("extension data without flag", |a| a.extensions = b"\xa0".to_vec(), STOCK_REFUSES, Err(ClientData)),
        ("trailing byte", |a| a.trailing = vec![0], STOCK_REFUSES, Err(Malformed)),
        ("trailing byte after r and s", |a| a.after_s = vec![0], STOCK_REFUSES, Err(Malformed)),
        ("a field too many", |a| a.trailing = vec![0; 4], STOCK_REFUSES, Err(Malformed)),
        ("other namespace", |a| a.namespace = "review@ssh-jit".into(), STOCK_REFUSES, Err(Namespace)),
        ("other hash", |a| a.hash = "sha256", STOCK_REFUSES, Err(Malformed)),
        ("unknown hash", |a| a.hash = "sha1", STOCK_REFUSES, Err(Malformed)),
    ]);
}

/// The statement is in the challenge: another one is another signature.
#[test]
fn another_statement_is_refused() {
    let passkey = Passkey::new(1, RP_ID);
    let armored = passkey.assertion(NAMESPACE, STATEMENT).armored();
    for statement in [&STATEMENT[1..], b"", br#"{"v":1,"kind":"approval","decision":"deny"}"#] {
        assert_eq!(ours(&passkey, &armored, statement), Err(ClientData));
        // By the mathematics alone, too: an auditor, who knows no origin, asks for no more.
        assert_eq!(SshSig::from_armor(&armored).and_then(|signature| signature.check(statement)), Err(ClientData));
        assert!(!theirs(&passkey, &armored, statement));
    }
}

/// A passkey is no SSH key: what a browser made counts on the web only.
#[test]
fn a_passkey_is_not_taken_for_an_ssh_key() {
    let passkey = Passkey::new(1, RP_ID);
    let signature = SshSig::from_armor(&passkey.assertion(NAMESPACE, STATEMENT).armored()).unwrap();
    assert!(signature.is_passkey() && signature.counter() == Some(7));
    for verified in [false, true] {
        let expect = Expect::SshKey { verified };
        assert_eq!(signature.expect(STATEMENT, NAMESPACE, &passkey.public_key(), expect), Err(Origin));
    }
}

/// The key of another passkey, or of the same one at another relying party, is another key.
#[test]
fn another_passkey_is_refused() {
    let armored = Passkey::new(1, RP_ID).assertion(NAMESPACE, STATEMENT).armored();
    for other in [Passkey::new(2, RP_ID), Passkey::new(1, "evil.example")] {
        assert_eq!(ours(&other, &armored, STATEMENT), Err(BadSignature::OtherKey));
        assert!(!theirs(&other, &armored, STATEMENT));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any honest assertion passes with both; with any bit of it turned it passes with neither.
    #[test]
    fn both_verifiers_agree(
        seed in any::<u8>(),
        statement in prop::collection::vec(any::<u8>(), 0..200),
        counter in any::<u32>(),
        extensions in prop::collection::vec(any::<u8>(), 0..4),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let passkey = Passkey::new(seed, RP_ID);
        let mut assertion = passkey.assertion(NAMESPACE, &statement);
        assertion.counter = counter;
        assertion.flags |= if extensions.is_empty() { 0 } else { ED };
        assertion.extensions = extensions;
        let mut blob = assertion.blob();
        prop_assert_eq!(ours(&passkey, &armor(&blob), &statement), Ok(()));
        prop_assert!(theirs(&passkey, &armor(&blob), &statement));
        let at = at.index(blob.len());
        blob[at] ^= 1u8 << bit;
        prop_assert!(ours(&passkey, &armor(&blob), &statement).is_err());
        // Stock OpenSSH takes version 0 of SSHSIG for version 1.
        let version = b"SSHSIG\0\0\0".len();
        prop_assert!(at == version || !theirs(&passkey, &armor(&blob), &statement));
    }
}
