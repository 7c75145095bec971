//! The API as its clients call it: blocking, over HTTP, with an error for each way it can fail.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{Problem, SignedText};

/// No answer is longer: a page of events with their statements.
const LONGEST_ANSWER: u64 = 128 * 1024 * 1024;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the service holds a waiting request.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);

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
    /// For the service at `url`, such as `http://localhost:7022`. Nothing is sent yet.
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .user_agent(concat!("ssh-jit/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), url: url.trim_end_matches('/').to_owned() }
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads what everybody may read.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.read(self.agent.get(self.at(path)).call())
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
        let unreachable = |e: ureq::Error| ApiError::Unreachable { url: self.url.clone(), reason: e.to_string() };
        let answer = answer.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().into_with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(unreachable)?;
        match status {
            200..300 => Ok(body),
            _ => match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => Err(ApiError::Refused { status, problem }),
                Err(_) => Err(self.nonsense(&format!("status {status}"))),
            },
        }
    }

    fn nonsense(&self, reason: &impl ToString) -> ApiError {
        ApiError::Nonsense { url: self.url.clone(), reason: reason.to_string() }
    }
}
