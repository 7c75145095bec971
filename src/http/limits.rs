//! What one client may cost the others: times, sizes and counts, and the acceptor that counts connections and
//! hangs up on who does not read. What a request may cost inside is the service's affair.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// No body is longer: a statement of the greatest length, quoted as JSON, and its signature.
pub(super) const LONGEST_BODY: usize = 128 * 1024;
/// No request's line and headers are longer together.
pub(super) const LONGEST_HEAD: usize = 16 * 1024;
/// No request has more headers.
pub(super) const MOST_HEADERS: usize = 64;
/// Descriptors that are never given to connections: the database, the journal, and files that are read anew.
const DESCRIPTORS_KEPT: u64 = 64;

/// What a connection may cost. Plain HTTP and HTTPS have the same limits but for the two that name one.
///
/// | limit | value | beyond it |
/// | --- | --- | --- |
/// | connections in all | 4,096, and what the file descriptors allow | closed at once |
/// | connections of one address, an IPv6 one counted by its /64 | `connections_per_address`; HTTPS without a proxy only | closed at once |
/// | TLS handshake | 5 s; HTTPS only | closed |
/// | line and headers of a request, from the moment that the connection is idle | 10 s | closed |
/// | line and headers | 16 KiB, 64 headers | 431, closed |
/// | body | 128 KiB | 413, closed |
/// | body, from the headers on | 10 s | 408, closed |
/// | an answer of which nothing can be written | 30 s | closed |
///
/// While an answer is being made none of the times runs, so that whoever waits for a decision may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address. None where every peer is a proxy or on this machine: there it would be a
    /// limit on everybody together.
    pub per_address: Option<usize>,
    /// For the TLS handshake.
    pub handshake_within: Duration,
    /// For a request's line and headers, and so for being idle.
    pub headers_within: Duration,
    /// For a request's body.
    pub body_within: Duration,
    /// For writing anything of an answer.
    pub written_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: None,
            handshake_within: Duration::from_secs(5),
            headers_within: Duration::from_secs(10),
            body_within: Duration::from_secs(10),
            written_within: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The same for a process that may open so many files. Without descriptors nothing could be accepted and
    /// nothing stored.
    #[must_use]
    pub fn with_descriptors(self, descriptors: u64) -> Self {
        let left = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX);
        Self { connections: self.connections.min(left), ..self }
    }
}

/// Takes connections within the limits, plain ones or those that TLS is spoken on.
#[derive(Debug, Clone)]
pub(super) struct Limiting {
    limits: Limits,
    open: Arc<Open>,
}

impl Limiting {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    fn admit(&self, stream: TcpStream) -> io::Result<Connection> {
        let slot = Open::take(&self.open, &self.limits, stream.peer_addr()?.ip())?;
        // Answers are small and somebody waits for them.
        stream.set_nodelay(true)?;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.written_within));
        Ok(Connection { stream: Box::pin(stream), _slot: slot })
    }
}

impl<S> Accept<TcpStream, S> for Limiting {
    type Stream = Connection;
    type Service = S;
    type Future = Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.admit(stream).map(|connection| (connection, service)))
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

impl Open {
    /// Counts a connection for as long as the slot lives.
    fn take(this: &Arc<Self>, limits: &Limits, address: IpAddr) -> io::Result<Slot> {
        let source = source(address);
        let mut counts = this.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = counts.by_source.get(&source).copied().unwrap_or_default();
        if counts.all >= limits.connections || limits.per_address.is_some_and(|most| theirs >= most) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        counts.all += 1;
        counts.by_source.insert(source, theirs + 1);
        Ok(Slot { open: Arc::clone(this), source })
    }
}

/// Who is behind an address. Anybody with IPv6 has 2^64 addresses, all in one /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A place among the open connections, given back with the value.
#[derive(Debug)]
struct Slot {
    open: Arc<Open>,
    source: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        // Addresses that are gone are forgotten, or the table would grow with all who ever came.
        match counts.by_source.get_mut(&self.source) {
            Some(theirs) if *theirs > 1 => *theirs -= 1,
            _ => drop(counts.by_source.remove(&self.source)),
        }
    }
}

/// A connection that was admitted.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    _slot: Slot,
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(open: &Arc<Open>, limits: &Limits, address: &str) -> Option<Slot> {
        Open::take(open, limits, address.parse().unwrap()).ok()
    }

    #[test]
    fn a_slot_is_given_back_once() {
        let (open, limits) = (Arc::default(), Limits { connections: 2, ..Limits::default() });
        let (first, second) = (take(&open, &limits, "192.0.2.1").unwrap(), take(&open, &limits, "192.0.2.2").unwrap());
        assert!(take(&open, &limits, "192.0.2.3").is_none());
        drop(first);
        let third = take(&open, &limits, "192.0.2.3").unwrap();
        assert!(take(&open, &limits, "192.0.2.4").is_none());
        drop((second, third));
        let counts = open.0.lock().unwrap();
        assert_eq!((counts.all, counts.by_source.len()), (0, 0));
    }

    #[test]
    fn an_address_has_its_own_limit() {
        let (open, limits) = (Arc::default(), Limits { per_address: Some(1), ..Limits::default() });
        let same = [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:1:2:3")];
        for (one, other) in same {
            let slot = take(&open, &limits, one).unwrap();
            assert!(take(&open, &limits, other).is_none(), "{one} and {other} are one");
            drop(slot);
            assert!(take(&open, &limits, other).is_some());
        }
        let _slot = take(&open, &limits, "2001:db8::1").unwrap();
        assert!(take(&open, &limits, "2001:db8:0:1::1").is_some(), "the next /64 is somebody else's");
        assert!(take(&open, &limits, "192.0.2.2").is_some());
        let free = Limits::default();
        assert!(take(&open, &free, "2001:db8::1").is_some(), "behind a proxy nobody is counted");
    }

    #[test]
    fn descriptors_bound_connections() {
        assert_eq!(Limits::default().with_descriptors(1024).connections, 960);
        assert_eq!(Limits::default().with_descriptors(u64::MAX).connections, 4096);
        assert_eq!(Limits::default().with_descriptors(10).connections, 0);
    }
}
