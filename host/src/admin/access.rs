//! Who may ask the admin listener.
//!
//! A page in the operator's browser is an attacker here: the `Host` header must be one of ours (421), a foreign `Origin`
//! or `Sec-Fetch-Site` is refused (403), a body must be JSON (415), and everything that shows data needs the token (401).
//! The files of the web page hold none: a link to them may stand anywhere.
//! Who is not let in is logged and recorded, without a word of the request.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Admin;
use super::problem::Problem;
use super::ui;
use crate::audit::KeptOut;
use crate::mask::Secret;

/// What a request must show.
#[derive(Debug)]
pub struct Access {
    token: Secret,
    /// `Host` values, lower case, with and without the port.
    hosts: Vec<String>,
    metrics_open: bool,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug)]
enum Bar {
    Host,
    Origin,
    Token,
    ContentType,
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

    fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Bar> {
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let Ok(Some(host)) = only(headers, header::HOST.as_str()) else { return Err(Bar::Host) };
        if !self.hosts.contains(&host.to_ascii_lowercase()) {
            return Err(Bar::Host);
        }
        let is_page = ui::is_open(path) && (method == Method::GET || method == Method::HEAD);
        if is_page || path == "/healthz" || path == "/readyz" || (path == "/metrics" && self.metrics_open) {
            return Ok(());
        }
        let is_own = |name, is_own: &dyn Fn(&str) -> bool| only(headers, name).is_ok_and(|it| it.is_none_or(is_own));
        if !is_own(header::ORIGIN.as_str(), &|origin| self.is_own_origin(origin))
            || !is_own("sec-fetch-site", &|site| site == "same-origin" || site == "none")
        {
            return Err(Bar::Origin);
        }
        let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if !bearer.is_some_and(|token| self.is_token(token)) {
            return Err(Bar::Token);
        }
        let is_json = text(header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind == "application/x-ndjson"
        });
        if (*method == Method::POST || *method == Method::PUT) && !is_json {
            return Err(Bar::ContentType);
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

impl Bar {
    fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Host => "this host name is not one of the listener's: add it to `host.admin_hosts`",
            Self::Origin => "requests from other sites' pages are refused",
            Self::Token => "send `Authorization: Bearer TOKEN`; the token lies in the data directory, in `admin.token`",
            Self::ContentType => "send `Content-Type: application/json` (or application/x-ndjson for many messages)",
        }
    }

    fn kept_out(self) -> KeptOut {
        let (reason, key, text) = match self {
            Self::Host => ("host", "host.admin_hosts", "its host name is not one of the listener's"),
            Self::Origin => ("origin", "", "it came from a page of another site"),
            Self::Token => ("token", "", "it did not show the token"),
            Self::ContentType => ("content_type", "", "its body is not JSON"),
        };
        KeptOut { reason, key, text }
    }
}

/// Lets a request through, or answers in place of its handler.
pub async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match admin.access.judge(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(bar) => {
            admin.audit.kept_out(bar.kept_out());
            Problem::new(bar.status(), bar.detail()).into_response()
        }
    }
}

/// The one value of a header, if it is there; an error where there are several, or where it is no text: another may read
/// them in another way.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}
