//! Servers that take what is told: a receiver of webhooks and a mail server, over real TCP, in every mood that such
//! servers have.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::tls::Pair;

/// What a server does with who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Takes the connection, and says nothing.
    Hang,
    /// Hangs up at once.
    Drop,
    /// Answers in no protocol.
    Garbage,
    /// Says something now and then, for ever.
    Drip,
    /// Refuses the message, for good.
    Refuse,
    /// Is broken itself.
    Broken,
    /// Leads elsewhere.
    Redirect,
    /// Never ends its answer.
    Endless,
}

pub(crate) const BAD_MOODS: [Mood; 6] = [Mood::Hang, Mood::Drop, Mood::Garbage, Mood::Drip, Mood::Broken, Mood::Refuse];

/// Something that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Request line and headers; or the envelope's recipient and the headers of a mail.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Arrived {
    /// A header, whatever its case.
    pub(crate) fn header(&self, name: &str) -> String {
        let line = self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

#[derive(Default)]
struct Inner {
    mood: Option<Mood>,
    connections: usize,
    arrived: Vec<Arrived>,
    held: Vec<TcpStream>,
    logins: Vec<String>,
}

/// A server.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

/// TLS of a mail server: from the first byte, or when it is asked for.
#[derive(Clone)]
pub(crate) struct Secure {
    config: Arc<ServerConfig>,
    implicit: bool,
}

impl Secure {
    pub(crate) fn new(pair: &Pair, implicit: bool) -> Self {
        let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = config.with_single_cert(chain.expect("a chain"), key).expect("a pair");
        Self { config: Arc::new(config), implicit }
    }
}

impl Sink {
    pub(crate) fn web() -> Self {
        Self::start(web)
    }

    pub(crate) fn mail() -> Self {
        Self::start(|stream, inner| drop(mail(stream, inner, false)))
    }

    pub(crate) fn secure_mail(secure: Secure) -> Self {
        Self::start(move |stream, inner| drop(secured(stream, inner, &secure)))
    }

    fn start(serve: impl Fn(&mut TcpStream, &Mutex<Inner>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let (address, inner) = (listener.local_addr().expect("an address"), Arc::<Mutex<Inner>>::default());
        let (shared, serve) = (Arc::clone(&inner), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                lock(&shared).connections += 1;
                let (shared, serve, mut stream) = (Arc::clone(&shared), Arc::clone(&serve), stream);
                std::thread::spawn(move || match mood(&shared) {
                    Mood::Hang => lock(&shared).held.push(stream),
                    Mood::Drop => {}
                    Mood::Garbage => drop(stream.write_all(b"\x00\xff SSH-2.0-\x1b[2J\r\n\r\n\x00")),
                    Mood::Drip => drip(&mut stream),
                    _ => serve(&mut stream, &shared),
                });
            }
        });
        Self { address, inner }
    }

    pub(crate) fn be(&self, mood: Mood) {
        let mut inner = lock(&self.inner);
        inner.mood = Some(mood);
        inner.held.clear();
    }

    /// What arrived so far.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        lock(&self.inner).arrived.clone()
    }

    /// How often somebody came.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.inner).connections
    }

    pub(crate) fn logins(&self) -> Vec<String> {
        lock(&self.inner).logins.clone()
    }

    /// Waits until so many things arrived, and gives them.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize) -> Vec<Arrived> {
        super::wait_until(|| self.arrived().len() >= count, || format!("{count} expected: {:#?}", self.arrived()));
        self.arrived()
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mood(inner: &Mutex<Inner>) -> Mood {
    lock(inner).mood.unwrap_or(Mood::Good)
}

/// A line of a greeting that never ends; to HTTP it is garbage, slowly.
fn drip(stream: &mut TcpStream) {
    while stream.write_all(b"220-\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn line(stream: &mut impl Read) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn web(stream: &mut TcpStream, inner: &Mutex<Inner>) {
    let mut head = String::new();
    while !head.ends_with("\n\n") {
        let Ok(line) = line(stream) else { return };
        head += &(line + "\n");
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    lock(inner).arrived.push(Arrived { head, body: String::from_utf8_lossy(&body).into_owned() });
    let answer = match mood(inner) {
        Mood::Refuse => "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        Mood::Broken => "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n",
        Mood::Redirect => "HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        Mood::Endless => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        _ => "HTTP/1.1 204 Told\r\nconnection: close\r\n\r\n",
    };
    let mut written = stream.write_all(answer.as_bytes());
    while mood(inner) == Mood::Endless && written.is_ok() {
        written = stream.write_all(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes());
    }
}

fn secured(stream: &mut TcpStream, inner: &Mutex<Inner>, secure: &Secure) -> io::Result<()> {
    if !secure.implicit && !mail(stream, inner, true)? {
        return Ok(());
    }
    let connection = ServerConnection::new(Arc::clone(&secure.config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    if secure.implicit {
        return mail(&mut stream, inner, false).map(drop);
    }
    converse(&mut stream, inner, false).map(drop)
}

fn mail(stream: &mut (impl Read + Write), inner: &Mutex<Inner>, starttls: bool) -> io::Result<bool> {
    stream.write_all(b"220 sink\r\n")?;
    converse(stream, inner, starttls)
}

/// RFC 5321, as far as it goes here. Gives whether TLS is to begin.
fn converse(stream: &mut (impl Read + Write), inner: &Mutex<Inner>, starttls: bool) -> io::Result<bool> {
    let mut to = String::new();
    loop {
        let said = line(stream)?;
        let answer = match said.split([' ', ':']).next().unwrap_or_default().to_uppercase().as_str() {
            "EHLO" if starttls => "250-sink\r\n250 STARTTLS\r\n",
            "EHLO" => "250-sink\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "STARTTLS" if starttls => {
                stream.write_all(b"220 go on\r\n")?;
                return Ok(true);
            }
            "AUTH" => {
                lock(inner).logins.push(said.clone());
                "235 welcome\r\n"
            }
            "RCPT" if mood(inner) == Mood::Refuse => "550 5.1.1 \x1b[2J no such person\r\n",
            "MAIL" if mood(inner) == Mood::Broken => "451 4.3.0 come back\r\n",
            "RCPT" => {
                to = said;
                "250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let mut text = String::new();
                while !text.ends_with("\n.\n") {
                    text += &(line(stream)? + "\n");
                }
                let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
                let body = decoded(head, body.trim_end_matches(".\n"));
                lock(inner).arrived.push(Arrived { head: format!("{to}\n{head}"), body });
                "250 ok\r\n"
            }
            "QUIT" => return Ok(false),
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes())?;
    }
}

/// A body as its reader sees it.
fn decoded(head: &str, body: &str) -> String {
    let has = |encoding: &str| head.contains(&format!("Content-Transfer-Encoding: {encoding}"));
    if has("base64") {
        let bytes = STANDARD.decode(body.replace('\n', "")).expect("base64");
        return String::from_utf8(bytes).expect("UTF-8").replace("\r\n", "\n");
    }
    if !has("quoted-printable") {
        return body.to_owned();
    }
    let joined = body.replace("=\n", "");
    let (mut bytes, mut rest) = (Vec::new(), joined.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'=').then(|| std::str::from_utf8(&after[..2]).expect("two digits"));
        bytes.push(code.map_or(*first, |code| u8::from_str_radix(code, 16).expect("hex")));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).expect("UTF-8").replace("\r\n", "\n")
}
