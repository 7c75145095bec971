//! `[[notify]]` of `ssh-jit.toml`: the ways to tell people what happens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use openidconnect::url::Url;
use serde::Deserialize;
use ureq::tls::Certificate;
use zeroize::Zeroizing;

use crate::domain::names::{ChannelName, MailAddress};
use crate::files;

use super::oidc::{certificates, is_confidential};

/// How long a server may take for one message.
const WITHIN: Duration = Duration::from_secs(10);

/// One way to tell people.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// What the operator calls it.
    pub name: ChannelName,
    /// What it speaks.
    pub via: Via,
    /// Networks that it may reach although they are not public.
    pub allow: Vec<IpNet>,
    /// Who vouches for the server's certificate; otherwise the system's authorities do.
    pub authorities: Option<Vec<Certificate<'static>>>,
    /// How long the server may take for one message.
    pub within: Duration,
}

/// What a channel speaks.
#[derive(Debug, Clone)]
pub enum Via {
    /// JSON, signed as Standard Webhooks has it.
    Webhook {
        /// Where to.
        url: String,
        /// The key of the signatures.
        key: Secret<Vec<u8>>,
    },
    /// JSON as Slack's incoming webhooks take it.
    Slack {
        /// Where to; whoever knows it can write there.
        url: Secret<String>,
    },
    /// Mail.
    Smtp {
        /// The server's name, or its address.
        host: String,
        /// Its port.
        port: u16,
        /// How the connection is kept secret.
        tls: SmtpTls,
        /// The sender.
        from: MailAddress,
        /// Name and password there.
        login: Option<(String, Secret<String>)>,
    },
    /// Syslog, RFC 5424.
    Syslog {
        /// The daemon's socket or address.
        to: SyslogTo,
    },
}

/// A syslog daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTo {
    /// By its socket.
    Unix(PathBuf),
    /// By UDP, which anybody on the way can read.
    Udp(SocketAddr),
}

/// How a connection for mail is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Plain at first, then TLS or nothing.
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all: on this machine only.
    None,
}

/// What must not be shown.
#[derive(Clone)]
pub struct Secret<T: zeroize::Zeroize>(Zeroizing<T>);

impl<T: zeroize::Zeroize> Secret<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, which goes on being wiped.
    pub fn into_inner(self) -> Zeroizing<T> {
        self.0
    }

    /// The value itself.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: zeroize::Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// The table as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    name: ChannelName,
    kind: Kind,
    #[serde(default)]
    allow: Vec<IpNet>,
    tls_ca: Option<PathBuf>,
    url: Option<String>,
    secret_file: Option<PathBuf>,
    url_file: Option<PathBuf>,
    server: Option<String>,
    tls: Option<SmtpTls>,
    from: Option<MailAddress>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    address: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Webhook,
    Slack,
    Smtp,
    Syslog,
}

impl Table {
    /// Checks the fields and reads the files. The error begins with the field.
    pub(super) fn complete(self, base: &Path) -> Result<ChannelConfig, String> {
        let at = format!("notify.{}", self.name);
        let via = self.via(base).map_err(|message| format!("{at}.{message}"))?;
        let authorities = self.tls_ca.as_ref().map(|file| {
            let read = std::fs::read(base.join(file)).map_err(|e| e.to_string()).and_then(|pem| certificates(&pem));
            read.map_err(|e| format!("{at}.tls_ca: {}: {e}", file.display()))
        });
        Ok(ChannelConfig {
            name: self.name,
            via,
            allow: self.allow,
            authorities: authorities.transpose()?,
            within: WITHIN,
        })
    }

    fn via(&self, base: &Path) -> Result<Via, String> {
        let written = [
            (self.url.is_some(), "url", Kind::Webhook),
            (self.secret_file.is_some(), "secret_file", Kind::Webhook),
            (self.url_file.is_some(), "url_file", Kind::Slack),
            (self.server.is_some(), "server", Kind::Smtp),
            (self.tls.is_some(), "tls", Kind::Smtp),
            (self.from.is_some(), "from", Kind::Smtp),
            (self.username.is_some(), "username", Kind::Smtp),
            (self.password_file.is_some(), "password_file", Kind::Smtp),
            (self.address.is_some(), "address", Kind::Syslog),
        ];
        if let Some((_, field, _)) = written.iter().find(|(there, _, kind)| *there && *kind != self.kind) {
            return Err(format!("{field}: a channel of this kind has none; take it out"));
        }
        match self.kind {
            Kind::Webhook => Ok(Via::Webhook {
                url: address(needed(self.url.as_ref(), "url")?).map_err(|e| format!("url: {e}"))?,
                key: webhook_key(&secret(base, "secret_file", self.secret_file.as_ref())?)?,
            }),
            Kind::Slack => {
                let url = secret(base, "url_file", self.url_file.as_ref())?;
                Ok(Via::Slack { url: Secret::new(address(&url).map_err(|e| format!("url_file: {e}"))?) })
            }
            Kind::Smtp => self.smtp(base),
            Kind::Syslog => Ok(Via::Syslog { to: syslog(needed(self.address.as_ref(), "address")?)? }),
        }
    }

    fn smtp(&self, base: &Path) -> Result<Via, String> {
        let server = needed(self.server.as_ref(), "server")?;
        let split = server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = split.filter(|(host, _)| is_host(host)).ok_or("server: write it as mail.example.org:587")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let tls = *needed(self.tls.as_ref(), "tls")?;
        if tls == SmtpTls::None && !is_here(&host) {
            return Err("tls: without TLS mail goes to loopback only; write \"starttls\" or \"implicit\"".to_owned());
        }
        let login = match (&self.username, &self.password_file) {
            (None, None) => None,
            (Some(name), file) => Some((name.clone(), Secret(secret(base, "password_file", file.as_ref())?))),
            (None, Some(_)) => return Err("username: it is missing, and password_file needs it".to_owned()),
        };
        Ok(Via::Smtp { host, port, tls, from: needed(self.from.as_ref(), "from")?.clone(), login })
    }
}

fn needed<'a, T>(value: Option<&'a T>, field: &str) -> Result<&'a T, String> {
    value.ok_or_else(|| format!("{field}: it is missing, and a channel of this kind needs it"))
}

/// An address that nobody on the way can read along.
fn address(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if !is_confidential(&url) || url.fragment().is_some() {
        return Err("write https://... (http:// on loopback only), without a name or password in it".to_owned());
    }
    Ok(url.to_string())
}

/// `unix:/dev/log` or `udp:192.0.2.1:514`. No name: looking one up takes what may be down.
fn syslog(text: &str) -> Result<SyslogTo, String> {
    let socket = text.strip_prefix("unix:").map(Path::new).filter(|path| path.is_absolute());
    let remote = text.strip_prefix("udp:").and_then(|address| address.parse().ok());
    let to = socket.map(|path| SyslogTo::Unix(path.to_owned())).or(remote.map(SyslogTo::Udp));
    to.ok_or_else(|| "address: write unix:/dev/log, or udp: and an IP address with its port".to_owned())
}

/// What the file holds, which nobody else can read.
fn secret(base: &Path, field: &str, file: Option<&PathBuf>) -> Result<Zeroizing<String>, String> {
    let file = needed(file, field)?;
    let unusable = |e: &dyn fmt::Display| format!("{field}: {}: {e}", file.display());
    let read = files::read_private(&base.join(file)).map_err(|e| unusable(&e))?;
    let text = std::str::from_utf8(&read).map_err(|e| unusable(&e))?.trim();
    if text.is_empty() { Err(unusable(&"it is empty")) } else { Ok(Zeroizing::new(text.to_owned())) }
}

/// Standard Webhooks, "Signature scheme": `whsec_` and 24 to 64 bytes in base64.
fn webhook_key(text: &str) -> Result<Secret<Vec<u8>>, String> {
    let bytes = text.strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok()).map(Secret::new);
    let whole = bytes.filter(|bytes| (24..=64).contains(&bytes.expose().len()));
    whole.ok_or_else(|| "secret_file: write whsec_ and 24 to 64 random bytes in base64".to_owned())
}

fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.map_or_else(
        || !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b)),
        |bare| bare.parse::<IpAddr>().is_ok(),
    )
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("key", KEY),
            ("slack", "https://hooks.example/T0/B0/xyzzy"),
            ("password", "pa55"),
            ("weak", "whsec_c2hvcnQ="),
        ] {
            files::write_private(&dir.path().join(name), format!("{text}\n").as_bytes()).unwrap();
        }
        dir
    }

    fn complete(text: &str, base: &Path) -> Result<ChannelConfig, String> {
        toml::from_str::<Table>(text).map_err(|e| e.message().to_owned())?.complete(base)
    }

    const WEBHOOK: &str =
        "name = \"ops\"\nkind = \"webhook\"\nurl = \"https://hooks.example/x\"\nsecret_file = \"key\"";
    const SLACK: &str = "name = \"room\"\nkind = \"slack\"\nurl_file = \"slack\"";
    const SMTP: &str = "name = \"mail\"\nkind = \"smtp\"\nserver = \"mail.example.org:587\"\ntls = \"starttls\"\n\
                        from = \"jit@example.org\"\nusername = \"jit\"\npassword_file = \"password\"";

    #[test]
    fn each_kind_has_its_fields_and_shows_no_secret() {
        let dir = folder();
        for text in [WEBHOOK, SLACK, SMTP] {
            let shown = format!("{:?}", complete(text, dir.path()).unwrap());
            assert!(!shown.contains("xyzzy") && !shown.contains("pa55") && !shown.contains("49, 242"), "{shown}");
        }
        for (text, from, to, field) in [
            (WEBHOOK, "url = \"https://hooks.example/x\"\n", "", "notify.ops.url: it is missing"),
            (WEBHOOK, "https://", "http://", "notify.ops.url: write https"),
            (WEBHOOK, "https://", "https://a:b@", "notify.ops.url: write https"),
            (WEBHOOK, "secret_file = \"key\"", "", "notify.ops.secret_file: it is missing"),
            (WEBHOOK, "\"key\"", "\"slack\"", "notify.ops.secret_file: write whsec_"),
            (WEBHOOK, "\"key\"", "\"weak\"", "notify.ops.secret_file: write whsec_"),
            (WEBHOOK, "\"webhook\"", "\"slack\"", "notify.ops.url: a channel of this kind has none"),
            (SLACK, "\"slack\"\nurl_file", "\"smtp\"\nurl_file", "notify.room.url_file: a channel of this kind"),
            (SLACK, "url_file = \"slack\"", "url_file = \"key\"", "notify.room.url_file: "),
            (SMTP, ":587", "", "notify.mail.server: write it as"),
            (SMTP, "mail.example.org:587", "a b:587", "notify.mail.server: write it as"),
            (SMTP, "tls = \"starttls\"\n", "", "notify.mail.tls: it is missing"),
            (SMTP, "\"starttls\"", "\"none\"", "notify.mail.tls: without TLS"),
            (SMTP, "username = \"jit\"\n", "", "notify.mail.username: it is missing"),
            (SMTP, "\npassword_file = \"password\"", "", "notify.mail.password_file: it is missing"),
            (SMTP, "jit@example.org", "jit@example.org, x@y", "email"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = complete(&text.replacen(from, to, 1), dir.path()).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(complete(&(WEBHOOK.to_owned() + "\nmore = 1"), dir.path()).is_err());
    }

    #[test]
    fn syslog_is_a_socket_or_an_address() {
        let table = |address: &str| format!("name = \"log\"\nkind = \"syslog\"\naddress = \"{address}\"");
        let to = |address: &str| complete(&table(address), Path::new(".")).map(|config| config.via);
        assert!(matches!(to("unix:/dev/log"), Ok(Via::Syslog { to: SyslogTo::Unix(_) })));
        assert!(matches!(to("udp:[::1]:514"), Ok(Via::Syslog { to: SyslogTo::Udp(_) })));
        for wrong in ["", "/dev/log", "unix:dev/log", "udp:127.0.0.1", "udp:log.example:514", "tcp:127.0.0.1:514"] {
            assert!(to(wrong).unwrap_err().starts_with("notify.log.address: write unix:/dev/log"), "{wrong}");
        }
    }

    #[test]
    fn mail_without_tls_stays_here() {
        let dir = folder();
        for (host, well) in [("127.0.0.1", true), ("localhost", true), ("[::1]", true), ("10.0.0.1", false)] {
            let text = SMTP.replace("mail.example.org", host).replace("\"starttls\"", "\"none\"");
            assert_eq!(complete(&text, dir.path()).is_ok(), well, "{host}");
        }
    }

    #[test]
    fn a_secret_is_nobody_elses() {
        let dir = folder();
        for (text, file) in [(WEBHOOK, "key"), (SLACK, "slack"), (SMTP, "password")] {
            let path = dir.path().join(file);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            let error = complete(text, dir.path()).unwrap_err();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }
}
