//! Mail, by SMTP: plain text to one person at a time. The server's name is resolved once, its address checked, and
//! that address connected to; the name is what its certificate must show.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{self, AsyncSmtpTransport};
use lettre::{Address, AsyncTransport as _, Tokio1Executor};

use crate::domain::names::MailAddress;
use crate::domain::notice::Item;
use crate::domain::time::Timestamp;
use crate::outgoing;

use super::Untold;

/// A mail server, and who this service is to it.
pub struct Mail {
    /// Its name, which its certificate must show.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept secret.
    pub security: Security,
    /// The sender.
    pub from: MailAddress,
    /// Name and password there.
    pub login: Option<Credentials>,
    /// Networks that may be reached although they are not public.
    pub allow: Arc<[IpNet]>,
    /// In DER, those who alone vouch for its certificate; otherwise the system's authorities do.
    pub authorities: Option<Vec<Vec<u8>>>,
}

/// How a connection for mail is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Plain at first, then TLS or nothing.
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all.
    Plain,
}

impl Mail {
    /// One attempt. Whoever calls this limits its time as a whole: a server may say something now and then for ever.
    pub(super) async fn send(
        &self,
        id: &str,
        to: &MailAddress,
        notice: &Item,
        origin: &str,
        now: Timestamp,
    ) -> Result<(), Untold> {
        let message = self.message(id, to, notice, origin, now).map_err(|e| Untold::refused(&e))?;
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(|e| Untold::broken(&format!("its name: {e}")))?;
        let addresses = outgoing::reachable(found, &self.allow).map_err(|e| Untold::broken(&e.to_string()))?;
        let mut last = Untold::broken("it has no address");
        for address in addresses {
            match self.transport(address).map_err(|e| self.untold(&e))?.send(message.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_response() || error.status().is_some() => return Err(self.untold(&error)),
                Err(error) => last = self.untold(&error),
            }
        }
        Err(last)
    }

    fn transport(&self, address: SocketAddr) -> Result<AsyncSmtpTransport<Tokio1Executor>, smtp::Error> {
        let tls = match self.security {
            Security::Plain => Tls::None,
            Security::Starttls => Tls::Required(self.tls()?),
            Security::Implicit => Tls::Wrapper(self.tls()?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(address.port())
            .tls(tls)
            .timeout(None::<Duration>)
            .hello_name(ClientId::Domain(domain(&self.from).to_owned()));
        if let Some(login) = &self.login {
            builder = builder.credentials(login.clone());
        }
        Ok(builder.build())
    }

    fn tls(&self) -> Result<TlsParameters, smtp::Error> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(authorities) = &self.authorities {
            builder = builder.certificate_store(CertificateStore::None);
            for der in authorities {
                builder = builder.add_root_certificate(Certificate::from_der(der.clone())?);
            }
        }
        builder.build()
    }

    /// Plain text in UTF-8. The subject has nothing in it that somebody wrote.
    fn message(
        &self,
        id: &str,
        to: &MailAddress,
        notice: &Item,
        origin: &str,
        now: Timestamp,
    ) -> Result<Message, String> {
        let mailbox = |address: &MailAddress| {
            let address: Address = address.as_str().parse().map_err(|e| format!("{address}: {e}"))?;
            Ok::<_, String>(Mailbox::new(None, address))
        };
        // RFC 3834: nobody on holiday answers a machine.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(notice.at().unix().unsigned_abs());
        let message = Message::builder()
            .from(mailbox(&self.from)?)
            .to(mailbox(to)?)
            .subject(format!("[ssh-jit] {}", notice.subject()))
            .message_id(Some(format!("<{id}@{}>", domain(&self.from))))
            .date(at)
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        message.body(notice.text(origin, now)).map_err(|e| e.to_string())
    }

    /// What a server answers is shown only where no password was sent: it might repeat that.
    fn untold(&self, error: &smtp::Error) -> Untold {
        match error.status() {
            Some(code) if self.login.is_some() => {
                Untold { error: format!("it answered {code}"), refused: error.is_permanent() }
            }
            Some(_) if error.is_permanent() => Untold::refused(&told(error)),
            _ if error.is_tls() => Untold::broken(&format!("TLS: {}", told(error))),
            _ => Untold::broken(&told(error)),
        }
    }
}

fn domain(address: &MailAddress) -> &str {
    address.as_str().split_once('@').map_or("localhost", |(_, domain)| domain)
}

/// An error and its cause.
fn told(error: &smtp::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
