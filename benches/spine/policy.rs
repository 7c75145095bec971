//! A large policy: how long it takes to load, and to decide by it.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ssh_jit::domain::facts::Facts;
use ssh_jit::domain::names::{PersonName, RoleName};
use ssh_jit::domain::policy::{Asked, Circumstances, Policy, Tickets};
use ssh_jit::domain::time::Timestamp;

use super::{micros, millis};

const PEOPLE: usize = 10_000;
const GROUPS: usize = 200;
const ROLES: usize = 1_000;
const RULES: usize = 5_000;
/// Rules that name no role are over all of them; the others name two.
const GENERAL: usize = 50;
const DECISIONS: usize = 100_000;

pub(super) fn run() {
    let text = text();
    let mut loads: Vec<Duration> = (0..9).map(|_| timed(|| Policy::parse(&text).expect("a policy"))).collect();
    loads.sort_unstable();
    let policy = Policy::parse(&text).expect("a policy");
    let each = policy.roles().values().map(|role| role.rules.len()).sum::<usize>() / ROLES;
    println!(
        "policy of {PEOPLE} people, {ROLES} roles, {RULES} rules ({each} over each role), {} KiB",
        text.len() / 1024
    );
    println!("load it: {} (median of 9, the longest {})", millis(loads[4]), millis(loads[8]));
    println!("check it: {}", millis(timed(|| policy.findings())));
    decide(&policy);
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

/// Asks for people of a role's groups, by day and by night, from several networks.
fn decide(policy: &Policy) {
    let facts = Facts::default();
    let people: Vec<PersonName> = policy.people().keys().cloned().collect();
    let roles: Vec<RoleName> = policy.roles().keys().cloned().collect();
    let (mut times, mut outcomes) = (Vec::with_capacity(DECISIONS), [0u32; 3]);
    let mut random = 1u64;
    let mut below = |end: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % end
    };
    while times.len() < DECISIONS {
        let (person, role) = (&people[below(PEOPLE)], &roles[below(ROLES)]);
        if !policy.roles()[role].requesters.contains(person) {
            continue;
        }
        let from = format!("10.{}.{}.7", below(60), below(256)).parse().ok();
        let at = Timestamp::from_unix(1_795_341_718 + i64::try_from(below(30 * 86_400)).unwrap_or_default());
        let asked = Asked { person, role, hosts: &[], principals: &[], seconds: None, ticket: None };
        let around = Circumstances { from, facts: &facts, tickets: &Tickets::default(), held: 0, overdue: None };
        let begin = Instant::now();
        let outcome = black_box(policy.terms(black_box(&asked), at, &around));
        times.push(begin.elapsed());
        outcomes[outcome.map_or(2, |terms| usize::from(terms.by.is_none()))] += 1;
    }
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / DECISIONS as u32;
    let (p50, p99, longest) = (times[DECISIONS / 2], times[DECISIONS * 99 / 100], times[DECISIONS - 1]);
    let [automatic, approval, denied] = outcomes;
    println!(
        "decide by it: mean {}, p50 {}, p99 {}, longest {}",
        micros(mean),
        micros(p50),
        micros(p99),
        micros(longest)
    );
    println!("of {DECISIONS}: {automatic} automatic, {approval} for approval, {denied} denied");
}

fn text() -> String {
    let mut text = String::new();
    for i in 0..PEOPLE {
        let groups: Vec<String> = [i, i * 7 + 1, i * 13 + 2].iter().map(|n| format!("\"g{}\"", n % GROUPS)).collect();
        let key = key(i);
        writeln!(text, "[people.p{i}]\ngroups = [{}]\nkeys = [\"{key} p{i}@laptop\"]\n", groups.join(", "))
            .expect("text");
    }
    for i in 0..ROLES {
        let (ask, other, decide) = (i % GROUPS, (i * 3 + 1) % GROUPS, (i * 5 + 2) % GROUPS);
        writeln!(
            text,
            "[roles.r{i}]\ndescription = \"Role {i}\"\nhosts = [\"h{i}a\", \"h{i}b\", \"h{i}c\"]\nprincipals = [\"r{i}\"]\n\
             requesters = [\"g{ask}\", \"g{other}\"]\napprovers = [\"g{decide}\"]\napprovals = {}\nmax = \"4h\"\n\
             default = \"1h\"\nautomatic = {{ max = \"15m\", when = {{ ticket = \"INC-[0-9]+\" }} }}\n\
             when = {{ from = [\"10.0.0.0/8\", \"2001:db8::/32\"] }}\n",
            1 + i % 2
        )
        .expect("text");
    }
    for i in 0..RULES {
        let roles = format!("roles = [\"r{}\", \"r{}\"]\n", i % ROLES, (i * 7 + 1) % ROLES);
        let roles = if i < GENERAL || i % ROLES == (i * 7 + 1) % ROLES { "" } else { roles.as_str() };
        let effect = if i % 2 == 0 { "effect = \"deny\"\n" } else { "effect = \"automatic\"\nmax = \"2h\"\n" };
        let when = match i % 5 {
            0 => format!("facts = [\"freeze:{i} = on\"]"),
            1 => format!("from = [\"10.{}.{}.0/24\"]", i % 60, i % 256),
            2 => {
                "hours = [{ days = [\"sun\"], from = \"03:00\", to = \"04:00\", zone = \"Europe/Berlin\" }]".to_owned()
            }
            3 => "facts = [\"oncall:team:primary = {person}\"]".to_owned(),
            _ => "ticket = \"CHG-[0-9]{4}\"".to_owned(),
        };
        // A denial for want of a ticket would be one for everybody.
        let when = if i % 10 == 4 { format!("facts = [\"closed:{i} = on\"]") } else { when };
        let people = if i % 3 == 0 { format!("people = [\"g{}\"]\n", i % GROUPS) } else { String::new() };
        writeln!(text, "[[rules]]\nname = \"rule{i}\"\n{effect}{roles}{people}when = {{ {when} }}\n").expect("text");
    }
    text
}

pub(super) fn key(i: usize) -> String {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(i as u64).to_le_bytes());
    let point = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    format!("ssh-ed25519 {}", STANDARD.encode([string(b"ssh-ed25519"), string(&point)].concat()))
}
