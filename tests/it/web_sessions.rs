//! Sessions of browsers: what ends them, what keeps them, and what their pages must send back.

use serde_json::{Value, json};
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Bench, to_json};
use crate::web::{Browser, carol, signed_out};

const HOST: (&str, &str) = ("host", "localhost:7022");
/// A quarter of an hour, in seconds.
const IDLE: i64 = 15 * 60;

fn in_(bench: &Bench, browser: &Browser, path: &str) -> bool {
    let answer = browser.opens(bench, path);
    assert!(answer.status < 400, "{answer:?}");
    !signed_out(&answer)
}

#[test]
fn a_session_that_is_not_used_ends() {
    let bench = Bench::new();
    let (used, idle) = (carol(&bench), carol_again(&bench));
    bench.advance(IDLE);
    assert!(in_(&bench, &used, "/mine"), "in the last second");
    bench.advance(1);
    assert!(!in_(&bench, &idle, "/mine"), "nobody used it for longer");
    assert!(in_(&bench, &used, "/mine"), "it was used a second ago");
    bench.advance(IDLE + 1);
    assert!(!in_(&bench, &used, "/mine"));
}

/// Carol's passkey in another window.
fn carol_again(bench: &Bench) -> Browser {
    let mut browser = Browser::new(7);
    browser.signs_in(bench, "carol").ok();
    browser
}

#[test]
fn opening_pages_and_drafting_are_use() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let uses: [&dyn Fn(); 3] = [
        &|| drop(carol.opens(&bench, "/").ok()),
        &|| drop(carol.opens(&bench, &format!("/requests/{}?x=live&lively", asked.id)).ok()),
        &|| drop(carol.draft(&bench, &asked.id, "deny")),
    ];
    for used in uses {
        bench.advance(IDLE - 1);
        used();
    }
    bench.advance(IDLE);
    assert!(in_(&bench, &carol, "/"));
}

#[test]
fn what_a_page_does_by_itself_is_no_use() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    bench.advance(IDLE);
    for path in ["/?live", "/mine?live=1", &format!("/requests/{}?x=1&live", asked.id), "/web/changes?seen=0"] {
        carol.opens(&bench, path).ok();
    }
    bench.advance(1);
    assert!(!in_(&bench, &carol, "/?live"));
    let answer = carol.opens(&bench, "/web/changes?seen=0");
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"));
}

#[test]
fn no_use_keeps_a_session_for_more_than_twelve_hours() {
    let bench = Bench::new();
    let carol = carol(&bench);
    // The last use before the end prolongs to the end, and no further.
    for _ in 0..12 * 6 {
        bench.advance(10 * 60);
        assert!(in_(&bench, &carol, "/roles"));
    }
    bench.advance(1);
    assert!(!in_(&bench, &carol, "/roles"));
}

/// What a client bought ends after a quarter of an hour, wherever it is shown.
#[test]
fn a_bearer_of_the_api_is_not_prolonged() {
    let bench = Bench::new();
    let mut browser = Browser::new(7);
    browser.cookie = format!("__Host-session={}", bench.session("carol"));
    bench.advance(IDLE - 60);
    assert!(in_(&bench, &browser, "/"));
    bench.advance(61);
    assert!(!in_(&bench, &browser, "/"));
}

/// At most once a minute, and never so that a reader waits for a database that cannot write.
#[test]
fn use_is_written_down_once_a_minute() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let until = || bench.sql().query_row("SELECT until FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap();
    let first = until();
    for (later, expected) in [(59, 0), (1, 60), (1, 60), (59, 120)] {
        bench.advance(later);
        carol.opens(&bench, "/").ok();
        assert_eq!(until() - first, expected);
    }
    bench
        .sql()
        .execute_batch("CREATE TRIGGER no BEFORE UPDATE ON sessions BEGIN SELECT raise(ABORT, 'no'); END")
        .unwrap();
    bench.advance(120);
    carol.opens(&bench, "/").ok();
    assert_eq!(until() - first, 120);
}

#[test]
fn signing_out_ends_the_session_on_the_server() {
    let bench = Bench::new();
    let (mut carol, other) = (carol(&bench), carol_again(&bench));
    let (answer, told) = bench.browse("POST", "/web/sign-out", &posting(&carol.cookie, &carol.token), b"{}");
    assert_eq!(answer.status, 204);
    assert!(told.contains("__Host-session=; Max-Age=0"), "{told}");
    assert!(!in_(&bench, &carol, "/"), "a copy of the cookie is worth nothing");
    assert!(in_(&bench, &other, "/"), "the other window's is");
    // Without a session, and a second time, it is the same.
    assert_eq!(carol.calls(&bench, "/web/sign-out", &json!({})).status, 204);
    carol.cookie.clear();
    assert_eq!(carol.calls(&bench, "/web/sign-out", &json!({})).status, 204);
}

fn posting<'a>(cookie: &'a str, token: &'a str) -> Vec<(&'a str, &'a str)> {
    let origin = ("origin", "http://localhost:7022");
    vec![HOST, origin, ("sec-fetch-site", "same-origin"), ("cookie", cookie), ("x-form-token", token)]
}

/// Whoever got past the browser's own rules still lacks what only the session's pages hold.
#[test]
fn what_is_posted_carries_the_sessions_own_token() {
    let bench = Bench::new();
    let (carol, other) = (carol(&bench), carol_again(&bench));
    let asked = bench.ask("alice", "web", &json!({}));
    let signed = carol.signs(Kind::Approval, &carol.draft(&bench, &asked.id, "approve"));
    let posts: [(&str, Value); 4] = [
        (
            "/web/drafts/decision",
            json!({"id": asked.id, "decision": "deny", "seconds": null, "hosts": [], "comment": "no no"}),
        ),
        ("/web/drafts/withdrawal", json!({"id": asked.id})),
        ("/web/decisions", signed.clone()),
        ("/web/withdrawals", signed.clone()),
    ];
    let bearer = carol.cookie.split_once('=').unwrap().1.to_owned();
    let digest = ssh_jit::domain::digest::Digest::of(bearer.as_bytes());
    for (path, body) in posts {
        for wrong in
            ["", "x", &carol.token[1..], &format!("{}A", carol.token), &bearer, &digest.to_string(), &other.token]
        {
            let answer = bench.browse("POST", path, &posting(&carol.cookie, wrong), &to_json(&body)).0;
            assert_eq!((answer.status, answer.code().as_str()), (403, "form-token"), "{path} {wrong}");
        }
        let mut none = posting(&carol.cookie, "");
        none.pop();
        let answer = bench.browse("POST", path, &none, &to_json(&body)).0;
        assert_eq!((answer.status, answer.code().as_str()), (403, "form-token"), "{path}");
    }
    assert_ne!(carol.token, other.token);
    carol.calls(&bench, "/web/decisions", &signed).ok();
}

/// The cookie outlives the quarter of an hour; the service knows better.
#[test]
fn the_cookie_lasts_as_long_as_a_session_may() {
    let bench = Bench::new();
    let browser = Browser::new(7);
    browser.enrols(&bench, "carol", &json!({})).ok();
    let draft = browser.opens(&bench, "/web/drafts/session?person=carol").ok().json();
    let signed = browser.signs(Kind::Session, draft["text"].as_str().unwrap());
    let (answer, told) = bench.browse("POST", "/web/session", &posting("", ""), &to_json(&signed));
    assert!(told.contains("Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Strict"), "{told}");
    assert_eq!(answer.json()["until"], json!(bench.at(IDLE)));
}
