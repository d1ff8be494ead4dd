//! `[routes.X]`: what is copied from where to where, and whether it could go round.

use super::problem::Report;
use super::view::View;
use crate::id::Name;
use crate::ledger::{Condition, Route, Subject, Test, led_to};

/// Reads every route; those that miss something have been reported and are left out.
pub(super) fn routes(root: &View<'_>, report: &mut Report<'_>) -> Vec<Route> {
    let views = root.named("routes");
    let routes: Vec<Route> = views.iter().filter_map(|(name, view)| route(name, view, report)).collect();
    for (name, view) in &views {
        if let Some(route) = routes.iter().find(|route| route.name.as_str() == *name) {
            check_circle(route, &routes, view, report);
        }
    }
    routes
}

fn route(name: &str, view: &View<'_>, report: &mut Report<'_>) -> Option<Route> {
    let one = view.text("to").and_then(|to| Name::parse(to).ok());
    let many = view.texts("to").into_iter().filter_map(|(to, _)| Name::parse(to).ok());
    let to: Vec<Name> = one.into_iter().chain(many).collect();
    let from = Name::parse(view.text("from")?).ok()?;
    if to.contains(&from) {
        let help = "name another queue";
        report.problem(view.place_of("to"), &view.path_of("to"), format!("it is `{from}` itself"), help);
    }
    let when = view.child("when");
    let read = when.as_ref().map(|when| condition(when, report));
    Some(Route { name: Name::parse(name).ok()?, from, to, when: read.flatten() })
}

fn condition(view: &View<'_>, report: &mut Report<'_>) -> Option<Condition> {
    let subject = match (view.text("header"), view.text("pointer")) {
        (Some(name), None) => Subject::Header(name.to_ascii_lowercase()),
        (None, Some(pointer)) => {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                let help = "use one such as \"/order/total\", or \"\" for the whole body";
                report.problem(view.place_of("pointer"), &view.path_of("pointer"), "not a JSON pointer", help);
            }
            Subject::Pointer(pointer.to_owned())
        }
        (header, _) => {
            let help = if header.is_some() {
                "keep one of `header` and `pointer`"
            } else {
                "add one of `header` and `pointer`"
            };
            report.problem(view.place, &view.path, "it looks at one thing, a header or a place in the body", help);
            return None;
        }
    };
    let test = match (view.json("equals"), view.text("matches")) {
        (Some(_), Some(_)) => {
            let help = "take one of `equals` and `matches` out";
            report.problem(view.place, &view.path, "it asks for two things at once", help);
            return None;
        }
        (Some(value), None) => Test::Equals(value),
        (None, Some(pattern)) => Test::Matches(pattern.to_owned()),
        (None, None) => Test::Present,
    };
    Some(Condition { subject, test })
}

/// Conditions may end it, which nothing here can know.
fn check_circle(route: &Route, routes: &[Route], view: &View<'_>, report: &mut Report<'_>) {
    let back = route.to.iter().find(|to| **to != route.from && led_to(to, routes).contains(&route.from));
    if let Some(to) = back {
        let message = format!("routes lead from `{to}` back to `{}`", route.from);
        let help = "copies end after 32 hops at the latest; let a condition end them sooner";
        report.warning(view.place, &view.path, message, help);
    }
}
