//! A large list of revoked certificates: how long it takes to write, and how long it gets.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::krl::{Header, Krl, OfCa};
use ssh_jit::domain::names::InstanceId;
use ssh_jit::domain::statement::Serial;
use ssh_jit::domain::time::Timestamp;

use super::{millis, policy};

const SERIALS: u64 = 100_000;

pub(super) fn run() {
    let ca: PublicKey = policy::key(0).parse().expect("a key");
    println!("list of {SERIALS} revoked certificates: ");
    for (what, step) in [("one in 1", 1), ("one in 3", 3), ("one in 20", 20), ("one in 1000", 1_000)] {
        let serials: BTreeSet<Serial> = (0..SERIALS).filter_map(|n| Serial::new(1, n * step + 1)).collect();
        let krl = Krl {
            number: 1,
            generated: Timestamp::from_unix(1_795_341_718),
            instance: InstanceId::from_bytes([7; 16]),
            certificates: vec![OfCa { ca: ca.clone(), serials, key_ids: BTreeSet::new() }],
            keys: BTreeSet::new(),
        };
        let bytes = krl.to_bytes();
        let write = least(|| drop(black_box(krl.to_bytes())));
        let read = least(|| drop(black_box(Header::read(&bytes))));
        println!("{what}: {} KiB, written in {}, checked in {}", bytes.len() / 1024, millis(write), millis(read));
    }
}

fn least(work: impl Fn()) -> Duration {
    let timed = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    (0..20).map(timed).min().unwrap_or_default()
}
