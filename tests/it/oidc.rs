//! Sign-in with an identity provider, which is played here and can lie in every part. The test plays the
//! browser, too.

mod provider;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ssh_jit::domain::statement::Kind;
use ssh_key::HashAlg;

use crate::support::service::{Answer, Bench, Key, policy, to_json};
use provider::{Provider, Reply, Signs};

const HOST: (&str, &str) = ("host", "localhost:7022");

/// The sample policy, with a provider that may claim two groups.
fn with_oidc() -> String {
    policy() + "[oidc]\ngroups = [\"audit\", \"dba\"]\n"
}

fn bench(provider: &Provider) -> Bench {
    let mut bench = Bench::unstarted();
    bench.settings.oidc = Some(provider.config());
    bench.start(&with_oidc()).expect("a service");
    bench
}

/// A browser that was sent to the provider.
struct Sent {
    cookie: String,
    state: String,
}

/// A browser that came back.
struct Back {
    answer: Answer,
    told: String,
}

impl Back {
    fn cookie(&self) -> String {
        cookie_of(&self.told, "__Host-session").unwrap_or_else(|| panic!("no session: {:?}", self.answer))
    }

    #[track_caller]
    fn refused(&self, status: u16, words: &str) {
        assert_eq!(self.answer.status, status, "{:?}", self.answer);
        assert!(self.answer.body.contains(words), "{:?}", self.answer);
        assert!(!self.told.contains("__Host-session"), "{}", self.told);
    }
}

/// The pair of a cookie that an answer sets.
fn cookie_of(told: &str, name: &str) -> Option<String> {
    let (_, rest) = told.split_once(&format!("{name}="))?;
    let value = rest.split(';').next()?;
    (!value.is_empty()).then(|| format!("{name}={value}"))
}

fn begin(bench: &Bench, next: &str) -> (Answer, String) {
    // Not followed: the test is the browser, and the way leads to the provider.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let request = agent.get(format!("http://{}/sign-in/oidc?next={next}", bench.address())).header(HOST.0, HOST.1);
    let mut response = request.call().expect("an answer");
    let (told, status) = (format!("{:?}", response.headers()), response.status().as_u16());
    (Answer { status, body: response.body_mut().read_to_string().expect("a body") }, told)
}

/// Goes to the provider, where `person` signs in.
fn sent(bench: &Bench, provider: &Provider, next: &str) -> Sent {
    let (answer, told) = begin(bench, next);
    assert_eq!(answer.status, 303, "{answer:?}");
    let (_, to) = told.split_once("\"location\": \"").expect("a way");
    let asked = provider.asked(to.split('"').next().expect("a way"));
    Sent { cookie: cookie_of(&told, "__Host-oidc").expect("a cookie"), state: asked["state"].clone() }
}

fn come_back(bench: &Bench, sent: &Sent, query: &str) -> Back {
    let path = format!("/sign-in/oidc/back?{query}&state={}&session_state=x", sent.state);
    let cross = ("sec-fetch-site", "cross-site");
    let (answer, told) = bench.browse("GET", &path, &[HOST, cross, ("cookie", &sent.cookie)], b"");
    Back { answer, told }
}

/// The whole way, for who the provider says it is.
fn sign_in(bench: &Bench, provider: &Provider, claims: Value) -> Back {
    provider.set(|script| script.claims = claims);
    come_back(bench, &sent(bench, provider, "/mine"), "code=good")
}

fn open(bench: &Bench, cookie: &str, path: &str) -> Answer {
    bench.browse("GET", path, &[HOST, ("cookie", cookie)], b"").0
}

fn is_in(bench: &Bench, cookie: &str) -> bool {
    !open(bench, cookie, "/mine").body.contains("Use my passkey")
}

#[test]
fn a_provider_signs_somebody_in_to_read() {
    let provider = Provider::new();
    let bench = bench(&provider);
    assert!(
        open(&bench, "", "/sign-in?next=/active")
            .body
            .contains("\"/sign-in/oidc?next=/active\">Sign in with 127.0.0.1, to read")
    );
    let sent = sent(&bench, &provider, "/active");
    let events = bench.events().len();
    let back = come_back(&bench, &sent, "code=good");
    assert_eq!(back.answer.status, 200, "a redirect would lose the Strict cookie: {:?}", back.answer);
    assert!(back.answer.body.contains("http-equiv=\"refresh\" content=\"0; url=/active\""), "{:?}", back.answer);
    for part in ["Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Strict", "__Host-oidc=; Max-Age=0"] {
        assert!(back.told.contains(part), "{}", back.told);
    }
    assert_eq!(bench.story(events), ["session-opened (oidc)"]);
    assert_eq!(bench.events().last().unwrap().person.as_ref().unwrap().as_str(), "alice");
    let asked = bench.ask("alice", "web", &json!({}));
    let page = open(&bench, &back.cookie(), &format!("/requests/{}", asked.id)).ok().body;
    assert!(page.contains("alice asks for web"), "{page}");
    assert_eq!(provider.paths(), ["/.well-known/openid-configuration", "/keys", "/token"]);
    assert!(provider.last_token_request().contains("authorization: Basic aml0OnMzY3JldA=="), "jit:s3cret");
}

#[test]
fn what_the_browser_is_sent_with() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let (answer, told) = begin(&bench, "/");
    assert_eq!(answer.status, 303);
    assert!(told.contains("Max-Age=600; Path=/; Secure; HttpOnly; SameSite=Lax"), "{told}");
    let to = told.split_once("\"location\": \"").unwrap().1.split('"').next().unwrap();
    let first = provider.asked(to);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "jit"),
        ("redirect_uri", "http://localhost:7022/sign-in/oidc/back"),
        ("scope", "openid profile groups"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(first[name], value, "{to}");
    }
    let (_, told) = begin(&bench, "/");
    let second = provider.asked(told.split_once("\"location\": \"").unwrap().1.split('"').next().unwrap());
    for fresh in ["state", "nonce", "code_challenge"] {
        assert!(first[fresh].len() >= 43 && first[fresh] != second[fresh], "{fresh}");
    }
}

#[test]
fn a_client_without_a_secret_has_the_code_challenge_alone() {
    let provider = Provider::new();
    let mut bench = Bench::unstarted();
    bench.settings.oidc = Some(provider.config());
    bench.settings.oidc.as_mut().unwrap().client_secret = None;
    bench.start(&with_oidc()).unwrap();
    sign_in(&bench, &provider, json!({})).cookie();
    let told = provider.last_token_request();
    assert!(!told.contains("authorization:") && told.contains("client_id=jit"), "{told}");
    provider.set(|script| script.verifier_counts = false);
    let sent = sent(&bench, &provider, "/");
    provider.set(|script| script.verifier_counts = true);
    provider.asked("http://x/?code_challenge=another");
    come_back(&bench, &sent, "code=good").refused(403, "did not sign you in");
}

/// K03: over HTTPS only who is vouched for.
#[test]
fn a_provider_shows_its_certificate() {
    let provider = Provider::https();
    let mut bench = Bench::unstarted();
    bench.settings.oidc = Some(provider.config());
    bench.start(&with_oidc()).unwrap();
    sign_in(&bench, &provider, json!({})).cookie();
    let paths = provider.paths().len();
    let another = Provider::https().config().authorities;
    for authorities in [None, another] {
        bench.stop();
        bench.settings.oidc.as_mut().unwrap().authorities = authorities;
        bench.start(&with_oidc()).unwrap();
        assert_eq!(begin(&bench, "/").0.status, 503);
    }
    assert_eq!(provider.paths().len(), paths, "nothing was asked of a stranger");
}

#[test]
fn tokens_that_do_not_hold() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let events = bench.events().len();
    let doubtful = |what: &str, lie: &dyn Fn(&mut provider::Script)| {
        provider.set(|script| *script = provider::Script::default());
        provider.set(|script| lie(script));
        let back = come_back(&bench, &sent(&bench, &provider, "/"), "code=good");
        assert_eq!(back.answer.status, 403, "{what}: {:?}", back.answer);
        back.refused(403, "cannot be believed");
    };
    doubtful("wrong nonce", &|s| s.claims = json!({"nonce": "another"}));
    doubtful("no nonce", &|s| s.claims = json!({"nonce": null}));
    doubtful("wrong audience", &|s| s.claims = json!({"aud": "another"}));
    doubtful("one audience more", &|s| s.claims = json!({"aud": ["jit", "another"]}));
    doubtful("wrong issuer", &|s| s.claims = json!({"iss": "https://evil.example"}));
    doubtful("expired", &|s| s.claims = json!({"exp": provider::NOW}));
    doubtful("alg none", &|s| s.signs = Signs::Nothing);
    doubtful("HS256 with the secret", &|s| s.signs = Signs::Hmac(b"s3cret".to_vec()));
    doubtful("HS256 with the public key", &|s| s.signs = Signs::Hmac(provider::public_key()));
    doubtful("another's key", &|s| s.signs = Signs::OtherKey);
    doubtful("ES384, by a key of the provider's", &|s| s.signs = Signs::P384);
    doubtful("RS512, by a key of the provider's", &|s| s.signs = Signs::Rsa(HashAlg::Sha512));
    doubtful("unknown kid", &|s| s.header = json!({"kid": "unknown"}));
    doubtful("a key that the token brings along", &|s| {
        s.signs = Signs::OtherKey;
        s.header = json!({"jwk": provider::other_key()});
    });
    doubtful("critical extensions", &|s| s.header = json!({"crit": ["b64"], "b64": false}));
    doubtful("a changed payload", &|s| s.tamper = true);
    assert_eq!(bench.story(events), Vec::<String>::new());
    for signs in [Signs::Good, Signs::Ed25519, Signs::Rsa(HashAlg::Sha256)] {
        provider.set(|script| *script = provider::Script { signs, ..provider::Script::default() });
        come_back(&bench, &sent(&bench, &provider, "/"), "code=good").cookie();
    }
}

/// Keys change: they are read again, once, when a token names one that is not known.
#[test]
fn new_keys_of_the_provider_are_learnt() {
    let provider = Provider::new();
    let bench = bench(&provider);
    provider.set(|script| script.keys = Some(json!({"keys": []})));
    let sent_before = sent(&bench, &provider, "/");
    provider.set(|script| script.keys = None);
    come_back(&bench, &sent_before, "code=good").cookie();
    let read = || provider.paths().iter().filter(|path| *path == "/keys").count();
    assert_eq!(read(), 2);
    provider.set(|script| script.header = json!({"kid": "unknown"}));
    come_back(&bench, &sent(&bench, &provider, "/"), "code=good").refused(403, "cannot be believed");
    assert_eq!(read(), 3);
    bench.advance(3600);
    provider.set(|script| script.claims = json!({"exp": provider::NOW + 7200}));
    sent(&bench, &provider, "/");
    assert_eq!(read(), 4, "what was read an hour ago is read again");
}

/// W04: what one browser began is nothing to another, and is over once it was used.
#[test]
fn a_sign_in_is_one_browsers_and_once() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let over = "began no such sign-in";
    let (mine, other) = (sent(&bench, &provider, "/"), sent(&bench, &provider, "/"));
    let as_other = Sent { cookie: other.cookie.clone(), state: mine.state.clone() };
    come_back(&bench, &as_other, "code=good").refused(400, over);
    come_back(&bench, &mine, "code=good").refused(400, over);
    let none = Sent { cookie: String::new(), state: other.state.clone() };
    come_back(&bench, &none, "code=good").refused(400, over);
    let right = sent(&bench, &provider, "/");
    for state in ["", "x", &"A".repeat(43)] {
        let wrong = Sent { cookie: right.cookie.clone(), state: state.to_owned() };
        come_back(&bench, &wrong, "code=good").refused(400, over);
    }
    let used = sent(&bench, &provider, "/");
    come_back(&bench, &used, "code=good").cookie();
    come_back(&bench, &used, "code=good").refused(400, over);
    let late = sent(&bench, &provider, "/");
    bench.advance(601);
    come_back(&bench, &late, "code=good").refused(400, over);
    let pushed_out = sent(&bench, &provider, "/");
    for _ in 0..256 {
        begin(&bench, "/");
    }
    come_back(&bench, &pushed_out, "code=good").refused(400, over);
    let asked = provider.paths().iter().filter(|path| *path == "/token").count();
    assert_eq!(asked, 1, "nothing was exchanged for those");
    come_back(&bench, &sent(&bench, &provider, "/"), "x=1").refused(400, over);
}

#[test]
fn a_way_leads_to_pages_of_ours_only() {
    let provider = Provider::new();
    let bench = bench(&provider);
    for next in
        ["//evil.example", "//evil", "https://evil.example", "/\\evil.example", "/%22%3E", "javascript:alert(1)", ""]
    {
        let back = come_back(&bench, &sent(&bench, &provider, next), "code=good");
        assert!(back.answer.body.contains("content=\"0; url=/\""), "{next}: {:?}", back.answer);
    }
}

#[test]
fn a_provider_that_says_no() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let back = come_back(&bench, &sent(&bench, &provider, "/"), "error=access_denied%3Cb%3E%E2%80%AE");
    back.refused(403, "access_denied&#60;b&#62;\\u{202e}");
    provider.set(|script| script.token = Reply::Refuse);
    let back = come_back(&bench, &sent(&bench, &provider, "/"), "code=good");
    back.refused(403, "invalid_grant");
    assert!(!back.answer.body.contains("<script>a") && back.answer.body.len() < 3000, "{:?}", back.answer);
    assert!(open(&bench, "", "/sign-in/oidc/back?error=%3Cb%3Eno").body.contains("began no such"), "not for strangers");
}

/// A provider that is down or slow keeps nobody from anything else, and is asked again later.
#[test]
fn a_provider_that_does_not_work() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let down = |what: &str| {
        let (answer, told) = begin(&bench, "/");
        assert_eq!(answer.status, 503, "{what}: {answer:?}");
        assert!(answer.body.contains("does not work now. A passkey does."), "{answer:?}");
        assert!(!told.contains("__Host-oidc"), "{told}");
    };
    for reply in [Reply::Redirect, Reply::Huge, Reply::Garbage, Reply::OtherIssuer, Reply::OpenAuthorization] {
        provider.set(|script| script.discovery = reply);
        down(&format!("{reply:?}"));
    }
    assert!(!provider.paths().contains(&"/elsewhere".to_owned()), "a redirect is not followed");
    provider.set(|script| script.discovery = Reply::OpenToken);
    let sent_to = sent(&bench, &provider, "/");
    come_back(&bench, &sent_to, "code=good").refused(503, "does not work now");
    assert!(!provider.paths().contains(&"/token".to_owned()), "no secret is sent in the open");
    bench.advance(3600);
    provider.set(|script| script.discovery = Reply::Good);
    for reply in [Reply::Redirect, Reply::Huge, Reply::Garbage] {
        provider.set(|script| script.token = reply);
        come_back(&bench, &sent(&bench, &provider, "/"), "code=good").refused(503, "does not work now");
    }
    assert!(!provider.paths().contains(&"/elsewhere".to_owned()), "a redirect is not followed");
    provider.set(|script| script.token = Reply::Good);
    provider.set(|script| script.claims = json!({"exp": provider::NOW + 7200}));
    come_back(&bench, &sent(&bench, &provider, "/"), "code=good").cookie();
    let sent_before = sent(&bench, &provider, "/");
    provider.stop();
    come_back(&bench, &sent_before, "code=good").refused(503, "does not work now");
}

#[test]
fn a_provider_that_hangs_keeps_nobody_waiting() {
    let provider = Provider::new();
    let bench = bench(&provider);
    provider.set(|script| script.discovery = Reply::Hang);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| begin(&bench, "/").0.status)).collect();
        while provider.paths().len() < 8 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(begin(&bench, "/").0.status, 503, "no more threads for it");
        bench.ask("alice", "web", &json!({}));
        assert!(began.elapsed() < Duration::from_secs(4), "nobody else waits");
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), 503);
        }
    });
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

/// Who is not in the policy, is a machine or is not named at all: one page, word for word.
#[test]
fn strangers_and_machines_are_not_signed_in() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let first = sign_in(&bench, &provider, json!({"preferred_username": "mallory"}));
    first.refused(403, "names nobody of that name");
    for name in [json!("robot"), json!("Alice"), json!("alice "), json!("alice@evil.example"), json!(null)] {
        let back = sign_in(&bench, &provider, json!({"preferred_username": name}));
        back.refused(403, "names nobody of that name");
        assert_eq!(back.answer.body, first.answer.body, "{name}");
    }
    sign_in(&bench, &provider, json!({"preferred_username": "alice"})).cookie();
}

#[test]
fn another_claim_may_name_the_person() {
    let provider = Provider::new();
    let mut bench = Bench::unstarted();
    bench.settings.oidc = Some(provider.config());
    let oidc = bench.settings.oidc.as_mut().unwrap();
    oidc.person_claim = "sub".to_owned();
    oidc.groups_claim = "roles".to_owned();
    bench.start(&with_oidc()).unwrap();
    let claims = json!({"sub": "bob", "roles": "audit", "groups": ["dba"], "preferred_username": "carol"});
    let cookie = sign_in(&bench, &provider, claims).cookie();
    assert_eq!(open(&bench, &cookie, "/log").status, 200);
    assert_eq!(bench.events().last().unwrap().person.as_ref().unwrap().as_str(), "bob");
}

/// Claimed groups widen what is read, as far as the policy lists them, and nothing else.
#[test]
fn claimed_groups_read_and_never_decide() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let asked = bench.ask("alice", "web", &json!({}));
    let request = format!("/requests/{}", asked.id);
    let sees = |groups: Value| {
        let cookie = sign_in(&bench, &provider, json!({"preferred_username": "bob", "groups": groups})).cookie();
        (open(&bench, &cookie, &request).status, open(&bench, &cookie, "/log").status)
    };
    assert_eq!(sees(json!(null)), (404, 403));
    assert_eq!(sees(json!(["sre", "wheel", "erin", "admins"])), (404, 403), "not in the policy's list");
    assert_eq!(sees(json!([7, "", "DBA", {"dba": true}, "dba x"])), (404, 403), "no groups at all");
    assert_eq!(sees(json!(["dba", "sre"])), (200, 403), "reads what approvers read");
    assert_eq!(sees(json!("audit")), (200, 200), "reads what auditors read");

    let kept: Vec<String> = bench
        .sql()
        .prepare("SELECT DISTINCT groups FROM sessions ORDER BY 1")
        .and_then(|mut sql| sql.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    assert_eq!(kept, ["", "audit", "dba"], "what the policy does not list is not even kept");

    let claims = json!({"preferred_username": "erin", "groups": ["dba", "audit"]});
    let cookie = sign_in(&bench, &provider, claims).cookie();
    let page = open(&bench, &cookie, &request).ok().body;
    assert!(!page.contains("data-act=\"decision\"") && !page.contains("ssh-jit approve"), "{page}");
    assert!(!open(&bench, &cookie, "/").ok().body.contains(&asked.id), "not in the queue of who decides");
    // Even signed with her own key it is judged by the policy alone.
    assert_eq!(bench.approve("erin", &asked).code(), "not-approver");
    assert_eq!(bench.approve("bob", &asked).code(), "not-approver");
}

/// An approver by the policy reads on the provider's word too, and signs with a passkey or in the terminal.
#[test]
fn a_providers_word_signs_nothing() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let asked = bench.ask("alice", "web", &json!({}));
    let cookie = sign_in(&bench, &provider, json!({"preferred_username": "carol"})).cookie();
    let page = open(&bench, &cookie, &format!("/requests/{}", asked.id)).ok().body;
    assert!(page.contains("data-act=\"decision\"") && page.contains("ssh-jit approve"), "{page}");
    // A draft decides nothing, and no session makes up for a signature.
    let token = page.split_once("data-token=\"").unwrap().1.split('"').next().unwrap();
    let origin = ("origin", "http://localhost:7022");
    let headers = [HOST, origin, ("cookie", cookie.as_str()), ("x-form-token", token)];
    let chosen = json!({"id": asked.id, "decision": "approve", "seconds": null, "hosts": [], "comment": ""});
    let draft = bench.browse("POST", "/web/drafts/decision", &headers, &to_json(&chosen)).0.ok().json();
    let assertion = json!({"client_data": "", "authenticator_data": "", "signature": ""});
    let unsigned = json!({"text": draft["text"], "credential": "AAAA", "assertion": assertion});
    assert_eq!(bench.browse("POST", "/web/decisions", &headers, &to_json(&unsigned)).0.code(), "unknown-key");
    let text = draft["text"].as_str().unwrap();
    bench.post("/v1/decisions", text, &Key::of("carol").sign(Kind::Approval.namespace(), text.as_bytes())).ok();
}

/// The policy of the moment decides whether a session still counts, and for what.
#[test]
fn a_session_ends_with_what_it_rests_on() {
    let provider = Provider::new();
    let mut bench = bench(&provider);
    let claims = json!({"preferred_username": "olga", "groups": ["dba"]});
    let cookie = sign_in(&bench, &provider, claims).cookie();
    let asked = bench.ask("alice", "web", &json!({}));
    let reads =
        |bench: &Bench| (is_in(bench, &cookie), open(bench, &cookie, &format!("/requests/{}", asked.id)).status);
    // Without the duty of the policy's own group only the claimed one is left.
    let base = with_oidc().replace("auditors  = [\"audit\"]", "auditors  = []");
    let cases = [
        (base.clone(), (true, 200)),
        (policy(), (false, 303)),
        (base.replace("[oidc]\ngroups = [\"audit\", \"dba\"]", "[oidc]\ngroups = [\"audit\"]"), (true, 404)),
        (base.replace("[oidc]\ngroups = [\"audit\", \"dba\"]", "[oidc]"), (true, 404)),
        (base.replace("[people.olga]\n", "[people.olga]\nkind = \"service\"\n"), (false, 303)),
        (base.replace("[people.olga]", "[people.other]"), (false, 303)),
        (base.clone(), (true, 200)),
    ];
    for (number, (text, expected)) in cases.iter().enumerate() {
        bench.load_policy(text);
        let got = reads(&bench);
        let redirected = if got.1 == 200 && !got.0 { 303 } else { got.1 };
        assert_eq!((got.0, redirected), *expected, "case {number}");
    }
    bench.load_policy(&policy());
    assert_eq!(begin(&bench, "/").0.status, 404, "the policy does not allow it");
    assert!(!open(&bench, "", "/sign-in").body.contains("to read</a>"));
    bench.stop();
    bench.settings.oidc.as_mut().unwrap().issuer = "https://another.example".to_owned();
    bench.start(&with_oidc()).unwrap();
    assert!(!is_in(&bench, &cookie), "another provider's word");
    bench.stop();
    bench.settings.oidc = None;
    bench.start(&with_oidc()).unwrap();
    assert!(!is_in(&bench, &cookie), "no provider any more");
    assert_eq!(begin(&bench, "/").0.status, 404);
    bench.stop();
    bench.settings.oidc = Some(provider.config());
    bench.start(&with_oidc()).unwrap();
    assert!(is_in(&bench, &cookie));
    bench.advance(15 * 60 + 1);
    assert!(!is_in(&bench, &cookie), "nobody used it");
}

/// A policy that comes into force while somebody is at the provider counts when they are back.
#[test]
fn the_policy_of_the_end_of_a_sign_in_counts() {
    let provider = Provider::new();
    let bench = bench(&provider);
    let sent_before = sent(&bench, &provider, "/");
    bench.load_policy(&policy());
    come_back(&bench, &sent_before, "code=good").refused(404, "nobody signs in with a provider");
    bench.load_policy(&with_oidc());
    come_back(&bench, &sent_before, "code=good").cookie();
}
