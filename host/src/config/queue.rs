//! `[queues.X]`, and the queues that exist because a connector names them.

use std::collections::{BTreeMap, BTreeSet};

use super::Connector;
use super::problem::{Report, closest};
use super::view::View;
use crate::id::Name;
use crate::ledger::{Ordering, QueuePolicy, Route};
use crate::limit::MESSAGE_BYTES_DEFAULT;

/// Every queue that a table, a consumer or a grant names, each with its policy.
pub(super) fn queues(
    root: &View<'_>,
    connectors: &[Connector],
    routes: &[Route],
    report: &mut Report<'_>,
) -> BTreeMap<Name, QueuePolicy> {
    let mut queues = BTreeMap::new();
    for (text, view) in root.named("queues") {
        if let Ok(name) = Name::parse(text) {
            queues.insert(name, policy(&view));
        }
    }
    warn_of_lonely(root, &queues, connectors, routes, report);
    let routed = routes.iter().flat_map(|route| route.to.iter().chain([&route.from]));
    for name in connectors.iter().flat_map(named_by).chain(routed) {
        queues.entry(name.clone()).or_default();
    }
    for (name, policy) in &mut queues {
        let of_readers =
            smallest_reader(name, connectors).map_or(MESSAGE_BYTES_DEFAULT, |reader| reader.limits.message_bytes);
        // What is larger than the whole queue would wait for room for ever.
        policy.message_bytes = of_readers.min(policy.max_bytes);
    }
    queues
}

fn policy(view: &View<'_>) -> QueuePolicy {
    QueuePolicy {
        ordering: if view.text("ordering") == Some("key") { Ordering::Key } else { Ordering::None },
        retention: view.duration("retention"),
        keep: view.duration_if("keep"),
        expires: view.duration_if("expires"),
        max_bytes: view.size("max_bytes"),
        dedup: view.duration_if("dedup"),
        marks: None,
        dedup_max: view.integer("dedup_max"),
        message_bytes: MESSAGE_BYTES_DEFAULT,
    }
}

fn named_by(connector: &Connector) -> impl Iterator<Item = &Name> {
    connector.consume.iter().map(|consume| &consume.queue).chain(published_by(connector))
}

fn published_by(connector: &Connector) -> impl Iterator<Item = &Name> {
    let of_webhook = connector.webhook.iter().filter_map(|webhook| webhook.publish.as_ref());
    connector.allow.publish.iter().chain(of_webhook).chain(&connector.on_dead)
}

/// Who has the smallest `limits.message` of those who read the queue: what it takes, all of them can take.
pub(super) fn smallest_reader<'c>(queue: &Name, connectors: &'c [Connector]) -> Option<&'c Connector> {
    let readers = connectors.iter().filter(|it| it.consume.as_ref().is_some_and(|consume| consume.queue == *queue));
    readers.min_by_key(|reader| reader.limits.message_bytes)
}

/// A queue exists by being named, so a misspelt name is not an error; most often it is one all the same.
fn warn_of_lonely(
    root: &View<'_>,
    tables: &BTreeMap<Name, QueuePolicy>,
    connectors: &[Connector],
    routes: &[Route],
    report: &mut Report<'_>,
) {
    if connectors.len() < root.named("connectors").len() {
        // One that could not be read may name any of them.
        return;
    }
    let ends = || routes.iter().flat_map(|route| &route.to);
    let by_routes = routes.iter().map(|route| &route.from).chain(ends());
    let named: BTreeSet<&str> = connectors.iter().flat_map(named_by).chain(by_routes).map(Name::as_str).collect();
    for (name, view) in root.named("queues") {
        if !named.contains(name) {
            let help = meant(name, &named).unwrap_or_else(|| {
                "a connector names it in `consume`, `allow.publish`, `webhook.publish` or `on_dead.publish`, or a route does".into()
            });
            report.warning(view.place, &view.path, "no connector names this queue", help);
        }
    }
    let published: BTreeSet<&str> = connectors.iter().flat_map(published_by).chain(ends()).map(Name::as_str).collect();
    let known: BTreeSet<&str> = published.iter().copied().chain(tables.keys().map(Name::as_str)).collect();
    warn_of_strange_sources(root, connectors, &known, report);
    for (_, connector) in root.named("connectors") {
        let consume = connector.child("consume");
        let (view, key) = consume.as_ref().map_or((&connector, "consume"), |consume| (consume, "queue"));
        let Some(queue) = view.text(key) else { continue };
        if !known.contains(queue)
            && let Some(help) = meant(queue, &published)
        {
            let message = format!("no connector publishes to `{queue}`");
            report.warning(view.place_of(key), &view.path_of(key), message, help);
        }
    }
}

/// A route begins at a queue that something else names too; `known` are those that something is put into.
fn warn_of_strange_sources(root: &View<'_>, connectors: &[Connector], known: &BTreeSet<&str>, report: &mut Report<'_>) {
    let consumed = connectors.iter().filter_map(|connector| Some(connector.consume.as_ref()?.queue.as_str()));
    let named: BTreeSet<&str> = known.iter().copied().chain(consumed).collect();
    for (_, route) in root.named("routes") {
        if let Some(from) = route.text("from").filter(|from| !named.contains(from))
            && let Some(help) = meant(from, &named)
        {
            let message = format!("nothing else names `{from}`");
            report.warning(route.place_of("from"), &route.path_of("from"), message, help);
        }
    }
}

fn meant(name: &str, known: &BTreeSet<&str>) -> Option<String> {
    closest(name, known.iter().copied()).map(|meant| format!("did you mean `{meant}`?"))
}
