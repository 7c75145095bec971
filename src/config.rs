//! What operators and people set: the service's file, a person's file, and the environment, which
//! nothing else reads.

mod notify;
mod oidc;
mod proxies;
mod sources;
mod ticket_checks;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::domain::names::{CheckName, InstanceId, PersonName, SourceName};
use crate::domain::time::Patience;
use crate::files;

pub use notify::{ChannelConfig, Secret, SmtpTls, SyslogTo, Via};
pub use oidc::{OidcConfig, is_confidential};
pub use proxies::Proxies;
pub use sources::SourceConfig;
pub use ticket_checks::TicketCheckConfig;

/// A setting that cannot be used. Names file, line and field.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// `ssh-jit.toml`, with its paths made absolute or relative to the working folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// What people open.
    pub url: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where break-glass alone listens, with threads and connections of its own.
    pub break_glass_listen: Option<SocketAddr>,
    /// What clients reach that by; otherwise `url` with its port.
    pub break_glass_url: Option<String>,
    /// The folder of the service's keys.
    pub ca_keys: PathBuf,
    /// The policy.
    pub policy: PathBuf,
    /// `sqlite:FILE`.
    pub database: String,
    /// The break-glass journal.
    pub journal: PathBuf,
    /// The chain of certificates to serve HTTPS with, in PEM, the service's own first.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// How many connections one address may have open, where HTTPS is served and no proxy stands before it.
    #[serde(default = "enough")]
    pub connections_per_address: usize,
    /// Something else takes the connections of clients, with TLS: then any address may be listened on.
    #[serde(default)]
    pub behind_proxy: bool,
    /// The networks of proxies that are believed when they say, by `X-Forwarded-For`, for whom they ask.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// By how many seconds windows are shifted early, for hosts whose clocks are behind.
    #[serde(default = "five")]
    pub clock_skew: u32,
    /// For how long hosts are certified: 1m to 720h.
    #[serde(default = "longest", deserialize_with = "length")]
    pub host_certificates: Patience,
    /// How many verified statements are remembered in memory.
    #[serde(default = "many")]
    pub remembered: usize,
    /// The identity provider whose word lets people read in the browser.
    pub oidc: Option<OidcConfig>,
    /// What is shared with those who state facts.
    #[serde(default)]
    pub sources: BTreeMap<SourceName, SourceConfig>,
    /// With what this service shows itself where tickets are looked up.
    #[serde(default)]
    pub ticket_checks: BTreeMap<CheckName, TicketCheckConfig>,
    /// The ways to tell people, as they are written.
    #[serde(default, rename = "notify")]
    channels: Vec<Spanned<notify::Table>>,
    /// The ways to tell people.
    #[serde(skip)]
    pub notify: Vec<ChannelConfig>,
    /// The folder that the paths above are relative to.
    #[serde(skip)]
    pub base: PathBuf,
}

fn longest() -> Patience {
    Patience::LONGEST
}

fn length<'de, D: Deserializer<'de>>(input: D) -> Result<Patience, D::Error> {
    String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
}

fn five() -> u32 {
    5
}

fn enough() -> usize {
    256
}

fn many() -> usize {
    100_000
}

impl ServiceConfig {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let fail = |message: String| ConfigError(format!("{}:{message}", path.display()));
        let text = files::read_trusted(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => fail(format!(" {e}; run ssh-jit init to make one")),
            _ => fail(format!(" {e}")),
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|e| fail(in_file(&text, &e)))?;
        let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let paths = [&mut config.ca_keys, &mut config.policy, &mut config.journal];
        let optional = [&mut config.tls_cert, &mut config.tls_key];
        for relative in paths.into_iter().chain(optional.into_iter().flatten()) {
            *relative = base.join(&relative);
        }
        base.clone_into(&mut config.base);
        if let Some(oidc) = &mut config.oidc {
            oidc.complete(base).map_err(|message| fail(format!(" {message}")))?;
        }
        for (name, source) in &mut config.sources {
            source.complete(name.as_str(), base).map_err(|message| fail(format!(" {message}")))?;
        }
        for (name, check) in &mut config.ticket_checks {
            check.complete(name.as_str(), base).map_err(|message| fail(format!(" {message}")))?;
        }
        config.complete_channels(base, &text).map_err(fail)?;
        config.doubt().map_or(Ok(config), |doubt| Err(fail(format!(" {doubt}"))))
    }

    /// Checks the channels, and reads their secrets. The error begins with the line of the table.
    fn complete_channels(&mut self, base: &Path, text: &str) -> Result<(), String> {
        for table in std::mem::take(&mut self.channels) {
            let line = line_of(text, table.span().start);
            let channel = table.into_inner().complete(base).map_err(|message| format!("{line}: {message}"))?;
            if self.notify.iter().any(|other| other.name == channel.name) {
                return Err(format!("{line}: notify.name: there is another channel of the name {}", channel.name));
            }
            self.notify.push(channel);
        }
        Ok(())
    }

    /// Who stands between clients and the service.
    pub fn proxies(&self) -> Proxies {
        Proxies { trusted: self.trusted_proxies.iter().map(|network| network.0).collect(), always: self.behind_proxy }
    }

    /// What clients reach break-glass by, where it listens alone on this port.
    pub fn break_glass_url(&self, port: u16) -> Option<String> {
        self.break_glass_url.clone().or_else(|| {
            let mut url = openidconnect::url::Url::parse(&self.url).ok()?;
            url.set_port(Some(port)).ok()?;
            Some(url.as_str().trim_end_matches('/').to_owned())
        })
    }

    /// The certificate and its key.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }

    /// The first setting that cannot be used, alone or beside the others.
    fn doubt(&self) -> Option<&'static str> {
        let https = self.url.starts_with("https://");
        let in_the_open =
            |address: &SocketAddr| self.tls().is_none() && !address.ip().is_loopback() && !self.behind_proxy;
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        let refused = [
            (!https && !self.url.starts_with("http://"), "url: write http://... or https://..."),
            (self.tls_cert.is_some() && self.tls_key.is_none(), "tls_key: it is missing, and tls_cert needs it"),
            (self.tls_key.is_some() && self.tls_cert.is_none(), "tls_cert: it is missing, and tls_key needs it"),
            (self.tls().is_some() && !https, "url: with tls_cert it is served as https://..."),
            (
                in_the_open(&self.listen),
                "listen: plain HTTP is served on loopback only; set tls_cert and tls_key, or put a proxy with TLS \
                 before it and set behind_proxy = true",
            ),
            (
                self.break_glass_listen.as_ref().is_some_and(in_the_open),
                "break_glass_listen: plain HTTP is served on loopback only; set tls_cert and tls_key, or put a proxy with \
                 TLS before it and set behind_proxy = true",
            ),
            (
                self.break_glass_listen.is_some_and(|own| own == self.listen && own.port() != 0),
                "break_glass_listen: it is to be another address than listen",
            ),
            (
                self.break_glass_url.is_some() && self.break_glass_listen.is_none(),
                "break_glass_url: nothing listens there; set break_glass_listen",
            ),
            (!self.break_glass_url.as_ref().is_none_or(is_url), "break_glass_url: write http://... or https://..."),
            (self.connections_per_address == 0, "connections_per_address: at least 1"),
            (self.clock_skew > 60, "clock_skew: at most 60 seconds"),
        ];
        refused.into_iter().find_map(|(wrong, what)| wrong.then_some(what))
    }
}

/// A network, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy)]
pub struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let network = text.parse::<IpNet>().ok().filter(|network| network.trunc() == *network);
        network.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no network, as in 10.0.0.0/8")))
    }
}

/// A person's `config.toml`, each value of which a flag or the environment may replace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The service's address.
    pub server: Option<String>,
    /// The person's name in the policy.
    pub user: Option<PersonName>,
    /// The person's key, either half of the pair.
    pub identity: Option<PathBuf>,
    /// The emergency key, either half of the pair.
    pub emergency_identity: Option<PathBuf>,
    /// Where break-glass alone is served; otherwise the address that the service told of last.
    pub break_glass_server: Option<String>,
    /// The only CAs that are believed to certify the service, in PEM, instead of this machine's.
    pub tls_ca: Option<PathBuf>,
    /// The instance that must answer; pinned at first contact where it is not set.
    pub instance: Option<InstanceId>,
}

impl ClientConfig {
    /// Reads the file; one that is not there is empty.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|e| ConfigError(format!("{}:{}", path.display(), in_file(&text, &e))))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(ConfigError(format!("{}: {e}", path.display()))),
        }
    }

    /// These values, and where one is missing, `other`'s.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            server: self.server.or(other.server),
            user: self.user.or(other.user),
            identity: self.identity.or(other.identity),
            emergency_identity: self.emergency_identity.or(other.emergency_identity),
            break_glass_server: self.break_glass_server.or(other.break_glass_server),
            tls_ca: self.tls_ca.or(other.tls_ca),
            instance: self.instance.or(other.instance),
        }
    }
}

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The person's home.
    pub home: PathBuf,
    /// Where configuration lies: `~/.config/ssh-jit`.
    pub config: PathBuf,
    /// Where state lies: `~/.local/state/ssh-jit`.
    pub state: PathBuf,
    /// Where sockets lie: `$XDG_RUNTIME_DIR`, else `$TMPDIR`, else `/tmp`.
    pub runtime: PathBuf,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// systemd's folder of credentials.
    pub credentials: Option<PathBuf>,
    /// Whether colour is unwanted.
    pub no_color: bool,
    /// Whether a browser could show itself here.
    pub graphical: bool,
    /// The account's name.
    pub account: Option<String>,
    /// `SSH_JIT_SERVER`, `SSH_JIT_USER`, `SSH_JIT_IDENTITY`, `SSH_JIT_EMERGENCY_IDENTITY`,
    /// `SSH_JIT_BREAK_GLASS_SERVER`, `SSH_JIT_TLS_CA`, `SSH_JIT_INSTANCE`.
    pub client: ClientConfig,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Result<Self, ConfigError> {
        let parsed = |name: &str| Ok::<_, ConfigError>(text(name)?.filter(|value| !value.is_empty()));
        let bad = |name: &str, e: &dyn std::fmt::Display| ConfigError(format!("{name}: {e}"));
        let home = path("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let client = ClientConfig {
            server: parsed("SSH_JIT_SERVER")?,
            user: parsed("SSH_JIT_USER")?.map(|v| v.parse().map_err(|e| bad("SSH_JIT_USER", &e))).transpose()?,
            identity: path("SSH_JIT_IDENTITY"),
            emergency_identity: path("SSH_JIT_EMERGENCY_IDENTITY"),
            break_glass_server: parsed("SSH_JIT_BREAK_GLASS_SERVER")?,
            tls_ca: path("SSH_JIT_TLS_CA"),
            instance: parsed("SSH_JIT_INSTANCE")?
                .map(|v| v.parse().map_err(|e| bad("SSH_JIT_INSTANCE", &e)))
                .transpose()?,
        };
        Ok(Self {
            config: path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("ssh-jit"),
            state: path("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")).join("ssh-jit"),
            runtime: path("XDG_RUNTIME_DIR")
                .filter(|path| path.is_dir())
                .or_else(|| path("TMPDIR"))
                .unwrap_or_else(|| PathBuf::from("/tmp")),
            agent: path("SSH_AUTH_SOCK"),
            credentials: path("CREDENTIALS_DIRECTORY"),
            no_color: path("NO_COLOR").is_some(),
            graphical: cfg!(target_os = "macos") || path("DISPLAY").is_some() || path("WAYLAND_DISPLAY").is_some(),
            account: text("USER")?,
            home,
            client,
        })
    }
}

/// What is said about a login to whatever runs for it.
#[derive(Debug, Clone, Default)]
pub struct LoginEnvironment {
    /// `SSH_AUTH_INFO_0`, from sshd to PAM: a line for each way in which somebody showed who they are.
    pub auth_info: Option<String>,
    /// The account: `PAM_USER`, or `USER` where sshd itself runs what reads this.
    pub account: Option<String>,
    /// Where it came from: `PAM_RHOST`, or the first word of `SSH_CONNECTION`.
    pub source: Option<String>,
}

impl LoginEnvironment {
    /// Reads it.
    pub fn read() -> Result<Self, ConfigError> {
        let connection = text("SSH_CONNECTION")?.and_then(|text| text.split(' ').next().map(str::to_owned));
        Ok(Self {
            auth_info: text("SSH_AUTH_INFO_0")?,
            account: text("PAM_USER")?.or(text("USER")?),
            source: text("PAM_RHOST")?.or(connection),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn text(name: &str) -> Result<Option<String>, ConfigError> {
    let not_text = |_| ConfigError(format!("{name}: it is not UTF-8"));
    path(name).map(|value| value.into_os_string().into_string().map_err(not_text)).transpose()
}

/// The line in which this byte stands, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.get(..at.min(text.len())).unwrap_or_default().matches('\n').count() + 1
}

/// `12: url: ...`, from a TOML error.
fn in_file(text: &str, error: &toml::de::Error) -> String {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    let field = text.lines().nth(line - 1).and_then(|row| row.split_once('=')).map_or("", |(key, _)| key.trim());
    let message = error.message().lines().next().unwrap_or_default();
    if field.is_empty() { format!("{line}: {message}") } else { format!("{line}: {field}: {message}") }
}
