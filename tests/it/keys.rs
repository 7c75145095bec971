//! Which public keys are taken for keys at all (threats K02 and K13): one that does not stand for one
//! holder, or that is dear to verify with, is refused before any signature is looked at.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_jit::domain::key::PublicKey;

use crate::support::openssh::{keygen, public_key, public_line, ssh_keygen_fingerprint};
use crate::support::wire::{blob, key_line, mpint, string};
use crate::support::{dir, run, tool};

const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
const SK_ECDSA: &str = "sk-ecdsa-sha2-nistp256@openssh.com";
const E: &[u8] = &[1, 0, 1];

#[test]
fn good_keys_are_accepted_with_the_fingerprint_of_openssh() {
    let dir = dir();
    let kinds = ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 3072", "ed25519-sk", "ecdsa-sk"];
    for (i, kind) in kinds.iter().enumerate() {
        let path = keygen(dir.path(), &format!("id{i}"), kind);
        let (key, line) = (public_key(&path), public_line(&path));
        assert_eq!(key.fingerprint().to_string(), ssh_keygen_fingerprint(&path), "{kind}");
        assert_eq!(Some(key.to_string().as_str()), line.rsplit_once(' ').map(|(key, _comment)| key), "{kind}");
        assert_eq!(PublicKey::from_blob(key.blob()).as_ref(), Ok(&key), "{kind}");
        assert_eq!(key.application(), kind.ends_with("-sk").then_some("ssh:"), "{kind}");
        assert_refused(kind, &[key.blob(), b"\0"].concat());
        for length in 0..key.blob().len() {
            assert_refused(kind, &key.blob()[..length]);
        }
    }
}

/// No key needs more than 4 kB, not even one whose application may be of any length.
#[test]
fn long_applications_are_refused() {
    let dir = dir();
    let key = public_key(&keygen(dir.path(), "id", "ed25519-sk"));
    let bare = &key.blob()[..key.blob().len() - "....ssh:".len()];
    let with = |application: &str| [bare, &string(application)].concat();
    assert!(PublicKey::from_blob(&with("ca.example")).is_ok());
    assert_refused("application", &with(&"x".repeat(4096)));
}

fn assert_refused(case: &str, blob: &[u8]) {
    assert!(PublicKey::from_blob(blob).is_err(), "{case}: {}", STANDARD.encode(blob));
}

#[test]
fn a_line_holds_one_plain_key() {
    let dir = dir();
    let line = public_line(&keygen(dir.path(), "id", "ed25519"));
    let base64 = line.split(' ').nth(1).unwrap();
    for text in [
        "",
        "ssh-ed25519",
        base64,
        &format!("ssh-rsa {base64}"),
        &format!("ssh-ed25519-cert-v01@openssh.com {base64}"),
        &format!("cert-authority {line}"),
        &format!("command=\"true\" {line}"),
        &format!(" {line}"),
        &format!("ssh-ed25519  {base64}"),
        &format!("ssh-ed25519 {base64}="),
        &format!("ssh-ed25519 {base64}\n"),
        &format!("ssh-ed25519\t{base64}"),
        &format!("ssh-ed25519 {}", "A".repeat(10_000_000)),
    ] {
        let error = text.parse::<PublicKey>().map_err(|e| e.to_string()).expect_err(text);
        assert!(error.len() < 400, "an error repeats little of what was given: {error}");
    }
    assert!(line.parse::<PublicKey>().is_ok());
}

/// K02: a certificate is no key, whoever signed it, and by whatever name it is given.
#[test]
fn certificates_are_refused() {
    let dir = dir();
    for (i, kind) in ["ed25519", "ecdsa -b 256", "rsa -b 3072", "ed25519-sk", "ecdsa-sk"].iter().enumerate() {
        let key = keygen(dir.path(), &format!("id{i}"), kind);
        let line = certify(&key);
        let error = line.parse::<PublicKey>().map_err(|e| e.to_string()).expect_err(kind);
        assert!(error.contains("this is a certificate"), "{error}");
        assert_refused(kind, &blob(&line));
        let renamed = line.replacen("-cert-v01@openssh.com", "", 1);
        assert!(renamed.parse::<PublicKey>().is_err(), "{renamed}");
    }
}

fn certify(key: &Path) -> String {
    let ca = keygen(key.parent().expect("a folder"), "ca", "ed25519");
    run(tool("ssh-keygen").args(["-q", "-I", "id", "-n", "root", "-s"]).arg(&ca).arg(key.with_extension("pub")));
    for file in [ca.with_extension("pub"), ca] {
        std::fs::remove_file(file).expect("the CA's files");
    }
    let name = key.file_name().expect("a name").to_string_lossy();
    std::fs::read_to_string(key.with_file_name(format!("{name}-cert.pub"))).expect("a certificate")
}

#[test]
fn dsa_and_unknown_kinds_are_refused() {
    let dsa: Vec<u8> = [string("ssh-dss"), modulus(1024), mpint(&[0xff; 20]), mpint(&[2]), mpint(&[3])].concat();
    assert_refused("DSA", &dsa);
    assert!(key_line("ssh-dss", &dsa).parse::<PublicKey>().is_err());
    for algorithm in ["", "none", "ssh-ed448", "ssh-rsa-sha2-256", "ecdsa-sha2-nistp192", "x@example.org"] {
        assert_refused(algorithm, &[string(algorithm), string([1; 32])].concat());
    }
    let other_curve = [string("ecdsa-sha2-nistp256"), string("nistp384"), string([4; 97])].concat();
    assert_refused("curve name of another algorithm", &other_curve);
}

/// An odd number of so many bits; nobody here factors it.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0xc5; bits / 8];
    number[bits / 8 - 1] = 0x01;
    mpint(&number)
}

fn rsa(e: &[u8], n: &[u8]) -> Vec<u8> {
    [&string("ssh-rsa")[..], e, n].concat()
}

#[test]
fn rsa_keys_have_an_honest_size_and_form() {
    for bits in [3072, 4096, 8192] {
        assert!(PublicKey::from_blob(&rsa(&mpint(E), &modulus(bits))).is_ok(), "{bits} bits");
    }
    for bits in [8, 512, 1024, 2048, 3064, 8200, 16384, 65536] {
        assert_refused("size", &rsa(&mpint(E), &modulus(bits)));
    }
    let mut even = modulus(3072);
    *even.last_mut().unwrap() = 0x02;
    let padded = string([&[0, 0], &[0xc5; 384][..]].concat());
    for (case, blob) in [
        ("even modulus", rsa(&mpint(E), &even)),
        ("modulus 0", rsa(&mpint(E), &mpint(&[]))),
        ("negative modulus", rsa(&mpint(E), &string([0xc5; 384]))),
        ("second spelling of the modulus", rsa(&mpint(E), &padded)),
        ("exponent 0", rsa(&mpint(&[]), &modulus(3072))),
        ("exponent 1", rsa(&mpint(&[1]), &modulus(3072))),
        ("even exponent", rsa(&mpint(&[4]), &modulus(3072))),
        ("negative exponent", rsa(&string([0x83]), &modulus(3072))),
        ("second spelling of the exponent", rsa(&string([0, 1, 0, 1]), &modulus(3072))),
        ("exponent of 5 bytes", rsa(&mpint(&[1, 0, 0, 0, 1]), &modulus(3072))),
        ("exponent as long as the modulus", rsa(&modulus(3072), &modulus(3072))),
        ("the other way round", rsa(&modulus(3072), &mpint(E))),
    ] {
        assert_refused(case, &blob);
    }
}

/// K02, GO-2026-5018: huge parameters must not burn time. The best of five, for the machine may be busy.
#[test]
fn huge_keys_are_refused_quickly() {
    let huge = [rsa(&mpint(E), &modulus(16384)), rsa(&mpint(E), &modulus(8 * 1024 * 1024))];
    for blob in huge.iter().chain([&rsa(&modulus(16384), &modulus(16384))]) {
        let time = || {
            let start = Instant::now();
            assert_refused("huge", blob);
            start.elapsed()
        };
        let best = (0..5).map(|_| time()).min().unwrap();
        assert!(best < Duration::from_millis(50), "{best:?} for {} bytes", blob.len());
    }
    let error = PublicKey::from_blob(&huge[1]).expect_err("a million bytes").to_string();
    assert!(error.contains("longer than any key should be"), "not even parsed: {error}");
}

#[test]
fn ecdsa_points_are_on_the_curve_and_not_compressed() {
    let dir = dir();
    for (bits, size) in [("256", 32), ("384", 48), ("521", 66)] {
        let key = public_key(&keygen(dir.path(), bits, &format!("ecdsa -b {bits}")));
        let (head, point) = key.blob().split_at(key.blob().len() - (1 + 2 * size));
        let (x, y) = point[1..].split_at(size);
        let with = |point: &[u8]| {
            let head = &head[..head.len() - 4];
            [head, &string(point)].concat()
        };
        assert_eq!(PublicKey::from_blob(&with(point)), Ok(key.clone()), "the good one, written here");
        let mut off_curve = point.to_vec();
        off_curve[2 * size] ^= 1;
        for (case, point) in [
            ("off the curve", off_curve),
            ("compressed", [&[2 | y[size - 1] & 1], x].concat()),
            ("hybrid", [&[6 | y[size - 1] & 1], x, y].concat()),
            ("infinity", vec![0]),
            ("empty", vec![]),
            ("zeros", [&[4][..], &vec![0; 2 * size]].concat()),
            ("coordinates beyond the field", [&[4][..], &vec![0xff; 2 * size]].concat()),
            ("bare coordinates", point[1..].to_vec()),
            ("trailing byte", [point, b"\0"].concat()),
        ] {
            assert_refused(case, &with(&point));
            if bits == "256" {
                assert_refused(case, &[string(SK_ECDSA), string("nistp256"), string(point), string("ssh:")].concat());
            }
        }
    }
}

/// K13: whoever has one of these "keys" has signatures that fit many messages, or the key has a second
/// spelling under which it was not revoked.
#[test]
fn weak_and_misspelt_ed25519_points_are_refused() {
    let (mut p, mut order_two) = ([0xff; 32], [0xff; 32]);
    (p[0], p[31], order_two[0], order_two[31]) = (0xed, 0x7f, 0xec, 0x7f);
    let mut points = vec![
        ("order 2", order_two),
        ("order 8", from_hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        ("order 8", from_hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        ("not on the curve", from_hex("0200000000000000000000000000000000000000000000000000000000000000")),
    ];
    // y = 0 (order 4) and y = 1 (the identity), then every y that is written p or larger.
    for y in 0..2 {
        points.push(("small y", [&[y][..], &[0; 31]].concat().try_into().unwrap()));
    }
    for y in 0..19 {
        let mut point = p;
        point[0] += y;
        points.push(("y not reduced", point));
    }
    for (case, mut point) in points {
        for sign in [0, 0x80] {
            point[31] = point[31] & 0x7f | sign;
            assert_refused(case, &[string("ssh-ed25519"), string(point)].concat());
            assert_refused(case, &[string(SK_ED25519), string(point), string("ssh:")].concat());
        }
    }
    for length in [0, 31, 33, 64] {
        assert_refused("length", &[string("ssh-ed25519"), string(vec![9; length])].concat());
    }
}

fn from_hex(text: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
}
