//! `webhook` of a connector, and what must hold between webhooks.

use http::Uri;

use super::problem::Report;
use super::view::View;
use super::{Connector, verify};
use crate::id::Name;
use crate::limit::{Limits, MESSAGE_BYTES_MAX};
use crate::trigger::webhook::cors::Cors;
use crate::trigger::webhook::path::Pattern;
use crate::trigger::webhook::{HEAD_BYTES_MAX, Respond, Settings};

/// What is allowed where nothing else is said.
const METHOD_USUAL: &str = "POST";

/// Reads `webhook`, if it is there; `secrets` are the names in `[secrets]`, `runs` is `host.runs`.
pub(super) fn webhook(
    connector: &View<'_>,
    secrets: &[&str],
    limits: &Limits,
    runs: usize,
    report: &mut Report<'_>,
) -> Option<Settings> {
    let view = connector.child("webhook")?;
    let publish = view.text("publish").and_then(|queue| Name::parse(queue).ok());
    check_answer(connector, &view, report);
    let (path, verify) = (path(&view, report), verify::verify(&view, secrets, report));
    let body_bytes_max = view.size_if("max_body").unwrap_or(limits.message_bytes);
    if body_bytes_max > MESSAGE_BYTES_MAX - HEAD_BYTES_MAX {
        let help = format!("use at most {} bytes", MESSAGE_BYTES_MAX - HEAD_BYTES_MAX);
        report.problem(view.place_of("max_body"), &view.path_of("max_body"), "more than a message can hold", help);
    }
    let methods: Vec<String> = view.texts("methods").into_iter().map(|(method, _)| method.to_owned()).collect();
    let respond = match view.text("respond") {
        Some("connector") => Respond::Connector { timeout: view.duration_if("timeout").unwrap_or(limits.wall) },
        _ => Respond::Accepted { status: view.integer("accepted_status") },
    };
    Some(Settings {
        path: path?,
        methods: if view.has("methods") { methods } else { vec![METHOD_USUAL.to_owned()] },
        verify: verify?,
        respond,
        publish,
        concurrency: view.integer_if("concurrency").unwrap_or(runs),
        dedup: view.duration("dedup"),
        body_bytes_max,
        rate: view.rate_if("rate"),
        cors: view.child("cors").map(|cors| self::cors(&cors, report)),
    })
}

/// Who answers must be able to, and keys of the other way to answer are a mistake.
fn check_answer(connector: &View<'_>, view: &View<'_>, report: &mut Report<'_>) {
    let is_connectors = view.text("respond") == Some("connector");
    if view.has("publish") && is_connectors {
        let help = "take `publish` out: what the plugin is to publish stands in `allow.publish`";
        report.problem(
            view.place_of("publish"),
            &view.path_of("publish"),
            "nothing is stored where the connector answers",
            help,
        );
    }
    if !view.has("publish") && !connector.has("plugin") {
        let help = "add `publish = \"QUEUE\"` to store them, or `plugin` to handle them";
        report.problem(view.place, &view.path, "nobody takes these requests", help);
    }
    let (key, other) = if is_connectors { ("accepted_status", "accepted") } else { ("timeout", "connector") };
    if view.has(key) {
        let message = format!("it means nothing without `respond = \"{other}\"`");
        report.problem(view.place_of(key), &view.path_of(key), message, "take it out");
    }
}

fn path(view: &View<'_>, report: &mut Report<'_>) -> Option<Pattern> {
    let text = view.text("path")?;
    let path = Pattern::parse(text);
    path.map_err(|message| {
        let help = "write it as in \"/hooks/shop\" or \"/hooks/{tenant}\"";
        report.problem(view.place_of("path"), &view.path_of("path"), message, help);
    })
    .ok()
}

fn cors(view: &View<'_>, report: &mut Report<'_>) -> Cors {
    for (index, (origin, node)) in view.texts("origins").into_iter().enumerate() {
        if origin != "*" && !is_origin(origin) {
            let path = format!("{}[{index}]", view.path_of("origins"));
            report.problem(
                node.place,
                &path,
                "not an origin",
                "write scheme and host, as in \"https://shop.example\", or \"*\"",
            );
        }
    }
    let texts = |key| view.texts(key).into_iter().map(|(text, _)| text.to_owned()).collect();
    Cors { origins: texts("origins"), headers: texts("headers"), max_age: view.duration("max_age") }
}

/// As a browser writes it: nothing after the port, no upper case.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let is_http = matches!(scheme, "http" | "https");
    is_http && text == format!("{scheme}://{authority}").to_ascii_lowercase() && !authority.as_str().contains('@')
}

/// A request must belong to one webhook.
pub(super) fn check_paths(views: &[(&str, View<'_>)], connectors: &[Connector], report: &mut Report<'_>) {
    let webhooks: Vec<(&Name, &Settings)> =
        connectors.iter().filter_map(|connector| Some((&connector.name, connector.webhook.as_ref()?))).collect();
    for (index, (name, settings)) in webhooks.iter().enumerate() {
        let shares = |(_, other): &&(&Name, &Settings)| {
            other.path.meets(&settings.path) && other.methods.iter().any(|method| settings.methods.contains(method))
        };
        let Some((other, _)) = webhooks[..index].iter().find(shares) else { continue };
        let of = |name: &Name| views.iter().find(|(view, _)| *view == name.as_str());
        let (Some((_, view)), Some((_, earlier))) = (of(name), of(other)) else { continue };
        let (view, earlier) = (view.child_or_empty("webhook"), earlier.child_or_empty("webhook"));
        let message = format!("the connector `{other}` takes requests at this path already");
        let label = format!("the path of `{other}`");
        report.clash(
            (view.place_of("path"), &view.path_of("path")),
            message,
            "give each webhook a path of its own, or other `methods`",
            (earlier.place_of("path"), &label),
        );
    }
}
