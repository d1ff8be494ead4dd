//! Errors of the API as RFC 9457 problem documents.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;

const CONTENT_TYPE: &str = "application/problem+json";
/// The framework's own texts are a line.
const DETAIL_BYTES_MAX: usize = 4096;

/// One error: what happened, and the status that says so to programs.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    status: StatusCode,
    detail: String,
    retry_after_seconds: Option<u64>,
    /// Each thing that is wrong with a configuration.
    problems: Vec<config::Problem>,
}

/// As RFC 9457 has it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document {
    /// Always `about:blank`: the status says what kind it is.
    r#type: &'static str,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What happened, to which thing, and what to do.
    detail: String,
    /// Each thing that is wrong with a configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<config::Problem>,
}

impl Problem {
    /// An error with its text for people.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after_seconds: None, problems: Vec::new() }
    }

    /// Whether the request was refused for what it says: nothing was changed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status.is_client_error()
    }

    /// Says in full what is wrong with a configuration.
    #[must_use]
    pub fn with(mut self, problems: Vec<config::Problem>) -> Self {
        self.problems = problems;
        self
    }

    /// Tells the sender when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail, problems, retry_after_seconds } = self;
        let title = status.canonical_reason().unwrap_or("error").to_owned();
        let document = Document { r#type: "about:blank", title, status: status.as_u16(), detail, problems };
        let body = serde_json::to_string(&document).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        if let Some(seconds) = retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Gives every error the form of a problem document, also those that the framework answers before a handler is asked.
pub async fn document(response: Response) -> Response {
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == CONTENT_TYPE);
    let status = response.status();
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), DETAIL_BYTES_MAX).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&text).into_owned();
    let reason = status.canonical_reason().unwrap_or("error");
    Problem::new(status, if detail.is_empty() { reason.to_lowercase() } else { detail }).into_response()
}

/// The answer for every path that is no route.
pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here")
}
