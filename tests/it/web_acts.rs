//! What is done in the browser besides approving: giving back, reviewing, removing a passkey; what a draft says
//! before anybody touches one; what pages compare a request with, and hear of.

use std::time::Duration;

use serde_json::{Value, json};
use ssh_jit::domain::statement::Kind;
use ssh_jit::service::Topic;

use crate::support::service::{Answer, Asked, Bench, Key, policy, with};
use crate::web::{Browser, carol};

/// Somebody with a passkey of their own, signed in.
pub(crate) fn in_browser(bench: &Bench, person: &str, seed: u8) -> Browser {
    let mut browser = Browser::new(seed);
    browser.enrols(bench, person, &json!({})).ok();
    browser.signs_in(bench, person).ok();
    browser
}

/// Drafts, signs and sends, as the script does.
fn acts(bench: &Bench, browser: &Browser, kind: Kind, body: &Value) -> Answer {
    let (draft, path) = match kind {
        Kind::Return => ("return", "/web/returns"),
        Kind::Review => ("review", "/web/reviews"),
        Kind::Removal => ("removal", "/web/removals"),
        Kind::Revocation => ("revocation", "/web/revocations"),
        _ => ("withdrawal", "/web/withdrawals"),
    };
    let draft = browser.calls(bench, &format!("/web/drafts/{draft}"), body);
    if draft.status != 200 {
        return draft;
    }
    browser.calls(bench, path, &browser.signs(kind, draft.json()["text"].as_str().expect("text")))
}

fn active(bench: &Bench) -> Asked {
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 600}));
    bench.claim(&asked).ok();
    asked
}

#[test]
fn a_passkey_gives_access_back() {
    let bench = Bench::new();
    let (alice, carol) = (in_browser(&bench, "alice", 21), carol(&bench));
    let asked = active(&bench);
    let id = json!({"id": asked.id});
    let page = alice.opens(&bench, &format!("/requests/{}", asked.id)).ok().body;
    assert!(page.contains("Give back") && page.contains("Active"), "{page}");
    assert_eq!(acts(&bench, &carol, Kind::Return, &id).code(), "other-request", "whoever may see it may not end it");
    let answer = acts(&bench, &alice, Kind::Return, &id).ok().json();
    assert_eq!(answer["state"]["name"], "returned");
    assert_eq!(acts(&bench, &alice, Kind::Return, &id).code(), "not-active");
    assert!(alice.opens(&bench, &format!("/requests/{}", asked.id)).body.contains("Given back"));
}

/// The subject key is in an agent that may be out of reach; the person's own key ends access as well. Nobody else's.
#[test]
fn a_persons_own_key_gives_access_back() {
    let bench = Bench::new();
    let asked = active(&bench);
    let serial = bench.get("/v1/requests", &bench.session("alice")).json()[0]["state"]["serial"].clone();
    let given = |bench: &Bench, person: &str| {
        let changes = json!({"request": asked.digest, "id": asked.id, "serial": serial});
        with(bench.draft(Kind::Return, person), &changes)
    };
    bench.refuses("not-their-key", || bench.send(Kind::Return, &Key::of("bob"), &given(&bench, "alice")));
    bench.refuses("other-request", || bench.send(Kind::Return, &Key::of("bob"), &given(&bench, "bob")));
    bench.refuses("unknown-key", || bench.send(Kind::Return, &Key::of("nobody's"), &given(&bench, "alice")));
    // Who has left keeps the subject key, and with it the way to end what they hold; the other key ends with them.
    bench.load_policy(&policy().replace(&Key::of("alice").line(), &Key::of("alice new").line()));
    bench.refuses("unknown-key", || bench.send(Kind::Return, &Key::of("alice"), &given(&bench, "alice")));
    assert_eq!(bench.send(Kind::Return, &Key::of("alice new"), &given(&bench, "alice")).state(), "returned");
}

/// Who has the duty ends access from the request's page; who has not is told so before a passkey is touched, and their
/// word is not taken either.
#[test]
fn a_passkey_revokes() {
    let bench = Bench::new();
    let (carol, olga) = (carol(&bench), in_browser(&bench, "olga", 31));
    let asked = active(&bench);
    let cut = json!({"id": asked.id, "reason": "the laptop was stolen"});
    let page = |browser: &Browser| browser.opens(&bench, &format!("/requests/{}", asked.id)).ok().body;
    assert!(page(&carol).contains("data-act=\"revocation\"") && !page(&olga).contains("data-act=\"revocation\""));
    assert_eq!(olga.calls(&bench, "/web/drafts/revocation", &cut).code(), "no-duty");
    let draft =
        carol.calls(&bench, "/web/drafts/revocation", &cut).ok().json()["text"].as_str().expect("text").to_owned();
    let by_olga = draft.replace("\"person\":\"carol\"", "\"person\":\"olga\"");
    let sent = |browser: &Browser, text: &str| {
        browser.calls(&bench, "/web/revocations", &browser.signs(Kind::Revocation, text))
    };
    assert_eq!(sent(&olga, &by_olga).code(), "no-duty");
    assert_eq!(acts(&bench, &carol, Kind::Revocation, &with(cut.clone(), &json!({"reason": ""}))).code(), "malformed");
    let ended = acts(&bench, &carol, Kind::Revocation, &cut).ok().json();
    assert_eq!((&ended[0]["person"], &ended[0]["id"]), (&json!("alice"), &json!(asked.id)));
    assert_eq!(carol.calls(&bench, "/web/drafts/revocation", &cut).code(), "not-active");
    let page = page(&carol);
    assert!(page.contains("Revoked") && page.contains("the laptop was stolen"), "{page}");
    assert!(!page.contains("data-act=\"revocation\""), "once is enough");
}

#[test]
fn a_review_is_closed_in_the_browser() {
    let bench = Bench::new();
    let (alice, carol) = (in_browser(&bench, "alice", 21), carol(&bench));
    let broken = bench.breaking("alice", "db-prod");
    bench.break_glass(&broken).ok();
    bench.run(bench.service().import_journal()).expect("imported");
    let found = json!({"id": broken["id"], "outcome": "justified", "comment": "it was down indeed"});
    let feed = |browser: &Browser| browser.opens(&bench, "/emergencies").ok().body;
    assert!(feed(&carol).contains("Close the review") && !feed(&alice).contains("Close the review"));
    assert_eq!(acts(&bench, &alice, Kind::Review, &found).code(), "no-duty");
    let nothing = with(found.clone(), &json!({"comment": ""}));
    assert_eq!(acts(&bench, &carol, Kind::Review, &nothing).code(), "malformed");
    assert_eq!(acts(&bench, &carol, Kind::Review, &with(found.clone(), &json!({"id": "7F3K-9QPX-M2"}))).status, 404);
    acts(&bench, &carol, Kind::Review, &found).ok();
    assert_eq!(acts(&bench, &carol, Kind::Review, &found).code(), "not-pending");
    let page = feed(&alice);
    assert!(page.contains("carol reviewed it") && page.contains("it was down indeed"), "{page}");
}

#[test]
fn a_passkey_takes_another_away() {
    let bench = Bench::new();
    let (carol, phone) = (carol(&bench), in_browser(&bench, "carol", 9));
    let lost = phone.fingerprint();
    assert!(carol.opens(&bench, "/passkeys").ok().body.contains(&lost));
    let dan = in_browser(&bench, "dan", 33);
    assert_eq!(acts(&bench, &dan, Kind::Removal, &json!({"key": lost})).code(), "unknown-key", "somebody else's");
    acts(&bench, &carol, Kind::Removal, &json!({"key": lost})).ok();
    assert!(crate::web::signed_out(&phone.opens(&bench, "/")));
}

/// Nobody is asked for a gesture that cannot lead anywhere.
#[test]
fn a_draft_says_what_stands_against_a_decision() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let refused = |browser: &Browser, asked: &Asked, code: &str| {
        let body = json!({"id": asked.id, "decision": "approve", "seconds": null, "hosts": [], "comment": ""});
        assert_eq!(browser.calls(&bench, "/web/drafts/decision", &body).code(), code);
    };
    let own = bench.ask("carol", "web", &json!({}));
    refused(&carol, &own, "self-approval");
    let asked = bench.ask("alice", "vault", &json!({}));
    bench.approve("carol", &asked).ok();
    refused(&carol, &asked, "decided-already");
    bench.deny("dan", &asked).ok();
    refused(&carol, &asked, "not-pending");
    let olga = in_browser(&bench, "olga", 31);
    let asked = bench.ask("alice", "web", &json!({}));
    refused(&olga, &asked, "not-approver");
    let bob = in_browser(&bench, "bob", 32);
    refused(&bob, &asked, "unknown-request");
    bench.advance(24 * 3600 + 1);
    let carol = {
        let mut again = Browser::new(7);
        again.signs_in(&bench, "carol").ok();
        again
    };
    refused(&carol, &asked, "lapsed");
}

#[test]
fn the_page_compares_with_what_is_usual() {
    let bench = Bench::new();
    let mut carol = carol(&bench);
    let first = bench.ask("alice", "db-prod", &json!({"hosts": ["db1"], "seconds": 3600, "reason": "look at the lag"}));
    let page = |carol: &Browser, asked: &Asked| carol.opens(&bench, &format!("/requests/{}", asked.id)).ok().body;
    let shown = page(&carol, &first);
    assert!(shown.contains("first time for db-prod in 90 days") && shown.contains("nobody else asked"), "{shown}");
    bench.withdraw(&first).ok();
    bench.withdraw(&bench.ask("bob", "db-prod", &json!({"seconds": 3600}))).ok();
    bench.advance(3 * 86_400 + 61);
    carol.signs_in(&bench, "carol").ok();
    let second = bench.ask("alice", "db-prod", &json!({"seconds": 7200, "reason": "Look  at the lag"}));
    let shown = page(&carol, &second);
    for fact in [
        "asked for db-prod once in 90 days, last 3 days ago",
        "db2: never before",
        "longer than usual, which is 1h",
        "the same reason as last time",
        "one other asked for db-prod once in 90 days",
    ] {
        assert!(shown.contains(fact), "{fact}: {shown}");
    }
    assert!(carol.opens(&bench, "/roles").ok().body.contains("3 times in 90 days"), "the catalogue counts all of them");
}

#[test]
fn the_page_says_how_far_it_is() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "vault", &json!({}));
    let page = || carol.opens(&bench, &format!("/requests/{}", asked.id)).ok().body;
    assert!(page().contains("0 of 2 approved") && page().contains("dan and frank can decide, too"), "{}", page());
    bench.approve("dan", &asked).ok();
    assert!(page().contains("1 of 2 approved (dan)") && page().contains("frank can decide, too"), "{}", page());
    let less = json!({"seconds": 600});
    bench.decide("carol", &asked, &less).ok();
    let shown = page();
    assert!(shown.contains("10m for audit@vault1 and vault@vault1"), "{shown}");
    assert!(shown.contains("<dt>for</dt><dd class=\"mono\">10m</dd>"), "{shown}");
    assert!(shown.contains("less than was asked") && !shown.contains("data-act=\"decision\""), "{shown}");
}

#[test]
fn pages_hear_of_what_concerns_them() {
    let bench = Bench::new();
    let service = bench.service();
    let heard =
        |topic: &Topic, seen: u64| bench.run(service.changed_after(topic, seen, Duration::from_millis(20))) != seen;
    let person = |name: &str| Topic::Person(name.parse().expect("a name"));
    let before = service.changes();
    let asked = bench.ask("alice", "web", &json!({}));
    let request = Topic::Request(asked.id.parse().expect("an id"));
    for topic in [person("alice"), person("carol"), request.clone(), Topic::Everything] {
        assert!(heard(&topic, before), "{topic:?}");
    }
    assert!(!heard(&person("bob"), before), "it is not his to decide");
    let told = |act: &dyn Fn()| {
        let before = service.changes();
        act();
        bench.sweep();
        assert!(heard(&request, before) && heard(&person("alice"), before) && heard(&person("dan"), before));
    };
    told(&|| drop(bench.approve("carol", &asked).ok()));
    told(&|| drop(bench.claim(&asked).ok()));
    told(&|| bench.advance(3600));
    let before = service.changes();
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    bench.run(service.import_journal()).expect("imported");
    assert!(heard(&person("bob"), before), "everybody hears of broken glass");
}

#[test]
fn long_lists_come_in_pages() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked: Vec<Asked> = (0..45).map(|n| bench.ask(["alice", "bob", "robot"][n % 3], "web", &json!({}))).collect();
    let listed = |path: &str| {
        let page = carol.opens(&bench, path).ok().body;
        (asked.iter().filter(|asked| page.contains(&asked.id)).count(), page)
    };
    let (first, page) = listed("/");
    assert!(first == 40 && page.contains("45 requests wait for you") && page.contains("page 1 of 2"), "{page}");
    assert_eq!(listed("/?page=2").0, 5);
    assert_eq!((listed("/?page=0").0, listed("/?page=4294967295").0), (40, 0));
    // What she has decided makes room.
    bench.deny("carol", &asked[0]).ok();
    let (first, page) = listed("/");
    assert!(first == 40 && !page.contains(&asked[0].id) && page.contains("44 requests wait"), "{page}");
}

/// People get a page, and programs what they can read.
#[test]
fn an_address_that_leads_nowhere_is_answered_in_kind() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let opens = |path: &str, accept: &str| {
        let headers = [("host", "localhost:7022"), ("cookie", carol.cookie.as_str()), ("accept", accept)];
        bench.browse("GET", path, &headers, b"")
    };
    for (path, status) in [("/nothing", 404), ("/requests/x", 404), ("/?page=x", 400), ("/log?before=-1", 400)] {
        let (page, told) = opens(path, "text/html,*/*;q=0.8");
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains("<h1>") && told.contains("default-src 'none'"), "{path} {page:?}");
    }
    assert_eq!(opens("/nothing", "application/json").0.code(), "no-such-path");
    assert_eq!(opens("/v1/nothing", "text/html").0.code(), "no-such-path");
    assert_eq!(opens("/web/passkeys?person=carol", "text/html").0.status, 200);
}

#[test]
fn what_was_drafted_before_the_policy_changed_decides_nothing() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let signed = carol.signs(Kind::Approval, &carol.draft(&bench, &asked.id, "approve"));
    bench.load_policy(&format!("{}\n# changed", policy()));
    bench.refuses("policy-changed", || carol.calls(&bench, "/web/decisions", &signed));
    let signed = carol.signs(Kind::Approval, &carol.draft(&bench, &asked.id, "approve"));
    carol.calls(&bench, "/web/decisions", &signed).ok();
}
