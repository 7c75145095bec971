//! What one client can cost the others: slow, silent and greedy ones, each against the listener that
//! `ssh-jit serve` runs, with times that a test can wait for.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use ssh_jit::http::{Limits, Tls};

use crate::support::service::Bench;
use crate::support::tls::{Authority, ask, secured};

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(300);
/// The same, and long enough to shake hands on a machine with much else to do.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// Long enough never to be reached by a test that passes.
const LONG: Duration = Duration::from_mins(1);
/// A machine with much else to do may be so late.
const SOON: Duration = Duration::from_secs(5);

fn no_limits() -> Limits {
    Limits {
        handshake_within: LONG,
        headers_within: LONG,
        body_within: LONG,
        written_within: LONG,
        ..Limits::default()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("a connection")
}

/// What came until the service hung up, while `dribble` was sent byte by byte. None: it did not soon.
fn until_closed(mut stream: TcpStream, dribble: &[u8]) -> Option<String> {
    let (begun, mut came) = (Instant::now(), Vec::new());
    stream.set_read_timeout(Some(Duration::from_millis(30))).expect("a time");
    let mut dribble = dribble.iter().cycle().filter(|_| !dribble.is_empty());
    while begun.elapsed() < SOON {
        if let Some(byte) = dribble.next() {
            // The answer may be there although nothing can be sent any more.
            let _ = stream.write_all(&[*byte]);
        }
        let mut some = [0; 4096];
        match stream.read(&mut some) {
            Ok(0) => return Some(String::from_utf8_lossy(&came).into_owned()),
            Ok(count) => came.extend_from_slice(&some[..count]),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
            Err(_) => return Some(String::from_utf8_lossy(&came).into_owned()),
        }
    }
    None
}

fn tls(authority: &Authority) -> Tls {
    let pair = authority.certify(&["localhost"]);
    Tls::new("localhost", pair.certificate.as_bytes(), pair.key.as_bytes()).expect("a certificate")
}

#[test]
fn who_sends_no_request_is_cut_off() {
    let bench = Bench::new();
    let address = bench.listen(Limits { headers_within: SHORT, ..no_limits() }, None);
    let cases: [(&str, &[u8], &[u8]); 4] = [
        ("silent", b"", b""),
        ("half a header", b"GET /v1/now HTTP/1.1\r\nHost: x", b""),
        ("a header that never ends", b"GET /v1/now HTTP/1.1\r\n", b"X: y\r\n"),
        ("idle", b"GET /v1/now HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ];
    for (case, at_once, dribble) in cases {
        let mut stream = connect(address);
        stream.write_all(at_once).unwrap();
        let came = until_closed(stream, dribble).unwrap_or_else(|| panic!("{case}: still open"));
        let status = if case == "idle" { "HTTP/1.1 200 OK" } else { "" };
        assert_eq!(came.lines().next().unwrap_or_default(), status, "{case}");
    }
}

#[test]
fn a_body_arrives_in_time_or_not_at_all() {
    let bench = Bench::new();
    let address = bench.listen(Limits { body_within: SHORT, ..no_limits() }, None);
    for dribble in [b"".as_slice(), b"x"] {
        let mut stream = connect(address);
        stream.write_all(b"POST /v1/requests HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").unwrap();
        let came = until_closed(stream, dribble).expect("it is cut off");
        assert!(came.starts_with("HTTP/1.1 408 Request Timeout"), "{came}");
        assert!(came.ends_with(r#""message":"body: it did not arrive in time"}"#), "{came}");
    }
    // A body that nobody reads holds nothing up either.
    let mut stream = connect(address);
    stream.write_all(b"GET /v1/now HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").unwrap();
    assert!(until_closed(stream, b"x").expect("it is cut off").starts_with("HTTP/1.1 200"));
}

#[test]
fn headers_have_a_size_and_a_number() {
    let bench = Bench::new();
    let address = bench.listen(no_limits(), None);
    let status = |headers: String| {
        let mut stream = connect(address);
        // What is too much is refused before all of it has arrived.
        let _ = write!(stream, "GET /v1/now HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let came = until_closed(stream, b"").expect("an answer and an end");
        came.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status(format!("X: {}\r\n", "x".repeat(15 * 1024))), "200");
    assert_eq!(status(format!("X: {}\r\n", "x".repeat(17 * 1024))), "431");
    // One is there already.
    assert_eq!(status("X: x\r\n".repeat(63)), "200");
    assert_eq!(status("X: x\r\n".repeat(64)), "431");
}

/// W07: what a proxy before the service may read otherwise ends the connection, and what stands behind it is not taken
/// for a request.
#[test]
fn a_request_has_one_length() {
    let bench = Bench::new();
    let address = bench.listen(no_limits(), None);
    let come = |headers: &str, body: &str| {
        let mut stream = connect(address);
        let behind = "GET /v1/trust HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let text = format!("POST /v1/requests HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}{behind}");
        stream.write_all(text.as_bytes()).expect("a request");
        let came = until_closed(stream, b"").unwrap_or_else(|| panic!("{headers:?}: the connection stays open"));
        let answers: Vec<String> = came.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect();
        (answers, came)
    };
    assert_eq!(come("Content-Length: 2", "{}").0, ["400", "200"], "two requests, each with one length");
    let chunked = "0\r\n\r\n";
    for (headers, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", chunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", chunked),
        ("Transfer-Encoding: chunked", chunked),
        ("Transfer-Encoding: chunked, identity", chunked),
        ("Transfer-Encoding: xchunked", chunked),
        ("Transfer-Encoding : chunked", chunked),
        ("Transfer-Encoding:\x0bchunked", chunked),
        ("Content-Length: 2\r\nContent-Length: 3", "{}"),
        ("Content-Length: +2", "{}"),
        ("Content-Length: 0x2", "{}"),
        ("Content-Length: -2", "{}"),
        ("Content-Length: 2, 3", "{}"),
        ("Content-Length: 2 2", "{}"),
        ("Content-Length : 2", "{}"),
        ("Content-Length: 18446744073709551618", "{}"),
        ("X: y\r\n folded\r\nContent-Length: 2", "{}"),
        ("Content-Length: 2\r\nHost: elsewhere", "{}"),
    ] {
        let (answers, came) = come(headers, body);
        assert!(answers.len() == 1 && answers[0].starts_with('4'), "{headers:?}: {came}");
        assert!(!came.contains("user_ca"), "{headers:?}: {came}");
    }
}

/// The service answers, and the client does not take it.
#[test]
fn who_does_not_read_is_cut_off() {
    let bench = Bench::new();
    let address = bench.listen(Limits { written_within: SHORT, ..no_limits() }, None);
    let mut stream = connect(address);
    stream.set_nonblocking(true).unwrap();
    let (begun, mut error) = (Instant::now(), None);
    // The service stops to read these when it cannot write the answers.
    while error.is_none() && begun.elapsed() < 2 * SOON {
        match stream.write(b"GET /v1/trust HTTP/1.1\r\nHost: x\r\n\r\n") {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => error = Some(e.kind()),
        }
    }
    assert!(matches!(error, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{error:?}");
}

#[test]
fn half_a_handshake_is_cut_off() {
    let bench = Bench::new();
    let authority = Authority::new();
    let address = bench.listen(Limits { handshake_within: HANDSHAKE, ..no_limits() }, Some(tls(&authority)));
    // A record of 512 bytes with a ClientHello, of which more never comes.
    for at_once in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = connect(address);
        stream.write_all(at_once).unwrap();
        assert_eq!(until_closed(stream, b"").as_deref(), Some(""));
    }
    let mut stream = secured(address, &authority).unwrap();
    std::thread::sleep(HANDSHAKE + SHORT);
    assert!(ask(&mut stream, "/v1/now").unwrap().starts_with("HTTP/1.1 200"), "it counts until TLS is there only");
}

/// Behind TLS the same times run.
#[test]
fn silence_after_a_handshake_is_cut_off() {
    let bench = Bench::new();
    let authority = Authority::new();
    let address = bench.listen(Limits { headers_within: SHORT, ..no_limits() }, Some(tls(&authority)));
    let stream = secured(address, &authority).unwrap();
    assert!(until_closed(stream.sock, b"").is_some());
}

/// Whoever waits for a decision says nothing for long, and hears of it.
#[test]
fn a_long_wait_is_not_cut() {
    let bench = Bench::new();
    let all = Limits { connections: 64, per_address: None, ..no_limits() };
    let address = bench.listen(
        Limits { handshake_within: SHORT, headers_within: SHORT, body_within: SHORT, written_within: SHORT, ..all },
        None,
    );
    let asked = bench.ask("alice", "web", &json!({}));
    let mut stream = connect(address);
    let head =
        format!("GET /v1/requests/{}/wait HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}", asked.id, asked.waiter);
    write!(stream, "{head}\r\n\r\n").unwrap();
    std::thread::sleep(4 * SHORT);
    bench.approve("carol", &asked).ok();
    let came = until_closed(stream, b"").expect("closed when it is idle again");
    assert!(came.starts_with("HTTP/1.1 200") && came.contains(r#""name":"approved""#), "{came}");
}

/// Whether the service takes another connection and answers on it.
fn answers(address: SocketAddr) -> bool {
    ask(&mut connect(address), "/v1/now").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A connection on which the service waits for something, made as soon as there is room for it.
fn admitted(address: SocketAddr) -> TcpStream {
    loop {
        let stream = connect(address);
        stream.set_read_timeout(Some(SHORT / 6)).expect("a time");
        if stream.peek(&mut [0]).is_err_and(|e| [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind())) {
            return stream;
        }
    }
}

fn soon(ready: impl FnMut() -> bool) {
    crate::support::wait_until(ready, || "it does not happen".to_owned());
}

#[test]
fn connections_have_a_number() {
    let bench = Bench::new();
    let address = bench.listen(Limits { connections: 3, ..no_limits() }, None);
    let mut open: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    for stream in &mut open {
        ask(stream, "/v1/now").expect("each of them is served");
    }
    assert_eq!(until_closed(connect(address), b"").as_deref(), Some(""), "closed without a word");
    ask(&mut open[0], "/v1/now").expect("those before go on");
    open.pop();
    soon(|| answers(address));
}

/// Before any cryptography, and freed by every way in which a connection can end.
#[test]
fn connections_of_one_address_have_a_number() {
    let bench = Bench::new();
    let authority = Authority::new();
    let limits = Limits { per_address: Some(2), handshake_within: HANDSHAKE, ..no_limits() };
    let address = bench.listen(limits, Some(tls(&authority)));
    let taken = || secured(address, &authority).is_ok_and(|mut stream| ask(&mut stream, "/v1/now").is_ok());
    let (first, second) = (secured(address, &authority).unwrap(), secured(address, &authority).unwrap());
    let begun = Instant::now();
    assert_eq!(until_closed(connect(address), b"").as_deref(), Some(""));
    assert!(begun.elapsed() < HANDSHAKE, "at once, not when the handshake is late: {:?}", begun.elapsed());
    assert!(!taken());
    drop(first);
    soon(taken);
    // A handshake that fails, and one that is never finished.
    connect(address).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    soon(taken);
    let silent = admitted(address);
    assert!(!taken(), "it counts from the first byte on, and before it");
    soon(taken);
    drop((second, silent));
}

/// Before the service has taken any of them, as after a pause.
#[test]
fn a_crowd_may_wait_to_be_taken() {
    let listening = ssh_jit::http::bind(([127, 0, 0, 1], 0).into(), Limits::default(), None).expect("a port");
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").map_or(128, |n| n.trim().parse().unwrap());
    let come = || TcpStream::connect_timeout(&listening.address, SOON / 5);
    let crowd: Vec<TcpStream> = (0..allowed.min(500)).map(|_| come().expect("nobody is dropped")).collect();
    drop(crowd);
}
