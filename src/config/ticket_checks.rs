//! `[ticket_checks.NAME]` of `ssh-jit.toml`: with what this service shows itself where tickets are looked up.

use std::fmt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use ureq::http::{HeaderName, HeaderValue};
use ureq::tls::Certificate;

use super::oidc::certificates;
use crate::files;

/// What one check is called with.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketCheckConfig {
    /// Where a header with a secret lies, as in `Authorization: Bearer ...`; none where nothing is asked for.
    pub header_file: Option<PathBuf>,
    /// Who vouches for the other side's certificate, in PEM; otherwise the system's authorities do.
    pub tls_ca: Option<PathBuf>,
    /// Networks that it may reach although they are not public.
    #[serde(default)]
    pub allow: Vec<IpNet>,
    /// What the file holds.
    #[serde(skip)]
    pub header: Option<(HeaderName, HeaderValue)>,
    /// What the file holds.
    #[serde(skip)]
    pub authorities: Option<Vec<Certificate<'static>>>,
}

impl TicketCheckConfig {
    /// Reads the files. The error begins with the field, and does not repeat the secret.
    pub(super) fn complete(&mut self, name: &str, base: &Path) -> Result<(), String> {
        if let Some(file) = &self.header_file {
            let place = format!("ticket_checks.{name}.header_file: {}", file.display());
            let bytes = files::read_private(&base.join(file)).map_err(|e| format!("{place}: {e}"))?;
            let header = header(&bytes);
            self.header =
                Some(header.ok_or_else(|| format!("{place}: write one line, as in Authorization: Bearer ..."))?);
        }
        if let Some(file) = &self.tls_ca {
            let read = std::fs::read(base.join(file)).map_err(|e| e.to_string()).and_then(|pem| certificates(&pem));
            self.authorities = Some(read.map_err(|e| format!("ticket_checks.{name}.tls_ca: {}: {e}", file.display()))?);
        }
        Ok(())
    }
}

fn header(bytes: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = std::str::from_utf8(bytes).ok()?.trim_end().split_once(':')?;
    let mut value = HeaderValue::from_str(value.trim()).ok().filter(|value| !value.is_empty())?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

impl fmt::Debug for TicketCheckConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketCheckConfig").field("header_file", &self.header_file).finish_non_exhaustive()
    }
}
