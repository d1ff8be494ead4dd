//! `[connectors.X]`: triggers, policies, limits, and what must hold between connectors.

use std::collections::BTreeMap;

use super::document::Place;
use super::problem::{Report, closest};
use super::validate::BUILTIN_PREFIX;
use super::view::View;
use super::{Connector, Consume, Plugin, Reuse, grant, schedule, webhook};
use crate::delivery::retry::{Cause, Jitter, Policy};
use crate::id::Name;
use crate::ledger::From;
use crate::limit::{Limits, hostcall_bytes_for};

/// Reads every connector; those that miss something have been reported and are left out.
pub(super) fn connectors(root: &View<'_>, runs: usize, report: &mut Report<'_>) -> Vec<Connector> {
    let secrets: Vec<&str> = root.named("secrets").into_iter().map(|(name, _)| name).collect();
    let views = root.named("connectors");
    check_renames(&views, report);
    let connectors: Vec<Connector> =
        views.iter().filter_map(|(name, view)| connector(name, view, &secrets, runs, report)).collect();
    webhook::check_paths(&views, &connectors, report);
    connectors
}

fn connector(name: &str, view: &View<'_>, secrets: &[&str], runs: usize, report: &mut Report<'_>) -> Option<Connector> {
    check_triggers(view, report);
    check_plugin(view, report);
    let limits = limits(&view.child_or_empty("limits"));
    let allow = grant::allow(&view.child_or_empty("allow"), secrets, &limits, report);
    grant::warn_of_zero(view, &allow, &limits, report);
    let schedules = schedule::schedules(view, report);
    let webhook = webhook::webhook(view, secrets, &limits, runs, report);
    Some(Connector {
        name: Name::parse(name).ok()?,
        plugin: if view.has("plugin") { Some(plugin(view, report)?) } else { None },
        config: match view.json("config") {
            Some(serde_json::Value::Object(config)) => config,
            _ => serde_json::Map::new(),
        },
        enabled: view.boolean("enabled"),
        was: view.text("was").and_then(|was| Name::parse(was).ok()),
        brake: view.integer("brake"),
        rate: view.rate_if("rate"),
        reuse: if view.text("reuse") == Some("always") { Reuse::Always } else { Reuse::Never },
        dead_retention: view.duration("dead_retention"),
        dead_max_bytes: view.size("dead_max_bytes"),
        on_dead: on_dead(view, report),
        consume: consume(view),
        schedules,
        webhook,
        retry: retry(&view.child_or_empty("retry")),
        limits,
        allow,
    })
}

fn check_triggers(view: &View<'_>, report: &mut Report<'_>) {
    if !["consume", "schedule", "webhook"].iter().any(|trigger| view.has(trigger)) {
        let help =
            "add `consume = \"QUEUE\"`, `schedule = { every = \"5m\" }` or `webhook = { path = \"/hooks/NAME\", … }`";
        report.problem(view.place, &view.path, "nothing ever starts this connector", help);
    }
}

/// What only a plugin can make use of, without one.
fn check_plugin(view: &View<'_>, report: &mut Report<'_>) {
    // A misspelt key is a problem by itself.
    if view.written().any(|key| closest(key, ["plugin"]).is_some()) {
        return;
    }
    let of_plugin = ["config", "reuse", "brake", "consume", "schedule", "retry", "rate", "on_dead", "limits", "allow"];
    let idle = of_plugin.iter().find(|key| view.has(key));
    if idle.is_none() && view.has("webhook") {
        return;
    }
    let what = idle.map_or(String::new(), |key| format!(": `{key}` is for one"));
    let help = "add `plugin`: the path of a .wasm file, or \"builtin:NAME\"";
    report.problem(view.place, &view.path_of("plugin"), format!("missing{what}"), help);
}

fn plugin(view: &View<'_>, report: &Report<'_>) -> Option<Plugin> {
    if let Some(file) = view.child("plugin") {
        let path = file.path("path", report)?;
        return Some(match file.text("key") {
            Some(key) => Plugin::Signed { path, key: key.to_owned() },
            None => Plugin::Path(path),
        });
    }
    match view.text("plugin")?.strip_prefix(BUILTIN_PREFIX) {
        Some(name) => Some(Plugin::Builtin(name.to_owned())),
        None => view.path("plugin", report).map(Plugin::Path),
    }
}

fn consume(connector: &View<'_>) -> Option<Consume> {
    let view = connector.child_or_empty("consume");
    let queue = connector.text("consume").or_else(|| view.text("queue"))?;
    Some(Consume {
        queue: Name::parse(queue).ok()?,
        from: if view.text("from") == Some("latest") { From::Latest } else { From::Oldest },
        batch: view.integer("batch"),
        batch_wait: view.duration("batch_wait"),
        concurrency: view.integer("concurrency"),
        pending_max: view.integer("pending_max"),
    })
}

/// Whoever reads the queue must be somebody else: each notice that died would be the next one.
fn on_dead(connector: &View<'_>, report: &mut Report<'_>) -> Option<Name> {
    let view = connector.child("on_dead")?;
    let queue = Name::parse(view.text("publish")?).ok()?;
    if consume(connector).is_some_and(|consume| consume.queue == queue) {
        let message = format!("the connector reads `{queue}` itself");
        let help = "name a queue that another connector reads, or nobody";
        report.problem(view.place_of("publish"), &view.path_of("publish"), message, help);
    }
    Some(queue)
}

fn retry(view: &View<'_>) -> Policy {
    Policy {
        attempts: view.integer("attempts"),
        first: view.duration("first"),
        factor: view.number("factor"),
        max: view.duration("max"),
        jitter: match view.text("jitter") {
            Some("none") => Jitter::None,
            Some("equal") => Jitter::Equal,
            _ => Jitter::Full,
        },
        within: view.duration_if("within"),
        on: Cause::ALL.into_iter().filter(|cause| tries_again(view, *cause)).collect(),
    }
}

fn tries_again(retry: &View<'_>, cause: Cause) -> bool {
    !retry.has("on") || retry.texts("on").iter().any(|(word, _)| *word == cause.word())
}

fn limits(view: &View<'_>) -> Limits {
    let message_bytes = view.size("message");
    Limits {
        memory_bytes: view.size("memory"),
        cpu: view.duration("cpu"),
        wall: view.duration("wall"),
        message_bytes,
        publishes: view.integer("publishes"),
        publish_bytes: view.size("publish_bytes"),
        handles: view.integer("handles"),
        log_bytes: view.size("log"),
        log_rate: view.rate_if("log_rate").unwrap_or(Limits::default().log_rate),
        requests: view.integer("requests"),
        requests_at_once: view.integer("requests_at_once"),
        request_bytes: view.size("request_bytes"),
        response_bytes: view.size("response_bytes"),
        state_bytes: view.size("state"),
        state_keys: view.integer("state_keys"),
        hostcall_bytes: view.size_if("hostcall").unwrap_or_else(|| hostcall_bytes_for(message_bytes)),
    }
}

/// `was` moves what a name owned: the old name must be free, and moved once.
fn check_renames(views: &[(&str, View<'_>)], report: &mut Report<'_>) {
    let mut heirs: BTreeMap<&str, (&str, Place)> = BTreeMap::new();
    for (name, view) in views {
        let Some(was) = view.text("was") else { continue };
        let (place, path) = (view.place_of("was"), view.path_of("was"));
        if let Some((_, other)) = views.iter().find(|(other, _)| *other == was) {
            let help = "`was` is a name that no connector has any more";
            let message = format!("the connector `{was}` still exists");
            report.clash((place, &path), message, help, (other.place, "it is here"));
        }
        if let Some((heir, earlier)) = heirs.insert(was, (name, place)) {
            let message = format!("the connector `{heir}` takes over from `{was}` already");
            let help = "one connector alone can take it over";
            report.clash((place, &path), message, help, (earlier, "the first one"));
        }
    }
}
