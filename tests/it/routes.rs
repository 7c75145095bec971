//! The edge: every route of the table against callers who lack what it needs, and bodies that are no
//! statements.

use serde_json::{Value, json};
use ssh_jit::domain::policy::Duty;
use ssh_jit::domain::statement::Kind;
use ssh_jit::http::{Needs, ROUTES};

use crate::support::service::{Answer, Bench, Key, path_of, policy, to_json, with};

/// Every route's path with an id in it.
fn path(of: &str, id: &str) -> String {
    of.replace("{id}", id)
}

/// Generated from the table: a new route is tried without being named here.
#[test]
fn no_route_answers_without_what_it_needs() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    for route in ROUTES {
        let path = path(route.path, &asked.id);
        match route.needs {
            // What waits for the terminal that knows a code is there for nobody else.
            Needs::Nothing if path.contains("{code}") => {
                bench.turns_away(404, "unknown-request", || bench.http(route.method, &path, None, b""));
            }
            Needs::Nothing => drop(bench.http(route.method, &path, None, b"").ok()),
            // Asked by another name than the configured one, as a rebound DNS name would have it.
            Needs::Page | Needs::PageSession => {
                assert_eq!(bench.http(route.method, &path, None, b"").code(), "other-host", "{} {path}", route.method);
            }
            Needs::Webhook => {
                bench.turns_away(422, "webhook-header", || {
                    bench.http(route.method, &path.replace("{source}", "pager"), None, b"")
                });
            }
            Needs::Statement(_) | Needs::HostKey => {
                bench.turns_away(400, "malformed", || bench.http(route.method, &path, None, b""));
            }
            Needs::Capability | Needs::Session | Needs::Duty(_) => {
                for bearer in [None, Some("Bearer "), Some("Bearer x"), Some("bearer x"), Some("Basic YTpi"), Some("")]
                {
                    let turned_away = bench.http(route.method, &path, bearer, b"");
                    // A capability is unknown, not unauthenticated: it never says whether the request exists.
                    let unknown = route.needs == Needs::Capability && bearer == Some("Bearer x");
                    let expected = if unknown { (404, "unknown-request") } else { (401, "unauthenticated") };
                    let got = (turned_away.status, turned_away.code());
                    assert_eq!((got.0, got.1.as_str()), expected, "{} {path} with {bearer:?}", route.method);
                }
            }
        }
    }
}

#[test]
fn duties_open_only_their_routes() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    let duties = |person: &str| match person {
        "erin" => vec![Duty::Admins],
        "olga" => vec![Duty::Auditors],
        "carol" => vec![Duty::Reviewers, Duty::Revokers],
        _ => vec![],
    };
    let mut tried = 0;
    for person in ["alice", "bob", "robot", "carol", "erin", "olga"] {
        let bearer = bench.session(person);
        for route in ROUTES {
            let (path, may) = (path(route.path, &asked.id), duties(person));
            let expected = match route.needs {
                Needs::Duty(needed) if !needed.iter().any(|duty| may.contains(duty)) => 403,
                // Neither the requester nor an approver, auditor or administrator.
                Needs::Session if route.path.contains("{id}") && ["bob", "robot"].contains(&person) => 404,
                // Everybody may read these, and a request is none.
                Needs::Session if ["/v1/emergencies/{id}", "/v1/drills/{id}"].contains(&route.path) => 404,
                Needs::Duty(_) | Needs::Session => 200,
                _ => continue,
            };
            let answer = bench.get(&path, &bearer);
            assert_eq!(answer.status, expected, "{person} {path}: {answer:?}");
            match expected {
                403 => assert_eq!(answer.code(), "no-duty"),
                404 => assert_eq!(answer.code(), "unknown-request"),
                _ => {}
            }
            tried += 1;
        }
    }
    assert!(tried >= 36, "{tried}");
}

/// R06: each kind of statement at each route that takes one. Only its own does.
#[test]
fn a_statement_of_one_kind_is_none_of_another() {
    let bench = Bench::new();
    let alice = Key::of("alice");
    let (request, _) = bench.request("alice", "web");
    let text = request.to_string();
    let session = bench.draft(Kind::Session, "alice").to_string();
    let mut tried = 0;
    for route in ROUTES {
        let Needs::Statement(kind) = route.needs else { continue };
        for (own, text) in [(Kind::Request, &text), (Kind::Session, &session)] {
            for signed_for in Kind::ALL.iter().filter(|signed_for| (kind, **signed_for) != (own, own)) {
                let signature = alice.sign(signed_for.namespace(), text.as_bytes());
                let code = if kind == own { "bad-signature" } else { "malformed" };
                let act = || bench.post(route.path, text, &signature);
                if kind == Kind::BreakGlass {
                    // It is on record a moment later, so as to wait for no database.
                    assert_eq!(act().code(), code);
                } else {
                    bench.advance(1);
                    let answer = act();
                    assert_eq!(answer.code(), code, "{kind:?} {signed_for:?} {answer:?}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried}");
    let rows = bench.rows();
    assert!(rows["requests"].is_empty() && rows["statements"].is_empty() && rows["sessions"].is_empty());
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let bench = Bench::new();
    for path in ["/v1", "/v1/", "/v2/now", "/v1/now/", "/v1//now", "/V1/now", "/v1/requests/", "/v1/../v1/nowhere"] {
        bench.turns_away(404, "no-such-path", || bench.http("GET", path, None, b""));
    }
    for route in ROUTES {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "POST", "GET"] {
            if !ROUTES.iter().any(|other| (other.path, other.method) == (route.path, method)) {
                let path = path(route.path, "7F3K-9QPX-M2");
                bench.turns_away(405, "no-such-method", || bench.http(method, &path, None, b"{}"));
            }
        }
    }
    for query in ["list=everything", "list=mine&x=1", "list=mine&list=all"] {
        let answer = bench.get(&format!("/v1/requests?{query}"), &bench.session("alice"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
    for query in ["from=-1", "limit=x", "from=99999999999999999999", "x=1"] {
        let answer = bench.get(&format!("/v1/events?{query}"), &bench.session("erin"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
}

#[test]
fn bodies_that_are_no_statements() {
    let bench = Bench::new();
    let (nested, blank, quotes) = ("[".repeat(100_000), " ".repeat(127 * 1024), "\"".repeat(128 * 1024));
    let long = " ".repeat(129 * 1024);
    for route in ROUTES.iter().filter(|route| matches!(route.needs, Needs::Statement(_))) {
        let malformed: [&[u8]; 14] = [
            b"",
            b"x",
            b"{",
            b"null",
            b"{}",
            &[b'{'; 100],
            blank.as_bytes(),
            quotes.as_bytes(),
            nested.as_bytes(),
            b"\xff\xfe{}",
            br#"{"text":"x"}"#,
            br#"{"text":"x","signature":"x","more":1}"#,
            br#"{"text":"x","text":"x","signature":"x"}"#,
            br#"{"text":"x","signature":null}"#,
        ];
        for body in malformed {
            bench.turns_away(400, "malformed", || bench.http("POST", route.path, None, body));
        }
        bench.turns_away(413, "body", || bench.http("POST", route.path, None, long.as_bytes()));
    }
}

/// A reason of ten megabytes costs nobody anything: the service hangs up, and goes on.
#[test]
fn ten_megabytes_are_not_read() {
    let bench = Bench::new();
    let (request, _) = bench.request("alice", "web");
    let text = with(request, &json!({"reason": "x".repeat(10_000_000)})).to_string();
    // Signing so much would take longer than all else here, and nobody looks at the signature.
    let signature = Key::of("alice").sign("request@ssh-jit", b"x");
    let body = to_json(&json!({"text": text, "signature": signature}));
    let (rows, events) = (bench.rows(), bench.events().len());
    // Whether the answer gets through before the line is cut is the network's affair.
    if let Ok(answer) = bench.try_http("POST", path_of(Kind::Request), None, &body) {
        assert_eq!(answer.status, 413, "{answer:?}");
    }
    assert_eq!((bench.rows(), bench.events().len()), (rows, events));
    bench.ask("alice", "web", &json!({}));
}

#[test]
fn a_bearer_reads_for_a_quarter_of_an_hour() {
    let bench = Bench::new();
    let bearer = bench.session("alice");
    bench.advance(15 * 60);
    bench.get("/v1/requests", &bearer).ok();
    for wrong in [bearer.to_lowercase(), format!("{bearer} "), format!("{bearer}A"), bearer[1..].to_owned()] {
        let answer = bench.get("/v1/requests", &wrong);
        assert!(answer.status == 401 || wrong.trim() == bearer, "{answer:?}");
    }
    bench.advance(1);
    let answer = bench.get("/v1/requests", &bearer);
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"));
}

/// No state change accepts a bearer, and no bearer is worth more than the key that bought it.
#[test]
fn a_bearer_changes_nothing_and_dies_with_its_key() {
    let bench = Bench::new();
    let (asked, bearer) = (bench.ask("alice", "web", &json!({})), bench.session("carol"));
    for route in ROUTES.iter().filter(|route| matches!(route.needs, Needs::Statement(_))) {
        let answer = bench.http("POST", route.path, Some(&format!("Bearer {bearer}")), b"{}");
        assert_eq!(answer.code(), "malformed");
    }
    let read = || bench.get("/v1/emergencies", &bearer).status;
    assert_eq!(read(), 200);
    // Carol keeps her second key; the one that bought the bearer goes.
    let carol = format!("{:?}, ", Key::of("carol").line());
    bench.load_policy(&policy().replace(&carol, ""));
    assert_eq!(read(), 401);
    bench.load_policy(&format!("revoked_keys = [{:?}]\n{}", Key::of("carol").fingerprint().to_string(), policy()));
    assert_eq!(read(), 401);
    bench.refuses("revoked-key", || bench.approve("carol", &asked));
    bench.load_policy(&policy());
    assert_eq!(read(), 200);
    let session = bench.draft(Kind::Session, "carol").to_string();
    bench.send_text(Kind::Session, &Key::of("carol"), &session).ok();
    bench.refuses("replayed", || bench.send_text(Kind::Session, &Key::of("carol"), &session));
    bench.refuses("not-their-key", || {
        bench.send(Kind::Session, &Key::of("alice"), &bench.draft(Kind::Session, "carol"))
    });
}

/// Somebody else's request and one that is not there are one answer, to the letter.
#[test]
fn the_requests_of_others_do_not_exist() {
    let bench = Bench::new();
    let (asked, mine) = (bench.ask("alice", "web", &json!({})), bench.ask("bob", "web", &json!({})));
    let bob = bench.session("bob");
    for rest in ["", "/receipt"] {
        let forbidden = bench.get(&format!("/v1/requests/{}{rest}", asked.id), &bob);
        assert_eq!((forbidden.status, forbidden.code().as_str()), (404, "unknown-request"));
        for other in ["7F3K-9QPX-M2", "7f3k-9qpx-m2", "x", "%00", "..%2f", &mine.id.to_lowercase().replace('-', "")] {
            let unknown = bench.get(&format!("/v1/requests/{other}{rest}"), &bob);
            assert_eq!((unknown.status, &unknown.body), (404, &forbidden.body), "{other}");
        }
    }
    let wait = |id: &str, waiter: &str| bench.get(&format!("/v1/requests/{id}/wait"), waiter);
    let other = wait(&asked.id, &mine.waiter);
    assert_eq!((other.status, other.code().as_str()), (404, "unknown-request"));
    assert_eq!(other.body, wait("7F3K-9QPX-M2", &mine.waiter).body);
    assert_eq!(other.body, wait(&mine.id, &bob).body, "a bearer is no capability");
    assert_eq!(bench.get("/v1/requests", &mine.waiter).status, 401, "a capability is no bearer");
}

/// What a receipt holds is what was signed, and the log's proofs of it.
#[test]
fn a_receipt_proves_its_request() {
    use ssh_jit::domain::tree::{leaf_hash, verify_inclusion};
    use ssh_jit::wire::ReceiptView;

    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    bench.approve("carol", &asked).ok();
    bench.ask("bob", "web", &json!({}));
    bench.claim(&asked).ok();
    let receipt = bench.get(&format!("/v1/requests/{}/receipt", asked.id), &bench.session("alice")).ok();
    let receipt: ReceiptView = serde_json::from_str(&receipt.body).expect("a receipt");
    assert_eq!(receipt.policy, policy());
    let kinds: Vec<String> = receipt
        .statements
        .iter()
        .map(|signed| serde_json::from_str::<Value>(&signed.text).expect("JSON")["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["request", "approval", "claim"]);
    let head: ssh_jit::domain::event::Head = serde_json::from_str(&receipt.head.text).expect("a head");
    assert_eq!(receipt.events.len(), 3);
    for event in &receipt.events {
        let leaf = leaf_hash(event.leaf.as_bytes());
        assert!(verify_inclusion(&leaf, event.seq - 1, head.size, &event.proof, &head.root), "event {}", event.seq);
    }
}

/// The listener that `ssh-jit serve` runs: it writes down by itself what time has ended, and ends when told.
#[test]
fn the_listener_sweeps_and_ends() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    bench.advance(24 * 3600 + 1);
    let listening =
        ssh_jit::http::bind(([127, 0, 0, 1], 0).into(), ssh_jit::http::Limits::default(), None).expect("a port");
    let (address, service) = (listening.address, bench.service());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let ended = async { drop(ended.await) };
        let serving = tokio::spawn(ssh_jit::http::serve(listening, service, ended));
        let lapsed = || bench.story(0).iter().any(|event| event == "lapsed");
        while !lapsed() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let answer = bench.try_elsewhere(address, "/v1/now").expect("an answer").ok();
        assert_eq!(answer.json()["trust"], 1);
        drop(end);
        tokio::time::timeout(std::time::Duration::from_secs(10), serving).await
    };
    bench.run(serving).expect("it ends soon").expect("no panic").expect("no error");
    assert!(bench.try_elsewhere(address, "/v1/now").is_err(), "nobody listens there any more");
    bench.refuses("lapsed", || bench.approve("carol", &asked));
}

/// What decided once can be read by those who read the log, whole and under its name.
#[test]
fn policies_that_were_in_force_are_kept() {
    let bench = Bench::new();
    let old = bench.service().policy();
    bench.load_policy(&format!("# another\n{}", policy()));
    let olga = bench.session("olga");
    let path = |sha256: &str| format!("/v1/policies?sha256={}", sha256.replace('+', "%2B"));
    let kept = bench.get(&path(&old.digest().to_string()), &olga).ok().json();
    assert_eq!((kept["text"].as_str(), kept["sha256"].as_str()), (Some(old.text()), Some(&*old.digest().to_string())));
    let now = bench.get("/v1/policies", &olga).ok().json();
    assert_eq!(now["sha256"], bench.service().policy().digest().to_string());
    let never = ssh_jit::domain::digest::Digest::of(b"never").to_string();
    bench.turns_away(404, "unknown-policy", || bench.get(&path(&never), &olga));
    let alice = bench.session("alice");
    bench.turns_away(403, "no-duty", || bench.get("/v1/policies", &alice));
}

/// R6, R7, R13, R15, R24, R26: what programs go by.
#[test]
fn refusals_have_their_statuses() {
    let bench = Bench::new();
    let asks = |reason: &str| {
        let request = with(bench.request("alice", "web").0, &json!({"reason": reason}));
        bench.send(Kind::Request, &Key::of("alice"), &request)
    };
    let is = |status: u16, code: &str, answer: &Answer| assert_eq!((answer.status, &*answer.code()), (status, code));
    for reason in ["", "   ", "lag"] {
        is(422, "malformed", &asks(reason));
    }
    let asked = bench.ask("alice", "web", &json!({"seconds": 3600}));
    is(409, "not-approved", &bench.claim(&asked));
    is(403, "self-approval", &bench.approve("alice", &asked));
    is(422, "wider", &bench.decide("carol", &asked, &json!({"seconds": 7200})));
    bench.load_policy(&policy().replace("[people.carol]\ngroups = [\"dba\"]", "[people.carol]\ngroups = []"));
    is(403, "not-approver", &bench.approve("carol", &asked));
    bench.load_policy(&policy());
    bench.approve("carol", &asked).ok();
    bench.advance(4 * 3600 + 1);
    is(410, "lapsed", &bench.claim(&asked));
}
