//! Certificates of hosts, at the service: who is certified, as what, and for how long nobody can take that back.

use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::statement::Kind;
use ssh_jit::domain::time::Timestamp;
use ssh_jit::wire::SignedText;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use crate::support::service::{Answer, Bench, Key, policy, to_json, with};

const NAMESPACE: &str = "host-claim@ssh-jit";
const DAY: i64 = 86_400;

/// A token: what an administrator signed, and the key that redeems it.
struct Token {
    text: String,
    signature: String,
    key: Key,
}

impl Token {
    fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}

/// An invitation of erin, who is an administrator, with some fields changed.
fn invited(bench: &Bench, host: &str, changes: &Value) -> Token {
    signed_by(bench, "erin", host, changes)
}

fn signed_by(bench: &Bench, person: &str, host: &str, changes: &Value) -> Token {
    let key = Key::of(&format!("token {}", bench.number()));
    let fields = json!({"host": host, "aliases": [], "key": key.line(), "until": bench.at(3600)});
    let text = with(with(bench.draft(Kind::Invitation, person), &fields), changes).to_string();
    let signature = Key::of(person).sign(Kind::Invitation.namespace(), text.as_bytes());
    Token { text, signature, key }
}

/// What a host claims that has this key.
fn claim(bench: &Bench, host: &str, key: &Key, token: Option<&Token>) -> Value {
    let instance = bench.service().trust().instance.clone();
    json!({
        "v": 1, "kind": "host-claim", "instance": instance, "host": host, "key": key.line(),
        "invitation": token.map(Token::digest), "at": bench.at(0),
    })
}

/// Posts a claim that `host_key` signs, and `token_key` beside it.
fn post(bench: &Bench, claim: &Value, host_key: &Key, redeems: Option<(&Token, &Key)>) -> Answer {
    let text = claim.to_string();
    let redeems = redeems.map(|(token, key)| {
        json!({
            "invitation": {"text": token.text, "signature": token.signature},
            "signature": key.sign(NAMESPACE, text.as_bytes()),
        })
    });
    let signature = host_key.sign(NAMESPACE, text.as_bytes());
    let body = json!({"text": text, "signature": signature, "redeems": redeems});
    bench.http("POST", "/v1/host-certificates", None, &to_json(&body))
}

fn enrol(bench: &Bench, host: &str, key: &Key, token: &Token) -> Answer {
    post(bench, &claim(bench, host, key, Some(token)), key, Some((token, &token.key)))
}

fn renew(bench: &Bench, host: &str, key: &Key) -> Answer {
    bench.advance(1);
    post(bench, &claim(bench, host, key, None), key, None)
}

fn certificate(answer: Answer) -> Certificate {
    Certificate::from_openssh(&answer.certificate()).expect("a certificate")
}

/// A service, and db1 with its key.
fn enrolled() -> (Bench, Key) {
    let (bench, key) = (Bench::new(), Key::of("db1"));
    enrol(&bench, "db1", &key, &invited(&bench, "db1", &json!({"aliases": ["db1.example.org"]}))).ok();
    (bench, key)
}

fn remove(bench: &Bench, person: &str, host: &str) -> Answer {
    let fields = json!({"host": host, "reason": "it was broken into"});
    bench.send(Kind::HostRemoval, &Key::of(person), &with(bench.draft(Kind::HostRemoval, person), &fields))
}

#[test]
fn a_host_is_certified_as_what_was_signed() {
    let (bench, key) = (Bench::new(), Key::of("db1"));
    let before = bench.events().len();
    let token = invited(&bench, "db1", &json!({"aliases": ["10.0.0.1", "db1.example.org"]}));
    let made = certificate(enrol(&bench, "db1", &key, &token).ok());
    assert_eq!((made.cert_type(), made.serial()), (CertType::Host, (1 << 48) + 1));
    assert_eq!(made.valid_principals(), ["10.0.0.1", "db1", "db1.example.org"]);
    assert_eq!(made.public_key(), key.public().data());
    assert_eq!(made.signature_key(), bench.keys().host_ca.public().data());
    assert!(made.key_id().starts_with("ssh-jit-host/db1/SHA256:"), "{}", made.key_id());
    let window = [bench.at(-3600), bench.at(30 * DAY)].map(|at: Timestamp| at.unix().unsigned_abs());
    assert_eq!([made.valid_after(), made.valid_before()], window);
    assert!(made.critical_options().is_empty() && made.extensions().is_empty());
    assert_eq!(bench.story(before), ["host-enrolled (db1)", "host-certified (db1)"]);
    let again = certificate(renew(&bench, "db1", &key).ok());
    assert_eq!((again.serial(), again.valid_principals()), (made.serial() + 1, made.valid_principals()));
    assert_eq!(again.valid_before(), made.valid_before() + 1);
    assert_eq!(bench.story(before + 2), ["host-certified (db1)"]);
}

/// A token is redeemed by one key. The host that did not hear the answer may ask again.
#[test]
fn an_invitation_counts_once() {
    let (bench, key, thief) = (Bench::new(), Key::of("db1"), Key::of("mallory"));
    let token = invited(&bench, "db1", &json!({}));
    enrol(&bench, "db1", &key, &token).ok();
    bench.advance(1);
    bench.refuses("replayed", || enrol(&bench, "db1", &thief, &token));
    enrol(&bench, "db1", &key, &token).ok();
    assert_eq!(bench.story(0).iter().filter(|event| event.starts_with("host-enrolled")).count(), 1);
    remove(&bench, "erin", "db1").ok();
    bench.advance(1);
    bench.refuses("replayed", || enrol(&bench, "db1", &key, &token));
}

/// Whoever is no administrator invites nobody, and no invitation says what cannot be checked at a glance.
#[test]
fn invitations_that_count_for_nothing() {
    let bench = Bench::new();
    let key = Key::of("db1");
    let many: Vec<String> = (0..33).map(|number| format!("alias{number}")).collect();
    let table = [
        ("invitation-too-long", json!({"until": bench.at(12 * 3600 + 1)})),
        ("invitation-too-long", json!({"until": bench.at(0)})),
        ("invitation-too-long", json!({"until": bench.at(-1)})),
        ("duplicate", json!({"aliases": ["a", "a"]})),
        ("duplicate", json!({"aliases": ["db1"]})),
        ("malformed", json!({"aliases": many})),
        ("other-instance", json!({"instance": "00000000000000000000000000000000"})),
        ("malformed", json!({"more": 1})),
        ("malformed", json!({"host": "*"})),
        ("malformed", json!({"aliases": ["*.example.org"]})),
        ("malformed", json!({"aliases": ["!db1"]})),
        ("malformed", json!({"aliases": ["db1,db2"]})),
        ("malformed", json!({"aliases": ["db1\n"]})),
        ("malformed", json!({"aliases": ["DB1"]})),
        ("malformed", json!({"aliases": [""]})),
        ("unknown-person", json!({"person": "mallory"})),
        ("not-their-key", json!({"person": "alice"})),
    ];
    for (code, changes) in table {
        let token = invited(&bench, "db1", &changes);
        bench.refuses(code, || enrol(&bench, "db1", &key, &token));
    }
    for person in ["alice", "carol", "olga"] {
        let token = signed_by(&bench, person, "db1", &json!({}));
        bench.refuses("no-duty", || enrol(&bench, "db1", &key, &token));
    }
    let token = signed_by(&bench, "mallory", "db1", &json!({"person": "erin"}));
    bench.refuses("unknown-key", || enrol(&bench, "db1", &key, &token));
    let forged = Token { text: invited(&bench, "db2", &json!({})).text, ..invited(&bench, "db1", &json!({})) };
    bench.refuses("bad-signature", || enrol(&bench, "db2", &key, &forged));
}

/// An invitation is for a time: 12 hours at most.
#[test]
fn an_invitation_ends() {
    let (bench, key) = (Bench::new(), Key::of("db1"));
    let token = invited(&bench, "db1", &json!({}));
    bench.advance(3600);
    enrol(&bench, "db1", &key, &token).ok();
    let late = invited(&bench, "db2", &json!({}));
    bench.advance(3601);
    bench.refuses("invitation-ended", || enrol(&bench, "db2", &Key::of("db2"), &late));
    let early = invited(&bench, "db2", &json!({"at": bench.at(60), "until": bench.at(600)}));
    bench.refuses("invitation-ended", || enrol(&bench, "db2", &Key::of("db2"), &early));
}

/// A claim is for one host, one key, one invitation and this moment, and both keys sign exactly it.
#[test]
fn claims_that_count_for_nothing() {
    let bench = Bench::new();
    let (key, thief) = (Key::of("db1"), Key::of("mallory"));
    let token = invited(&bench, "db1", &json!({}));
    let other = invited(&bench, "db2", &json!({}));
    let good = claim(&bench, "db1", &key, Some(&token));
    let table = [
        ("other-invitation", json!({"host": "db2"})),
        ("other-invitation", json!({"invitation": other.digest()})),
        ("other-invitation", json!({"invitation": null})),
        ("other-instance", json!({"instance": "00000000000000000000000000000000"})),
        ("stale", json!({"at": bench.at(-61)})),
        ("future", json!({"at": bench.at(6)})),
        ("malformed", json!({"more": 1})),
        ("malformed", json!({"kind": "use"})),
        ("malformed", json!({"host": "*"})),
        ("bad-signature", json!({"key": thief.line()})),
    ];
    for (code, changes) in table {
        bench.refuses(code, || post(&bench, &with(good.clone(), &changes), &key, Some((&token, &token.key))));
    }
    // The token without its secret, and the secret without the host's key.
    bench.refuses("bad-signature", || post(&bench, &good, &key, Some((&token, &key))));
    bench.refuses("bad-signature", || post(&bench, &good, &token.key, Some((&token, &token.key))));
    bench.refuses("other-invitation", || post(&bench, &good, &key, Some((&other, &other.key))));
    // Signed for another purpose.
    let text = good.to_string();
    let foreign = json!({
        "text": text, "signature": key.sign("use@ssh-jit", text.as_bytes()),
        "redeems": {"invitation": SignedText { text: token.text.clone(), signature: token.signature.clone() },
                    "signature": token.key.sign(NAMESPACE, text.as_bytes())},
    });
    bench.refuses("bad-signature", || bench.http("POST", "/v1/host-certificates", None, &to_json(&foreign)));
    post(&bench, &good, &key, Some((&token, &token.key))).ok();
}

/// With the host's key in it, a token is of no use to whoever reads it on the way.
#[test]
fn an_invitation_that_names_the_key_is_for_that_key() {
    let (bench, key, thief) = (Bench::new(), Key::of("db1"), Key::of("mallory"));
    let token = invited(&bench, "db1", &json!({"key": key.line()}));
    let stolen = claim(&bench, "db1", &thief, Some(&token));
    bench.refuses("bad-signature", || post(&bench, &stolen, &thief, Some((&token, &thief))));
    post(&bench, &claim(&bench, "db1", &key, Some(&token)), &key, Some((&token, &key))).ok();
}

/// What means something else already is no host's key.
#[test]
fn keys_that_are_no_hosts() {
    let (bench, db1) = enrolled();
    for taken in [Key::of("alice"), Key::of("alice safe"), db1] {
        let token = invited(&bench, "db2", &json!({}));
        bench.advance(1);
        bench.refuses("host-key-taken", || enrol(&bench, "db2", &taken, &token));
    }
    // The log key signs what the service says: a host that has it is none.
    let token = invited(&bench, "db2", &json!({}));
    let keys = bench.keys();
    let mut claimed = claim(&bench, "db2", &Key::of("db2"), Some(&token));
    claimed["key"] = json!(keys.log.public().to_string());
    let text = claimed.to_string();
    let signed = keys.log.sign(NAMESPACE, text.clone().into_bytes()).expect("a signature");
    let body = json!({
        "text": text, "signature": signed.signature().armor(),
        "redeems": {"invitation": {"text": token.text, "signature": token.signature},
                    "signature": token.key.sign(NAMESPACE, text.as_bytes())},
    });
    bench.refuses("host-key-taken", || bench.http("POST", "/v1/host-certificates", None, &to_json(&body)));
}

#[test]
fn only_the_enrolled_key_renews() {
    let (bench, key) = enrolled();
    renew(&bench, "db1", &key).ok();
    for (host, key) in [("db1", &Key::of("mallory")), ("db2", &key), ("db1.example.org", &key)] {
        let answer = renew(&bench, host, key);
        assert_eq!((answer.status, answer.code().as_str()), (403, "not-enrolled"), "{host}: {answer:?}");
    }
    bench.advance(1);
    let claimed = claim(&bench, "db1", &key, None);
    assert_eq!(post(&bench, &claimed, &Key::of("mallory"), None).code(), "bad-signature");
    let elsewhere = with(claimed.clone(), &json!({"instance": "00000000000000000000000000000000"}));
    assert_eq!(post(&bench, &elsewhere, &key, None).code(), "other-instance");
    post(&bench, &claimed, &key, None).ok();
    assert_eq!(post(&bench, &claimed, &key, None).code(), "replayed");
    // An earlier one that was held back is no better.
    let held_back = with(claimed, &json!({"at": bench.at(-1)}));
    assert_eq!(post(&bench, &held_back, &key, None).code(), "replayed");
}

/// Whatever ends an enrolment ends it at the next renewal.
#[test]
fn an_enrolment_holds_by_the_policy_of_the_moment() {
    let (bench, key) = enrolled();
    let refused = |policy: &str, code: &str, why: &str| {
        bench.load_policy(policy);
        let answer = renew(&bench, "db1", &key);
        assert!(answer.code() == code && answer.body.contains(why), "{why}: {answer:?}");
    };
    let revoked = |key: &Key| format!("revoked_keys = [\"{}\"]\n{}", key.fingerprint(), policy());
    let nobody = policy().replace("admins    = [\"erin\"]", "admins    = []");
    refused(&nobody, "not-enrolled", "db1 is not enrolled any more (person: this needs the duty admins)");
    refused(&revoked(&Key::of("erin")), "not-enrolled", "the policy revokes this key");
    refused(&revoked(&key), "revoked-key", "the policy revokes this key");
    bench.load_policy(&policy());
    renew(&bench, "db1", &key).ok();
    // Where the policy has the key, nobody's word is needed.
    let named = format!("{nobody}\n[hosts.db1]\nkeys = [{:?}]\naliases = [\"db1.example.net\"]\n", key.line());
    bench.load_policy(&named);
    let made = certificate(renew(&bench, "db1", &key).ok());
    assert_eq!(made.valid_principals(), ["db1", "db1.example.net"], "and nothing else is certified");
}

/// A token that was lost is made worthless by the policy, before or after it was redeemed.
#[test]
fn a_revoked_token_redeems_nothing() {
    let (bench, key) = (Bench::new(), Key::of("db1"));
    let token = invited(&bench, "db1", &json!({}));
    bench.load_policy(&format!("revoked_keys = [\"{}\"]\n{}", token.key.fingerprint(), policy()));
    bench.refuses("revoked-key", || enrol(&bench, "db1", &key, &token));
    bench.load_policy(&policy());
    enrol(&bench, "db1", &key, &token).ok();
    bench.load_policy(&format!("revoked_keys = [\"{}\"]\n{}", token.key.fingerprint(), policy()));
    assert_eq!(renew(&bench, "db1", &key).code(), "not-enrolled");
}

#[test]
fn a_removed_host_is_certified_no_more() {
    let (bench, key) = enrolled();
    let before = bench.events().len();
    bench.refuses("no-duty", || remove(&bench, "alice", "db1"));
    bench.refuses("not-enrolled", || remove(&bench, "erin", "db9"));
    remove(&bench, "carol", "db1").ok();
    assert_eq!(bench.story(before + 2), ["host-removed (db1)"]);
    assert_eq!(renew(&bench, "db1", &key).code(), "not-enrolled");
    bench.refuses("not-enrolled", || remove(&bench, "erin", "db1"));
    // Until somebody invites it again.
    bench.advance(1);
    enrol(&bench, "db1", &key, &invited(&bench, "db1", &json!({}))).ok();
    renew(&bench, "db1", &key).ok();
}

/// What was said once about a host does not end what it became since.
#[test]
fn a_removal_counts_once() {
    let (bench, key) = enrolled();
    let fields = json!({"host": "db1", "reason": "it was broken into"});
    let removal = with(bench.draft(Kind::HostRemoval, "erin"), &fields);
    bench.send(Kind::HostRemoval, &Key::of("erin"), &removal).ok();
    bench.advance(1);
    enrol(&bench, "db1", &key, &invited(&bench, "db1", &json!({}))).ok();
    bench.refuses("replayed", || bench.send(Kind::HostRemoval, &Key::of("erin"), &removal));
    renew(&bench, "db1", &key).ok();
}

/// A host that was set up anew has another key, and then the old one is nobody's.
#[test]
fn a_new_invitation_takes_the_place_of_the_old_key() {
    let (bench, old) = enrolled();
    let new = Key::of("db1 anew");
    bench.advance(1);
    let made = certificate(enrol(&bench, "db1", &new, &invited(&bench, "db1", &json!({}))).ok());
    assert_eq!(made.valid_principals(), ["db1"]);
    assert_eq!(renew(&bench, "db1", &old).code(), "not-enrolled");
    renew(&bench, "db1", &new).ok();
}

/// Whoever writes the database makes no host, and lends no host another's name.
#[test]
fn rows_make_no_host() {
    let (mut bench, key) = enrolled();
    bench.tamper();
    let (sql, thief) = (bench.sql(), Key::of("mallory"));
    let signature = |armored: &str| ssh_jit::domain::sshsig::SshSig::from_armor(armored).expect("one").blob().to_vec();
    let was: (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) = sql
        .query_row("SELECT key, claim, by_host, by_token FROM hosts", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .expect("a row");
    let write = |key: &Key, claim: &[u8], by_host: &[u8], by_token: &[u8]| {
        let sql_text = "UPDATE hosts SET key = ?1, claim = ?2, by_host = ?3, by_token = ?4";
        let fingerprint = key.fingerprint();
        sql.execute(sql_text, (fingerprint.as_bytes(), claim, by_host, by_token)).expect("a row");
    };
    // The thief's key in the claim: the token's key, which nobody has any more, did not sign that.
    let text = String::from_utf8(was.1.clone()).expect("text").replace(&key.line(), &thief.line());
    let theirs = signature(&thief.sign(NAMESPACE, text.as_bytes()));
    for by_token in [&theirs, &was.3] {
        write(&thief, text.as_bytes(), &theirs, by_token);
        assert_eq!(renew(&bench, "db1", &thief).code(), "not-enrolled");
    }
    // Only the column says that it is theirs.
    write(&thief, &was.1, &was.2, &was.3);
    assert_eq!(renew(&bench, "db1", &thief).code(), "not-enrolled");
    write(&key, &was.1, &theirs, &was.3);
    assert_eq!(renew(&bench, "db1", &key).code(), "not-enrolled", "the host's own signature is asked for, too");
    write(&key, &was.1, &was.2, &was.3);
    sql.execute("UPDATE hosts SET name = 'db2'", []).expect("a row");
    assert_eq!(renew(&bench, "db2", &key).code(), "not-enrolled");
    sql.execute("UPDATE hosts SET name = 'db1'", []).expect("a row");
    renew(&bench, "db1", &key).ok();
    // An invitation of somebody who is no administrator, planted beside all that follows from it.
    let token = signed_by(&bench, "alice", "db3", &json!({}));
    let planted = claim(&bench, "db3", &thief, Some(&token)).to_string();
    let by = |key: &Key| signature(&key.sign(NAMESPACE, planted.as_bytes()));
    let digest = token.digest();
    let statement = "INSERT INTO statements (sha256, kind, bytes, signature) VALUES (?1, 'invitation', ?2, ?3)";
    sql.execute(statement, (digest.as_bytes(), token.text.as_bytes(), signature(&token.signature))).expect("a row");
    let host = "INSERT INTO hosts (name, key, invitation, claim, by_host, by_token) VALUES ('db3', ?1, ?2, ?3, ?4, ?5)";
    let values =
        (thief.fingerprint().as_bytes().to_vec(), digest.as_bytes(), planted.as_bytes(), by(&thief), by(&token.key));
    sql.execute(host, values).expect("a row");
    let answer = renew(&bench, "db3", &thief);
    assert!(answer.code() == "not-enrolled" && answer.body.contains("duty admins"), "{answer:?}");
}

/// One idea: who is certified as a host is believed about its connections, too.
#[test]
fn an_enrolled_host_is_heard() {
    let (bench, key) = enrolled();
    let asked = bench.ask("alice", "web", &json!({}));
    bench.approve("carol", &asked).ok();
    let certificate = bench.claim(&asked).certificate();
    let says = |host: &str, key: &Key| {
        let stated = json!({
            "v": 1, "kind": "use", "instance": bench.service().trust().instance, "host": host, "at": bench.at(0),
            "connection": {"session": Digest::from_bytes([0; 32]), "certificate": certificate, "account": "postgres",
                           "source": "192.0.2.7", "began": bench.at(-60), "ended": null},
        });
        let text = stated.to_string();
        bench.post("/v1/uses", &text, &key.sign("use@ssh-jit", text.as_bytes()))
    };
    assert_eq!(says("db1", &key).ok().json(), json!({"known": true}));
    assert_eq!(says("db2", &key).code(), "unknown-host-key");
    bench.load_policy(&format!("revoked_keys = [\"{}\"]\n{}", key.fingerprint(), policy()));
    assert_eq!(says("db1", &key).code(), "unknown-host-key");
    bench.load_policy(&policy());
    says("db1", &key).ok();
    remove(&bench, "erin", "db1").ok();
    assert_eq!(says("db1", &key).code(), "unknown-host-key");
}

#[test]
fn administrators_see_every_host_and_what_ails_it() {
    let (bench, _) = enrolled();
    let named = format!("[hosts.db2]\nkeys = [{:?}]\n", Key::of("db2").line());
    bench.load_policy(&(policy() + &named));
    let hosts = || bench.get("/v1/hosts", &bench.session("olga")).ok().json();
    let expected = json!([
        {"host": "db2", "aliases": [], "keys": [Key::of("db2").fingerprint()], "invited_by": null, "ends": null,
         "trouble": null, "trust": null, "krl": null, "at": null},
        {"host": "db1", "aliases": ["db1.example.org"], "keys": [Key::of("db1").fingerprint()], "invited_by": "erin",
         "ends": bench.at(30 * DAY), "trouble": null, "trust": null, "krl": null, "at": null},
    ]);
    assert_eq!(hosts(), expected);
    bench.load_policy(&policy().replace("admins    = [\"erin\"]", "admins    = []"));
    assert_eq!(hosts()[0]["trouble"], "person: this needs the duty admins");
}
