//! What must hold of every input: one function for each target, used by libFuzzer (`fuzz_targets/`) and, on the
//! corpus and on seeded mutations of it, by `cargo test`. Each states a property; that nothing panics is the least.

pub mod genuine;
mod strict;
mod surroundings;

use std::fmt::Debug;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use serde_json::Value;
use ssh_encoding::Decode as _;
use ssh_jit::client::agent::{Agent, AgentError};
use ssh_jit::client::certificate::{Checked, Expected, Surprise, check, told};
use ssh_jit::config::{ClientConfig, ServiceConfig};
use ssh_jit::domain::facts::{self, MOST, Message};
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::krl::Header;
use ssh_jit::domain::passkey::Assertion;
use ssh_jit::domain::policy::{EMERGENCY_LONGEST, MOST_PRINCIPALS, Policy};
use ssh_jit::domain::sshsig::{Expect, SshSig};
use ssh_jit::domain::statement::{self, Statement};
use ssh_jit::domain::time::{LONGEST, Timestamp};
use ssh_jit::domain::verify::VerifiedSet;
use ssh_jit::domain::webhook::{AHEAD_BY, Delivery, LONGEST_BODY};
use ssh_jit::store::journal::Journal;

use strict::Once;
use surroundings::{Web, with_file, with_web};

/// What must hold of an input.
pub type Property = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Property); 13] = [
    ("public_key", public_key),
    ("certificate", certificate),
    ("sshsig", sshsig),
    ("passkey", passkey),
    ("assertion", assertion),
    ("statement", statement),
    ("policy", policy),
    ("configuration", configuration),
    ("agent", agent),
    ("journal", journal),
    ("webhook", webhook),
    ("krl", krl),
    ("http", http),
];

/// Whatever a source signs: it speaks of its own names, of each once, of none for longer than a month, and of nothing
/// that another reader would not find there; and it counts only as signed.
pub fn webhook(input: &[u8]) {
    let (source, now) = (genuine::source(), Timestamp::from_unix(1_795_341_718));
    let check = |delivery: &Delivery| Message::check(delivery, Some(&source), &[], &VerifiedSet::new(0));
    let delivery = genuine::delivery(input);
    let Ok(message) = check(&delivery) else { return };
    let other = Delivery { body: [input, b" "].concat(), ..delivery.clone() };
    assert!(check(&other).is_err(), "nobody signed this");
    // What is only skipped may be a number that no reader holds.
    let Ok(body) = serde_json::from_slice::<Value>(input) else { return };
    let lines = body["data"]["facts"].as_array().expect("facts");
    assert_eq!(message.names().count(), lines.len());
    assert!(lines.len() <= MOST && input.len() <= LONGEST_BODY);
    for (name, line) in message.names().flat_map(|name| lines.iter().map(move |line| (name, line))) {
        assert!(name.as_str().starts_with("oncall:") || name.as_str() == "incident:INC-7", "{name}");
        if line["name"] != name.as_str() {
            continue;
        }
        let said = message.says(name).expect("it speaks of it");
        assert_eq!(said.as_ref().map(|fact| fact.value.as_str()), line["value"].as_str());
        assert!(said.is_none_or(|fact| fact.until.since(now) <= facts::LONGEST + AHEAD_BY));
    }
}

/// A key has one spelling, and ssh-key reads the same key in it.
pub fn public_key(input: &[u8]) {
    if let Ok(key) = PublicKey::from_blob(input) {
        assert_eq!(key.blob(), input);
        assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(key) = text.parse::<PublicKey>() else { return };
    let line = key.to_string();
    assert!(text == line || text.starts_with(&format!("{line} ")), "{text:?} is not {line}");
    assert_eq!(PublicKey::from_blob(key.blob()).as_ref(), Ok(&key));
    if let Ok(theirs) = ssh_key::PublicKey::from_openssh(text) {
        assert_eq!(theirs.key_data(), key.data());
    }
}

/// Whatever a CA signs: what the client uses has one encoding, and holds nothing beyond what was asked for.
pub fn certificate(input: &[u8]) {
    let line = genuine::certified(input);
    // Never panics, even where nothing was checked before.
    let _ = told(&line);
    let Ok(checked) = checked(&line) else { return };
    let parsed = ssh_key::Certificate::from_bytes(&checked.blob).expect("it was parsed before");
    assert_eq!(parsed.to_bytes().as_deref(), Ok(&checked.blob[..]), "a second encoding");
    assert!(parsed.valid_before() - parsed.valid_after() <= 3600 && parsed.cert_type().is_user());
    assert!(!parsed.key_id().chars().any(char::is_control) && parsed.extensions().values().all(String::is_empty));
    let asked = |name: &String| ["db-prod@db1", "db-prod@db2"].contains(&name.as_str());
    assert!(!checked.principals.is_empty() && checked.principals.iter().all(asked), "{:?}", checked.principals);
}

/// A client's check of a certificate, as one that asked for two hosts for an hour makes it.
pub fn checked(line: &str) -> Result<Checked, Surprise> {
    let (ca, key) = (genuine::public(&genuine::key(1)), genuine::public(&genuine::key(9)));
    let principals = ["db-prod@db1", "db-prod@db2"].map(|p| p.parse().expect("a principal"));
    let hosts = ["db1", "db2"].map(|host| host.parse().expect("a host"));
    let (now, longest) = (Timestamp::from_unix(1_795_341_720), "1h".parse().ok());
    let (cas, key_id) = (std::slice::from_ref(&ca), "ssh-jit/7F3K-9QPX-M2/");
    let expected = Expected { cas, key: &key, key_id, principals: &principals, hosts: &hosts, longest, now };
    check(line, &expected)
}

/// A signature has one encoding: its parts, read by another reader, make the same bytes again.
pub fn sshsig(input: &[u8]) {
    let signature = match std::str::from_utf8(input).ok().and_then(|text| SshSig::from_armor(text).ok()) {
        Some(signature) => signature,
        None => match SshSig::from_blob(input) {
            Ok(signature) => signature,
            Err(_) => return,
        },
    };
    let rest = &mut &signature.blob()[b"SSHSIG\0\0\0\x01".len()..];
    let parts: Vec<Vec<u8>> = (0..5).map(|_| Vec::decode(rest).expect("a string")).collect();
    assert_eq!(
        (parts[0].as_slice(), parts[2].as_slice(), parts[3].as_slice()),
        (signature.key().blob(), &b""[..], &b"sha512"[..])
    );
    let namespace = std::str::from_utf8(&parts[1]).expect("UTF-8");
    assert_eq!(SshSig::from_signature(signature.key(), namespace, &parts[4]).as_ref(), Ok(&signature));
    assert_eq!(SshSig::from_armor(&signature.armor()).as_ref(), Ok(&signature));
    assert!(rest.is_empty() && signature.check(b"").is_err(), "nobody signed this");
}

/// Whatever a passkey signed: what counts was signed for this statement, here, by somebody who was present and verified.
/// The input is flags, counter, the length of the extensions, these, and client data.
pub fn passkey(input: &[u8]) {
    let Some(([flags, a, b, c, d, length], rest)) = input.split_first_chunk() else { return };
    let Some((extensions, client_data)) = rest.split_at_checked(usize::from(*length)) else { return };
    let signature = genuine::passkey_sshsig(*flags, [*a, *b, *c, *d], extensions, client_data);
    let Some(signature) = signature else { return };
    let ((namespace, said), expect) = (genuine::DECISION, Expect::Passkey { origin: genuine::SITE.1 });
    let judged = |said: &[u8]| {
        let judged = signature.expect(said, namespace, &genuine::passkey(), expect);
        judged.and_then(|()| signature.check(said))
    };
    assert!(judged(b"something else").is_err());
    if judged(said).is_err() {
        return;
    }
    // What is only skipped may be a number that no reader holds.
    let Ok(data) = serde_json::from_slice::<Value>(client_data) else { return };
    assert_eq!(flags & 0x45, 0x05, "present, verified, nothing attested");
    assert_eq!((&data["type"], &data["challenge"]), (&"webauthn.get".into(), &genuine::challenge().into()));
    assert_eq!(
        (&data["origin"], data.get("topOrigin").unwrap_or(&Value::Null)),
        (&genuine::SITE.1.into(), &Value::Null)
    );
    assert!(data.get("crossOrigin").is_none_or(|cross| *cross == Value::Bool(false)));
}

/// Whatever a browser sends for an assertion becomes a signature of a passkey's kind, and counts if the passkey made it.
pub fn assertion(input: &[u8]) {
    let Ok(assertion) = serde_json::from_slice::<Assertion>(input) else { return };
    let ((namespace, said), key) = (genuine::DECISION, genuine::passkey());
    let Ok(signature) = assertion.to_sshsig(&key, namespace) else { return };
    assert!(signature.is_passkey() && signature.counter().is_some() && *signature.key() == key);
    sshsig(signature.blob());
    let origin = signature.origin().expect("a passkey's").to_owned();
    let judged = signature.expect(said, namespace, &key, Expect::Passkey { origin: &origin });
    if judged.and_then(|()| signature.check(said)).is_ok() {
        let honest = genuine::passkey_sshsig(5, [0, 0, 0, 7], b"", genuine::client_data().as_bytes());
        assert_eq!(Some(signature), honest);
    }
}

/// A statement is read in one way: written again it says the same, and nothing in it was overlooked.
pub fn statement(input: &[u8]) {
    use ssh_jit::domain::statement as kinds;
    reads_once::<kinds::Request>(input);
    reads_once::<kinds::Approval>(input);
    reads_once::<kinds::Withdrawal>(input);
    reads_once::<kinds::Claim>(input);
    reads_once::<kinds::Return>(input);
    reads_once::<kinds::Revocation>(input);
    reads_once::<kinds::BreakGlass>(input);
    reads_once::<kinds::Review>(input);
    reads_once::<kinds::Acknowledgement>(input);
    reads_once::<kinds::Enrolment>(input);
    reads_once::<kinds::Removal>(input);
    reads_once::<kinds::Session>(input);
}

fn reads_once<T: Statement + PartialEq + Debug>(input: &[u8]) {
    let Ok(said) = statement::parse::<T>(input) else { return };
    let written = statement::to_bytes(&said);
    assert_eq!(statement::parse::<T>(&written).as_ref(), Ok(&said));
    // No field is unknown, missing or there twice: in its own words it has the same fields.
    let theirs: Once = serde_json::from_slice(input).expect("nothing stands there twice");
    assert_eq!(Ok(theirs), serde_json::from_slice(&written).map_err(|e| e.to_string()));
}

/// A policy that is taken can be taken again, and gives nobody what no policy may give.
pub fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(policy) = Policy::parse(text).inspect_err(|error| assert!(error.to_string().len() < 10_000)) else { return };
    let again = Policy::parse(policy.text()).expect("it was parsed before");
    assert_eq!((policy.text(), policy.digest()), (text, again.digest()));
    for (name, role) in policy.roles() {
        let principals = role.principals_on(&role.hosts).len();
        assert!((1..=MOST_PRINCIPALS).contains(&principals) && role.quorum.total() > 0, "{name}");
        assert!(
            role.default <= role.max && role.max.get() <= LONGEST && role.automatic().is_none_or(|a| a <= role.max)
        );
        assert!(
            role.requesters.all().union(&role.approvers.all()).all(|person| policy.people().contains_key(*person)),
            "{name}"
        );
    }
    for emergency in policy.emergency_keys() {
        assert!(u64::from(emergency.max.get()) <= EMERGENCY_LONGEST && !emergency.roles.is_empty());
        assert!(policy.people().keys().all(|person| policy.signer(person, &emergency.key).is_err()), "an everyday key");
    }
    let _ = policy.findings();
}

/// A service's file that is taken serves plain HTTP where it may only; a person's file is taken or not.
pub fn configuration(input: &[u8]) {
    // These name files to be read, and /dev/zero is one.
    let named = |name: &str| String::from_utf8_lossy(input).contains(name);
    if named("secret_file") || named("tls_ca") || named("\\u") {
        return;
    }
    with_file(input, |path| {
        let _ = ClientConfig::load(path);
        let Ok(config) = ServiceConfig::load(path) else { return };
        let https = config.url.starts_with("https://");
        assert!(https || config.url.starts_with("http://"));
        assert_eq!(config.tls().is_some(), config.tls_cert.is_some() && config.tls_key.is_some());
        assert_eq!(config.tls_cert.is_some(), config.tls_key.is_some());
        assert!(config.tls().map_or(config.behind_proxy || config.listen.ip().is_loopback(), |_| https));
        assert!(config.clock_skew <= 60 && config.connections_per_address > 0);
    });
}

/// An agent may answer anything: a list that is taken is the whole of the reply, and another reader reads the same.
pub fn agent(input: &[u8]) {
    let folder = surroundings::folder();
    let path = folder.path().join("agent");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut agent = Agent::connect(&path).expect("a connection");
    let (mut theirs, _) = listener.accept().expect("the connection");
    theirs.write_all(&input[..input.len().min(64 * 1024)]).expect("a buffer that is large enough");
    theirs.shutdown(std::net::Shutdown::Write).expect("the end");
    match agent.identities() {
        Ok(held) => {
            let rest = &mut &input[5..];
            let count = u32::decode(rest).expect("a count");
            let pair = |_| (Vec::decode(rest).expect("a blob"), Vec::decode(rest).expect("a comment"));
            let theirs: Vec<(Vec<u8>, Vec<u8>)> = (0..count).map(pair).collect();
            assert_eq!(
                held.iter().map(|one| &one.blob).collect::<Vec<_>>(),
                theirs.iter().map(|one| &one.0).collect::<Vec<_>>()
            );
        }
        Err(AgentError::Malformed) => assert!(matches!(agent.identities(), Err(AgentError::Lost(_)))),
        Err(_) => {}
    }
}

/// The journal's entries are those that its key signed, in their order from the first one on, or it is refused.
pub fn journal(input: &[u8]) {
    let (_, genuine) = genuine::journal();
    with_file(input, |path| {
        let Ok(opened) = Journal::open(path, &genuine::public(&genuine::key(3))) else { return };
        assert!(genuine.starts_with(opened.after(0)), "another journal was taken for it");
        assert_eq!(opened.replay().next().0, 1 + opened.after(0).len() as u64);
        let held = opened.after(0).to_vec();
        drop(opened);
        // What is open is what is there: nothing is believed that the file does not hold any more.
        let again = Journal::open(path, &genuine::public(&genuine::key(3))).expect("it was opened before");
        assert_eq!(again.after(0), held);
    });
}

/// A list of revoked certificates is taken whole: another reader finds the same number in it, and its sections fill it.
pub fn krl(input: &[u8]) {
    let Ok(header) = Header::read(input) else { return };
    assert!(Header::read(&[input, b"\x01"].concat()).is_err(), "something behind its end");
    let rest = &mut input.strip_prefix(b"SSHKRL\n\0\0\0\0\x01").expect("magic and version");
    let [number, generated, _] = [(); 3].map(|()| u64::decode(rest).expect("a number"));
    assert!(number == header.number && generated >= header.generated.unix().unsigned_abs());
    let (_, comment) = (Vec::<u8>::decode(rest).expect("reserved"), String::decode(rest).expect("a comment"));
    assert_eq!(comment, header.comment);
    while !rest.is_empty() {
        assert!([1, 5].contains(&u8::decode(rest).expect("a kind")));
        Vec::<u8>::decode(rest).expect("a section");
    }
}

/// Whatever is asked, the service answers it, finds no fault of its own, and keeps its pages' protection. The input is
/// `METHOD PATH`, lines of headers, an empty line, and the body.
pub fn http(input: &[u8]) {
    let Some(request) = surroundings::request(input) else { return };
    with_web(|web: &Web| {
        let answer = web.ask(request).expect("an answer in time");
        assert!(!answer.status.is_server_error() && !answer.status.is_informational(), "{}", answer.status);
        assert_eq!(
            answer.headers.get("x-content-type-options").map(axum::http::HeaderValue::as_bytes),
            Some(&b"nosniff"[..])
        );
        let json = answer.headers.get("content-type").is_some_and(|kind| kind.as_bytes() == b"application/json");
        assert!(!json || serde_json::from_slice::<Value>(&answer.body).is_ok(), "{:?}", answer.body);
    });
}

/// What a fuzzer begins with: what is genuine, and what is nearly so.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let armored = genuine::sign(&genuine::key(1), genuine::DECISION.0, genuine::DECISION.1);
    let client_data = genuine::client_data();
    let lines = [genuine::public(&genuine::key(1)), genuine::passkey()];
    match target {
        "public_key" => {
            let texts = lines.iter().map(|key| format!("{key} carol@laptop").into_bytes());
            texts.chain(lines.iter().map(|key| key.blob().to_vec())).chain(genuine::other_keys()).collect()
        }
        "certificate" => vec![genuine::unsigned_certificate()],
        "sshsig" => {
            let passkey = genuine::passkey_sshsig(5, [0; 4], b"", client_data.as_bytes()).expect("a signature");
            vec![armored.blob().to_vec(), armored.armor().into_bytes(), passkey.blob().to_vec()]
        }
        "passkey" => vec![
            [&[5, 0, 0, 0, 7, 0], client_data.as_bytes()].concat(),
            [&[0x85, 0, 0, 0, 0, 1, 0xa0], client_data.as_bytes()].concat(),
        ],
        "assertion" => vec![genuine::browsers_assertion().into_bytes()],
        "statement" => genuine::statements().into_iter().map(|(_, text)| text.into_bytes()).collect(),
        "policy" => vec![genuine::policy().into_bytes()],
        "configuration" => genuine::configurations().map(|text| text.as_bytes().to_vec()).to_vec(),
        "agent" => {
            let list = [&[12, 0, 0, 0, 1][..], &genuine::wire(&[lines[0].blob(), b"carol@laptop"])].concat();
            vec![genuine::wire(&[&list]), genuine::wire(&[&[12, 0, 0, 0, 0]]), genuine::wire(&[&[5]])]
        }
        "journal" => vec![genuine::journal().0.into_bytes()],
        "webhook" => genuine::webhooks().iter().map(|body| body.as_bytes().to_vec()).collect(),
        "krl" => vec![genuine::krl().to_bytes()],
        "http" => surroundings::requests(),
        other => panic!("there is no target {other}"),
    }
}
