//! `allow` of a connector: what it may publish, see and request.
//!
//! Checks that named secrets exist and that URL patterns are what the gate can enforce.

use super::Allow;
use super::document::Place;
use super::problem::{Report, suggestion};
use super::quantity::{show_duration, show_size};
use super::schema::Kind;
use super::validate::is_name;
use super::view::View;
use crate::capability::breaker;
use crate::capability::credential::{Auth, Setting};
use crate::capability::http::GrantSettings;
use crate::capability::http::pattern::{AnyHost, UrlPattern};
use crate::capability::http::target::Scheme;
use crate::egress::trust::{self, Identity};
use crate::id::Name;
use crate::limit::Limits;

/// Reads `allow`; `secrets` are the names in `[secrets]`, `limits` those of the same connector.
pub(super) fn allow(view: &View<'_>, secrets: &[&str], limits: &Limits, report: &mut Report<'_>) -> Allow {
    let mut publish: Vec<Name> = Vec::new();
    for (text, _) in view.texts("publish") {
        publish.extend(Name::parse(text).ok().filter(|name| !publish.contains(name)));
    }
    for (index, (name, node)) in view.texts("secrets").into_iter().enumerate() {
        if !secrets.contains(&name) {
            let path = format!("{}[{index}]", view.path_of("secrets"));
            unknown_secret(node.place, &path, name, secrets, report);
        }
    }
    let grants = view.children("http");
    Allow {
        publish,
        secrets: view.texts("secrets").into_iter().map(|(name, _)| name.to_owned()).collect(),
        http: grants.iter().filter_map(|grant| http(grant, secrets, limits, report)).collect(),
    }
}

fn http(view: &View<'_>, secrets: &[&str], limits: &Limits, report: &mut Report<'_>) -> Option<GrantSettings> {
    warn_of_wide(view, limits, report);
    let auth = view.child("auth");
    let identity = auth.as_ref().and_then(|auth| identity(&auth.child("mtls")?, secrets, report));
    let auth = auth.and_then(|auth| credential(&auth, secrets, report));
    let private = view.boolean("private");
    let pattern = pattern(view, report)?;
    if private && !pattern.names_host_and_port() {
        let help = "write host and port out in `url`, as in \"http://10.0.0.5:8080/*\"";
        let message = "a private address needs a `url` with one host and its port";
        report.problem(view.place_of("private"), &view.path_of("private"), message, help);
    }
    if identity.is_some() && pattern.scheme() == Scheme::Http {
        let message = "a client certificate cannot be shown over `http`";
        report.problem(
            view.place_of("url"),
            &view.path_of("url"),
            message,
            "write `https://`, or leave out `auth.mtls`",
        );
    }
    Some(GrantSettings {
        key: view.path.clone(),
        pattern,
        methods: view.texts("methods").into_iter().map(|(method, _)| method.to_owned()).collect(),
        private,
        timeout: view.duration_if("timeout"),
        max_request: view.size_if("max_request"),
        max_response: view.size_if("max_response"),
        idempotency: view.boolean("idempotency"),
        rate: view.rate_if("rate"),
        breaker: view
            .child("breaker")
            .map(|breaker| breaker::Settings { failures: breaker.integer("failures"), open: breaker.duration("open") }),
        auth,
        identity,
    })
}

fn identity(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Identity> {
    let key = secret(view, "key", secrets, report);
    let cert = view.path("cert", report)?;
    if let Err(message) = trust::certificates(&cert) {
        report.problem(view.place_of("cert"), &view.path_of("cert"), message, "name a PEM file with the certificate");
        return None;
    }
    Some(Identity { cert, key: key? })
}

fn pattern(view: &View<'_>, report: &mut Report<'_>) -> Option<UrlPattern> {
    let any = if view.boolean("any") { AnyHost::Allowed } else { AnyHost::Refused };
    match UrlPattern::parse(view.text("url")?, any) {
        Ok(pattern) => Some(pattern),
        Err(message) => {
            report.problem(view.place_of("url"), &view.path_of("url"), message, "");
            None
        }
    }
}

/// A grant narrows the connector's limits and never widens them.
fn warn_of_wide(view: &View<'_>, limits: &Limits, report: &mut Report<'_>) {
    let size = |key, limit: &'static str, bound| {
        view.size_if(key).filter(|size| *size > bound).map(|_| (key, limit, show_size(bound)))
    };
    let timeout = view.duration_if("timeout").filter(|timeout| *timeout > limits.wall);
    let wide = [
        timeout.map(|_| ("timeout", "limits.wall", show_duration(limits.wall))),
        size("max_request", "limits.request_bytes", limits.request_bytes),
        size("max_response", "limits.response_bytes", limits.response_bytes),
    ];
    for (key, limit, bound) in wide.into_iter().flatten() {
        let message = format!("more than the connector's `{limit}` ({bound}), which holds all the same");
        report.warning(view.place_of(key), &view.path_of(key), message, format!("lower it, or raise `{limit}`"));
    }
}

fn credential(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Auth> {
    if view.has("bearer") {
        return Some(Auth::Bearer { secret: secret(view, "bearer", secrets, report)? });
    }
    let (form, settings) = ["basic", "header", "query"].iter().find_map(|form| Some((*form, view.child(form)?)))?;
    check_placement(form, &settings, report);
    let secret = secret(&settings, if form == "basic" { "password" } else { "secret" }, secrets, report)?;
    let text = |key| settings.text(key).map(str::to_owned);
    Some(match form {
        "basic" => Auth::Basic { user: text("user")?, secret },
        "header" => Auth::Header { name: text("name")?, prefix: text("prefix").unwrap_or_default(), secret },
        _ => Auth::Query { name: text("name")?, secret },
    })
}

/// A credential must not stand where it would change what the request is.
fn check_placement(form: &str, view: &View<'_>, report: &mut Report<'_>) {
    let settings: &[(&str, Setting)] = match form {
        "basic" => &[("user", Setting::User)],
        "header" => &[("name", Setting::Header), ("prefix", Setting::Prefix)],
        _ => &[("name", Setting::Parameter)],
    };
    for (key, setting) in settings {
        if let Some(Err(message)) = view.text(key).map(|text| setting.check(text)) {
            report.problem(view.place_of(key), &view.path_of(key), message, "");
        }
    }
}

/// The name of a secret that exists. What is written is not repeated: it may be the value, pasted by mistake.
fn secret(view: &View<'_>, key: &str, secrets: &[&str], report: &mut Report<'_>) -> Option<String> {
    let name = view.text(key)?;
    if !secrets.contains(&name) {
        unknown_secret(view.place_of(key), &view.path_of(key), name, secrets, report);
        return None;
    }
    Some(name.to_owned())
}

fn unknown_secret(place: Place, path: &str, name: &str, secrets: &[&str], report: &mut Report<'_>) {
    if !is_name(name, &Kind::SecretName) {
        // Reported as such already.
        return;
    }
    let help = match secrets {
        [] => "add a table `[secrets]` with an entry such as `NAME = { env = \"VARIABLE\" }`".to_owned(),
        _ => suggestion(name, secrets),
    };
    report.problem(place, path, "not in `[secrets]`", help);
}
