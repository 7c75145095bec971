//! The API as its clients call it: blocking, over HTTPS (or HTTP on this machine), with an error for each way it
//! can fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::CertificateError;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{Problem, SignedText};

/// No answer is longer: a page of events with their statements.
const LONGEST_ANSWER: u64 = 128 * 1024 * 1024;
/// Sooner than the service hangs up on a connection that is idle, so that nothing is sent into one that ends.
const IDLE_FOR: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the service holds a waiting request.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);
/// RFC 9110, 15.4.5.
const NOT_MODIFIED: u16 = 304;

/// A service, by its address.
#[derive(Debug, Clone)]
pub struct Api {
    agent: ureq::Agent,
    url: String,
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers there.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// Whoever answers there shows a certificate that nobody has to believe.
    #[error("{url}: its certificate is not trusted: {reason}")]
    Untrusted {
        /// The address.
        url: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// Anybody on the way could read bearers and answer in the service's place.
    #[error("{url}: plain http is spoken with this machine only, since anybody on the way could read along")]
    Plain {
        /// The address.
        url: String,
    },
    /// The file of CAs holds none.
    #[error("{path}: tls_ca: {reason}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The service says no.
    #[error("{}", problem.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        problem: Problem,
    },
    /// Not an answer of this API.
    #[error("{url} does not answer like an ssh-jit service: {reason}")]
    Nonsense {
        /// The address.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ApiError {
    /// The stable name of the service's reason.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }
}

impl Api {
    /// For the service at `url`, such as `https://ca.example`. Its certificate is checked against this machine's
    /// CAs, or against nothing but those in the file `tls_ca`. Nothing is sent yet.
    pub fn new(url: &str, tls_ca: Option<&Path>) -> Result<Self, ApiError> {
        if !url.starts_with("https://") && !is_this_machine(url) {
            return Err(ApiError::Plain { url: url.to_owned() });
        }
        let roots = tls_ca.map_or(Ok(RootCerts::PlatformVerifier), roots)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // What the environment says about proxies is not for us: config.rs alone reads it.
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .max_idle_age(IDLE_FOR)
            .user_agent(concat!("ssh-jit/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), url: url.trim_end_matches('/').to_owned() })
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads what everybody may read.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.read(self.agent.get(self.at(path)).call())
    }

    /// Reads what everybody may read, unless the service still has what `known` is the ETag of.
    pub fn get_unless<T: DeserializeOwned>(&self, path: &str, known: Option<&str>) -> Result<Option<T>, ApiError> {
        let request = self.agent.get(self.at(path));
        let Some(known) = known else { return self.read(request.call()).map(Some) };
        match request.header("If-None-Match", known).call() {
            Ok(answer) if answer.status().as_u16() == NOT_MODIFIED => Ok(None),
            answer => self.read(answer).map(Some),
        }
    }

    /// Reads with a bearer or a capability.
    pub fn get_as<T: DeserializeOwned>(&self, path: &str, bearer: &str) -> Result<T, ApiError> {
        let request = self.agent.get(self.at(path)).header("Authorization", format!("Bearer {bearer}"));
        self.read(request.call())
    }

    /// Sends a signed statement.
    pub fn post<T: DeserializeOwned>(&self, path: &str, statement: &impl Serialize) -> Result<T, ApiError> {
        self.read(self.send(path, statement))
    }

    /// Sends a signed statement to which there is no answer but "done".
    pub fn post_only(&self, path: &str, statement: &SignedText) -> Result<(), ApiError> {
        self.body(self.send(path, statement)).map(|_| ())
    }

    fn send(&self, path: &str, statement: &impl Serialize) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let body = serde_json::to_vec(statement).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        self.agent.post(self.at(path)).header("Content-Type", "application/json").send(&body)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ApiError> {
        let body = self.body(answer)?;
        serde_json::from_slice(&body).map_err(|e| self.nonsense(&e))
    }

    fn body(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>, ApiError> {
        let failed = |e: ureq::Error| {
            let (url, reason) = (self.url.clone(), e.to_string());
            match distrust(&e) {
                Some(reason) => ApiError::Untrusted { url, reason },
                None => ApiError::Unreachable { url, reason },
            }
        };
        let answer = answer.map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().into_with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(failed)?;
        match status {
            200..300 => Ok(body),
            _ => match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => Err(ApiError::Refused { status, problem }),
                Err(_) => Err(self.nonsense(&format!("status {status}"))),
            },
        }
    }

    pub(super) fn nonsense(&self, reason: &impl ToString) -> ApiError {
        ApiError::Nonsense { url: self.url.clone(), reason: reason.to_string() }
    }
}

/// Whether an address with `http://` leads to nobody else. Names of this machine that only a resolver knows are
/// not counted: a resolver can be lied to.
fn is_this_machine(url: &str) -> bool {
    let Ok(url) = url.parse::<ureq::http::Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn roots(path: &Path) -> Result<RootCerts, ApiError> {
    let bad = |reason: String| ApiError::Roots { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => return Err(bad("it holds something else than certificates".to_owned())),
            Err(e) => return Err(bad(e.to_string())),
        }
    }
    if found.is_empty() { Err(bad("it holds no certificate in PEM".to_owned())) } else { Ok(found.into()) }
}

/// What is wrong with the certificate, when that is why a call failed.
fn distrust(error: &ureq::Error) -> Option<String> {
    let rustls = match error {
        ureq::Error::Io(e) => e.get_ref()?.downcast_ref::<rustls::Error>()?,
        ureq::Error::Rustls(e) => e,
        _ => return None,
    };
    let rustls::Error::InvalidCertificate(wrong) = rustls else { return None };
    Some(match wrong {
        // The signature is wrong when a CA was made anew under its old name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no CA that is believed here signed it".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        other => other.to_string(),
    })
}
