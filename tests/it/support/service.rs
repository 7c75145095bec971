//! A whole service in a temporary folder: real keys, database, journal and router, on a clock that
//! stands still until a test moves it. People's keys are made from their names. When a [`Bench`] goes
//! away it proves the invariants again, unless the test said that it tampered with the files.

mod check;
mod people;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use ssh_jit::ca::{Keys, read_trusts, write_trust};
use ssh_jit::clock::Clock;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::event::Event;
use ssh_jit::domain::names::{InstanceId, Nonce, RequestId};
use ssh_jit::domain::policy::Policy;
use ssh_jit::domain::statement::Kind;
use ssh_jit::domain::time::{Moment, Timestamp};
use ssh_jit::http::{Limits, Needs, ROUTES, Tls, router};
use ssh_jit::service::{Error, Glass, GlassParts, Service, Settings, open_journal};
use ssh_jit::store::{self, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) use people::{Key, policy};

use super::dir;

/// 2026-11-22T10:00:00Z, when every bench starts.
const START: i64 = 1_795_341_600_000;
const DATABASE: &str = "ssh-jit.db";

/// A service and everything around it.
pub(crate) struct Bench {
    dir: TempDir,
    millis: Arc<AtomicI64>,
    numbers: AtomicU64,
    agent: ureq::Agent,
    running: Option<Running>,
    tampered: bool,
    /// For the next start.
    pub(crate) settings: Settings,
}

struct Running {
    runtime: Runtime,
    service: Arc<Service>,
    address: SocketAddr,
}

/// What the service answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// A request that was accepted, and what is needed to go on with it.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) person: String,
    pub(crate) role: String,
    pub(crate) digest: Digest,
    pub(crate) subject: Key,
    pub(crate) terms: Value,
    pub(crate) waiter: String,
    pub(crate) answer: Value,
}

impl Asked {
    /// From the request's text, and what the service answered to it.
    pub(crate) fn of(text: &str, subject: Key, answer: Value) -> Self {
        let field = |name: &str| answer["request"][name].as_str().expect("a field").to_owned();
        Self {
            id: field("id"),
            person: field("person"),
            role: field("role"),
            digest: Digest::of(text.as_bytes()),
            subject,
            terms: answer["request"]["terms"].clone(),
            waiter: answer["waiter"].as_str().expect("a capability").to_owned(),
            answer,
        }
    }
}

/// Opens what has a lock. A child that another test begins holds the locks of this process until it runs its program.
fn opened<T, E: std::fmt::Display>(open: impl Fn() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        match open() {
            Err(e) if e.to_string().contains("another ssh-jit") && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no refusal: {self:?}")).to_owned()
    }

    /// Demands success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }

    /// The state that a change led to.
    #[track_caller]
    pub(crate) fn state(self) -> String {
        self.ok().json()["state"]["name"].as_str().expect("a state").to_owned()
    }

    /// The certificate's line.
    #[track_caller]
    pub(crate) fn certificate(self) -> String {
        self.ok().json()["certificate"].as_str().expect("a certificate").to_owned()
    }
}

/// The life of a bench.
impl Bench {
    /// A new service under the sample policy.
    pub(crate) fn new() -> Self {
        let bench = Self::unstarted();
        bench.started(&policy())
    }

    /// New keys, and a new database; no service yet.
    pub(crate) fn unstarted() -> Self {
        let dir = memory();
        let folder = dir.path().join("ca-keys");
        Keys::create(&folder, None).expect("keys");
        let keys = load_keys(dir.path());
        let at = Timestamp::from_unix(START / 1000);
        write_trust(&folder, &keys.first_trust(InstanceId::from_bytes([7; 16]), at).expect("trust")).expect("trust");
        store::create(&format!("sqlite:{DATABASE}"), dir.path()).expect("a database");
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = agent.timeout_global(Some(Duration::from_mins(1))).build().into();
        let millis = Arc::new(AtomicI64::new(START));
        Self {
            dir,
            millis,
            numbers: AtomicU64::new(1),
            agent,
            running: None,
            tampered: false,
            settings: Settings::default(),
        }
    }

    fn started(mut self, policy: &str) -> Self {
        self.start(policy).expect("a service that starts");
        self
    }

    /// Starts the service on the files as they are.
    pub(crate) fn start(&mut self, policy: &str) -> Result<(), Error> {
        let base = self.dir.path();
        let keys = load_keys(base);
        let store = opened(|| Store::open(&format!("sqlite:{DATABASE}"), base))?;
        let glass = Glass::new(GlassParts {
            trusts: read_trusts(&base.join("ca-keys")).expect("trust"),
            journal: opened(|| open_journal(&self.journal(), &keys))?,
            keys,
            policy: Policy::parse(policy).expect("a policy"),
            clock: Clock::Manual(Arc::clone(&self.millis)),
            settings: self.settings.clone(),
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let service = runtime.block_on(Service::start(store, glass))?;
        // Not http::serve: it sweeps on its own, and here only the test lets time do anything.
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = router(&service);
        runtime.spawn(async move {
            axum::serve(listener, served.into_make_service_with_connect_info::<SocketAddr>()).await
        });
        self.running = Some(Running { runtime, service, address });
        Ok(())
    }

    /// Another listener of this service: the one that `ssh-jit serve` runs.
    pub(crate) fn listen(&self, limits: Limits, tls: Option<Tls>) -> SocketAddr {
        let listening = ssh_jit::http::bind((Ipv4Addr::LOCALHOST, 0).into(), limits, tls).expect("a port");
        let address = listening.address;
        self.running().runtime.spawn(ssh_jit::http::serve(listening, self.service(), std::future::pending()));
        address
    }

    /// Begins to deliver what is to be told.
    pub(crate) fn deliver(&self) {
        self.running().runtime.spawn(self.service().deliver());
        self.running().runtime.spawn(Arc::clone(self.service().glass()).alert());
    }

    /// Ends the service; the files stay.
    pub(crate) fn stop(&mut self) {
        if let Some(Running { runtime, service, .. }) = self.running.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
            assert_eq!(Arc::strong_count(&service), 1, "something still runs");
        }
    }

    /// Ends the service and starts it again on the same files.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start(&policy()).expect("a service that starts");
    }

    /// The test is about to break the files: the invariants will not hold at the end.
    pub(crate) fn tamper(&mut self) {
        self.tampered = true;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().address
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a running service")
    }

    pub(crate) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.running().service)
    }

    /// Runs what is asynchronous.
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.running().runtime.block_on(work)
    }

    /// Puts another policy into force.
    pub(crate) fn load_policy(&self, text: &str) {
        let policy = Policy::parse(text).unwrap_or_else(|e| panic!("{e}"));
        self.run(self.service().load_policy(policy)).expect("stored");
    }

    /// Writes down what time has ended.
    pub(crate) fn sweep(&self) -> usize {
        self.run(self.service().sweep()).expect("a sweep")
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, seconds: i64) {
        self.millis.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Moves the clock to where this machine's is: for clients that compare the two.
    pub(crate) fn be_now(&self) {
        let millis = Clock::System.now().second().unix() * 1000;
        self.millis.store(millis, Ordering::SeqCst);
    }

    /// Now, and `seconds` later.
    pub(crate) fn at(&self, seconds: i64) -> Timestamp {
        Moment::from_unix_millis(self.millis.load(Ordering::SeqCst)).second().plus(seconds)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("break-glass.journal")
    }

    pub(crate) fn keys(&self) -> Keys {
        load_keys(self.dir.path())
    }
}

/// A folder whose files are in memory where there is such a thing: the tests would wait for fsync only.
fn memory() -> TempDir {
    tempfile::Builder::new().prefix("ssh-jit-").tempdir_in("/dev/shm").unwrap_or_else(|_| dir())
}

fn load_keys(base: &Path) -> Keys {
    Keys::load(&base.join("ca-keys"), || Err(std::io::ErrorKind::Unsupported.into())).expect("keys")
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.running.is_some() && !self.tampered && !std::thread::panicking() {
            self.check();
        }
        self.stop();
    }
}

/// Speaking HTTP.
impl Bench {
    /// Sends any request.
    pub(crate) fn http(&self, method: &str, path: &str, bearer: Option<&str>, body: &[u8]) -> Answer {
        self.try_http(method, path, bearer, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// The same, when the service may hang up.
    pub(crate) fn try_http(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        self.try_at(self.running().address, method, path, bearer, body)
    }

    /// Reads from another listener.
    pub(crate) fn try_elsewhere(&self, address: SocketAddr, path: &str) -> Result<Answer, ureq::Error> {
        self.try_at(address, "GET", path, None, b"")
    }

    /// As a browser on the configured address has it, with the headers given.
    pub(crate) fn browse(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (Answer, String) {
        let mut request = ureq::http::Request::builder();
        request = request.method(method).uri(format!("http://{}{path}", self.running().address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match method {
            "GET" => self.agent.run(request.body(()).expect("a request")),
            _ => self.agent.run(request.body(body).expect("a request")),
        };
        let mut response = response.expect("an answer");
        let kept = format!("{:?}", response.headers());
        let status = response.status().as_u16();
        (Answer { status, body: response.body_mut().read_to_string().expect("a body") }, kept)
    }

    /// The same at another listener.
    pub(crate) fn try_at(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder();
        request = request.method(method).uri(format!("http://{address}{path}"));
        if let Some(bearer) = bearer {
            request = request.header("authorization", bearer);
        }
        let mut response = match method {
            "GET" | "HEAD" => self.agent.run(request.body(()).expect("a request"))?,
            _ => self.agent.run(request.body(body).expect("a request"))?,
        };
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.body_mut().read_to_string()? })
    }

    /// Reads as the holder of a bearer or capability.
    pub(crate) fn get(&self, path: &str, token: &str) -> Answer {
        self.http("GET", path, Some(&format!("Bearer {token}")), b"")
    }

    /// Posts a text and a signature.
    pub(crate) fn post(&self, path: &str, text: &str, signature: &str) -> Answer {
        self.http("POST", path, None, &to_json(&json!({"text": text, "signature": signature})))
    }

    /// Signs a statement for what its kind is for, and posts it where it belongs.
    pub(crate) fn send(&self, kind: Kind, key: &Key, statement: &Value) -> Answer {
        self.send_text(kind, key, &statement.to_string())
    }

    /// The same with the statement's text as it is.
    pub(crate) fn send_text(&self, kind: Kind, key: &Key, text: &str) -> Answer {
        self.post(path_of(kind), text, &key.sign(kind.namespace(), text.as_bytes()))
    }

    /// A bearer for reading.
    pub(crate) fn session(&self, person: &str) -> String {
        let answer = self.send(Kind::Session, &Key::of(person), &self.draft(Kind::Session, person)).ok();
        answer.json()["bearer"].as_str().expect("a bearer").to_owned()
    }
}

pub(crate) fn to_json(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

/// The one route that takes this kind of statement.
pub(crate) fn path_of(kind: Kind) -> &'static str {
    let mut found = ROUTES.iter().filter(|route| route.needs == Needs::Statement(kind));
    found.next().unwrap_or_else(|| panic!("no route takes {kind:?}")).path
}

/// Statements that pass, for tests to spoil.
impl Bench {
    /// What all kinds have.
    pub(crate) fn draft(&self, kind: Kind, person: &str) -> Value {
        json!({
            "v": 1, "kind": kind.as_str(), "instance": InstanceId::from_bytes([7; 16]), "person": person,
            "nonce": Nonce::from_bytes(u128::from(self.number()).to_be_bytes()), "at": self.at(0),
        })
    }

    /// A number that was not used before.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn id(&self) -> RequestId {
        RequestId::from_bits(self.number())
    }

    /// A request with a fresh subject key, for the role's default.
    pub(crate) fn request(&self, person: &str, role: &str) -> (Value, Key) {
        let subject = Key::of(&format!("subject {}", self.number()));
        let request = with(
            self.draft(Kind::Request, person),
            &json!({
                "id": self.id(), "role": role, "principals": [], "hosts": [], "key": subject.line(), "seconds": null,
                "start": null, "extends": null, "ticket": null, "reason": "replica lag after failover",
            }),
        );
        (request, subject)
    }

    /// Asks, and demands that the request is accepted.
    #[track_caller]
    pub(crate) fn ask(&self, person: &str, role: &str, changes: &Value) -> Asked {
        let (request, subject) = self.request(person, role);
        let text = with(request, changes).to_string();
        let answer = self.send_text(Kind::Request, &Key::of(person), &text).ok().json();
        Asked::of(&text, subject, answer)
    }

    /// An approval of everything that was asked.
    pub(crate) fn approval(&self, by: &str, asked: &Asked) -> Value {
        let terms = &asked.terms;
        let start: Option<Timestamp> = asked.answer["request"]["start"].as_str().map(|at| at.parse().expect("a time"));
        let within = terms["claim_within"].as_i64().expect("seconds");
        with(
            self.draft(Kind::Approval, by),
            &json!({
                "request": asked.digest, "id": asked.id, "decision": "approve", "requester": asked.person,
                "role": asked.role, "principals": terms["principals"], "hosts": terms["hosts"],
                "key": asked.subject.fingerprint(), "seconds": terms["seconds"], "start": asked.answer["request"]["start"],
                "extensions": terms["extensions"], "critical_options": terms["critical_options"],
                "claim_by": start.map_or(self.at(0), |start| start.max(self.at(0))).plus(within), "policy": terms["policy"],
                "comment": "",
            }),
        )
    }

    pub(crate) fn decide(&self, by: &str, asked: &Asked, changes: &Value) -> Answer {
        self.send(Kind::Approval, &Key::of(by), &with(self.approval(by, asked), changes))
    }

    pub(crate) fn approve(&self, by: &str, asked: &Asked) -> Answer {
        self.decide(by, asked, &json!({}))
    }

    pub(crate) fn deny(&self, by: &str, asked: &Asked) -> Answer {
        self.decide(by, asked, &json!({"decision": "deny", "comment": "not during the freeze"}))
    }

    pub(crate) fn withdraw(&self, asked: &Asked) -> Answer {
        self.withdraw_as(&asked.person, asked)
    }

    pub(crate) fn withdraw_as(&self, person: &str, asked: &Asked) -> Answer {
        let changes = json!({"request": asked.digest, "id": asked.id, "reason": ""});
        self.send(Kind::Withdrawal, &Key::of(person), &with(self.draft(Kind::Withdrawal, person), &changes))
    }

    pub(crate) fn claiming(&self, asked: &Asked) -> Value {
        let changes = json!({"request": asked.digest, "id": asked.id, "key": asked.subject.fingerprint()});
        with(self.draft(Kind::Claim, &asked.person), &changes)
    }

    pub(crate) fn claim(&self, asked: &Asked) -> Answer {
        self.send(Kind::Claim, &asked.subject, &self.claiming(asked))
    }

    pub(crate) fn give_back(&self, asked: &Asked, serial: &Value) -> Answer {
        let changes = json!({"request": asked.digest, "id": asked.id, "serial": serial});
        self.send(Kind::Return, &asked.subject, &with(self.draft(Kind::Return, &asked.person), &changes))
    }

    /// A break-glass statement for the role's hosts, with a reason of its own.
    pub(crate) fn breaking(&self, person: &str, role: &str) -> Value {
        let reason = format!("the primary is down and nobody answers, case {}", self.number());
        with(
            self.draft(Kind::BreakGlass, person),
            &json!({
                "id": self.id(), "role": role, "principals": [], "hosts": [], "seconds": null, "extends": null,
                "category": "outage", "reason": reason,
            }),
        )
    }

    pub(crate) fn break_glass(&self, statement: &Value) -> Answer {
        let person = statement["person"].as_str().expect("a person");
        self.send(Kind::BreakGlass, &Key::of(&format!("{person} safe")), statement)
    }
}

/// A statement with some fields changed or added.
pub(crate) fn with(mut statement: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("fields") {
        statement[name] = value.clone();
    }
    statement
}

/// Looking at what is stored.
impl Bench {
    /// A connection of its own to the database.
    pub(crate) fn sql(&self) -> Connection {
        let connection = Connection::open(self.dir.path().join(DATABASE)).expect("the database");
        connection.busy_timeout(Duration::from_secs(5)).expect("a time");
        connection
    }

    /// All events, oldest first.
    pub(crate) fn events(&self) -> Vec<Event> {
        let connection = self.sql();
        let mut statement = connection.prepare("SELECT leaf FROM events ORDER BY seq").expect("SQL");
        let leaves = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("leaves");
        leaves.map(|leaf| serde_json::from_slice(&leaf.expect("a leaf")).expect("an event")).collect()
    }

    /// The kinds of the events after the first `skip`, each with its detail if it has one.
    pub(crate) fn story(&self, skip: usize) -> Vec<String> {
        let tell = |event: &Event| match &event.detail {
            Some(detail) => format!("{} ({detail})", event.kind),
            None => event.kind.to_string(),
        };
        self.events().iter().skip(skip).map(tell).collect()
    }

    /// Every row of every table but the log's.
    pub(crate) fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let connection = self.sql();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('events', 'log')";
        let mut tables = connection.prepare(sql).expect("SQL");
        let names = tables.query_map([], |row| row.get::<_, String>(0)).expect("tables");
        names.map(|name| name.expect("a name")).map(|name| (name.clone(), rows_of(&connection, &name))).collect()
    }

    /// Demands that what is done is refused for this reason, changes nothing, and is on record.
    #[track_caller]
    pub(crate) fn refuses(&self, code: &str, act: impl FnOnce() -> Answer) {
        let (rows, events) = (self.rows(), self.events().len());
        let answer = act();
        assert!(answer.status >= 400 && answer.code() == code, "{code} expected: {answer:?}");
        assert_eq!(self.rows(), rows, "{code}: nothing changes");
        let story = self.story(events);
        assert!(
            matches!(&story[..], [one] if one.starts_with("refused (") && one.ends_with(&format!(": {code})"))),
            "{code}: {story:?}"
        );
    }

    /// Demands the same of what never became an attempt: nothing is on record either.
    #[track_caller]
    pub(crate) fn turns_away(&self, status: u16, code: &str, act: impl FnOnce() -> Answer) {
        let (rows, events) = (self.rows(), self.events().len());
        let answer = act();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        assert_eq!((self.rows(), self.events().len()), (rows, events), "{code}: nothing changes");
    }
}

fn rows_of(connection: &Connection, table: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).expect("SQL");
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let values = (0..columns).map(|i| row.get::<_, rusqlite::types::Value>(i)).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{values:?}"))
    };
    let rows = statement.query_map([], row).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}
