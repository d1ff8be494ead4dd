//! `allow` of a connector: what it may publish, see and request.
//!
//! Checks that named secrets exist and that URL patterns are what the gate can enforce.

use super::problem::Report;
use super::quantity::{show_duration, show_size};
use super::view::View;
use super::{Allow, credential, idle};
use crate::capability::breaker;
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
            credential::unknown_secret(node.place, &path, name, secrets, report);
        }
    }
    let grants = view.children("http");
    let read: Vec<(&View<'_>, GrantSettings)> =
        grants.iter().filter_map(|grant| Some((grant, http(grant, secrets, limits, report)?))).collect();
    idle::warn(&read, report);
    Allow {
        publish,
        secrets: view.texts("secrets").into_iter().map(|(name, _)| name.to_owned()).collect(),
        http: read.into_iter().map(|(_, settings)| settings).collect(),
    }
}

/// What a limit of zero makes useless.
pub(super) fn warn_of_zero(connector: &View<'_>, allow: &Allow, limits: &Limits, report: &mut Report<'_>) {
    let limit = connector.child_or_empty("limits");
    let idle = [
        ("requests", u64::from(limits.requests), "http", allow.http.is_empty()),
        ("publishes", u64::from(limits.publishes), "publish", allow.publish.is_empty()),
    ];
    let idle = idle.into_iter().filter(|(_, max, _, nothing)| *max == 0 && !nothing);
    for (key, _, grant, _) in idle {
        let message = format!("it lets nothing through that `allow.{grant}` grants");
        let label = format!("`allow.{grant}`");
        let other = connector.child_or_empty("allow").place_of(grant);
        let help = format!("raise it, or take `allow.{grant}` out");
        report.warn_of_clash((limit.place_of(key), &limit.path_of(key)), message, help, (other, &label));
    }
}

fn http(view: &View<'_>, secrets: &[&str], limits: &Limits, report: &mut Report<'_>) -> Option<GrantSettings> {
    warn_of_wide(view, limits, report);
    let auth = view.child("auth");
    let identity = auth.as_ref().and_then(|auth| identity(&auth.child("mtls")?, secrets, report));
    let private = view.boolean("private");
    let auth = auth.and_then(|auth| credential::auth(&auth, secrets, private, report));
    let placeholders = credential::placeholders(view, secrets, report);
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
        first_byte: view.duration("first_byte"),
        max_request: view.size_if("max_request"),
        max_response: view.size_if("max_response"),
        idempotency: view.boolean("idempotency"),
        rate: view.rate_if("rate"),
        breaker: view
            .child("breaker")
            .map(|breaker| breaker::Settings { failures: breaker.integer("failures"), open: breaker.duration("open") }),
        auth,
        identity,
        placeholders,
        max_signed_body: view.size_if("max_signed_body"),
    })
}

fn identity(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Identity> {
    let key = credential::secret(view, "key", secrets, report);
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
        size("max_signed_body", "limits.request_bytes", limits.request_bytes),
    ];
    for (key, limit, bound) in wide.into_iter().flatten() {
        let message = format!("more than the connector's `{limit}` ({bound}), which holds all the same");
        report.warning(view.place_of(key), &view.path_of(key), message, format!("lower it, or raise `{limit}`"));
    }
}
