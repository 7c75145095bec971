//! What is genuine, made from fixed keys: fuzzers begin at it, and what they make of it is compared with it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ssh_encoding::{Encode as _, Mpint};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::facts::Source;
use ssh_jit::domain::journal::{Entry, NAMESPACE, Outcome};
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::krl::{Krl, OfCa};
use ssh_jit::domain::names::InstanceId;
use ssh_jit::domain::sshsig::{SshSig, ed25519_wire, signed_blob};
use ssh_jit::domain::statement::{Kind, Serial, Version};
use ssh_jit::domain::time::Timestamp;
use ssh_jit::domain::webhook::Delivery;

/// A source with a key, that may speak of who is on call, and of one incident.
pub fn source() -> Source {
    let key = STANDARD.encode(key(4).verifying_key().as_bytes());
    let facts = ["oncall:*", "incident:INC-7"].map(|name| name.parse().expect("a pattern")).to_vec();
    Source { key: Some(format!("whpk_{key}").parse().expect("a key")), facts }
}

/// What it sends, signed.
pub fn delivery(body: &[u8]) -> Delivery {
    let (id, sent) = ("msg_1", "1795341718");
    let signature = key(4).sign(&[format!("{id}.{sent}.").as_bytes(), body].concat());
    let signature = format!("v1a,{}", STANDARD.encode(signature.to_bytes()));
    Delivery::new("pager".parse().expect("a name"), id, sent, &signature, body.to_vec()).expect("headers")
}

/// Bodies of such messages.
pub fn webhooks() -> [String; 2] {
    let facts = [
        json!([{"name": "oncall:dba:primary", "value": "alice", "until": "2026-11-22T18:00:00Z"}]),
        json!([{"name": "incident:INC-7", "value": null}, {"name": "oncall:dba", "value": "bob", "until": "2026-12-01T08:00:00+01:00"}]),
    ];
    facts.map(|facts| json!({"type": "facts", "timestamp": AT, "data": {"facts": facts}}).to_string())
}

/// The relying party and the origin of every passkey here.
pub const SITE: (&str, &str) = ("ca.example", "https://ca.example");
/// What every passkey here signs, and for what.
pub const DECISION: (&str, &[u8]) = ("approval@ssh-jit", br#"{"kind":"approval"}"#);

const AT: &str = "2026-11-22T10:01:58Z";

/// A key from a seed.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public half.
pub fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from_blob(&wire(&[b"ssh-ed25519", key.verifying_key().as_bytes()])).expect("a good key")
}

/// A list with a section of each kind.
pub fn krl() -> Krl {
    let serial = |counter| Serial::new(1, counter).expect("a serial");
    let spread = (0..100).map(|n| serial(3 * n + 1));
    let of_ca = OfCa {
        ca: public(&key(1)),
        serials: spread.chain((1000..2000).map(serial)).chain([serial(1 << 40)]).collect(),
        key_ids: ["ssh-jit/7F3K-9QPX-M2".to_owned()].into(),
    };
    Krl {
        number: 1_795_341_718,
        generated: Timestamp::from_unix(1_795_341_718),
        instance: InstanceId::from_bytes([0x3f; 16]),
        certificates: vec![of_ca],
        keys: [public(&key(2)).fingerprint()].into(),
    }
}

/// SSH `string`s, one after the other.
pub fn wire(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u32).to_be_bytes(), *part].concat()).collect()
}

/// An SSHSIG by a key in a file.
pub fn sign(key: &SigningKey, namespace: &str, bytes: &[u8]) -> SshSig {
    let signature = ed25519_wire(&key.sign(&signed_blob(namespace, bytes)).to_bytes());
    SshSig::from_signature(&public(key), namespace, &signature).expect("a signature")
}

/// One statement of each kind, as text.
pub fn statements() -> Vec<(Kind, String)> {
    let digest = Digest::of(b"something");
    let fields = |kind: Kind| match kind {
        Kind::Request => json!({"id": "7F3K-9QPX-M2", "role": "db-prod", "principals": ["db-prod@db1"],
            "hosts": ["db1"], "key": public(&key(9)), "seconds": 7200, "start": null, "extends": null,
            "ticket": "INC-412", "reason": "replica lag after failover"}),
        Kind::Approval => json!({"request": digest, "id": "7F3K-9QPX-M2", "decision": "approve", "requester": "alice",
            "role": "db-prod", "principals": ["db-prod@db1"], "hosts": ["db1"], "key": digest, "seconds": 3600,
            "start": null, "extensions": ["permit-pty"], "critical_options": {"source-address": "10.0.0.0/8"},
            "claim_by": AT, "policy": digest, "comment": ""}),
        Kind::Withdrawal => json!({"request": digest, "id": "7F3K-9QPX-M2", "reason": ""}),
        Kind::Claim => json!({"request": digest, "id": "7F3K-9QPX-M2", "key": digest}),
        Kind::Return => json!({"request": digest, "id": "7F3K-9QPX-M2", "serial": "281474976710657"}),
        Kind::Revocation => json!({"target": {"person": "bob"}, "reason": "left the company"}),
        Kind::BreakGlass => breaking("7F3K-9QPX-M2", "primary is down, nobody answers"),
        Kind::Seconding => {
            json!({"requester": "bob", "role": "db-prod", "reason": "he has used his key up, and it is down"})
        }
        Kind::Review => json!({"break_glass": digest, "id": "7F3K-9QPX-M2", "outcome": "drill", "comment": "planned"}),
        Kind::Acknowledgement => json!({"break_glass": digest, "id": "7F3K-9QPX-M2", "comment": "seen"}),
        Kind::Drill => json!({"break_glass": digest, "id": "7F3K-9QPX-M2", "reason_ms": 0, "certificate_ms": 412,
            "shell_ms": 902, "alert_ms": null, "acknowledgement_ms": null}),
        Kind::Enrolment => json!({"key": passkey(), "application": SITE.0, "ssh_key": digest, "until": AT}),
        Kind::Removal => json!({"key": digest, "reason": "lost"}),
        Kind::Invitation => json!({"host": "db1", "aliases": ["db1.example.org"], "key": passkey(), "until": AT}),
        Kind::HostRemoval => json!({"host": "db1", "reason": "broken into"}),
        Kind::BreakGlassCheck | Kind::Session => json!({}),
    };
    Kind::ALL.iter().map(|kind| (*kind, statement(*kind, fields(*kind)))).collect()
}

fn breaking(id: &str, reason: &str) -> Value {
    json!({"id": id, "role": "db-prod", "principals": [], "hosts": [], "seconds": null, "extends": null,
        "category": "outage", "reason": reason})
}

fn statement(kind: Kind, fields: Value) -> String {
    let mut whole = json!({"v": 1, "kind": kind.as_str(), "instance": "07".repeat(16), "person": "alice"});
    let rest = json!({"nonce": "01".repeat(16), "at": AT});
    for (name, value) in [fields, rest].iter().flat_map(|part| part.as_object().expect("fields")) {
        whole[name] = value.clone();
    }
    whole.to_string()
}

/// A break-glass journal of three entries: its lines, and what they say.
pub fn journal() -> (String, Vec<Entry>) {
    let (mut lines, mut entries, mut prev) = (String::new(), Vec::new(), Digest::of(b""));
    for seq in 1..=3u64 {
        let said = breaking(&format!("7F3K-9QPX-M{seq}"), &format!("the primary is down, case {seq}"));
        let said = statement(Kind::BreakGlass, said);
        let issued = Outcome::Issued { serial: Serial::new(2, seq).expect("a serial"), tbs: Digest::of(b"tbs") };
        let refused = Outcome::Refused { code: "too-long".to_owned() };
        let entry = Entry {
            v: Version,
            epoch: 2,
            seq,
            prev,
            at: "2026-11-22T10:01:58.042Z".parse().expect("a moment"),
            signature: sign(&key(2), Kind::BreakGlass.namespace(), said.as_bytes()).armor(),
            statement: said,
            second: None,
            from: None,
            policy: Digest::of(b"policy"),
            outcome: if seq < 3 { issued } else { refused },
        };
        let bytes = entry.to_bytes();
        prev = Digest::of(&bytes);
        let signature = sign(&key(3), NAMESPACE, &bytes).armor();
        lines += &(json!({"entry": String::from_utf8_lossy(&bytes), "signature": signature}).to_string() + "\n");
        entries.push(entry);
    }
    (lines, entries)
}

/// A certificate without its signature (PROTOCOL.certkeys), for an hour from 2026-11-22T10:01:58Z on.
pub fn unsigned_certificate() -> Vec<u8> {
    let options = wire(&[b"source-address", &wire(&[b"10.0.0.0/8"])]);
    [
        wire(&[b"ssh-ed25519-cert-v01@openssh.com", &[7; 32], key(9).verifying_key().as_bytes()]),
        (1u64 << 48 | 1).to_be_bytes().to_vec(),
        1u32.to_be_bytes().to_vec(),
        wire(&[b"ssh-jit/7F3K-9QPX-M2/alice/db-prod/SHA256:x", &wire(&[b"db-prod@db1", b"db-prod@db2"])]),
        1_795_341_718u64.to_be_bytes().to_vec(),
        1_795_345_318u64.to_be_bytes().to_vec(),
        wire(&[&options, &wire(&[b"permit-pty", b""]), b"", public(&key(1)).blob()]),
    ]
    .concat()
}

/// The same with the CA's signature over whatever it is.
pub fn certified(unsigned: &[u8]) -> String {
    let signature = ed25519_wire(&key(1).sign(unsigned).to_bytes());
    let blob = [unsigned, &wire(&[&signature])].concat();
    format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(blob))
}

fn passkey_secret() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[5; 32]).expect("a scalar in range")
}

/// A passkey's public half.
pub fn passkey() -> PublicKey {
    let point = passkey_secret().verifying_key().to_sec1_point(false);
    let parts: [&[u8]; 4] = [b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", point.as_bytes(), SITE.0.as_bytes()];
    PublicKey::from_blob(&wire(&parts)).expect("a passkey")
}

/// What a passkey signs: the authenticator's data, and the signature over it and the client data.
pub fn assertion(
    flags: u8,
    counter: [u8; 4],
    extensions: &[u8],
    client_data: &[u8],
) -> (Vec<u8>, p256::ecdsa::Signature) {
    let tail = [&[flags][..], &counter, extensions].concat();
    let data = [Sha256::digest(SITE.0).as_slice(), &tail].concat();
    let signature = passkey_secret().sign(&[&data[..], Sha256::digest(client_data).as_slice()].concat());
    (data, signature)
}

/// The same as an SSHSIG that names this origin.
pub fn passkey_sshsig(flags: u8, counter: [u8; 4], extensions: &[u8], client_data: &[u8]) -> Option<SshSig> {
    let (r, s) = assertion(flags, counter, extensions, client_data).1.split_bytes();
    let mut scalars = Vec::new();
    for number in [r, s] {
        Mpint::from_positive_bytes(&number).encode(&mut scalars).expect("an mpint");
    }
    let algorithm = b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com";
    let head = [&wire(&[algorithm, &scalars])[..], &[flags], &counter].concat();
    let raw = [head, wire(&[SITE.1.as_bytes(), client_data, extensions])].concat();
    SshSig::from_signature(&passkey(), DECISION.0, &raw).ok()
}

/// The challenge that browsers write for the decision.
pub fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(signed_blob(DECISION.0, DECISION.1))
}

/// Client data as browsers write it.
pub fn client_data() -> String {
    format!(r#"{{"type":"webauthn.get","challenge":"{}","origin":"{}","crossOrigin":false}}"#, challenge(), SITE.1)
}

/// A policy in which everything stands once.
pub fn policy() -> String {
    let line = |seed| public(&key(seed)).to_string();
    format!(
        "revoked_keys = [{:?}]\n[people.alice]\ngroups = [\"sre\"]\nkeys = [{:?}]\n[people.carol]\ngroups = [\"dba\"]\n\
         keys = [{:?}]\n[people.robot]\nkind = \"service\"\nkeys = [{:?}]\n[duties]\nadmins = [\"carol\"]\n\
         auditors = [\"sre\"]\n[oidc]\ngroups = [\"audit\"]\n[roles.db-prod]\ndescription = \"PostgreSQL\"\n\
         hosts = [\"db1\", \"db2\"]\nprincipals = [\"db-prod\"]\nrequesters = [\"sre\", \"robot\"]\n\
         approvers = [\"dba\", \"alice\"]\napprovals = 2\nautomatic = {{ max = \"15m\" }}\nmax = \"4h\"\n\
         default = \"1h\"\nextensions = [\"permit-pty\"]\ncritical_options = {{ source-address = \"10.0.0.0/8\" }}\n\
         verify_required = true\ndecide_within = \"1h\"\nclaim_within = \"90m\"\n[[emergency_keys]]\n\
         person = \"alice\"\nkey = {:?}\nroles = [\"db-prod\"]\nmax = \"10m\"\n",
        line(20),
        line(21),
        line(22),
        line(23),
        line(24)
    )
}

/// What a browser sends for [`client_data`].
pub fn browsers_assertion() -> String {
    let client_data = client_data();
    let (data, signature) = assertion(5, [0, 0, 0, 7], b"", client_data.as_bytes());
    let (client_data, data) = (STANDARD.encode(client_data), STANDARD.encode(data));
    let signature = STANDARD.encode(signature.to_der());
    json!({"client_data": client_data, "authenticator_data": data, "signature": signature}).to_string()
}

/// Keys of the other kinds, in their wire form.
pub fn other_keys() -> Vec<Vec<u8>> {
    let point = passkey_secret().verifying_key().to_sec1_point(false);
    let modulus = [&[0][..], &[0xc1; 384]].concat();
    vec![
        wire(&[b"sk-ssh-ed25519@openssh.com", key(1).verifying_key().as_bytes(), b"ssh:"]),
        wire(&[b"ecdsa-sha2-nistp256", b"nistp256", point.as_bytes()]),
        wire(&[b"ssh-rsa", &[1, 0, 1], &modulus]),
    ]
}

/// A service's file behind loopback, one with HTTPS, and a person's file.
pub fn configurations() -> [&'static str; 3] {
    [
        "url = \"http://localhost:7022\"\nlisten = \"127.0.0.1:7022\"\nca_keys = \"ca-keys\"\npolicy = \"policy.toml\"\n\
         database = \"sqlite:ssh-jit.db\"\njournal = \"break-glass.journal\"\nclock_skew = 60\nremembered = 0\n\
         connections_per_address = 1\nbehind_proxy = true\n[oidc]\nissuer = \"https://id.example\"\nclient_id = \"x\"\n",
        "url = \"https://ca.example\"\nlisten = \"[::]:443\"\nca_keys = \"k\"\npolicy = \"p\"\ndatabase = \"sqlite:d\"\n\
         journal = \"j\"\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n",
        "server = \"https://ca.example\"\nuser = \"alice\"\nidentity = \"id\"\nemergency_identity = \"safe\"\n\
         instance = \"07070707070707070707070707070707\"\n",
    ]
}
