//! `[oidc]` of `ssh-jit.toml`: the identity provider whose word lets people read in the browser.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openidconnect::ClientSecret;
use openidconnect::url::{Host, Url};
use serde::Deserialize;
use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::files;

/// The provider, and what this service is to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's name for itself: `https://...`, as its tokens spell it.
    pub issuer: String,
    /// This service's name there.
    pub client_id: String,
    /// Where this service's secret lies; none for a public client.
    pub client_secret_file: Option<PathBuf>,
    /// The claim that is the person's name in the policy.
    #[serde(default = "preferred_username")]
    pub person_claim: String,
    /// The claim that lists the person's groups.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// Who vouches for the provider's certificate, in PEM; otherwise the system's authorities do.
    pub tls_ca: Option<PathBuf>,
    /// What the file holds.
    #[serde(skip)]
    pub client_secret: Option<ClientSecret>,
    /// What the file holds.
    #[serde(skip)]
    pub authorities: Option<Vec<Certificate<'static>>>,
}

fn preferred_username() -> String {
    "preferred_username".to_owned()
}

fn groups() -> String {
    "groups".to_owned()
}

impl OidcConfig {
    /// Checks the addresses and reads the files. The error begins with the field.
    pub(super) fn complete(&mut self, base: &Path) -> Result<(), String> {
        let issuer = Url::parse(&self.issuer).map_err(|e| format!("oidc.issuer: {e}"))?;
        if !is_confidential(&issuer) || issuer.query().is_some() || issuer.fragment().is_some() {
            return Err("oidc.issuer: write https://... (http:// on loopback only), and nothing behind the path".into());
        }
        if self.client_id.is_empty() {
            return Err("oidc.client_id: it is empty".to_owned());
        }
        if let Some(file) = &self.client_secret_file {
            let unusable = |e: &dyn std::fmt::Display| format!("oidc.client_secret_file: {}: {e}", file.display());
            let secret = files::read_private(&base.join(file)).map_err(|e| unusable(&e))?;
            let secret = std::str::from_utf8(&secret).map_err(|e| unusable(&e))?.trim_end();
            if secret.is_empty() {
                return Err(unusable(&"it is empty"));
            }
            self.client_secret = Some(ClientSecret::new(secret.to_owned()));
        }
        if let Some(file) = &self.tls_ca {
            let read = std::fs::read(base.join(file)).map_err(|e| e.to_string()).and_then(|pem| certificates(&pem));
            self.authorities = Some(read.map_err(|e| format!("oidc.tls_ca: {}: {e}", file.display()))?);
        }
        Ok(())
    }
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let items = parse_pem(pem).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None })
        .collect();
    // No authorities would mean that no provider is believed, and an empty file is a slip.
    if certificates.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(certificates) }
}

/// Whether nobody on the way can read what is sent to an address: HTTPS, or this machine itself.
pub fn is_confidential(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    url.username().is_empty() && url.password().is_none() && (url.scheme() == "https" || url.scheme() == "http" && here)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn complete(text: &str, base: &Path) -> Result<OidcConfig, String> {
        let mut config: OidcConfig = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        config.complete(base)?;
        Ok(config)
    }

    #[test]
    fn a_provider_is_reached_in_confidence() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = |url: &str| complete(&format!("issuer = {url:?}\nclient_id = \"jit\""), dir.path());
        for url in ["https://id.example", "https://id.example/realms/x", "http://localhost:4000", "http://127.0.0.1/a"]
        {
            let config = issuer(url).unwrap();
            assert_eq!((config.person_claim.as_str(), config.groups_claim.as_str()), ("preferred_username", "groups"));
        }
        for url in [
            "http://id.example",
            "http://127.0.0.1.evil.example",
            "https://a@id.example",
            "https://id.example?x=1",
            "x",
        ] {
            assert!(issuer(url).unwrap_err().starts_with("oidc.issuer: "), "{url}");
        }
        assert!(complete("issuer = \"https://a\"\nclient_id = \"\"", dir.path()).unwrap_err().contains("client_id"));
        assert!(complete("issuer = \"https://a\"\nclient_id = \"x\"\nmore = 1", dir.path()).is_err());
    }

    #[test]
    fn a_secret_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let text = "issuer = \"https://a\"\nclient_id = \"x\"\nclient_secret_file = \"secret\"";
        let path = dir.path().join("secret");
        files::write_private(&path, b"s3cret\n").unwrap();
        let config = complete(text, dir.path()).unwrap();
        assert_eq!(config.client_secret.as_ref().unwrap().secret(), "s3cret");
        assert!(!format!("{config:?}").contains("s3cret"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(complete(text, dir.path()).unwrap_err().contains("chmod 600"));
        files::write_private(&path, b"\n").unwrap();
        assert!(complete(text, dir.path()).unwrap_err().contains("empty"));
        let text = "issuer = \"https://a\"\nclient_id = \"x\"\ntls_ca = \"secret\"";
        assert!(complete(text, dir.path()).unwrap_err().contains("no certificate"));
    }
}
