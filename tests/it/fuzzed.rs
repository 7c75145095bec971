//! The properties of the fuzz targets, without a fuzzer: on their corpus, and on mutations of it that are the same on
//! every run. `scripts/fuzz.sh` looks further.

#[expect(unreachable_pub, reason = "for libFuzzer's targets it is a library")]
#[path = "../../fuzz/properties/mod.rs"]
pub(crate) mod properties;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use ssh_jit::domain::statement::Kind;

use self::properties::{TARGETS, genuine, seeds};
use crate::support::mutations::Mutator;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// What a target begins with: what is genuine, and what a fuzzer found worth keeping.
fn beginnings(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(corpus(target)).unwrap_or_else(|e| panic!("{target}: {e}"));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    let kept = paths.iter().map(|path| fs::read(path).expect("a file"));
    seeds(target).into_iter().chain(kept).collect()
}

fn holds(target: &str, property: fn(&[u8]), input: &[u8]) {
    let held = catch_unwind(AssertUnwindSafe(|| property(input))).is_ok();
    assert!(held, "{target} does not hold for {input:02x?}: {}", String::from_utf8_lossy(input));
}

fn hold(mutations: usize) {
    for (number, (target, property)) in (1..).zip(TARGETS) {
        let inputs = beginnings(target);
        for input in &inputs {
            holds(target, property, input);
        }
        let mut mutator = Mutator::new(number);
        for _ in 0..mutations {
            holds(target, property, &mutator.mutated(&inputs));
        }
    }
}

#[test]
fn properties_hold_of_the_corpus_and_near_it() {
    hold(400);
}

#[test]
#[cfg(feature = "long-tests")]
fn properties_hold_of_many_mutations() {
    hold(20_000);
}

/// A property of what is taken proves nothing where nothing is taken: what is genuine is.
#[test]
fn what_is_genuine_is_taken() {
    use ssh_jit::client::certificate::told;
    use ssh_jit::domain::facts::Message;
    use ssh_jit::domain::policy::Policy;
    use ssh_jit::domain::statement::{Approval, BreakGlass, Session, parse};
    use ssh_jit::domain::verify::VerifiedSet;

    let all = genuine::statements();
    let text = |kind| all.iter().find(|(one, _)| *one == kind).expect("every kind").1.as_bytes();
    parse::<Approval>(text(Kind::Approval)).expect("an approval");
    parse::<BreakGlass>(text(Kind::BreakGlass)).expect("a break-glass");
    parse::<Session>(text(Kind::Session)).expect("a session");
    told(&genuine::certified(&genuine::unsigned_certificate())).expect("a certificate");
    Policy::parse(&genuine::policy()).expect("a policy");
    for body in genuine::webhooks() {
        let delivery = genuine::delivery(body.as_bytes());
        Message::check(&delivery, Some(&genuine::source()), &[], &VerifiedSet::new(0)).expect("a message");
    }
    ssh_jit::domain::krl::Header::read(&genuine::krl().to_bytes()).expect("a list");
    genuine::passkey_sshsig(5, [0; 4], b"", genuine::client_data().as_bytes()).expect("a signature");
}

/// Writes the corpus's beginnings: after a format has changed.
#[test]
#[cfg(feature = "long-tests")]
fn write_seeds() {
    for (target, _) in TARGETS {
        fs::create_dir_all(corpus(target)).expect("a folder");
        for seed in seeds(target) {
            let name = ssh_jit::domain::digest::Digest::of(&seed).hex();
            fs::write(corpus(target).join(&name[..16]), seed).expect("a file");
        }
    }
}
