//! What a reload changes, in words and as JSON.
//!
//! Names keys, never values. Invariant: a connector that is in none of the lists goes on as if nothing had happened.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::Present;
use super::prepared::Next;
use crate::config::{Connector, Problem};
use crate::host::gate;

/// Everything that differs between what runs and what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Connectors that come.
    pub added: Vec<Difference>,
    /// Connectors that go.
    pub removed: Vec<Difference>,
    /// Connectors whose place another one takes that is made of other things.
    pub changed: Vec<Difference>,
    /// Queues.
    pub queues: Names,
    /// Routes.
    pub routes: Names,
    /// Keys of `[host]` and `[secrets]`.
    pub keys: Vec<String>,
    /// What is most likely not meant, but works.
    pub warnings: Vec<Problem>,
}

/// One connector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Its name.
    pub connector: String,
    /// The name that it has until then, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// The keys that make it another, also of queues, routes and secrets that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The hashes of its plugin before and after, where the bytes are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[String; 2]>,
    /// What it may do that it might not before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gained: Vec<String>,
    /// What it may not do any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// Names that come and go, and keys that change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Names {
    /// Were not there.
    pub added: Vec<String>,
    /// Are not there any more.
    pub removed: Vec<String>,
    /// Keys of those that stay.
    pub changed: Vec<String>,
}

impl Change {
    pub(super) fn between(present: &Present, next: &Next) -> Self {
        let mut change = Self::default();
        let mut inherited = BTreeSet::new();
        for connector in &next.config().connectors {
            let before = predecessor(present, connector);
            inherited.extend(before.map(|before| before.name.clone()));
            match before {
                None => change.added.push(of_one(None, Some(connector))),
                Some(before) => change.changed.extend(of_both(present, next, before, connector)),
            }
        }
        let gone = present.config().connectors.iter().filter(|before| !inherited.contains(&before.name));
        change.removed.extend(gone.map(|before| of_one(Some(before), None)));
        let queues = |present: &Present| present.config().queues.keys().map(ToString::to_string).collect();
        change.queues = names("queues", (present, queues(present)), (next, queues(next)));
        let routes = |present: &Present| present.config().routes.iter().map(|route| route.name.to_string()).collect();
        change.routes = names("routes", (present, routes(present)), (next, routes(next)));
        let keys = ["host", "secrets"].map(|table| next.loaded.differing(&[table], (&present.loaded, &[table])));
        change.keys = keys.concat();
        change.warnings = [next.loaded.warnings.clone(), next.plugins.warnings.clone()].concat();
        change
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, changed, queues, routes, keys, .. } = self;
        let connectors = added.is_empty() && removed.is_empty() && changed.is_empty();
        connectors && *queues == Names::default() && *routes == Names::default() && keys.is_empty()
    }

    /// In words, one thing a line; warnings are left out.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let of = |sign, all: &[Difference]| all.iter().map(|it| it.line(sign)).collect::<Vec<_>>();
        let mut lines = [of('+', &self.added), of('-', &self.removed), of('~', &self.changed)].concat();
        for (what, names) in [("queue", &self.queues), ("route", &self.routes)] {
            lines.extend(names.added.iter().map(|name| format!("+ {what} {name}")));
            lines.extend(names.removed.iter().map(|name| format!("- {what} {name}")));
            lines.extend(names.changed.iter().map(|key| format!("~ {key}")));
        }
        lines.extend(self.keys.iter().map(|key| format!("~ {key}")));
        lines
    }
}

impl Difference {
    fn line(&self, sign: char) -> String {
        let Self { connector, was, keys, sha256, gained, lost } = self;
        let mut line = format!("{sign} connector {connector}");
        let was = was.as_ref().map(|was| format!(" (was {was})")).unwrap_or_default();
        let keys = if keys.is_empty() { String::new() } else { format!(": {}", keys.join(", ")) };
        line += &(was + &keys);
        // Writing into a String cannot fail.
        if let Some([before, after]) = sha256 {
            let short = |hash: &str| if hash.is_empty() { "none".to_owned() } else { hash.chars().take(12).collect() };
            let _ = write!(line, "; plugin {} instead of {}", short(after), short(before));
        }
        if !gained.is_empty() {
            let _ = write!(line, "; gains: {}", gained.join(", "));
        }
        if !lost.is_empty() {
            let _ = write!(line, "; loses: {}", lost.join(", "));
        }
        line
    }
}

/// The connector whose place this one takes.
fn predecessor<'p>(present: &'p Present, connector: &Connector) -> Option<&'p Connector> {
    let config = present.config();
    config.connector(&connector.name).or_else(|| config.connector(connector.was.as_ref()?))
}

fn may(connector: Option<&Connector>) -> BTreeSet<String> {
    let enabled = connector.filter(|connector| connector.enabled);
    enabled.map(|connector| gate::permissions(Handle::current(), connector)).unwrap_or_default().into_iter().collect()
}

fn of_one(before: Option<&Connector>, after: Option<&Connector>) -> Difference {
    let (had, has) = (may(before), may(after));
    Difference {
        connector: after.or(before).map(|connector| connector.name.to_string()).unwrap_or_default(),
        gained: has.difference(&had).cloned().collect(),
        lost: had.difference(&has).cloned().collect(),
        ..Difference::default()
    }
}

/// `None` where it is made of the same as before.
fn of_both(present: &Present, next: &Next, before: &Connector, after: &Connector) -> Option<Difference> {
    let (old, new) = (present.parts.get(&before.name)?, next.parts.get(&after.name)?);
    if old == new {
        return None;
    }
    let (name, old_name) = (after.name.as_str(), before.name.as_str());
    let mut keys = next.loaded.differing(&["connectors", name], (&present.loaded, &["connectors", old_name]));
    keys.retain(|key| !key.ends_with(".was"));
    keys.extend(new.keys_beside(&next.loaded, (old, present)));
    let was = (name != old_name).then(|| old_name.to_owned());
    Some(Difference { was, keys, sha256: new.upgrade(old), ..of_one(Some(before), Some(after)) })
}

fn names(table: &str, before: (&Present, BTreeSet<String>), after: (&Next, BTreeSet<String>)) -> Names {
    let ((present, old), (next, new)) = (before, after);
    let stays = |key: &String| {
        let name = key.split('.').nth(1).unwrap_or_default();
        old.contains(name) && new.contains(name)
    };
    Names {
        added: new.difference(&old).cloned().collect(),
        removed: old.difference(&new).cloned().collect(),
        changed: next.loaded.differing(&[table], (&present.loaded, &[table])).into_iter().filter(stays).collect(),
    }
}
