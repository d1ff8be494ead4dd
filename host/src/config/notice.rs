//! `on_dead` of several connectors: whether notices of dead letters go round.
//!
//! A notice that dies makes another one. Where that leads back to where it began, one message that nobody can handle keeps
//! connectors busy until its hops are spent. One that reads its own notices is seen where it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Report;
use super::view::View;
use super::{Config, Connector};
use crate::id::Name;

/// Reports each circle once, at the first connector of it.
pub(super) fn check_circles(root: &View<'_>, config: &Config, report: &mut Report<'_>) {
    let views: BTreeMap<&str, View<'_>> = root.named("connectors").into_iter().collect();
    let mut told: BTreeSet<&Name> = BTreeSet::new();
    for connector in &config.connectors {
        let Some(circle) = circle_of(connector, config).filter(|circle| !circle.iter().any(|name| told.contains(name)))
        else {
            continue;
        };
        told.extend(&circle);
        let last = circle.last().copied().unwrap_or(&connector.name);
        let (Some(here), Some(back)) = (views.get(connector.name.as_str()), views.get(last.as_str())) else { continue };
        let (here, back) = (here.child_or_empty("on_dead"), back.child_or_empty("on_dead"));
        let names: Vec<String> = circle.iter().skip(1).map(|name| format!("`{name}`")).collect();
        let at = (here.place_of("publish"), &*here.path_of("publish"));
        let help = "let notices end at a connector without `on_dead`, or in a queue that nobody reads";
        if names.is_empty() {
            let message = "a route brings these notices back to the connector itself";
            report.warning(at.0, at.1, message, help);
        } else {
            let message =
                format!("notices go round: this connector tells {}, whose own come back", names.join(", then "));
            report.warn_of_clash(at, message, help, (back.place_of("publish"), "and back from here"));
        }
    }
}

/// The connectors that a notice passes from this one back to it, itself first; the shortest way.
fn circle_of<'c>(start: &'c Connector, config: &'c Config) -> Option<Vec<&'c Name>> {
    let mut ways: Vec<Vec<&Connector>> = vec![vec![start]];
    let mut seen: BTreeSet<&Name> = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let Some(last) = way.last() else { continue };
            for next in told_by(last, config) {
                // What reads its own notices without any route is reported where it is written.
                let is_plain = way.len() == 1 && reads(next, start.on_dead.as_ref());
                if next.name == start.name && !is_plain {
                    return Some(way.iter().map(|connector| &connector.name).collect());
                }
                if next.name != start.name && seen.insert(&next.name) {
                    longer.push([way.as_slice(), &[next]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

/// Who reads the notices of a connector, also by way of routes.
fn told_by<'c>(connector: &Connector, config: &'c Config) -> impl Iterator<Item = &'c Connector> {
    let queue = connector.on_dead.clone();
    let led: BTreeSet<Name> = queue.iter().flat_map(|queue| config.led_to(queue)).cloned().collect();
    config.connectors.iter().filter(move |it| reads(it, queue.as_ref()) || led.iter().any(|led| reads(it, Some(led))))
}

fn reads(connector: &Connector, queue: Option<&Name>) -> bool {
    queue.is_some() && connector.consume.as_ref().map(|consume| &consume.queue) == queue
}
