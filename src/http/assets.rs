//! The one style sheet and the one script, under names that change with their bytes, so that browsers may keep
//! them for good.

use std::fmt::{self, Display};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};

use crate::domain::digest::Digest;

use super::answer;

/// A file that pages load.
pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    digest: LazyLock<String>,
}

pub(super) static STYLE: Asset = Asset {
    name: "style.css",
    kind: "text/css; charset=utf-8",
    text: include_str!("assets/style.css"),
    digest: LazyLock::new(|| digest(STYLE.text)),
};

pub(super) static SCRIPT: Asset = Asset {
    name: "app.js",
    kind: "text/javascript; charset=utf-8",
    text: include_str!("assets/app.js"),
    digest: LazyLock::new(|| digest(SCRIPT.text)),
};

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).hex().chars().take(16).collect()
}

impl Asset {
    /// Where pages find it.
    pub(super) fn path(&self) -> impl Display {
        fmt::from_fn(|f| write!(f, "/assets/{}/{}", *self.digest, self.name))
    }
}

/// Serves either of them, at its present path only.
pub(super) async fn asset(Path((digest, name)): Path<(String, String)>) -> Response {
    let found = [&STYLE, &SCRIPT].into_iter().find(|asset| asset.name == name && *asset.digest == digest);
    let Some(asset) = found else { return answer::not_found().await.into_response() };
    let headers = [(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (StatusCode::OK, headers, asset.text).into_response()
}
