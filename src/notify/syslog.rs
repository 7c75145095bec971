//! Syslog as RFC 5424 has it, one message to a datagram: to the socket of this machine's daemon, or by UDP to another's.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::domain::notice::{Item, News};
use crate::domain::time::Timestamp;

use super::Untold;

/// RFC 5424, 6.1: receivers should take so many octets, and more may be cut.
const LONGEST: usize = 2048;
/// RFC 5424, 6.2.1: facility 10, security and authorization, times eight.
const SECURITY: u8 = 10 * 8;
/// The severities "critical" and "notice".
const CRITICAL: u8 = 2;
const NOTICE: u8 = 5;

/// Where messages go.
pub struct Syslog(SyslogTo);

/// A syslog daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTo {
    /// By its socket, such as `/dev/log`.
    Unix(PathBuf),
    /// By UDP.
    Udp(SocketAddr),
}

impl Syslog {
    /// Nothing is opened yet: a daemon that starts anew has another socket.
    pub fn new(to: SyslogTo) -> Self {
        Self(to)
    }

    /// One attempt.
    pub(super) fn send(&self, notice: &Item, origin: &str, now: Timestamp) -> Result<(), Untold> {
        self.write(&message(notice, origin, now)).map_err(|e| Untold::broken(&e.to_string()))
    }

    fn write(&self, message: &[u8]) -> io::Result<()> {
        match &self.0 {
            SyslogTo::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                // A daemon that reads nothing must not hold this up.
                socket.set_nonblocking(true)?;
                socket.send_to(message, path).map(|_| ())
            }
            SyslogTo::Udp(to) => {
                let any: SocketAddr =
                    if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
                UdpSocket::bind(any)?.send_to(message, to).map(|_| ())
            }
        }
    }
}

/// RFC 5424, 6: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`; what is not known is `-`. The
/// text is UTF-8, and so begins with a BOM.
fn message(notice: &Item, origin: &str, now: Timestamp) -> Vec<u8> {
    // An alarm is none about a request.
    let urgent = notice
        .news()
        .is_none_or(|notice| matches!(notice.news, News::BreakGlass { .. } | News::BreakGlassTried { .. }));
    let priority = SECURITY + if urgent { CRITICAL } else { NOTICE };
    let text = notice.text(origin, now).replace('\n', " | ");
    let head = format!("<{priority}>1 {} - ssh-jit - {} - \u{feff}", notice.at(), notice.topic());
    let mut message = head + &text;
    message.truncate(message.floor_char_boundary(LONGEST));
    message.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::Notice;
    use crate::domain::testing::{at, break_glass, parsed, request};

    #[test]
    fn a_message_is_one_line_that_the_standard_knows() {
        let notice = Notice::of_emergency(&break_glass(), None, at(0)).into();
        let text = String::from_utf8(message(&notice, "https://ca.example", at(0))).unwrap();
        let head =
            "<82>1 2026-11-22T10:01:58Z - ssh-jit - break-glass.opened - \u{feff}BREAK-GLASS: alice opened db-prod";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains(" | Reason: primary is down, nobody answers | ") && !text.contains('\n'), "{text}");
        let asked = Notice::of(&request(), None, News::Withdrawn, at(0)).into();
        assert!(message(&asked, "https://ca.example", at(0)).starts_with(b"<85>1 "));
    }

    /// A06: no text makes a second message, and none makes it longer than receivers take.
    #[test]
    fn what_people_write_makes_no_second_message() {
        let mut said = break_glass();
        said.reason = parsed(&"\u{526f}".repeat(1000));
        let long = message(&Notice::of_emergency(&said, None, at(0)).into(), &"x".repeat(3000), at(0));
        assert!(long.len() <= LONGEST && !long.contains(&b'\n'));
        assert!(std::str::from_utf8(&long).is_ok(), "cut between characters");
    }
}
