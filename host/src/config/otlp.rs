//! `[host.otlp]`.
//!
//! Checks that the collector's address is one and that no credential stands in the file. Invariant: what may be a
//! credential, pasted by mistake, is not repeated.

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use url::{Host, Url};

use super::credential::{secret, user_and_password};
use super::problem::Report;
use super::view::View;
use crate::capability::credential::Setting;
use crate::telemetry::otlp::{Auth, Settings};

/// Where a collector takes traces, if nothing else is said.
const PATH: &str = "/v1/traces";
/// Headers of each request.
const HEADERS_MAX: usize = 16;
/// What may be said about the host.
const RESOURCE_MAX: usize = 16;
/// Bytes of a name or a value of either.
const TEXT_BYTES_MAX: usize = 256;

/// Reads it, where it is there; `secrets` are the names in `[secrets]`.
pub(super) fn otlp(host: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Settings> {
    let view = host.child("otlp")?;
    let headers = headers(&view, report);
    let resource = texts(&view, "resource", RESOURCE_MAX, report);
    let auth = view.child("auth").and_then(|auth| self::auth(&auth, secrets, report));
    let url = url(&view, report)?;
    if view.has("auth") && url.scheme() == "http" && !is_near(&url) {
        let help = "write `https://` in `host.otlp.url`; plain http with `auth` is for this machine, a private address, or a name without dots";
        report.problem(view.place_of("auth"), &view.path_of("auth"), "credentials need TLS", help);
    }
    Some(Settings { url, sample: view.number("sample"), headers, auth, resource })
}

fn url(view: &View<'_>, report: &mut Report<'_>) -> Option<Url> {
    const FORM: &str =
        "write it as \"http://collector.example:4318\": `/v1/traces` is added where it has no path of its own";
    let mut problem = |help: &str| report.problem(view.place_of("url"), &view.path_of("url"), "not a collector", help);
    let Ok(mut url) = Url::parse(view.text("url")?) else {
        problem(FORM);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        problem("leave out user, password and query, for the file holds no secrets: name one in `host.otlp.auth`");
        return None;
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.fragment().is_some() {
        problem(FORM);
        return None;
    }
    if url.path() == "/" {
        url.set_path(PATH);
    }
    Some(url)
}

/// Whether what is sent there in the clear stays on this machine or its own network, as far as the address says it.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Some(Host::Domain(name)) => !name.contains('.') || name.ends_with(".localhost"),
        None => false,
    }
}

fn headers(view: &View<'_>, report: &mut Report<'_>) -> Vec<(String, String)> {
    let all = texts(view, "headers", HEADERS_MAX, report);
    for (name, value) in &all {
        let path = format!("{}.{name}", view.path_of("headers"));
        let mut problem = |message: &str, help: &str| report.problem(view.place_of("headers"), &path, message, help);
        match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            (Err(_), _) => problem("not the name of a header", "use letters, digits and `-`"),
            (_, Err(_)) => problem("not the value of a header", "leave out control characters"),
            (Ok(name), _) if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) => {
                problem("a credential stands in `[secrets]`", "name the secret in `host.otlp.auth`");
            }
            (Ok(name), _) if [CONTENT_TYPE, HOST].contains(&name) => {
                problem("the host sets this header itself", "leave it out");
            }
            (Ok(_), Ok(_)) => {}
        }
    }
    all
}

/// The texts of a table whose names are anybody's.
fn texts(view: &View<'_>, key: &str, most: usize, report: &mut Report<'_>) -> Vec<(String, String)> {
    let Some(table) = view.node(key).and_then(|node| node.table()) else { return Vec::new() };
    let mut problem = |message: &str, help: String| {
        report.problem(view.place_of(key), &view.path_of(key), message, help);
    };
    if table.len() > most {
        problem("too many", format!("write {most} at most"));
    }
    let mut all = Vec::new();
    for (name, entry) in table {
        match entry.node.text() {
            Some(text) if name.len() <= TEXT_BYTES_MAX && text.len() <= TEXT_BYTES_MAX => {
                all.push((name.clone(), text.to_owned()));
            }
            Some(_) => problem("too long", format!("write {TEXT_BYTES_MAX} bytes at most")),
            None => problem("holds something else than texts", "write each value in quotes".to_owned()),
        }
    }
    all
}

fn auth(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Auth> {
    if view.has("bearer") {
        return Some(Auth::Bearer { secret: secret(view, "bearer", secrets, report)? });
    }
    if let Some(basic) = view.child("basic") {
        let (user, secret) = user_and_password(&basic, secrets, report)?;
        return Some(Auth::Basic { user, secret });
    }
    let header = view.child("header")?;
    for (key, setting) in [("name", Setting::Header), ("prefix", Setting::Prefix)] {
        if let Some(Err(message)) = header.text(key).map(|text| setting.check(text)) {
            report.problem(header.place_of(key), &header.path_of(key), message, "");
        }
    }
    let secret = secret(&header, "secret", secrets, report)?;
    let prefix = header.text("prefix").unwrap_or_default().to_owned();
    Some(Auth::Header { name: header.text("name")?.to_owned(), prefix, secret })
}
