//! The load: raw HTTP/1.1 over kept-alive connections, from one thread, so that it takes little from
//! the server's cores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The bytes of one HTTP request.
pub(crate) type Call = Arc<[u8]>;

/// What a load came to.
pub(crate) struct Outcome {
    pub(crate) jobs: u32,
    pub(crate) took: Duration,
    /// How long each job took, in rising order.
    pub(crate) each: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.jobs) / self.took.as_secs_f64()
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.each[(self.each.len() - 1) * percent / 100]
    }
}

/// A POST of some JSON.
pub(crate) fn post(path: &str, body: &impl Serialize) -> Call {
    let body = serde_json::to_vec(body).expect("JSON");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat().into()
}

/// A GET with a bearer.
pub(crate) fn get(path: &str, bearer: &str) -> Call {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n\r\n").into_bytes().into()
}

/// Makes all the jobs' calls, a job at a time on each of `in_flight` connections. Any answer but a good
/// one ends the run.
pub(crate) fn run(address: SocketAddr, in_flight: usize, jobs: Vec<Vec<Call>>) -> Outcome {
    on_one_thread(async move {
        let (jobs, next) = (Arc::new(jobs), Arc::new(AtomicUsize::new(0)));
        let mut connections = Vec::with_capacity(in_flight);
        for _ in 0..in_flight {
            let mut connection = Connection::open(address).await;
            connection.call(&get("/v1/now", "")).await;
            connections.push(connection);
        }
        let (start, mut workers) = (Instant::now(), JoinSet::new());
        for connection in connections {
            workers.spawn(work(connection, Arc::clone(&jobs), Arc::clone(&next)));
        }
        let mut each = workers.join_all().await.concat();
        let took = start.elapsed();
        each.sort_unstable();
        Outcome { jobs: u32::try_from(jobs.len()).expect("not that many"), took, each }
    })
}

/// Makes one call on a connection of its own; gives the answer's body.
pub(crate) fn once(address: SocketAddr, call: &Call) -> Vec<u8> {
    on_one_thread(async { Connection::open(address).await.call(call).await.to_vec() })
}

/// Makes each call on a connection of its own, all at once; gives the moments of their answers, in the same order.
pub(crate) fn answered(address: SocketAddr, calls: Vec<Call>) -> Vec<Instant> {
    on_one_thread(async move {
        let mut waiting = Vec::with_capacity(calls.len());
        for call in calls {
            let mut connection = Connection::open(address).await;
            waiting.push(tokio::spawn(async move {
                connection.call(&call).await;
                Instant::now()
            }));
        }
        let mut moments = Vec::with_capacity(waiting.len());
        for answer in waiting {
            moments.push(answer.await.expect("an answer"));
        }
        moments
    })
}

/// Makes one call after the other on one connection; gives the moments when they were sent.
pub(crate) fn sent(address: SocketAddr, calls: &[Call]) -> Vec<Instant> {
    on_one_thread(async {
        let (mut connection, mut moments) = (Connection::open(address).await, Vec::with_capacity(calls.len()));
        for call in calls {
            moments.push(Instant::now());
            connection.call(call).await;
        }
        moments
    })
}

async fn work(mut connection: Connection, jobs: Arc<Vec<Vec<Call>>>, next: Arc<AtomicUsize>) -> Vec<Duration> {
    let mut each = Vec::new();
    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        let start = Instant::now();
        for call in job {
            connection.call(call).await;
        }
        each.push(start.elapsed());
    }
    each
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, answer: Vec::new() }
    }

    async fn call(&mut self, call: &Call) -> &[u8] {
        let mut rest: &[u8] = call;
        while !rest.is_empty() {
            self.stream.writable().await.expect("the server is there");
            // "Would block" is the only error that passes; the rest shows when the answer is read.
            let written = self.stream.try_write(rest).unwrap_or(0);
            rest = &rest[written..];
        }
        self.answer.clear();
        loop {
            self.stream.readable().await.expect("the server is there");
            match self.stream.try_read_buf(&mut self.answer) {
                Ok(0) => panic!("the server hung up"),
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => panic!("{e}"),
                _ => {}
            }
            if let Some(body) = whole(&self.answer) {
                let good = [&b"HTTP/1.1 2"[..], b"HTTP/1.1 304"].iter().any(|good| self.answer.starts_with(good));
                assert!(good, "{}", String::from_utf8_lossy(&self.answer));
                return &self.answer[body..];
            }
        }
    }
}

/// Where the body begins, once all of it is there.
fn whole(answer: &[u8]) -> Option<usize> {
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..body]).expect("headers");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |digits| digits.parse().expect("a length"));
    (answer.len() >= body + length).then_some(body)
}
