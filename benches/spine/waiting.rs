//! What waiting clients cost, and how soon each hears of its decision.

use std::time::Instant;

use super::load::{self, Call};
use super::server::Server;
use super::statements::{Cast, Life};

/// So many clients wait at once, each for its own request.
const CLIENTS: usize = 1000;

/// Lets all of them wait, decides one request after the other, and takes the time from sending the decision to the
/// client's hearing of it.
pub(crate) fn run(server: &Server, cast: &Cast) {
    let before = server.memory();
    let lives = cast.lives(CLIENTS);
    let calls: Vec<Call> = lives.iter().map(|life| waits(server, life)).collect();
    let address = server.address;
    let waiting = std::thread::spawn(move || load::answered(address, calls));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let memory = server.memory();
    let decisions: Vec<Call> = lives.iter().map(|life| life.approve.clone()).collect();
    let decided = load::sent(address, &decisions);
    let heard = waiting.join().expect("all of them heard");
    let mut each: Vec<_> = decided.iter().zip(&heard).map(|(sent, heard)| heard.duration_since(*sent)).collect();
    each.sort_unstable();
    let at = |percent: usize| super::millis(each[(each.len() - 1) * percent / 100]);
    println!("\n{CLIENTS} clients wait: {memory:.1} MiB, {:.1} of it theirs", memory - before);
    println!("from sending a decision to its client's hearing: p50 {}, p99 {}, longest {}", at(50), at(99), at(100));
    let spread = heard.iter().max().zip(decided.first()).map(|(last, first): (&Instant, _)| *last - *first);
    println!("all {CLIENTS} decided and heard of within {}", super::millis(spread.expect("some")));
}

/// Asks; gives the call that waits for what becomes of it.
fn waits(server: &Server, life: &Life) -> Call {
    let answer: serde_json::Value =
        serde_json::from_slice(&load::once(server.address, &life.ask)).expect("what was asked for");
    load::get(&format!("/v1/requests/{}/wait", life.id), answer["waiter"].as_str().expect("a capability"))
}
