//! Two readers of one input: whatever stock OpenSSH refuses, we refuse. Signatures and certificates, changed at random
//! but the same on every run; certificates are signed by the CA as changed, so that what is in them decides.

use std::collections::BTreeSet;
use std::path::Path;

use ssh_jit::domain::sshsig::{Expect, SshSig};

use crate::fuzzed::properties::{checked, genuine};
use crate::support::mutations::Mutator;
use crate::support::openssh::{keygen, public_line, ssh_keygen_sign, ssh_keygen_verify};
use crate::support::wire::{armor, dearmor};
use crate::support::{dir, output, tool};

const KINDS: [&str; 7] =
    ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 3072", "ed25519-sk", "ecdsa-sk"];
const NAMESPACE: &str = "request@ssh-jit";
const STATEMENT: &[u8] = br#"{"v":1,"kind":"request","reason":"replica lag"}"#;

/// What two readers made of so many inputs.
#[derive(Debug, Default)]
struct Count {
    inputs: usize,
    ours: usize,
    theirs: usize,
}

impl Count {
    fn add(&mut self, ours: bool, theirs: bool, input: &dyn std::fmt::Debug) {
        assert!(!ours || theirs, "we accept what stock OpenSSH refuses: {input:?}");
        self.inputs += 1;
        self.ours += usize::from(ours);
        self.theirs += usize::from(theirs);
    }
}

/// A key, and a signature by it.
struct Signer {
    line: String,
    blob: Vec<u8>,
}

fn signers(dir: &Path) -> Vec<Signer> {
    let signer = |(number, kind): (usize, &&str)| {
        let path = keygen(dir, &format!("id{number}"), kind);
        Signer { line: public_line(&path), blob: dearmor(&ssh_keygen_sign(&path, NAMESPACE, STATEMENT)) }
    };
    KINDS.iter().enumerate().map(signer).collect()
}

fn ours(line: &str, armored: &str) -> bool {
    let key = line.parse().expect("a key");
    SshSig::from_armor(armored).is_ok_and(|signature| {
        let expected = signature.expect(STATEMENT, NAMESPACE, &key, Expect::SshKey { verified: false });
        expected.and_then(|()| signature.check(STATEMENT)).is_ok()
    })
}

/// In four threads, each from a seed of its own.
fn in_four(mutations: usize, judge: impl Fn(u64, usize) -> Count + Sync) -> Count {
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let judges: Vec<_> = (1..5)
            .map(|seed| {
                scope.spawn({
                    let judge = &judge;
                    move || judge(seed, mutations / 4)
                })
            })
            .collect();
        judges.into_iter().map(|judge| judge.join().expect("a count")).collect()
    });
    counts.into_iter().fold(Count::default(), |all, one| Count {
        inputs: all.inputs + one.inputs,
        ours: all.ours + one.ours,
        theirs: all.theirs + one.theirs,
    })
}

fn signatures(signers: &[Signer], seed: u64, mutations: usize) -> Count {
    let mut count = Count::default();
    let blobs: Vec<Vec<u8>> = signers.iter().map(|signer| signer.blob.clone()).collect();
    let mut mutator = Mutator::new(seed);
    for number in 0..mutations {
        let Signer { line, blob } = &signers[number % signers.len()];
        // Now and then as it is: the judge is awake.
        let blob = if number < signers.len() { blob.clone() } else { mutator.mutated_one(blob, &blobs) };
        let armored = armor(&blob);
        count.add(ours(line, &armored), ssh_keygen_verify(line, NAMESPACE, STATEMENT, &armored), &armored);
    }
    count
}

/// A passkey signs whatever its browser hands it.
fn assertions(seed: u64, mutations: usize) -> Count {
    let (mut count, mut mutator) = (Count::default(), Mutator::new(seed));
    let line = genuine::passkey().to_string();
    let honest = genuine::client_data().into_bytes();
    for number in 0..mutations {
        let data =
            if number == 0 { honest.clone() } else { mutator.mutated_one(&honest, std::slice::from_ref(&honest)) };
        let flags = [5, 5, 5, 1, 4, 0, 0x85, 0x45][mutator.below(8)];
        let extensions = [&b""[..], b"", b"\xa0"][mutator.below(3)];
        let Some(signature) = genuine::passkey_sshsig(flags, [0, 0, 0, 7], extensions, &data) else { continue };
        let (namespace, said) = genuine::DECISION;
        let expect = Expect::Passkey { origin: genuine::SITE.1 };
        let judged = signature.expect(said, namespace, &genuine::passkey(), expect);
        let ours = judged.and_then(|()| signature.check(said)).is_ok();
        count.add(ours, ssh_keygen_verify(&line, namespace, said, &signature.armor()), &data);
    }
    count
}

/// `ssh-keygen -L` reads many certificates at once, says the number of each that it shows, and ends at one whose
/// options it cannot read.
fn readable(lines: &[String]) -> Vec<bool> {
    let (dir, mut read) = (dir(), Vec::new());
    let path = dir.path().join("certificates");
    while read.len() < lines.len() {
        let rest = &lines[read.len()..];
        std::fs::write(&path, rest.join("\n") + "\n").expect("a file");
        // Where it ends so it forgets what it has not printed yet.
        let output = output(tool("stdbuf").args(["-oL", "ssh-keygen", "-L", "-f"]).arg(&path));
        let shown = String::from_utf8_lossy(&output.stdout);
        // The first line's number is left out.
        let number = |line: &str| match line.strip_prefix(path.to_str()?)?.strip_prefix(':')? {
            "" => Some(1),
            rest => rest.strip_suffix(':')?.parse().ok(),
        };
        let mut shown: BTreeSet<usize> = shown.lines().filter_map(number).collect();
        let died = if output.status.code() == Some(255) { shown.pop_last() } else { None };
        read.extend((1..=died.unwrap_or(rest.len())).map(|number| shown.contains(&number)));
    }
    read
}

fn certificates(mutations: usize) -> Count {
    let (mut count, mut mutator) = (Count::default(), Mutator::new(3));
    let honest = genuine::unsigned_certificate();
    let changed =
        |number| if number == 0 { honest.clone() } else { mutator.mutated_one(&honest, std::slice::from_ref(&honest)) };
    let lines: Vec<String> = (0..mutations).map(changed).map(|unsigned| genuine::certified(&unsigned)).collect();
    for batch in lines.chunks(500) {
        for (line, theirs) in batch.iter().zip(readable(batch)) {
            count.add(checked(line).is_ok(), theirs, line);
        }
    }
    count
}

/// Found by comparing: the client took what no sshd reads.
#[test]
fn a_nul_is_in_nothing() {
    let honest = genuine::unsigned_certificate();
    assert!(checked(&genuine::certified(&honest)).is_ok());
    for (from, to) in
        [(&b"10.0.0.0/8"[..], &b"10.0.0.\0/8"[..]), (b"SHA256:x", b"SHA2\x006:x"), (b"db-prod/SHA", b"db-prod\nSHA")]
    {
        let at = honest.windows(from.len()).position(|part| part == from).expect("it is there");
        let mut changed = honest.clone();
        changed[at..at + to.len()].copy_from_slice(to);
        let line = genuine::certified(&changed);
        assert!(checked(&line).is_err(), "{line}");
        assert!(to.contains(&b'\n') || !readable(&[line])[0]);
    }
}

fn compared(scale: usize) {
    let dir = dir();
    let signers = signers(dir.path());
    let signatures = in_four(220 * scale, |seed, count| signatures(&signers, seed, count));
    let assertions = in_four(60 * scale, assertions);
    let certificates = certificates(300 * scale);
    eprintln!("signatures {signatures:?}\nassertions {assertions:?}\ncertificates {certificates:?}");
    assert!(signatures.ours >= KINDS.len() && signatures.theirs >= KINDS.len(), "the judges sleep");
    assert!(assertions.ours > 0 && certificates.ours > scale && certificates.theirs < certificates.inputs);
}

#[test]
fn what_stock_openssh_refuses_we_refuse() {
    compared(1);
}

#[test]
#[cfg(feature = "long-tests")]
fn what_stock_openssh_refuses_we_refuse_forty_times_as_often() {
    compared(40);
}
