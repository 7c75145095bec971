//! Many at once: whoever comes first wins, the others hear so, and the log tells one story.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Answer, Bench, Key};
use crate::support::wait_until;

/// Runs `act` for each number at the same instant.
fn at_once(count: usize, act: impl Fn(usize) -> Answer + Sync) -> Vec<Answer> {
    let barrier = Barrier::new(count);
    let one = |number| {
        barrier.wait();
        act(number)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

#[test]
fn two_approvers_at_the_same_instant() {
    let bench = Bench::new();
    for _ in 0..8 {
        let asked = bench.ask("alice", "web", &json!({}));
        let begun = bench.events().len();
        let answers = at_once(2, |number| bench.approve(["carol", "dan"][number], &asked));
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        let lost: Vec<_> = answers.iter().filter(|answer| answer.status != 200).map(Answer::code).collect();
        assert_eq!((won, lost), (1, vec!["not-pending".to_owned()]));
        assert_eq!(bench.story(begun), ["approved", "refused (approval: not-pending)"]);
        bench.claim(&asked).ok();
    }
}

#[test]
fn approving_and_withdrawing_at_the_same_instant() {
    let bench = Bench::new();
    for _ in 0..8 {
        let asked = bench.ask("alice", "web", &json!({}));
        bench.approve("carol", &asked).ok();
        let answers = at_once(2, |number| if number == 0 { bench.withdraw(&asked) } else { bench.claim(&asked) });
        let codes: Vec<_> =
            answers.iter().map(|answer| if answer.status == 200 { "won".to_owned() } else { answer.code() }).collect();
        assert!(codes == ["won", "not-approved"] || codes == ["not-pending", "won"], "{codes:?}");
    }
}

/// R18: one certificate, however often it is fetched.
#[test]
fn thirty_two_claims_of_one_request() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    bench.approve("carol", &asked).ok();
    let begun = bench.events().len();
    let certificates: Vec<_> = at_once(32, |_| bench.claim(&asked)).into_iter().map(Answer::certificate).collect();
    assert!(certificates.iter().all(|certificate| *certificate == certificates[0]));
    assert_eq!(bench.story(begun), ["claimed"]);
}

/// R18, at length: 64 threads, one certificate a round, and no serial twice.
fn sixty_four_claims(rounds: usize) {
    let bench = Bench::new();
    let mut serials = BTreeSet::new();
    for _ in 0..rounds {
        let asked = bench.ask("alice", "web", &json!({}));
        bench.approve("carol", &asked).ok();
        let answers: Vec<_> =
            at_once(64, |_| bench.claim(&asked)).into_iter().map(|answer| answer.ok().json()).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "one certificate, and the same for all");
        assert!(serials.insert(answers[0]["serial"].to_string()), "a serial was given twice");
    }
    let certificates = bench.sql().query_row("SELECT count(*) FROM certificates", [], |row| row.get::<_, u32>(0));
    assert_eq!((serials.len(), certificates), (rounds, Ok(rounds as u32)));
    let claimed = bench.story(0).iter().filter(|event| *event == "claimed").count();
    assert_eq!(claimed, rounds);
}

#[test]
fn sixty_four_claims_of_one_request() {
    sixty_four_claims(5);
}

#[test]
#[cfg(feature = "long-tests")]
fn sixty_four_claims_of_each_of_five_hundred_requests() {
    sixty_four_claims(500);
}

#[test]
fn thirty_two_submissions_of_one_request() {
    let bench = Bench::new();
    let text = bench.request("alice", "web").0.to_string();
    let begun = bench.events().len();
    let answers = at_once(32, |_| bench.send_text(Kind::Request, &Key::of("alice"), &text));
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().filter(|answer| answer.status != 201).all(|answer| answer.code() == "replayed"));
    let mut story = bench.story(begun);
    story.sort();
    assert_eq!((story.len(), story.last().map(String::as_str)), (32, Some("requested")));
}

/// The twentieth place is taken once.
#[test]
fn many_requests_for_the_last_place() {
    let bench = Bench::new();
    for _ in 0..19 {
        bench.ask("alice", "web", &json!({}));
    }
    let texts: Vec<_> = (0..8).map(|_| bench.request("alice", "web").0.to_string()).collect();
    let answers = at_once(8, |number| bench.send_text(Kind::Request, &Key::of("alice"), &texts[number]));
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
}

#[test]
fn many_certificates_have_many_serials() {
    let bench = Bench::new();
    let asked: Vec<_> =
        (0..16).map(|number| bench.ask(["alice", "bob"][number % 2], "db-prod", &json!({"seconds": 60}))).collect();
    let answers = at_once(16, |number| bench.claim(&asked[number]));
    let mut serials: Vec<_> = answers.into_iter().map(|answer| answer.ok().json()["serial"].to_string()).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 16);
}

/// Runs `act` once somebody waits on the request, and gives what they heard, and after how long.
fn woken(bench: &Bench, act: impl Fn(&crate::support::service::Asked)) -> (String, Duration) {
    let asked = bench.ask("alice", "web", &json!({}));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let view = bench.get(&format!("/v1/requests/{}/wait", asked.id), &asked.waiter).ok();
            (view.json()["state"]["name"].as_str().expect("a state").to_owned(), Instant::now())
        });
        // Nothing tells from outside that somebody waits: give them a moment.
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "nothing was decided yet");
        let acted = Instant::now();
        act(&asked);
        wait_until(|| waiting.is_finished(), || "nobody woke up".to_owned());
        let (state, heard) = waiting.join().expect("an answer");
        (state, heard.saturating_duration_since(acted))
    })
}

#[test]
fn who_waits_hears_at_once() {
    let bench = Bench::new();
    for (state, act) in [
        ("approved", &(|asked: &_| drop(bench.approve("carol", asked).ok())) as &dyn Fn(&_)),
        ("denied", &|asked| drop(bench.deny("carol", asked).ok())),
        ("withdrawn", &|asked| drop(bench.withdraw(asked).ok())),
    ] {
        let (heard, after) = woken(&bench, act);
        assert_eq!(heard, state);
        assert!(after < Duration::from_secs(2), "{state}: {after:?}");
    }
    let (heard, _) = woken(&bench, |_| {
        bench.advance(24 * 3600 + 1);
        bench.sweep();
    });
    assert_eq!(heard, "lapsed");
}

#[test]
fn who_comes_late_does_not_wait() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    bench.approve("carol", &asked).ok();
    let start = Instant::now();
    let view = bench.get(&format!("/v1/requests/{}/wait", asked.id), &asked.waiter).ok().json();
    assert_eq!(view["state"]["name"], "approved");
    assert!(start.elapsed() < Duration::from_secs(2));
    bench.claim(&asked).ok();
    let view = bench.get(&format!("/v1/requests/{}/wait", asked.id), &asked.waiter).ok().json();
    assert_eq!(view["state"]["name"], "active");
}
