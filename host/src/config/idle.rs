//! Grants for HTTP requests that no request can ever use: they are most likely not what was meant.
//!
//! Only what is certain is told: which names lead where, nobody knows here.

use super::document::Node;
use super::problem::Report;
use super::view::View;
use crate::capability::http::GrantSettings;
use crate::capability::http::target::Host;
use crate::egress::address::{Class, Reach, classify};

/// Warns of every grant of a connector that never matches; of several that fit, the gate takes the first.
pub(super) fn warn(grants: &[(&View<'_>, GrantSettings)], report: &mut Report<'_>) {
    if report.has_problems() {
        // Beside a problem it would be noise: a pattern may be there twice because it is about to be mended.
        return;
    }
    for (index, (view, grant)) in grants.iter().enumerate() {
        if view.node("methods").and_then(Node::list).is_some_and(<[Node]>::is_empty) {
            let help = "name the methods, as in `methods = [\"GET\"]`, or take the grant out";
            report.warning(view.place_of("methods"), &view.path_of("methods"), "it grants no method at all", help);
        } else if let Some((message, help)) = unreachable(grant) {
            report.warning(view.place_of("url"), &view.path_of("url"), message, help);
        } else if let Some((earlier, _)) = grants[..index].iter().find(|(_, earlier)| hides(earlier, grant)) {
            let help = "take it out, or put it before the other: the first one that fits a request counts";
            let at = (view.place_of("url"), &*view.path_of("url"));
            let message = "never used: an earlier grant covers everything that this one does";
            report.warn_of_clash(at, message, help, (earlier.place_of("url"), "the earlier one"));
        }
    }
}

fn hides(earlier: &GrantSettings, grant: &GrantSettings) -> bool {
    earlier.pattern.includes(&grant.pattern) && grant.methods.iter().all(|method| earlier.methods.contains(method))
}

/// Why requests under a grant are always refused, and what to do.
fn unreachable(grant: &GrantSettings) -> Option<(String, &'static str)> {
    let class = match grant.pattern.host()? {
        Host::Address(address) => classify(*address),
        Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => Class::Loopback,
        Host::Name(_) => return None,
    };
    let reach = if grant.private { Reach::Private } else { Reach::Public };
    if reach.allows_literal(class) {
        return None;
    }
    let what = match class {
        Class::Public | Class::Own => return None,
        Class::Loopback => "this machine",
        Class::Private | Class::Shared => "a private address",
        Class::LinkLocal => "an address of this link alone",
        Class::Metadata => "the metadata service of a cloud",
        Class::Unspecified => "no place at all",
        Class::Multicast | Class::Broadcast => "an address of many",
        Class::Reserved => "a reserved address",
    };
    let help = if Reach::Private.allows_literal(class) {
        "write `private = true` beside it, with the port in `url`, if that is meant"
    } else {
        "name another host"
    };
    Some((format!("every request is refused: the host is {what}"), help))
}
