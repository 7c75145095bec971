//! An identity provider in this process, that does what its script says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use openidconnect::ClientSecret;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ssh_jit::config::OidcConfig;
use ssh_key::HashAlg;
use ssh_key::private::RsaKeypair;
use tokio::runtime::Runtime;
use ureq::tls::Certificate;

use crate::support::service::with;
use crate::support::{dir, run, tool};

/// When every bench starts, in seconds.
pub(super) const NOW: i64 = 1_795_341_600;

/// What the provider does.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// Changes to good claims.
    pub(super) claims: Value,
    /// Changes to a good header.
    pub(super) header: Value,
    pub(super) signs: Signs,
    /// Changes the payload after it was signed.
    pub(super) tamper: bool,
    /// Other keys than the good ones.
    pub(super) keys: Option<Value>,
    pub(super) discovery: Reply,
    pub(super) token: Reply,
    pub(super) verifier_counts: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Signs {
    Good,
    Ed25519,
    P384,
    /// With `HashAlg::Sha256` it is RS256, with `Sha512` RS512.
    Rsa(HashAlg),
    OtherKey,
    Hmac(Vec<u8>),
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Good,
    Refuse,
    Hang,
    Redirect,
    /// A good answer, but for its length.
    Huge,
    Garbage,
    OtherIssuer,
    OpenAuthorization,
    OpenToken,
}

impl Default for Script {
    fn default() -> Self {
        let (claims, header) = (json!({}), json!({}));
        let (discovery, token) = (Reply::Good, Reply::Good);
        Self { claims, header, signs: Signs::Good, tamper: false, keys: None, discovery, token, verifier_counts: true }
    }
}

#[derive(Default)]
struct Inner {
    script: Script,
    /// What the browser was last sent with.
    asked: BTreeMap<String, String>,
    paths: Vec<String>,
    token_request: String,
}

type Shared = Arc<Mutex<Inner>>;

pub(super) struct Provider {
    runtime: Mutex<Option<Runtime>>,
    issuer: String,
    inner: Shared,
    certificate: Option<Certificate<'static>>,
}

fn lock(inner: &Shared) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Provider {
    pub(super) fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let (address, inner) = (listener.local_addr().expect("an address"), Shared::default());
        let issuer = format!("http://{address}");
        let served = Router::new().fallback(answer).with_state((issuer.clone(), Arc::clone(&inner)));
        runtime.spawn(async move { axum::serve(listener, served).await });
        Self { runtime: Mutex::new(Some(runtime)), issuer, inner, certificate: None }
    }

    /// The same over HTTPS, with a certificate that nobody but itself vouches for.
    pub(super) fn https() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let tls = rustls::crypto::aws_lc_rs::default_provider();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(tls)).with_safe_default_protocol_versions();
        let tls = tls.expect("versions").with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
        let tls = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(tls.expect("a certificate")));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let issuer = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let inner = Shared::default();
        let served = Router::new().fallback(answer).with_state((issuer.clone(), Arc::clone(&inner)));
        let served = served.into_make_service();
        runtime
            .spawn(async move { axum_server::from_tcp_rustls(listener, tls).expect("a server").serve(served).await });
        let certificate = Some(Certificate::from_der(made.cert.der()).to_owned());
        Self { runtime: Mutex::new(Some(runtime)), issuer, inner, certificate }
    }

    pub(super) fn config(&self) -> OidcConfig {
        OidcConfig {
            issuer: self.issuer.clone(),
            client_id: "jit".to_owned(),
            client_secret_file: None,
            person_claim: "preferred_username".to_owned(),
            groups_claim: "groups".to_owned(),
            tls_ca: None,
            client_secret: Some(ClientSecret::new("s3cret".to_owned())),
            authorities: self.certificate.clone().map(|certificate| vec![certificate]),
        }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.inner).script);
    }

    /// A browser comes with this address: what it asks for.
    pub(super) fn asked(&self, url: &str) -> BTreeMap<String, String> {
        let url: openidconnect::url::Url = url.parse().expect("an address");
        let asked: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        lock(&self.inner).asked.extend(asked.clone());
        asked
    }

    pub(super) fn paths(&self) -> Vec<String> {
        lock(&self.inner).paths.clone()
    }

    pub(super) fn last_token_request(&self) -> String {
        lock(&self.inner).token_request.clone()
    }

    pub(super) fn stop(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(
    State((issuer, inner)): State<(String, Shared)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let script = {
        let mut inner = lock(&inner);
        inner.paths.push(path.clone());
        inner.script.clone()
    };
    let reply = match path.as_str() {
        "/token" => script.token,
        "/keys" => Reply::Good,
        _ => script.discovery,
    };
    match reply {
        Reply::Hang => tokio::time::sleep(Duration::from_mins(1)).await,
        Reply::Redirect => return (StatusCode::FOUND, [(LOCATION, "/elsewhere")]).into_response(),
        Reply::Garbage => return in_json(StatusCode::OK, &json!(["no", "answer"])),
        Reply::Refuse => {
            let words = format!("<script>alert(1)</script>{}", "x".repeat(10_000));
            return in_json(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant", "error_description": words}));
        }
        _ => {}
    }
    let mut answer = match path.as_str() {
        "/.well-known/openid-configuration" => in_json(StatusCode::OK, &metadata(&issuer, reply)),
        "/keys" => in_json(StatusCode::OK, &script.keys.unwrap_or_else(keys)),
        "/token" => token(&issuer, &inner, &script, &headers, &body),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    if reply == Reply::Huge {
        // JSON goes on behind any number of spaces.
        let good = axum::body::to_bytes(std::mem::take(answer.body_mut()), 1 << 20).await.expect("a body");
        let padding = vec![b' '; 2 * 1024 * 1024];
        answer =
            (StatusCode::OK, [(CONTENT_TYPE, "application/json")], [padding, good.to_vec()].concat()).into_response();
    }
    answer
}

fn in_json(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn metadata(issuer: &str, reply: Reply) -> Value {
    // This machine, but not by an address that says so.
    let open = issuer.replace("127.0.0.1", "0.0.0.0");
    let mut all = json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"], "scopes_supported": ["openid", "groups"],
    });
    match reply {
        Reply::OtherIssuer => all["issuer"] = "https://evil.example".into(),
        Reply::OpenAuthorization => all["authorization_endpoint"] = format!("{open}/auth").into(),
        Reply::OpenToken => all["token_endpoint"] = format!("{open}/token").into(),
        _ => {}
    }
    all
}

fn token(issuer: &str, inner: &Shared, script: &Script, headers: &HeaderMap, body: &[u8]) -> Response {
    let body = String::from_utf8_lossy(body).into_owned();
    let form: BTreeMap<String, String> = openidconnect::url::Url::parse(&format!("http://x/?{body}"))
        .expect("a form")
        .query_pairs()
        .into_owned()
        .collect();
    let mut inner = lock(inner);
    let authorization =
        headers.get(AUTHORIZATION).map(|value| format!("authorization: {}\n", value.to_str().expect("text")));
    inner.token_request = authorization.unwrap_or_default() + &body;
    let verifier = form.get("code_verifier").cloned().unwrap_or_default();
    let proven = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == inner.asked["code_challenge"];
    let same_way = form.get("redirect_uri") == inner.asked.get("redirect_uri");
    if (script.verifier_counts && !proven) || !same_way || form["code"] != "good" {
        return in_json(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"}));
    }
    let claims = json!({
        "iss": issuer, "sub": "1", "aud": "jit", "iat": NOW, "exp": NOW + 3600,
        "nonce": inner.asked["nonce"], "preferred_username": "alice",
    });
    let id_token = jwt(script, &with(claims, &script.claims));
    in_json(StatusCode::OK, &json!({"access_token": "x", "token_type": "Bearer", "id_token": id_token}))
}

fn p256(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a key")
}

fn p384() -> p384::ecdsa::SigningKey {
    p384::ecdsa::SigningKey::from_slice(&[3; 48]).expect("a key")
}

fn ed25519() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[4; 32])
}

/// No key of a crate's: stock OpenSSH makes one, once for all tests.
fn rsa() -> &'static RsaKeypair {
    static KEY: LazyLock<RsaKeypair> = LazyLock::new(|| {
        let dir = dir();
        let path = dir.path().join("rsa");
        run(tool("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]).arg(&path));
        let key = ssh_key::PrivateKey::read_openssh_file(&path).expect("a key");
        key.key_data().rsa().expect("an RSA key").clone()
    });
    &KEY
}

fn number(number: &ssh_key::Mpint) -> String {
    URL_SAFE_NO_PAD.encode(number.as_positive_bytes().expect("a positive number"))
}

fn ec_key(kid: &str, curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    json!({"kty": "EC", "use": "sig", "kid": kid, "crv": curve, "x": encode(x), "y": encode(y)})
}

fn keys() -> Value {
    let ed25519 = URL_SAFE_NO_PAD.encode(ed25519().verifying_key().as_bytes());
    json!({"keys": [
        ec_key("es256", "P-256", p256(1).verifying_key().to_sec1_point(false).as_bytes()),
        ec_key("es384", "P-384", p384().verifying_key().to_sec1_point(false).as_bytes()),
        {"kty": "RSA", "use": "sig", "kid": "rsa", "n": number(rsa().public().n()), "e": number(rsa().public().e())},
        {"kty": "OKP", "use": "sig", "kid": "ed25519", "crv": "Ed25519", "x": ed25519},
    ]})
}

/// A key that is not the provider's.
pub(super) fn other_key() -> Value {
    ec_key("es256", "P-256", p256(2).verifying_key().to_sec1_point(false).as_bytes())
}

pub(super) fn public_key() -> Vec<u8> {
    p256(1).verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

fn jwt(script: &Script, claims: &Value) -> String {
    let (alg, kid) = match script.signs {
        Signs::Good | Signs::OtherKey => ("ES256", "es256"),
        Signs::Ed25519 => ("EdDSA", "ed25519"),
        Signs::P384 => ("ES384", "es384"),
        Signs::Rsa(HashAlg::Sha256) => ("RS256", "rsa"),
        Signs::Rsa(_) => ("RS512", "rsa"),
        Signs::Hmac(_) => ("HS256", "es256"),
        Signs::Nothing => ("none", "es256"),
    };
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(&with(json!({"alg": alg, "kid": kid, "typ": "JWT"}), &script.header));
    let signed = format!("{header}.{}", encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(signature(script, signed.as_bytes()));
    if script.tamper {
        let changed = with(claims.clone(), &json!({"preferred_username": "carol"}));
        return format!("{header}.{}.{signature}", encode(&changed));
    }
    format!("{signed}.{signature}")
}

fn signature(script: &Script, message: &[u8]) -> Vec<u8> {
    let es256 = |seed| {
        let signature: p256::ecdsa::Signature = p256(seed).sign(message);
        signature.to_bytes().to_vec()
    };
    match &script.signs {
        Signs::Good => es256(1),
        Signs::OtherKey => es256(2),
        Signs::Ed25519 => ed25519().sign(message).to_bytes().to_vec(),
        Signs::P384 => {
            let signature: p384::ecdsa::Signature = p384().sign(message);
            signature.to_bytes().to_vec()
        }
        Signs::Rsa(hash) => (rsa(), Some(*hash)).sign(message).as_bytes().to_vec(),
        Signs::Hmac(key) => hmac(key, message),
        Signs::Nothing => Vec::new(),
    }
}

/// RFC 2104, for keys of at most 64 bytes and those of one byte more that it hashes.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}
