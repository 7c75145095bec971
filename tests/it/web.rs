//! The web form: passkeys bound to people, what they sign there, and what browsers are told. The browser
//! is played by hand, byte by byte, so that each part can be wrong by itself.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ssh_jit::domain::passkey::Assertion;
use ssh_jit::domain::sshsig::signed_blob;
use ssh_jit::domain::statement::Kind;

use crate::support::openssh::ssh_keygen_verify;
use crate::support::service::{Answer, Bench, Key, policy, to_json, with};
use crate::support::wire::string;
use crate::support::{output, tool};

const ORIGIN: &str = "http://localhost:7022";

/// A passkey, and the browser it lives in.
pub(crate) struct Browser {
    key: SigningKey,
    origin: &'static str,
    rp_id: &'static str,
    flags: u8,
    counter: u32,
    cross_origin: bool,
    pub(crate) cookie: String,
    pub(crate) token: String,
}

impl Browser {
    pub(crate) fn new(seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).expect("a key");
        Self {
            key,
            origin: ORIGIN,
            rp_id: "localhost",
            flags: 5,
            counter: 0,
            cross_origin: false,
            cookie: String::new(),
            token: String::new(),
        }
    }

    fn blob(&self) -> Vec<u8> {
        let point = self.key.verifying_key().to_sec1_point(false);
        let kind = string("sk-ecdsa-sha2-nistp256@openssh.com");
        [kind, string("nistp256"), string(point.as_bytes()), string(self.rp_id)].concat()
    }

    fn line(&self) -> String {
        format!("sk-ecdsa-sha2-nistp256@openssh.com {}", STANDARD.encode(self.blob()))
    }

    /// As `ssh-jit passkey list` shows it.
    pub(crate) fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD.encode(Sha256::digest(self.blob())).trim_end_matches('='))
    }

    fn credential(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.blob()))
    }

    /// What `navigator.credentials.get` gives for this text, in the form that the page's script sends.
    pub(crate) fn signs(&self, kind: Kind, text: &str) -> Value {
        let challenge = URL_SAFE_NO_PAD.encode(signed_blob(kind.namespace(), text.as_bytes()));
        let (origin, cross) = (self.origin, self.cross_origin);
        let client = format!(
            r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{origin}","crossOrigin":{cross},"other":"x"}}"#
        );
        let mut data = Sha256::digest(self.rp_id).to_vec();
        data.push(self.flags);
        data.extend(self.counter.to_be_bytes());
        let signed = [data.as_slice(), Sha256::digest(&client).as_slice()].concat();
        let signature: Signature = self.key.sign(&signed);
        json!({
            "text": text, "credential": self.credential(),
            "assertion": {
                "client_data": STANDARD.encode(client), "authenticator_data": STANDARD.encode(data),
                "signature": STANDARD.encode(signature.to_der()),
            },
        })
    }

    pub(crate) fn calls(&self, bench: &Bench, path: &str, body: &Value) -> Answer {
        let headers = [
            ("host", "localhost:7022"),
            ("origin", ORIGIN),
            ("sec-fetch-site", "same-origin"),
            ("cookie", &self.cookie),
            ("x-form-token", &self.token),
        ];
        bench.browse("POST", path, &headers, &to_json(body)).0
    }

    pub(crate) fn opens(&self, bench: &Bench, path: &str) -> Answer {
        bench.browse("GET", path, &[("host", "localhost:7022"), ("cookie", &self.cookie)], b"").0
    }

    /// Binds the passkey to a person, as the page and the terminal do together.
    pub(crate) fn enrols(&self, bench: &Bench, person: &str, changes: &Value) -> Answer {
        bench.http("POST", "/v1/passkeys", None, &to_json(&self.enrolment(bench, person, changes)))
    }

    /// What is sent for that.
    fn enrolment(&self, bench: &Bench, person: &str, changes: &Value) -> Value {
        let ssh = Key::of(person);
        let draft = json!({"person": person, "ssh_key": ssh.fingerprint(), "key": self.line()});
        let text =
            self.calls(bench, "/web/drafts/enrolment", &draft).ok().json()["text"].as_str().expect("text").to_owned();
        let text = with(serde_json::from_str(&text).expect("JSON"), changes).to_string();
        let browser = self.signs(Kind::Enrolment, &text);
        let assertion: Assertion = serde_json::from_value(browser["assertion"].clone()).expect("an assertion");
        let key = self.line().parse().expect("a key");
        let by_passkey = assertion.to_sshsig(&key, Kind::Enrolment.namespace()).expect("a signature");
        json!({
            "text": text, "signature": ssh.sign(Kind::Enrolment.namespace(), text.as_bytes()),
            "passkey_signature": by_passkey.armor(), "credential": self.credential(),
        })
    }

    pub(crate) fn signs_in(&mut self, bench: &Bench, person: &str) -> Answer {
        let draft = self.opens(bench, &format!("/web/drafts/session?person={person}")).ok().json();
        let body = self.signs(Kind::Session, draft["text"].as_str().expect("text"));
        let headers = [("host", "localhost:7022"), ("origin", ORIGIN)];
        let (answer, told) = bench.browse("POST", "/web/session", &headers, &to_json(&body));
        if let Some((_, rest)) = told.split_once("__Host-session=") {
            assert!(rest.contains("Secure; HttpOnly; SameSite=Strict"), "{told}");
            self.cookie = format!("__Host-session={}", rest.split(';').next().unwrap_or_default());
            let page = self.opens(bench, "/").ok().body;
            let token = page.split_once("data-token=\"").and_then(|(_, rest)| rest.split_once('"'));
            token.expect("a form token").0.clone_into(&mut self.token);
        }
        answer
    }

    pub(crate) fn draft(&self, bench: &Bench, id: &str, decision: &str) -> String {
        let chosen =
            json!({"id": id, "decision": decision, "seconds": null, "hosts": [], "comment": "not today, sorry"});
        let draft = self.calls(bench, "/web/drafts/decision", &chosen).ok().json();
        draft["text"].as_str().expect("text").to_owned()
    }
}

/// Whether a page led to the sign-in page.
pub(crate) fn signed_out(answer: &Answer) -> bool {
    answer.body.contains("Use my passkey")
}

/// Carol with a passkey, signed in.
pub(crate) fn carol(bench: &Bench) -> Browser {
    let mut browser = Browser::new(7);
    browser.enrols(bench, "carol", &json!({})).ok();
    browser.signs_in(bench, "carol").ok();
    browser
}

#[test]
fn a_passkey_approves_and_stock_openssh_agrees() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let page = carol.opens(&bench, &format!("/requests/{}", asked.id)).ok().body;
    assert!(page.contains("alice asks for web") && page.contains("Approve"), "{page}");
    assert!(carol.opens(&bench, "/").ok().body.contains(&asked.id));
    let text = carol.draft(&bench, &asked.id, "approve");
    let signed = carol.signs(Kind::Approval, &text);
    assert_eq!(carol.calls(&bench, "/web/decisions", &signed).ok().json()["state"]["name"], "approved");
    bench.claim(&asked).ok();
    let assertion: Assertion = serde_json::from_value(signed["assertion"].clone()).unwrap();
    let armor = assertion.to_sshsig(&carol.line().parse().unwrap(), "approval@ssh-jit").unwrap().armor();
    assert!(ssh_keygen_verify(&carol.line(), "approval@ssh-jit", text.as_bytes(), &armor));
    assert!(!ssh_keygen_verify(&carol.line(), "approval@ssh-jit", format!("{text} ").as_bytes(), &armor));
}

/// A receipt proves a passkey's approval too: it carries what binds the passkey to its person.
#[test]
fn a_receipt_proves_what_a_passkey_approved() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let signed = carol.signs(Kind::Approval, &carol.draft(&bench, &asked.id, "approve"));
    carol.calls(&bench, "/web/decisions", &signed).ok();
    bench.claim(&asked).ok();
    let receipt = bench.get(&format!("/v1/requests/{}/receipt", asked.id), &bench.session("alice")).ok().json();
    let verify = |receipt: &Value| {
        let file = bench.folder().join("receipt.json");
        std::fs::write(&file, receipt.to_string()).expect("a file");
        let mut command = tool(env!("CARGO_BIN_EXE_ssh-jit"));
        command.env("HOME", bench.folder()).arg("verify").arg(&file).arg("--trust");
        output(command.arg(bench.folder().join("ca-keys/trust.json"))).status.code()
    };
    assert_eq!(verify(&receipt), Some(0));
    for enrolments in
        [json!([]), json!([{"by_ssh_key": receipt["enrolments"][0]["by_ssh_key"], "passkey_signature": ""}])]
    {
        assert_eq!(verify(&with(receipt.clone(), &json!({ "enrolments": enrolments }))), Some(1));
    }
}

#[test]
fn a_browser_that_lies_approves_nothing() {
    let bench = Bench::new();
    let mut carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let mut refused = |code: &str, change: &dyn Fn(&mut Browser), undo: &dyn Fn(&mut Browser)| {
        let text = carol.draft(&bench, &asked.id, "approve");
        change(&mut carol);
        let body = carol.signs(Kind::Approval, &text);
        undo(&mut carol);
        assert_eq!(carol.calls(&bench, "/web/decisions", &body).code(), code);
    };
    refused("bad-signature", &|b| b.flags = 1, &|b| b.flags = 5);
    refused("bad-signature", &|b| b.flags = 4, &|b| b.flags = 5);
    refused("bad-signature", &|b| b.origin = "http://localhost:7023", &|b| b.origin = ORIGIN);
    refused("bad-signature", &|b| b.origin = "https://evil.example", &|b| b.origin = ORIGIN);
    refused("bad-signature", &|b| b.cross_origin = true, &|b| b.cross_origin = false);
    let other = carol.draft(&bench, &asked.id, "approve");
    let mut body = carol.signs(Kind::Approval, &other);
    body["text"] = carol.draft(&bench, &asked.id, "approve").into();
    assert_eq!(carol.calls(&bench, "/web/decisions", &body).code(), "bad-signature", "another live challenge");
    body = carol.signs(Kind::Session, &other);
    assert_eq!(carol.calls(&bench, "/web/decisions", &body).code(), "bad-signature", "another purpose");
    let stranger = Browser::new(8).signs(Kind::Approval, &other);
    assert_eq!(carol.calls(&bench, "/web/decisions", &stranger).code(), "unknown-key");
    let good = carol.signs(Kind::Approval, &other);
    carol.calls(&bench, "/web/decisions", &good).ok();
    assert_eq!(carol.calls(&bench, "/web/decisions", &good).code(), "not-pending", "a double click");
}

/// R13: nor by passkey, whatever a browser has its person sign.
#[test]
fn nobody_approves_for_themselves_in_the_browser() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let own = bench.ask("carol", "web", &json!({}));
    for lie in [json!({}), json!({"requester": "alice"})] {
        let text = with(bench.approval("carol", &own), &lie).to_string();
        bench.refuses("self-approval", || carol.calls(&bench, "/web/decisions", &carol.signs(Kind::Approval, &text)));
    }
}

#[test]
fn a_counter_that_counts_must_rise() {
    let bench = Bench::new();
    let mut browser = Browser::new(7);
    browser.counter = 5;
    browser.enrols(&bench, "carol", &json!({})).ok();
    browser.counter = 6;
    browser.signs_in(&bench, "carol").ok();
    browser.counter = 6;
    assert_eq!(browser.signs_in(&bench, "carol").code(), "counter");
    browser.counter = 7;
    browser.signs_in(&bench, "carol").ok();
}

#[test]
fn a_passkey_lives_with_the_ssh_key_behind_it() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let text = carol.draft(&bench, &asked.id, "approve");
    let signed = carol.signs(Kind::Approval, &text);
    let line = format!("{:?}, ", Key::of("carol").line());
    bench.load_policy(&policy().replace(&line, ""));
    assert!(signed_out(&carol.opens(&bench, "/")), "the session ended with the key");
    bench.load_policy(&policy());
    carol.calls(&bench, "/web/decisions", &signed).ok();
    // Approved in time; but who approved is asked again at the claim.
    bench.load_policy(&policy().replace(&line, ""));
    assert_eq!(bench.claim(&asked).code(), "unknown-key");
    bench.load_policy(&format!("revoked_keys = [{:?}]\n{}", carol.fingerprint(), policy()));
    assert_eq!(bench.claim(&asked).code(), "revoked-key");
    bench.load_policy(&policy());
    bench.claim(&asked).ok();
}

#[test]
fn an_enrolment_takes_both_keys_and_ends() {
    let bench = Bench::new();
    let browser = Browser::new(7);
    let late = json!({"until": bench.at(181 * 86_400)});
    assert_eq!(browser.enrols(&bench, "carol", &late).code(), "enrolment-too-long");
    assert_eq!(browser.enrols(&bench, "carol", &json!({"person": "dan"})).code(), "not-their-key");
    assert_eq!(browser.enrols(&bench, "carol", &json!({"application": "evil.example"})).code(), "unknown-key");
    let mut remote = Browser::new(9);
    remote.rp_id = "evil.example";
    assert_eq!(remote.enrols(&bench, "carol", &json!({"application": "evil.example"})).code(), "unknown-key");
    assert_eq!(remote.enrols(&bench, "carol", &json!({})).code(), "bad-signature", "a passkey of another site");
    let other_ssh_key = json!({"ssh_key": Key::of("carol 2").fingerprint()});
    assert_eq!(browser.enrols(&bench, "carol", &other_ssh_key).code(), "unknown-key", "vouched for by another key");
    let other_passkey = json!({"key": Browser::new(8).line()});
    assert_eq!(browser.enrols(&bench, "carol", &other_passkey).code(), "bad-signature", "signed by another passkey");
    for credential in [String::new(), URL_SAFE_NO_PAD.encode([0; 1025])] {
        let body = with(browser.enrolment(&bench, "carol", &json!({})), &json!({ "credential": credential }));
        assert_eq!(bench.http("POST", "/v1/passkeys", None, &to_json(&body)).code(), "malformed", "{credential}");
    }
    let keys = format!("{:?}, ", Key::of("carol").line());
    bench.load_policy(&policy().replace(&keys, &format!("{keys}{:?}, ", browser.line())));
    assert_eq!(browser.enrols(&bench, "carol", &json!({})).code(), "unknown-key", "a key of the policy");
    bench.load_policy(&policy());
    assert_eq!(browser.enrols(&bench, "robot", &json!({})).code(), "service-decides");
    browser.enrols(&bench, "carol", &json!({"until": bench.at(3600)})).ok();
    assert_eq!(browser.enrols(&bench, "carol", &json!({})).code(), "replayed", "one key, one enrolment");
    let mut carol = browser;
    let early = with(bench.draft(Kind::Session, "carol"), &json!({"at": bench.at(-30)})).to_string();
    let body = carol.signs(Kind::Session, &early);
    assert_eq!(carol.calls(&bench, "/web/session", &body).code(), "passkey-ended", "before it was enrolled");
    carol.signs_in(&bench, "carol").ok();
    bench.advance(3601);
    assert_eq!(carol.signs_in(&bench, "carol").code(), "passkey-ended");
}

#[test]
fn ten_passkeys_are_enough() {
    let bench = Bench::new();
    for seed in 1..=10 {
        Browser::new(seed).enrols(&bench, "carol", &json!({})).ok();
    }
    assert_eq!(Browser::new(11).enrols(&bench, "carol", &json!({})).code(), "not-supported");
    Browser::new(11).enrols(&bench, "dan", &json!({})).ok();
}

#[test]
fn a_removed_passkey_is_worth_nothing() {
    let bench = Bench::new();
    let mut carol = carol(&bench);
    let bearer = bench.session("carol");
    let listed = bench.get("/v1/passkeys", &bearer).ok().json();
    let removal = with(bench.draft(Kind::Removal, "dan"), &json!({"key": listed[0]["fingerprint"], "reason": ""}));
    assert_eq!(bench.send(Kind::Removal, &Key::of("dan"), &removal).code(), "unknown-key", "somebody else's");
    let removal = with(bench.draft(Kind::Removal, "carol"), &json!({"key": listed[0]["fingerprint"], "reason": ""}));
    bench.send(Kind::Removal, &Key::of("carol"), &removal).ok();
    assert_eq!(bench.get("/v1/passkeys", &bearer).ok().json(), json!([]), "it is not offered any more");
    assert!(signed_out(&carol.opens(&bench, "/")));
    assert_eq!(carol.signs_in(&bench, "carol").code(), "unknown-key");
}

#[test]
fn browsers_are_held_to_this_site() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let asked = bench.ask("alice", "web", &json!({}));
    let body = to_json(&json!({"id": asked.id}));
    let host = ("host", "localhost:7022");
    for headers in [
        vec![host],
        vec![host, ("origin", "null")],
        vec![host, ("origin", "https://evil.example")],
        vec![host, ("origin", ORIGIN), ("sec-fetch-site", "cross-site")],
        vec![host, ("origin", ORIGIN), ("sec-fetch-site", "same-site")],
    ] {
        let headers: Vec<_> = headers.into_iter().chain([("cookie", carol.cookie.as_str())]).collect();
        let (answer, _) = bench.browse("POST", "/web/drafts/withdrawal", &headers, &body);
        assert_eq!((answer.status, answer.code().as_str()), (403, "cross-site"), "{headers:?}");
    }
    for name in ["evil.example", "localhost", "localhost:7023", "127.0.0.1:7022"] {
        let (answer, _) = bench.browse("GET", "/sign-in", &[("host", name)], b"");
        assert_eq!((answer.status, answer.code().as_str()), (421, "other-host"), "{name}");
    }
    let (page, told) = bench.browse("GET", "/sign-in?next=//evil.example", &[host], b"");
    assert!(page.body.contains("data-next=\"/\""), "no way out to another site");
    for header in
        ["default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "nosniff", "no-store"]
    {
        assert!(told.contains(header), "{header}: {told}");
    }
}

/// W05: what people write is text wherever it is shown.
#[test]
fn hostile_text_is_shown_as_text() {
    let bench = Bench::new();
    let carol = carol(&bench);
    for reason in ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onfocus='x", "</blockquote><h1>x"]
    {
        let asked = bench.ask("alice", "web", &json!({"reason": reason}));
        for path in ["/".to_owned(), format!("/requests/{}", asked.id), "/active".to_owned(), "/log".to_owned()] {
            let page = carol.opens(&bench, &path).body;
            assert!(!page.contains(reason), "{path} {reason}");
            assert!(!page.contains("<script>a") && !page.contains("<img") && !page.contains("<h1>x"), "{path} {page}");
        }
        bench.withdraw(&asked).ok();
    }
}

#[test]
fn unknown_and_forbidden_requests_are_one_page() {
    let bench = Bench::new();
    let mut bob = Browser::new(11);
    bob.enrols(&bench, "bob", &json!({})).ok();
    bob.signs_in(&bench, "bob").ok();
    let asked = bench.ask("alice", "web", &json!({}));
    let plain = |answer: Answer| (answer.status, answer.body.split_once("<main").map(|(_, main)| main.to_owned()));
    let forbidden = plain(bob.opens(&bench, &format!("/requests/{}", asked.id)));
    assert_eq!(forbidden.0, 404);
    assert_eq!(forbidden, plain(bob.opens(&bench, "/requests/7F3K-9QPX-M2")));
    assert_eq!(bob.opens(&bench, "/log").status, 403);
    for path in ["/", "/mine", "/active", "/emergencies", "/roles"] {
        assert_eq!(bob.opens(&bench, path).status, 200, "{path}");
        let nobody = bench.browse("GET", path, &[("host", "localhost:7022")], b"").0;
        assert!(signed_out(&nobody), "{path}");
    }
}
