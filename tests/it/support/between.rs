//! Somebody between client and service: passes everything on, and changes the answers it is told to.
//! One request a connection, as long as the value lives.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;

/// Changes the answer to a request for this path.
type Change = Box<dyn Fn(&str, &mut Value) + Send>;

pub(crate) struct Between {
    pub(crate) port: u16,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Between {
    /// Stands before the service on `port` of this machine.
    pub(crate) fn before(port: u16, change: impl Fn(&str, &mut Value) + Send + 'static) -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").expect("a free port"), port, Box::new(change))
    }

    fn start(listener: TcpListener, behind: u16, change: Change) -> Self {
        let port = listener.local_addr().expect("its address").port();
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up early is its own business.
                let _ = stream.and_then(|stream| pass_on(&stream, behind, &change));
            }
        });
        Self { port, ends, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes it, so that it sees that it is to end.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass_on(client: &TcpStream, behind: u16, change: &Change) -> std::io::Result<()> {
    let mut from = BufReader::new(client);
    let (first, body) = read(&mut from)?;
    let path = first[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let (answer, mut json) = call(behind, &first, &body)?;
    change(&path, &mut json);
    let body = if json.is_null() { Vec::new() } else { serde_json::to_vec(&json)? };
    let mut to = client;
    write!(to, "{}\r\nContent-Type: application/json\r\nConnection: close\r\n", answer[0])?;
    write!(to, "Content-Length: {}\r\n\r\n", body.len())?;
    to.write_all(&body)
}

/// Posts JSON to the service on `port`; gives the status line and the answer.
pub(crate) fn post(port: u16, path: &str, body: &Value) -> (String, Value) {
    let head = [format!("POST {path} HTTP/1.1"), "Host: localhost".into(), "Content-Type: application/json".into()];
    let body = serde_json::to_vec(body).expect("JSON");
    let (answer, json) = call(port, &head, &body).expect("a service that answers");
    (answer[0].clone(), json)
}

/// What the service on `port` answers to everybody.
pub(crate) fn get(port: u16, path: &str) -> Value {
    let head = [format!("GET {path} HTTP/1.1"), "Host: localhost".to_owned()];
    call(port, &head, &[]).expect("a service that answers").1
}

fn call(port: u16, head: &[String], body: &[u8]) -> std::io::Result<(Vec<String>, Value)> {
    let mut service = TcpStream::connect(("127.0.0.1", port))?;
    for line in head.iter().filter(|line| !is(line, "content-length") && !is(line, "connection")) {
        write!(service, "{line}\r\n")?;
    }
    write!(service, "Connection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
    service.write_all(body)?;
    let (answer, body) = read(&mut BufReader::new(&service))?;
    Ok((answer, serde_json::from_slice(&body).unwrap_or_default()))
}

fn is(line: &str, name: &str) -> bool {
    line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name))
}

/// The lines of the head, and the body.
fn read(from: &mut BufReader<&TcpStream>) -> std::io::Result<(Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            text => head.push(text.to_owned()),
        }
    }
    let length = head.iter().find(|line| is(line, "content-length"));
    let length = length.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((head, body))
}
