//! Certificates, byte for byte, and what becomes of one that is not what the grant says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::domain::policy::Policy;
use crate::domain::statement::{Claim, Request};
use crate::domain::testing::*;

fn serial(counter: u64) -> Serial {
    Serial::new(1, counter).unwrap()
}

/// The certificate of a grant, not yet signed by the user CA.
fn unsigned(grant: Grant) -> ToBeSigned {
    ToBeSigned::new(grant, serial(1), [7; 32], &user_ca().public())
}

/// A grant with every field in use, that depends on nothing but what stands here.
fn golden_grant() -> Grant {
    let policy = format!(
        r#"people.alice.keys = ["{}"]
[roles.db]
hosts = ["db1", "db2"]
principals = ["db", "db-ro"]
requesters = ["alice"]
automatic = {{ max = "1h" }}
max = "1h"
extensions = ["permit-pty", "permit-X11-forwarding"]
critical_options = {{ source-address = "10.0.0.0/8,2001:db8::/32", force-command = "/usr/bin/psql" }}
"#,
        alice().public()
    );
    let request = alice().verified(&Request { role: role("db"), seconds: None, ..request() });
    let claim = subject().verified(&Claim { request: request.digest(), ..claim() });
    Grant::access(&Policy::parse(&policy).unwrap(), &request, &[], &claim, &unknown(), 5).unwrap()
}

/// Made once, and read by `ssh-keygen -L -f golden-cert.pub`: whatever changes a byte of it changes
/// what hosts accept, or what the log must be able to make again.
#[test]
fn a_certificate_is_a_pure_function_of_its_grant() {
    let unsigned = ToBeSigned::new(golden_grant(), serial(42), [7; 32], &user_ca().public());
    let certificate = unsigned.finish(&user_ca().raw(unsigned.bytes())).unwrap();
    let line = format!("ssh-ed25519-cert-v01@openssh.com {}\n", STANDARD.encode(certificate.blob()));
    assert_eq!(line, include_str!("golden-cert.pub"));
}

/// The same bytes, as another implementation reads them.
#[test]
fn another_implementation_reads_what_was_granted() {
    let golden = ssh_key::Certificate::from_openssh(include_str!("golden-cert.pub")).unwrap();
    let named = |map: &ssh_key::certificate::OptionsMap| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(golden.serial(), (1 << 48) + 42);
    assert!(golden.key_id().starts_with("ssh-jit/7F3K-9QPX-M2/alice/db/SHA256:"), "{}", golden.key_id());
    assert_eq!(golden.valid_principals(), ["db@db1", "db@db2", "db-ro@db1", "db-ro@db2"]);
    assert_eq!(golden.valid_after(), (NOW + 15).cast_unsigned());
    assert_eq!(golden.valid_before(), (NOW + 3615).cast_unsigned());
    assert_eq!(named(golden.extensions()), ["permit-X11-forwarding=", "permit-pty="]);
    let critical = ["force-command=/usr/bin/psql", "source-address=10.0.0.0/8,2001:db8::/32"];
    assert_eq!(named(golden.critical_options()), critical);
    let ca = user_ca().public().data().fingerprint(ssh_key::HashAlg::Sha256);
    assert!(golden.validate_at((NOW + 15).cast_unsigned(), [&ca]).is_ok());
    assert!(golden.validate_at((NOW + 3615).cast_unsigned(), [&ca]).is_err());
}

/// Emergency keys may be of any kind.
#[test]
fn each_kind_of_key_can_be_certified() {
    let rsa = PublicKey::from_blob(&rsa_blob(3072)).unwrap();
    for key in [subject().public(), dans_emergency_key().public(), ecdsa_key(), rsa] {
        let unsigned = unsigned(Grant::of(key.clone()));
        assert!(unsigned.finish(&user_ca().raw(unsigned.bytes())).is_ok(), "{}", key.algorithm());
    }
}

#[test]
fn only_the_signature_of_the_ca_will_do() {
    let wrong = |what| Err(Refusal::Certificate { what });
    let good = unsigned(grant());
    let signature = user_ca().raw(good.bytes());
    assert!(good.finish(&signature).is_ok());
    for (i, mask) in (0..64).flat_map(|i| [(i, 1), (i, 0x80)]) {
        let mut altered = signature;
        altered[i] ^= mask;
        assert_eq!(good.finish(&altered), wrong("is not signed by the CA"), "byte {i}");
    }
    assert_eq!(good.finish(&stranger().raw(good.bytes())), wrong("is not signed by the CA"));
    assert_eq!(good.finish(&user_ca().raw(b"")), wrong("is not signed by the CA"));
    let own = unsigned(Grant::of(user_ca().public()));
    assert_eq!(own.finish(&user_ca().raw(own.bytes())), wrong("certifies the CA's own key"));
    // The good signature, under bytes that name another CA.
    let renamed = replaced(good.bytes(), user_ca().public().blob(), stranger().public().blob());
    let wired = wire(&[&wire(&[b"ssh-ed25519", &signature])]);
    let outcome = good.compare(&[renamed, wired].concat());
    assert_eq!(outcome, Err(Refusal::Certificate { what: "is not signed by the CA" }));
    let ecdsa = ToBeSigned::new(grant(), serial(1), [7; 32], &ecdsa_key());
    assert_eq!(ecdsa.finish(&signature), wrong("is not signed by the CA"));
}

/// K06: a certificate that the CA did sign, but that holds something else than the grant.
#[test]
fn a_certificate_of_something_else_is_not_released() {
    let good = unsigned(grant());
    let (key, ca) = (subject().public().blob()[19..].to_vec(), user_ca().public().blob().to_vec());
    let typed = |kind: u8| [&serial(1).number().to_be_bytes()[..], &[0, 0, 0, kind]].concat();
    let numbered = |counter| serial(counter).number().to_be_bytes().to_vec();
    let named = |principals: &[&[u8]]| wire(&[&wire(principals)]);
    let window = |after: i64, before: i64| [(NOW + after).to_be_bytes(), (NOW + before).to_be_bytes()].concat();
    let endless = [(NOW + 15).to_be_bytes(), [0xff; 8]].concat();
    let flag = |value: &[u8]| wire(&[&wire(&[b"permit-pty", value])]);
    let plain = |text: &str| text.as_bytes().to_vec();
    let reserved = |text: &[u8]| wire(&[text, &ca]);
    let cases = [
        ("a host certificate", typed(1), typed(2), "certifies something else"),
        ("another key", key, stranger().public().blob()[19..].to_vec(), "certifies something else"),
        ("another serial", numbered(1), numbered(2), "has another serial, key id or nonce"),
        ("another key id", plain("/7F3K"), plain("/7F3L"), "has another serial, key id or nonce"),
        ("another nonce", vec![7; 32], vec![8; 32], "has another serial, key id or nonce"),
        ("another principal", plain("prod@db1"), plain("prod@db2"), "has other principals"),
        ("no principal", named(&[b"db-prod@db1"]), wire(&[b""]), "has other principals"),
        ("one more", named(&[b"db-prod@db1"]), named(&[b"db-prod@db1", b"root"]), "has other principals"),
        ("a second earlier", window(15, 3615), window(14, 3615), "has another window"),
        ("a second longer", window(15, 3615), window(15, 3616), "has another window"),
        ("a second later", window(15, 3615), window(16, 3616), "has another window"),
        ("without end", window(15, 3615), endless, "has another window"),
        ("another extension", plain("permit-pty"), plain("permit-ptz"), "has other options"),
        ("a flag with a value", flag(b""), flag(&wire(&[b"x"])), "has other options"),
        ("another CA", ca.clone(), stranger().public().blob().to_vec(), "is not signed by the CA"),
        ("something reserved", reserved(b""), reserved(b"x"), "is not signed by the CA"),
    ];
    for (name, from, to, what) in cases {
        let altered = replaced(good.bytes(), &from, &to);
        let signature = wire(&[&wire(&[b"ssh-ed25519", &user_ca().raw(&altered)])]);
        let outcome = good.compare(&[altered, signature].concat());
        assert_eq!(outcome, Err(Refusal::Certificate { what }), "{name}");
    }
    let blob = good.finish(&user_ca().raw(good.bytes())).unwrap().blob;
    assert_eq!(good.compare(&blob), Ok(()));
    let unreadable = Err(Refusal::Certificate { what: "does not parse" });
    for length in 0..blob.len() {
        assert_eq!(good.compare(&blob[..length]), unreadable, "cut at {length}");
    }
    assert_eq!(good.compare(&[&blob[..], &[0]].concat()), unreadable, "one byte more");
}

/// O01: a restriction that was granted stands among the critical options, with its value.
#[test]
fn a_certificate_without_its_restrictions_is_not_released() {
    let good = unsigned(golden_grant());
    let option = |name: &[u8], value: &[u8]| wire(&[name, &wire(&[value])]);
    let command = option(b"force-command", b"/usr/bin/psql");
    let address = option(b"source-address", b"10.0.0.0/8,2001:db8::/32");
    let all = wire(&[&[&command[..], &address].concat()]);
    for (name, to) in [
        ("another command", wire(&[&[&option(b"force-command", b"/usr/bin/bash"), &address[..]].concat()])),
        ("no command", wire(&[&address])),
        ("no restriction", wire(&[b""])),
        ("one more", wire(&[&[&command[..], &address, &wire(&[b"verify-required", b""])].concat()])),
    ] {
        let altered = replaced(good.bytes(), &all, &to);
        let signature = wire(&[&wire(&[b"ssh-ed25519", &user_ca().raw(&altered)])]);
        let outcome = good.compare(&[altered, signature].concat());
        assert_eq!(outcome, Err(Refusal::Certificate { what: "has other options" }), "{name}");
    }
}

/// `bytes` with the only occurrence of `from` replaced.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..=bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
    assert_eq!(places.len(), 1, "{from:?} must be there once");
    [&bytes[..places[0]], to, &bytes[places[0] + from.len()..]].concat()
}
