//! HTTPS: a certificate and its key, checked whole before they serve, and replaced while connections are open.
//! TLS 1.3 only. Where the files lie and who may read them is the caller's affair.

use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use zeroize::Zeroize as _;

/// What HTTPS is served with. Clones are one: a reload reaches all of them.
#[derive(Clone)]
pub struct Tls {
    config: RustlsConfig,
    host: String,
}

/// Why a certificate and its key cannot serve, by the one that is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate.
    #[error("{0}")]
    Certificate(String),
    /// The private key, alone or beside this certificate.
    #[error("{0}")]
    Key(String),
}

impl Tls {
    /// From PEM, for the host that people open: a certificate for another one would be refused by all of them.
    pub fn new(host: &str, certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let config = RustlsConfig::from_config(checked(host, certificate, key)?);
        Ok(Self { config, host: host.to_owned() })
    }

    /// Serves new connections with these; open ones go on. When they are refused, what served before still does.
    pub fn reload(&self, certificate: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.config.reload_from_config(checked(&self.host, certificate, key)?);
        Ok(())
    }

    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }
}

fn checked(host: &str, certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = chain(certificate)?;
    let leaf = chain.first().ok_or_else(|| TlsError::Certificate("it holds no certificate in PEM".to_owned()))?;
    is_for(leaf, host)?;
    let certified = CertifiedKey::new(chain, signer(key)?);
    if let Err(rustls::Error::InconsistentKeys(_)) = certified.keys_match() {
        return Err(TlsError::Key("it is not the key of this certificate".to_owned()));
    }
    let config = ServerConfig::builder_with_protocol_versions(&[&version::TLS13]).with_no_client_auth();
    let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // The only protocol that is spoken, so that a client of another one learns it in the handshake.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// From PEM. What was decoded is wiped: what signs has a copy of its own, and wipes that.
fn signer(pem: &[u8]) -> Result<Arc<dyn SigningKey>, TlsError> {
    let mut key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| TlsError::Key("it holds no unencrypted private key in PEM".to_owned()))?;
    let signer = any_supported_type(&key).map_err(|e| TlsError::Key(e.to_string()));
    key.zeroize();
    signer
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.map_err(|e| TlsError::Certificate(format!("it is not PEM: {e}")))
}

fn is_for(leaf: &CertificateDer<'_>, host: &str) -> Result<(), TlsError> {
    let leaf = ParsedCertificate::try_from(leaf)
        .map_err(|_| TlsError::Certificate("its first certificate cannot be read".to_owned()))?;
    let name = ServerName::try_from(host)
        .map_err(|_| TlsError::Certificate(format!("no certificate can be for {host:?}, the host of url")))?;
    verify_server_name(&leaf, &name)
        .map_err(|_| TlsError::Certificate(format!("its first certificate is not for {host}, the host of url")))
}
