//! Ticket checks: a role whose ticket is looked up outside, at a place that is played here and does what its script
//! says. Whatever it does, nothing is given without its yes.

use std::time::{Duration, Instant};

use serde_json::json;
use ssh_jit::config::TicketCheckConfig;
use ssh_jit::domain::policy::Policy;
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Answer, Bench, Key, policy, with};
use crate::support::tracker::{CLOSED, OPEN, Says, Tracker, http};

impl Tracker {
    /// `strict` needs a ticket that is good; `quick` is approved by itself with one, and by people otherwise.
    fn policy(&self) -> String {
        let more = format!(
            r#"
[ticket_checks.tracker]
url = "http://{}/api/{{ticket}}"
expect = {{ status = 200, field = "/status/name", value = ["Open", "In Progress"], assignee_field = "/assignee" }}
timeout = "1s"

[roles.strict]
principals = ["strict"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
default = "1h"
when = {{ ticket = "OPS-[0-9]+", ticket_check = "tracker" }}

[roles.quick]
principals = ["quick"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
default = "1h"
automatic = {{ max = "1h", when = {{ ticket = "OPS-[0-9]+", ticket_check = "tracker" }} }}
"#,
            self.address
        );
        policy() + &more
    }

    fn bench(&self) -> Bench {
        self.bench_with(Self::allowed())
    }

    fn bench_with(&self, config: TicketCheckConfig) -> Bench {
        let mut bench = Bench::unstarted();
        bench.settings.ticket_checks.insert("tracker".parse().expect("a name"), config);
        bench.start(&self.policy()).expect("a service that starts");
        bench
    }
}

fn ask(bench: &Bench, role: &str, ticket: &str) -> Answer {
    let (request, _) = bench.request("alice", role);
    bench.send(Kind::Request, &Key::of("alice"), &with(request, &json!({"ticket": ticket})))
}

fn state(answer: Answer) -> String {
    answer.ok().json()["request"]["state"]["name"].as_str().expect("a state").to_owned()
}

/// Everything that is no yes: closed, somebody else's, nowhere, and every way of not answering.
fn noes() -> Vec<(&'static str, Says)> {
    let unknown = "the ticket could not be checked; try again";
    let long = format!("{{\"status\":{{\"name\":\"Open\"}},\"assignee\":\"alice\",\"x\":\"{}\"}}", "x".repeat(70_000));
    vec![
        ("ticket OPS-12 is Closed", http(200, "", CLOSED)),
        ("ticket OPS-12 is not assigned to alice", http(200, "", &OPEN.replace("alice", "bob"))),
        ("there is no ticket OPS-12", http(404, "", "")),
        (unknown, http(500, "", OPEN)),
        (unknown, http(200, "", "<html>garbage")),
        (unknown, http(200, "", &long)),
        (unknown, Says::Bytes(String::new())),
        (unknown, Says::Bytes("garbage\r\n\r\n".to_owned())),
        (unknown, Says::Bytes(format!("HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n{OPEN}"))),
        (unknown, Says::Nothing),
    ]
}

/// R18: without a good ticket the role is refused in words, and what would ask nobody asks people.
#[test]
fn a_ticket_that_is_not_good_gives_nothing() {
    let tracker = Tracker::new();
    let bench = tracker.bench();
    for (words, says) in noes() {
        tracker.says(says);
        let refused = ask(&bench, "strict", "OPS-12");
        assert_eq!(refused.code(), "conditions", "{words}");
        assert!(refused.body.contains(words), "{words}: {refused:?}");
        let queue = bench.get("/v1/requests?list=pending", &bench.session("carol")).ok().json();
        let bothers = |request: &serde_json::Value| request["role"] == "strict";
        assert!(!queue.as_array().unwrap().iter().any(bothers), "{words}: nobody is bothered: {queue}");
        let manual = ask(&bench, "quick", "OPS-12");
        assert_eq!(state(manual), "requested", "{words}");
        bench.advance(3600);
        bench.run(bench.service().sweep()).expect("a sweep");
        assert!(!tracker.heard().is_empty());
    }
    // What does not look like a ticket is asked about nowhere.
    assert!(ask(&bench, "strict", "foo").body.contains("with a ticket like OPS-[0-9]+"));
    assert_eq!(tracker.heard(), Vec::<String>::new());
    tracker.says(http(200, "", OPEN));
    assert_eq!(state(ask(&bench, "strict", "OPS-12")), "requested");
    assert_eq!(state(ask(&bench, "quick", "OPS-12")), "approved");
}

/// An answer from elsewhere is none, and no secret is carried there.
#[test]
fn no_redirect_is_followed() {
    let (tracker, elsewhere) = (Tracker::new(), Tracker::new());
    let mut bench = Bench::unstarted();
    let secret = ("authorization".parse().unwrap(), "Bearer 5ecret".parse().unwrap());
    let config = TicketCheckConfig { header: Some(secret), ..Tracker::allowed() };
    bench.settings.ticket_checks.insert("tracker".parse().unwrap(), config);
    let unfit = bench.start(&policy()).expect_err("it must not start").to_string();
    assert!(unfit.contains("ticket_checks.tracker: the policy has no [ticket_checks.tracker]"), "{unfit}");
    bench.start(&tracker.policy()).expect("a service that starts");
    tracker.says(http(302, &format!("location: http://{}/api/OPS-12\r\n", elsewhere.address), OPEN));
    assert_eq!(state(ask(&bench, "quick", "OPS-12")), "requested");
    assert_eq!(elsewhere.heard(), Vec::<String>::new());
    let heard = tracker.heard().concat().to_ascii_lowercase();
    assert!(
        heard.starts_with("get /api/ops-12 http/1.1\r\n") && heard.contains("authorization: bearer 5ecret"),
        "{heard}"
    );
    assert!(!format!("{:?}", bench.settings).contains("5ecret"));
}

/// W06: what stands in a policy leads to nothing that only the service can reach, unless its operator says so.
#[test]
fn addresses_inside_are_not_asked() {
    let tracker = Tracker::new();
    let elsewhere = TicketCheckConfig { allow: vec!["10.0.0.0/8".parse().unwrap()], ..TicketCheckConfig::default() };
    let mut unsaid = Bench::unstarted();
    unsaid.start(&tracker.policy()).expect("a service that starts");
    for bench in [unsaid, tracker.bench_with(elsewhere)] {
        let refused = ask(&bench, "strict", "OPS-12");
        assert!(refused.code() == "conditions" && refused.body.contains("could not be checked"), "{refused:?}");
        assert_eq!(state(ask(&bench, "quick", "OPS-12")), "requested");
    }
    assert_eq!(tracker.heard(), Vec::<String>::new());
    assert_eq!(state(ask(&tracker.bench(), "strict", "OPS-12")), "requested");
}

/// It is looked up again at the decision and at the claim, but not within a minute of an answer.
#[test]
fn a_ticket_that_is_closed_meanwhile_opens_nothing() {
    let tracker = Tracker::new();
    let bench = tracker.bench();
    let quick = bench.ask("alice", "quick", &json!({"ticket": "OPS-12"}));
    let strict = bench.ask("alice", "strict", &json!({"ticket": "OPS-12"}));
    let late = bench.ask("alice", "strict", &json!({"ticket": "OPS-12"}));
    bench.approve("carol", &strict).ok();
    assert_eq!(tracker.heard().len(), 1, "the same question within a minute");
    tracker.says(http(200, "", CLOSED));
    let first = bench.claim(&strict).certificate();
    bench.advance(60);
    bench.refuses("conditions", || bench.approve("carol", &late));
    bench.refuses("not-enough-approvals", || bench.claim(&quick));
    assert_eq!(tracker.heard().len(), 1);
    assert_eq!(bench.claim(&strict).code(), "conditions", "nor is it given again");
    tracker.says(http(200, "", OPEN));
    bench.advance(60);
    assert_eq!(bench.claim(&strict).certificate(), first);
    bench.claim(&quick).ok();
    bench.advance(-60);
    tracker.says(Says::Nothing);
    bench.refuses("conditions", || bench.approve("carol", &late));
}

/// A yes for one person is none for another, nor is one for another ticket, nor one under another policy.
#[test]
fn a_yes_is_for_one_person_and_ticket() {
    let tracker = Tracker::new();
    let bench = tracker.bench();
    assert_eq!(state(ask(&bench, "quick", "OPS-12")), "approved");
    let bob = bench.ask("bob", "quick", &json!({"ticket": "OPS-12"}));
    assert_eq!(bob.answer["request"]["state"]["name"], "requested");
    tracker.says(http(200, "", CLOSED));
    assert_eq!(state(ask(&bench, "quick", "OPS-13")), "requested");
    assert_eq!(state(ask(&bench, "quick", "OPS-12")), "approved", "remembered");
    bench.load_policy(&(tracker.policy() + "# another\n"));
    assert_eq!(state(ask(&bench, "quick", "OPS-12")), "requested");
}

/// While the place hangs, others are served.
#[test]
fn a_place_that_hangs_keeps_nobody_else_waiting() {
    let tracker = Tracker::new();
    let bench = tracker.bench();
    tracker.says(Says::Nothing);
    std::thread::scope(|scope| {
        let hanging: Vec<_> = (1..=12)
            .map(|number| {
                scope.spawn({
                    let bench = &bench;
                    move || ask(bench, "strict", &format!("OPS-{number}"))
                })
            })
            .collect();
        crate::support::wait_until(
            || !tracker.heard.lock().expect("a lock").is_empty(),
            || "it is not asked".to_owned(),
        );
        let began = Instant::now();
        let web = bench.ask("alice", "web", &json!({}));
        bench.approve("carol", &web).ok();
        bench.claim(&web).ok();
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        for one in hanging {
            assert_eq!(one.join().expect("an answer").code(), "conditions");
        }
    });
}

#[test]
fn a_check_says_where_and_what() {
    let tracker = Tracker::new();
    let good = tracker.policy();
    for (from, to, words) in [
        ("/api/{ticket}", "/api", "put {ticket} into it once"),
        ("http://127.0.0.1", "http://tickets.example", "write https://..."),
        ("field = \"/status/name\", ", "", "field and value belong together"),
        ("\"/status/name\"", "\"status\"", "write a JSON pointer"),
        ("timeout = \"1s\"", "timeout = \"11s\"", "11s is more than what somebody may be kept waiting, 10s"),
        ("ticket_check = \"tracker\"", "ticket_check = \"other\"", "there is no ticket check other"),
        ("ticket = \"OPS-[0-9]+\", ", "", "ticket is missing"),
        ("status = 200,", "code = 200,", "unknown field `code`"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Policy::parse(&good.replacen(from, to, 1)).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}
