//! How fast the spine is: a request, an approval and a claim, each its own signed call to the real
//! server in another process, on SQLite, over plain HTTP on loopback. Also what commands cost people.
//!
//! `scripts/bench.sh [PART]...` runs it; the parts are `policy`, `krl`, `flood`, `commands`, `bare`, `lives`, `claims`,
//! `waiting` and `pages`; and, only when they are named, `hosts`, which takes minutes, and `million`, which stores
//! 10^6 requests first. The load comes from the same machine, so figures compare within one run only.

mod bare;
mod commands;
mod flood;
mod hosts;
mod krl;
mod load;
mod pages;
mod policy;
mod server;
mod statements;
mod waiting;

use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};

use commands::Person;
use load::{Call, Outcome};
use server::Server;
use statements::{Cast, Life};

/// One person may have 20 requests waiting, so a batch of claims needs many people.
const PEOPLE: usize = 300;
const BATCH: usize = PEOPLE * 20;
/// What a service may hold after years.
const MILLION: usize = 1_000_000;
/// Calls in flight, and how many claims of a batch are made with them.
const LEVELS: [(usize, usize); 3] = [(1, 600), (8, 2000), (64, BATCH - 2600)];

/// What one core needs for one Ed25519 signature.
#[derive(Clone, Copy)]
struct Costs {
    sign: Duration,
    verify: Duration,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let [word, dir] = args.as_slice()
        && word == bare::WORD
    {
        return bare::serve(Path::new(dir));
    }
    let wanted = |part: &str| args.is_empty() || args.iter().any(|arg| arg == part);
    if wanted("policy") {
        policy::run();
    }
    if wanted("krl") {
        krl::run();
    }
    let dir = tempfile::Builder::new().prefix("ssh-jit-bench-").tempdir().expect("a temporary folder");
    if wanted("flood") {
        flood::run(dir.path());
    }
    if !args.is_empty() && args.iter().all(|arg| ["policy", "krl", "flood"].contains(&arg.as_str())) {
        return;
    }
    let alice = Person::new(dir.path().join("home"));
    let mut cast = Cast::new(PEOPLE, &alice.policy());
    let service = dir.path().join("service");
    commands::init(&service, &cast.policy);
    let server = Server::serve(&service);
    cast.instance = server.instance.clone();
    let costs = Costs::measure();
    println!("Ed25519 on one core: sign {}, verify {}", micros(costs.sign), micros(costs.verify));
    println!("memory after the start, {PEOPLE} people in the policy: {:.1} MiB", server.memory());
    if wanted("commands") {
        commands(&service, &server, &cast, &alice);
    }
    if args.iter().any(|arg| arg == "hosts") {
        hosts::run(&server, &alice, dir.path());
    }
    header();
    if wanted("bare") {
        bare_path(dir.path());
    }
    if wanted("lives") {
        lives(&server, &cast, costs);
    }
    if args.iter().any(|arg| arg == "million") {
        let hour = std::mem::replace(&mut cast.seconds, 60);
        fill(&server, &cast, MILLION);
        cast.seconds = hour;
        drop(server);
        claims(&service, &cast, costs, MILLION);
    } else {
        drop(server);
    }
    if wanted("claims") {
        claims(&service, &cast, costs, 0);
    }
    if wanted("waiting") || wanted("pages") {
        let other = service.with_file_name("pages");
        let mut cast = Cast::new(pages::QUEUED / 16, "");
        commands::init(&other, &cast.policy);
        let server = Server::serve(&other);
        cast.instance = server.instance.clone();
        if wanted("waiting") {
            waiting::run(&server, &cast);
        }
        if wanted("pages") {
            pages::run(&server, &cast);
        }
    }
}

fn commands(service: &Path, server: &Server, cast: &Cast, alice: &Person) {
    println!("ssh-jit --version: {}", median(20, commands::version));
    println!("login, automatic, all of it: {}", median(9, || alice.automatic(server)));
    println!("login that waits, from approval to its end: {}", median(9, || alice.approved(server, cast)));
    // A second service on another database: the first one holds the lock of its own.
    let other = service.with_file_name("other");
    commands::init(&other, &cast.policy);
    println!("start to listening: {}", median(9, || Server::serve(&other).start));
}

fn header() {
    println!("\n| what | in flight | a second | p50 | p99 | server CPU | of it signatures |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
}

fn bare_path(dir: &Path) {
    let server = bare::spawn(dir);
    for (in_flight, count) in [(1, 1000), (8, 5000), (64, 10_000)] {
        let before = server.cpu();
        let outcome = bare::run(&server, in_flight, count);
        row("HTTP and one row, no CA", in_flight, &outcome, server.cpu().saturating_sub(before), Duration::ZERO);
    }
}

fn lives(server: &Server, cast: &Cast, costs: Costs) {
    for (in_flight, count) in [(1, 500), (8, 3000), (64, 6000)] {
        let jobs = cast.lives(count).iter().map(|life| life.whole(cast)).collect();
        let before = server.cpu();
        let outcome = load::run(server.address, in_flight, jobs);
        row("whole lives", in_flight, &outcome, server.cpu().saturating_sub(before), costs.sum(4));
    }
}

/// Stores so many requests, each approved, claimed and, a minute later, ended: as they are in life.
fn fill(server: &Server, cast: &Cast, count: usize) {
    let begin = Instant::now();
    for done in (0..count).step_by(BATCH) {
        let jobs = cast.lives(BATCH.min(count - done)).iter().map(|life| life.whole(cast)).collect();
        load::run(server.address, 64, jobs);
        eprint!("\r{} of {count} requests stored, {:.0} s", done + BATCH, begin.elapsed().as_secs_f64());
    }
    eprintln!();
    std::thread::sleep(Duration::from_secs(90));
}

/// Claims in a database that holds so many requests.
fn claims(service: &Path, cast: &Cast, costs: Costs, stored: usize) {
    let mut server = Server::serve(service);
    let approved = approved(&server, cast);
    claim("claims, warm", &server, cast, approved, costs.sum(2));
    let approved = self::approved(&server, cast);
    drop(server);
    server = Server::serve(service);
    let start = server.start;
    claim("claims, cold", &server, cast, approved, costs.sum(4));
    let memory = server.memory();
    drop(server);
    let file = service.join("ssh-jit.toml");
    let settings = std::fs::read_to_string(&file).expect("settings");
    std::fs::write(&file, settings + "remembered = 0\n").expect("settings");
    server = Server::serve(service);
    let approved = self::approved(&server, cast);
    claim("claims, nothing remembered", &server, cast, approved, costs.sum(4));
    println!("\nstart to listening, with {} requests in the database: {}", stored + 2 * BATCH, millis(start));
    println!("memory after {BATCH} claims: {memory:.1} MiB");
}

/// A batch of requests, asked and approved.
fn approved(server: &Server, cast: &Cast) -> Vec<Life> {
    let lives = cast.lives(BATCH);
    load::run(server.address, 64, lives.iter().map(Life::prepare).collect());
    lives
}

fn claim(what: &str, server: &Server, cast: &Cast, mut lives: Vec<Life>, signatures: Duration) {
    for (in_flight, count) in LEVELS {
        let jobs: Vec<Vec<Call>> = lives.drain(..count).map(|life| vec![life.claim(cast)]).collect();
        let before = server.cpu();
        let outcome = load::run(server.address, in_flight, jobs);
        row(what, in_flight, &outcome, server.cpu().saturating_sub(before), signatures);
    }
}

fn row(what: &str, in_flight: usize, outcome: &Outcome, cpu: Duration, signatures: Duration) {
    let (p50, p99) = (millis(outcome.percentile(50)), millis(outcome.percentile(99)));
    let each = micros(cpu / outcome.jobs);
    println!(
        "| {what} | {in_flight} | {:.0} | {p50} | {p99} | {each} | {} |",
        outcome.per_second(),
        micros(signatures)
    );
}

impl Costs {
    fn measure() -> Self {
        let (key, message) = (SigningKey::from_bytes(&[7; 32]), [7; 150]);
        let (signature, public) = (key.sign(&message), key.verifying_key().to_bytes());
        let verify = || {
            // From the 32 bytes of the wire, as a signature of a stranger is verified.
            let public = ed25519_dalek::VerifyingKey::from_bytes(&public).expect("a key");
            public.verify_strict(&message, &signature).expect("it is good");
        };
        let sign = || {
            std::hint::black_box(key.sign(std::hint::black_box(&message)));
        };
        Self { sign: least(sign), verify: least(verify) }
    }

    /// One signature made, and so many verified.
    fn sum(self, verified: u32) -> Duration {
        self.sign + self.verify * verified
    }
}

/// The mean of the best of many short stretches: what it takes when nothing else has the core.
fn least(mut work: impl FnMut()) -> Duration {
    let stretch = |_| {
        let begin = Instant::now();
        (0..20).for_each(|_| work());
        begin.elapsed() / 20
    };
    (0..200).map(stretch).min().unwrap_or_default()
}

fn median(times: usize, mut work: impl FnMut() -> Duration) -> String {
    let mut all: Vec<Duration> = (0..times).map(|_| work()).collect();
    all.sort_unstable();
    format!("{} (median of {times}, the longest {})", millis(all[times / 2]), millis(all[times - 1]))
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}
