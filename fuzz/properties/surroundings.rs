//! What some properties need around them: files, and a whole service without its listener.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::json;
use ssh_jit::ca::{Keys, read_trusts, write_trust};
use ssh_jit::clock::Clock;
use ssh_jit::domain::names::InstanceId;
use ssh_jit::domain::policy::Policy;
use ssh_jit::domain::statement::Kind;
use ssh_jit::domain::time::Timestamp;
use ssh_jit::http::{Needs, ROUTES, router};
use ssh_jit::service::{Glass, GlassParts, Service, Settings, open_journal};
use ssh_jit::store::{self, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_service::Service as _;

use super::genuine;

/// 2026-11-22T10:01:58Z, when everything genuine was signed.
const NOW: i64 = 1_795_341_718;

/// A folder in memory where there is such a thing. Its name says which process made it: a fuzzer that is
/// stopped leaves it behind.
pub fn folder() -> TempDir {
    let prefix = format!("ssh-jit-fuzz-{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(&prefix);
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).expect("a folder")
}

/// Gives a file of these contents.
pub fn with_file(contents: &[u8], judge: impl FnOnce(&Path)) {
    thread_local! { static FOLDER: TempDir = folder(); }
    FOLDER.with(|folder| {
        let path = folder.path().join("file");
        std::fs::write(&path, contents).expect("a file");
        judge(&path);
    });
}

/// A service and its routes, on a clock that stands still.
pub struct Web {
    runtime: Runtime,
    router: Router,
    _folder: TempDir,
}

/// What it answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Gives the one service of this thread.
pub fn with_web(judge: impl FnOnce(&Web)) {
    thread_local! { static WEB: OnceCell<Web> = const { OnceCell::new() }; }
    WEB.with(|web| judge(web.get_or_init(Web::start)));
}

impl Web {
    fn start() -> Self {
        let folder = folder();
        let ca_keys = folder.path().join("ca-keys");
        let no_passphrase = || Err(std::io::ErrorKind::Unsupported.into());
        Keys::create(&ca_keys, None).expect("keys");
        let keys = Keys::load(&ca_keys, no_passphrase).expect("keys");
        let trust = keys.first_trust(InstanceId::from_bytes([7; 16]), Timestamp::from_unix(NOW)).expect("trust");
        write_trust(&ca_keys, &trust).expect("trust");
        store::create("sqlite:db", folder.path()).expect("a database");
        let glass = Glass::new(GlassParts {
            trusts: read_trusts(&ca_keys).expect("trust"),
            journal: open_journal(&folder.path().join("journal"), &keys).expect("a journal"),
            keys,
            policy: Policy::parse(&policy()).expect("a policy"),
            clock: Clock::Manual(Arc::new(AtomicI64::new(NOW * 1000))),
            settings: Settings::default(),
        });
        let store = Store::open("sqlite:db", folder.path()).expect("the database");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let service =
            runtime.block_on(Service::start(store, glass.expect("what breaks the glass"))).expect("a service");
        Self { router: router(&service), runtime, _folder: folder }
    }

    /// Asks; `None` when there is no whole answer in time.
    pub fn ask(&self, request: Request<Body>) -> Option<Answer> {
        let mut router = self.router.clone();
        let answer = async {
            let Ok(response) = router.call(request).await;
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("a body");
            Answer { status: parts.status, headers: parts.headers, body }
        };
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), answer).await.ok() })
    }
}

/// Alice's key is the one that signs everything genuine here.
fn policy() -> String {
    let line = genuine::public(&genuine::key(1)).to_string();
    format!(
        "[people.alice]\nkeys = [{line:?}]\n[duties]\nauditors = [\"alice\"]\n[roles.db-prod]\nhosts = [\"db1\"]\n\
         principals = [\"db-prod\"]\nrequesters = [\"alice\"]\napprovers = [\"alice\"]\nmax = \"4h\"\n"
    )
}

/// A request as the target reads it.
pub fn request(input: &[u8]) -> Option<Request<Body>> {
    let (head, body) = match input.windows(2).position(|two| two == b"\n\n") {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, &b""[..]),
    };
    let mut lines = std::str::from_utf8(head).ok()?.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    request.body(body.to_vec().into()).ok()
}

/// One request for each route, with a body where one is due.
pub fn requests() -> Vec<Vec<u8>> {
    let posted = |kind: Kind| {
        let all = genuine::statements();
        let text = all.iter().find(|(one, _)| *one == kind).map(|(_, text)| text.clone()).expect("every kind");
        let signature = genuine::sign(&genuine::key(1), kind.namespace(), text.as_bytes()).armor();
        json!({"text": text, "signature": signature}).to_string()
    };
    let one = |route: &ssh_jit::http::Route| {
        let path = route.path.replace("{id}", "7F3K-9QPX-M2").replace(['{', '}'], "");
        let body = if let Needs::Statement(kind) = route.needs { posted(kind) } else { "{}".to_owned() };
        let headers = "host: localhost:7022\norigin: http://localhost:7022\nauthorization: Bearer x\ncookie: session=x\n\
                       sec-fetch-site: same-origin\ncontent-type: application/json\naccept: text/html";
        format!("{} {path}\n{headers}\n\n{body}", route.method).into_bytes()
    };
    ROUTES.iter().map(one).collect()
}
