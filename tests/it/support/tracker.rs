//! A place where tickets are looked up, played here: it answers every call as the test says.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ssh_jit::config::TicketCheckConfig;

/// A ticket of alice's, as the place tells of it.
pub(crate) const OPEN: &str = r#"{"status":{"name":"Open"},"assignee":"alice"}"#;
pub(crate) const CLOSED: &str = r#"{"status":{"name":"Closed"},"assignee":"alice"}"#;

/// Where tickets are looked up.
pub(crate) struct Tracker {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<Says>>,
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
}

/// What it answers.
#[derive(Clone)]
pub(crate) enum Says {
    /// These bytes.
    Bytes(String),
    /// Nothing, and it keeps the connection.
    Nothing,
}

pub(crate) fn http(status: u16, more: &str, body: &str) -> Says {
    let length = body.len();
    Says::Bytes(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n{body}"))
}

impl Tracker {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let tracker = Self {
            address: listener.local_addr().expect("an address"),
            says: Arc::new(Mutex::new(http(200, "", OPEN))),
            heard: Arc::default(),
        };
        let (says, heard) = (Arc::clone(&tracker.says), Arc::clone(&tracker.heard));
        // Ends with the process.
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                kept.extend(answer(stream, &says, &heard));
            }
        });
        tracker
    }

    /// What lets a service look here: the address is not a public one.
    pub(crate) fn allowed() -> TicketCheckConfig {
        TicketCheckConfig { allow: vec!["127.0.0.0/8".parse().expect("a network")], ..TicketCheckConfig::default() }
    }

    pub(crate) fn says(&self, says: Says) {
        *self.says.lock().expect("a lock") = says;
    }

    /// The requests since the last look.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().expect("a lock"))
    }
}

fn answer(mut stream: TcpStream, says: &Mutex<Says>, heard: &Mutex<Vec<String>>) -> Option<TcpStream> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
    }
    heard.lock().expect("a lock").push(String::from_utf8_lossy(&request).into_owned());
    let says = says.lock().expect("a lock").clone();
    match says {
        Says::Nothing => Some(stream),
        Says::Bytes(bytes) => {
            let _ = stream.write_all(bytes.as_bytes());
            None
        }
    }
}
