//! What no request can be: every refusal by its code, with nothing changed and the attempt on record.

use serde_json::{Value, json};
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Bench, Key, path_of, with};

const NAMESPACE: &str = "request@ssh-jit";

/// A request of alice's, changed, and signed by her.
fn changed(bench: &Bench, role: &str, changes: &Value) -> impl FnOnce() -> crate::support::service::Answer {
    let text = with(bench.request("alice", role).0, changes).to_string();
    move || bench.send_text(Kind::Request, &Key::of("alice"), &text)
}

#[test]
fn fields_that_cannot_lead_to_a_certificate() {
    let bench = Bench::new();
    let fido = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIJk4gYNcTcLtZ2y1SWvbMmVkZ7Z3fRS0n4Yd6aU2Vb8bAAAABHNzaDo=";
    let trust: Value =
        serde_json::from_str(bench.http("GET", "/v1/trust", None, b"").json()["text"].as_str().unwrap()).unwrap();
    let table = [
        ("unknown-person", "web", json!({"person": "mallory"})),
        ("not-their-key", "web", json!({"person": "bob"})),
        ("not-eligible", "nothing-like-it", json!({})),
        ("other-instance", "web", json!({"instance": "00000000000000000000000000000000"})),
        ("too-long", "web", json!({"seconds": 4 * 3600 + 1})),
        ("too-long", "vault", json!({"seconds": 2 * 3600 + 1})),
        ("unknown-host", "db-prod", json!({"hosts": ["db3"]})),
        ("unknown-host", "db-prod", json!({"hosts": ["db1", "vault1"]})),
        ("unknown-host", "web", json!({"hosts": ["db1"]})),
        ("duplicate", "db-prod", json!({"hosts": ["db1", "db1"]})),
        ("unknown-principal", "db-prod", json!({"principals": ["root@db1"]})),
        ("unknown-principal", "db-prod", json!({"principals": ["db-prod"]})),
        ("unknown-principal", "db-prod", json!({"principals": ["db-prod@db1", "db-prod@db2"], "hosts": ["db1"]})),
        ("unknown-principal", "web", json!({"principals": ["www", "root"]})),
        ("duplicate", "web", json!({"principals": ["www", "www"]})),
        ("start-out-of-reach", "web", json!({"start": bench.at(30 * 86_400 + 1)})),
        ("start-out-of-reach", "web", json!({"start": bench.at(-1)})),
        ("unknown-request", "web", json!({"extends": bench.id()})),
        ("subject-key-taken", "web", json!({"key": Key::of("alice").line()})),
        ("subject-key-taken", "web", json!({"key": Key::of("robot").line()})),
        ("subject-key-taken", "web", json!({"key": Key::of("carol 2").line()})),
        ("subject-key-taken", "web", json!({"key": Key::of("alice safe").line()})),
        ("subject-key-taken", "web", json!({"key": Key::of("carol safe").line()})),
        ("subject-key-taken", "web", json!({"key": trust["user_ca"][0]})),
        ("subject-key-taken", "web", json!({"key": trust["break_glass_ca"][0]})),
        ("subject-key-taken", "web", json!({"key": trust["host_ca"][0]})),
        ("subject-key-taken", "web", json!({"key": trust["log_key"]})),
        ("subject-key-taken", "web", json!({"key": trust["journal_key"]})),
        ("subject-key-taken", "web", json!({"key": trust["krl_key"]})),
        ("malformed", "web", json!({"key": fido})),
    ];
    for (code, role, changes) in &table {
        bench.refuses(code, changed(&bench, role, changes));
    }
    changed(&bench, "db-prod", &json!({"principals": ["db-prod@db2"], "hosts": ["db2"]}))().ok();
}

/// Who may not ask: by person, whatever the key and the group.
#[test]
fn roles_are_for_those_whom_they_name() {
    let bench = Bench::new();
    for (person, role) in
        [("carol", "db-prod"), ("erin", "db-prod"), ("olga", "web"), ("frank", "vault"), ("robot", "x")]
    {
        let (request, _) = bench.request(person, role);
        bench.refuses("not-eligible", || bench.send(Kind::Request, &Key::of(person), &request));
    }
}

#[test]
fn forms_that_are_no_request() {
    let bench = Bench::new();
    let spoiled = |spoil: &dyn Fn(&mut Value)| {
        let (mut request, _) = bench.request("alice", "web");
        spoil(&mut request);
        request.to_string()
    };
    let good = || bench.request("alice", "web").0.to_string();
    let nested = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let mut table = vec![
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        good() + "{}",
        good().replacen('{', r#"{"x":1,"#, 1),
        good().replacen('{', r#"{"seconds":60,"#, 1),
        good().replacen('{', &format!(r#"{{"x":{nested},"#), 1),
        good().replace(r#""kind":"request""#, r#""kind":"approval""#),
        good().replace(r#""v":1"#, r#""v":2"#),
        good().replace(r#""seconds":null"#, r#""seconds":0"#),
        good().replace(r#""seconds":null"#, r#""seconds":-1"#),
        good().replace(r#""seconds":null"#, r#""seconds":1e3"#),
        good().replace(r#""seconds":null"#, r#""seconds":"3600""#),
        good().replace(r#""seconds":null"#, r#""seconds":43201"#),
        good().replace(r#""seconds":null"#, r#""seconds":18446744073709551616"#),
    ];
    for field in bench.request("alice", "web").0.as_object().expect("fields").keys() {
        table.push(spoiled(&|request| drop(request.as_object_mut().expect("fields").remove(field))));
    }
    for reason in [
        "",
        "   ",
        "abc",
        " lag lag",
        "two\nlines",
        "esc\u{1b}[2J",
        "bidi \u{202e}txt",
        "zero\u{200b}width",
        "nul\0nul",
    ] {
        table.push(spoiled(&|request| request["reason"] = reason.into()));
    }
    table.push(spoiled(&|request| request["reason"] = "x".repeat(1001).into()));
    for (field, value) in [
        ("person", json!("Alice")),
        ("person", json!("alice ")),
        ("role", json!("WEB")),
        ("role", json!("")),
        ("id", json!("7f3k-9qpx-m2")),
        ("id", json!("../../../etc")),
        ("nonce", json!("")),
        ("at", json!("2026-11-22 10:00:00")),
        ("hosts", json!(["*"])),
        ("principals", json!(["root,www"])),
        ("ticket", json!("INC 412; rm")),
        ("key", json!("ssh-ed25519 AAAA")),
    ] {
        table.push(spoiled(&|request| request[field] = value.clone()));
    }
    for text in &table {
        bench.refuses("malformed", || bench.send_text(Kind::Request, &Key::of("alice"), text));
    }
    bench.send_text(Kind::Request, &Key::of("alice"), &good()).ok();
}

/// One form for one statement: a list of the fields' values would be a second.
#[test]
fn a_list_is_no_statement() {
    let bench = Bench::new();
    let (request, _) = bench.request("alice", "web");
    let order = [
        "v",
        "kind",
        "instance",
        "person",
        "id",
        "role",
        "principals",
        "hosts",
        "key",
        "seconds",
        "start",
        "extends",
        "ticket",
        "reason",
        "nonce",
        "at",
    ];
    let list: Vec<&Value> = order.iter().map(|field| &request[*field]).collect();
    let text = serde_json::to_string(&list).unwrap();
    bench.refuses("malformed", || bench.send_text(Kind::Request, &Key::of("alice"), &text));
}

#[test]
fn signatures_that_prove_nothing() {
    let bench = Bench::new();
    let (alice, path) = (Key::of("alice"), path_of(Kind::Request));
    let text = bench.request("alice", "web").0.to_string();
    let sign = |key: &Key, namespace: &str, text: &str| key.sign(namespace, text.as_bytes());
    for (code, signature) in [
        ("not-their-key", sign(&Key::of("bob"), NAMESPACE, &text)),
        ("unknown-key", sign(&Key::of("mallory"), NAMESPACE, &text)),
        ("unknown-key", sign(&Key::of("alice safe"), NAMESPACE, &text)),
        // Whose key it is, is asked first: strangers cost no mathematics.
        ("unknown-key", sign(&Key::of("mallory"), NAMESPACE, "other bytes")),
        ("bad-signature", sign(&alice, NAMESPACE, &format!("{text} "))),
        ("bad-signature", sign(&alice, "approval@ssh-jit", &text)),
        ("bad-signature", sign(&alice, "file", &text)),
    ] {
        bench.refuses(code, || bench.post(path, &text, &signature));
    }
    let forged = sign(&alice, NAMESPACE, "other bytes");
    bench.refuses("bad-signature", || bench.post(path, &text, &forged));
    assert_eq!(bench.events().last().and_then(|event| event.person.clone()), None, "nobody is named who did not sign");
    let good = sign(&alice, NAMESPACE, &text);
    for broken in ["", "x", &good[..good.len() / 2], &good.replace("SSH", "PGP"), &(good.clone() + &good)] {
        bench.turns_away(403, "bad-signature", || bench.post(path, &text, broken));
    }
    bench.post(path, &text, &good).ok();
}

#[test]
fn statements_count_for_a_minute() {
    let bench = Bench::new();
    for (code, at) in [("stale", -61), ("stale", -86400), ("future", 6), ("future", 86400)] {
        bench.refuses(code, changed(&bench, "web", &json!({"at": bench.at(at)})));
    }
    for at in [-60, 5] {
        changed(&bench, "web", &json!({"at": bench.at(at)}))().ok();
    }
}

/// Once by its bytes: another signature of them, or another key of the same person, is no new request.
#[test]
fn bytes_count_once() {
    let bench = Bench::new();
    let path = path_of(Kind::Request);
    let (request, _) = bench.request("carol", "web");
    let text = request.to_string();
    let first = Key::of("carol").sign(NAMESPACE, text.as_bytes());
    let again = Key::of("carol").sign_differently(NAMESPACE, text.as_bytes());
    let second = Key::of("carol 2").sign(NAMESPACE, text.as_bytes());
    assert_ne!(first, again);
    bench.post(path, &text, &first).ok();
    for signature in [&first, &again, &second] {
        bench.refuses("replayed", || bench.post(path, &text, signature));
    }
    // Other bytes, but the same id, or the same subject key.
    let carol = |changes: &Value| with(request.clone(), changes);
    let same_id = carol(&json!({"key": Key::of("fresh").line()}));
    bench.refuses("id-taken", || bench.send(Kind::Request, &Key::of("carol"), &same_id));
    let same_key = carol(&json!({"id": bench.id()}));
    bench.refuses("subject-key-taken", || bench.send(Kind::Request, &Key::of("carol"), &same_key));
    let stolen_key = with(bench.request("alice", "web").0, &json!({"key": request["key"]}));
    bench.refuses("subject-key-taken", || bench.send(Kind::Request, &Key::of("alice"), &stolen_key));
    // The other valid signature is good, where the bytes are fresh.
    let text = bench.request("carol", "web").0.to_string();
    bench.post(path, &text, &Key::of("carol").sign_differently(NAMESPACE, text.as_bytes())).ok();
}

#[test]
fn twenty_requests_may_wait() {
    let bench = Bench::new();
    let waiting: Vec<_> = (0..20).map(|_| bench.ask("alice", "web", &json!({}))).collect();
    bench.refuses("too-many-pending", changed(&bench, "web", &json!({})));
    bench.refuses("too-many-pending", changed(&bench, "db-prod", &json!({"seconds": 60})));
    bench.ask("bob", "web", &json!({}));
    bench.approve("carol", &waiting[0]).ok();
    bench.refuses("too-many-pending", changed(&bench, "web", &json!({})));
    bench.withdraw(&waiting[1]).ok();
    changed(&bench, "web", &json!({}))().ok();
    bench.refuses("too-many-pending", changed(&bench, "web", &json!({})));
    bench.claim(&waiting[0]).ok();
    changed(&bench, "web", &json!({}))().ok();
}

/// A flood of refusals does not fill the log. What strangers send names nobody, and uses up nothing of what
/// is kept for people.
#[test]
fn refusals_are_recorded_so_often() {
    let bench = Bench::new();
    let begun = bench.events().len();
    let text = with(bench.request("alice", "web").0, &json!({"person": "mallory"})).to_string();
    for _ in 0..130 {
        bench.send_text(Kind::Request, &Key::of("alice"), &text);
    }
    assert_eq!(bench.events().len() - begun, 60);
    assert!(bench.events()[begun..].iter().all(|event| event.person.is_none() && event.request.is_none()));
    let own = with(bench.request("alice", "web").0, &json!({"hosts": ["nowhere"]})).to_string();
    bench.send_text(Kind::Request, &Key::of("alice"), &own);
    assert_eq!(bench.events()[begun + 60].person, Some("alice".parse().unwrap()));
    bench.advance(60);
    bench.send_text(Kind::Request, &Key::of("alice"), &text);
    assert_eq!(bench.events().len() - begun, 62);
}
