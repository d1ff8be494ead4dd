//! Who may ask the admin listener.
//!
//! A page in the operator's browser is an attacker here: the `Host` header must be one of ours (421), a foreign `Origin`
//! or `Sec-Fetch-Site` is refused (403), a body must be JSON (415), and everything that shows data needs the token (401).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::problem::Problem;
use crate::mask::Secret;

/// What a request must show.
#[derive(Debug)]
pub struct Access {
    token: Secret,
    /// `Host` values, lower case, with and without the port.
    hosts: Vec<String>,
    metrics_open: bool,
}

impl Access {
    /// Rules of the listener at `address`; `extra_hosts` are names under which it may be asked too.
    #[must_use]
    pub fn new(token: Secret, address: SocketAddr, extra_hosts: &[String], metrics_open: bool) -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        let own = if address.ip().is_unspecified() { None } else { Some(host_of(address)) };
        let mut hosts: Vec<String> = names.into_iter().chain(own).chain(extra_hosts.iter().cloned()).collect();
        let with_port: Vec<String> = hosts.iter().map(|host| format!("{host}:{}", address.port())).collect();
        hosts.extend(with_port);
        hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
        Self { token, hosts, metrics_open }
    }

    fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default().to_ascii_lowercase();
        if !self.hosts.contains(&host) {
            let detail = "this host name is not one of the listener's: add it to `host.admin_hosts`";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        if path == "/healthz" || path == "/readyz" || (path == "/metrics" && self.metrics_open) {
            return Ok(());
        }
        let is_foreign = text(header::ORIGIN).is_some_and(|origin| !self.is_own_origin(origin))
            || headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
        if is_foreign {
            return Err(Problem::new(StatusCode::FORBIDDEN, "requests from other sites' pages are refused"));
        }
        let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if !bearer.is_some_and(|token| self.is_token(token)) {
            let detail = "send `Authorization: Bearer TOKEN`; the token lies in the data directory, in `admin.token`";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        }
        let is_json = text(header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind == "application/x-ndjson"
        });
        if (*method == Method::POST || *method == Method::PUT) && !is_json {
            let detail = "send `Content-Type: application/json` (or application/x-ndjson for many messages)";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        Ok(())
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_some_and(|host| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))
    }

    /// Compares through a keyed hash, so that the time taken says nothing about the token.
    fn is_token(&self, given: &str) -> bool {
        let tag = |text: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(self.token.expose()).expect("HMAC takes keys of any length");
            mac.update(text);
            mac
        };
        tag(given.as_bytes()).verify(&tag(self.token.expose()).finalize().into_bytes()).is_ok()
    }
}

/// Lets a request through, or answers in place of its handler.
pub async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.judge(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}
