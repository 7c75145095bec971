//! `[sources.NAME]` of `ssh-jit.toml`: the secrets that are shared with those who state facts.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::webhook::WebhookSecret;
use crate::files;

/// What is shared with one source.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Where the secrets lie: one a line, so that a sender can change its own.
    pub secret_file: PathBuf,
    /// What the file holds.
    #[serde(skip)]
    pub secrets: Vec<WebhookSecret>,
}

impl SourceConfig {
    /// Reads the file, which nobody else may read. The error begins with the field.
    pub(super) fn complete(&mut self, name: &str, base: &Path) -> Result<(), String> {
        let file = self.secret_file.display().to_string();
        let unusable = |e: &dyn std::fmt::Display| format!("sources.{name}.secret_file: {file}: {e}");
        let bytes = files::read_private(&base.join(&self.secret_file)).map_err(|e| unusable(&e))?;
        let text = std::str::from_utf8(&bytes).map_err(|e| unusable(&e))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        self.secrets = lines.map(WebhookSecret::parse).collect::<Result<_, _>>().map_err(|e| unusable(&e))?;
        if self.secrets.is_empty() { Err(unusable(&"it is empty")) } else { Ok(()) }
    }
}
