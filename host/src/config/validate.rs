//! Whether a tree of values is what the schema says: keys, types, ranges, the form of names.
//!
//! What concerns several keys at once is checked where they are put together. Invariant: a value that came from the
//! environment, or that may be a secret by mistake, is not repeated in a message.

use std::net::SocketAddr;

use super::document::{Node, Place, Table, Value, join};
use super::environment::is_variable_name;
use super::keys::{BUILTINS, ROOT};
use super::problem::{Report, closest, suggestion};
use super::quantity::{duration, rate, show_size, size};
use super::schema::{Available, Default, Kind, Section};
use super::secrecy::{looks_secret, may_hold_secret};
use crate::id::{NAME_BYTES_MAX, Name};

/// What stands before the name of an embedded plugin.
pub(super) const BUILTIN_PREFIX: &str = "builtin:";

/// Checks the whole configuration.
pub(super) fn validate(root: &Table, report: &mut Report<'_>) {
    check_section(root, &ROOT, "", Place::NOWHERE, report);
}

fn check_section(table: &Table, section: &'static Section, path: &str, place: Place, report: &mut Report<'_>) {
    let mut later = false;
    let mut meant = Vec::new();
    for (name, entry) in table {
        let path = join(path, name);
        let Some(key) = section.key(name) else {
            meant.extend(closest(name, section.names()));
            report.problem(entry.key_place, &path, "unknown key", unknown_key_help(name, section));
            continue;
        };
        match key.available {
            Available::Now => check_value(&entry.node, &key.kind, &path, entry.key_place, report),
            Available::Later => {
                later = true;
                let help = "take it out; docs/reference-config.md lists what this version knows";
                report.problem(entry.key_place, &path, "known, but not in this version yet", help);
            }
        }
    }
    if !later {
        check_missing(table, section, &meant, path, place, report);
    }
}

/// `meant` are the keys that a misspelt one stands for: they are not missing as well.
fn check_missing(
    table: &Table,
    section: &'static Section,
    meant: &[&str],
    path: &str,
    place: Place,
    report: &mut Report<'_>,
) {
    for key in section.keys {
        let absent = !table.contains_key(key.name) && !meant.contains(&key.name);
        if matches!(key.default, Default::Required) && absent {
            let help = format!("add `{}`: {}", key.name, key.kind.expected());
            report.problem(place, &join(path, key.name), "missing", help);
        }
    }
    if section.exactly_one && meant.is_empty() {
        let present = section.keys.iter().filter(|key| table.contains_key(key.name)).count();
        let allowed = format!("allowed: {}", section.usable().join(", "));
        match present {
            0 if table.is_empty() => report.problem(place, path, "says nothing", format!("one is needed; {allowed}")),
            0 | 1 => {}
            _ => report.problem(place, path, "says several things", format!("keep exactly one; {allowed}")),
        }
    }
}

fn unknown_key_help(name: &str, section: &'static Section) -> String {
    let usable = section.usable();
    if let Some(meant) = closest(name, section.names()) {
        return format!("did you mean `{meant}`? allowed: {}", usable.join(", "));
    }
    let home = home_of(name, section, "").map(|below| (below, "below")).or_else(|| {
        let home = home_of(name, &ROOT, "")?;
        Some((format!("[{home}]"), "in"))
    });
    match home {
        Some((home, "below")) => format!("write it as `{home}.{name}`; allowed here: {}", usable.join(", ")),
        Some((home, _)) => format!("`{name}` belongs in `{home}`; allowed here: {}", usable.join(", ")),
        None => format!("allowed: {}", usable.join(", ")),
    }
}

/// The table that knows a key, for a key written one level too high or too low.
fn home_of(name: &str, section: &'static Section, path: &str) -> Option<String> {
    section.keys.iter().find_map(|key| {
        let inner = key.kind.section()?;
        let path = join(path, key.name) + if matches!(key.kind, Kind::Named(..)) { ".NAME" } else { "" };
        if inner.usable().contains(&name) { Some(path) } else { home_of(name, inner, &path) }
    })
}

fn check_value(node: &Node, kind: &'static Kind, path: &str, key_place: Place, report: &mut Report<'_>) {
    match (kind, &node.value) {
        (_, Value::Unfilled) => {}
        (Kind::Any, _) => check_json(node, path, report),
        (Kind::AnyTable, Value::Table(_)) => check_json(node, path, report),
        (Kind::Table(section), Value::Table(table)) => check_section(table, section, path, key_place, report),
        (Kind::TableOrList(section), Value::Table(table)) => check_section(table, section, path, key_place, report),
        (Kind::ShortOrTable(_, section), Value::Table(table)) => check_section(table, section, path, key_place, report),
        (Kind::ShortOrTable(short, _), _) => check_short(node, kind, short, path, report),
        (Kind::Tables(section) | Kind::TableOrList(section), Value::List(nodes)) => {
            for (index, node) in nodes.iter().enumerate() {
                check_item(node, section, &format!("{path}[{index}]"), report);
            }
        }
        (Kind::Named(name, section), Value::Table(table)) => check_named(table, name, section, path, report),
        (Kind::OneOrList(one), _) if node.list().is_none() => check_scalar(node, one, kind, path, report),
        (Kind::List(kind) | Kind::OneOrList(kind), Value::List(nodes)) => {
            for (index, node) in nodes.iter().enumerate() {
                check_value(node, kind, &format!("{path}[{index}]"), node.place, report);
            }
        }
        _ => check_scalar(node, kind, kind, path, report),
    }
}

fn check_item(node: &Node, section: &'static Section, path: &str, report: &mut Report<'_>) {
    match &node.value {
        Value::Table(table) => check_section(table, section, path, node.place, report),
        _ => report.problem(node.place, path, format!("expected a table, found {}", node.kind()), "write `{ … }`"),
    }
}

fn check_short(node: &Node, kind: &'static Kind, short: &'static Kind, path: &str, report: &mut Report<'_>) {
    match (short, node.text()) {
        // The word may be meant for the table.
        (Kind::Choice(words), Some(word)) if !words.contains(&word) => {
            let message = format!("{} is not one of the choices", shown(node));
            report.problem(node.place, path, message, format!("write {}", kind.expected()));
        }
        (_, Some(_)) => check_scalar(node, short, short, path, report),
        (_, None) => wrong_type(node, kind, path, report),
    }
}

fn check_named(
    table: &Table,
    name_kind: &'static Kind,
    section: &'static Section,
    path: &str,
    report: &mut Report<'_>,
) {
    for (name, entry) in table {
        let path = join(path, name);
        if !is_name(name, name_kind) {
            report.problem(entry.key_place, &path, "not a name", format!("use {}", name_kind.expected()));
        }
        match &entry.node.value {
            Value::Table(table) => check_section(table, section, &path, entry.key_place, report),
            _ => {
                let message = format!("expected a table, found {}", entry.node.kind());
                let help = if matches!(name_kind, Kind::SecretName) {
                    "write `{ env = \"VARIABLE\" }`, `{ file = \"PATH\" }` or `{ sealed = true }`, never the value itself".into()
                } else {
                    format!("write a table `[{path}]`; allowed in it: {}", section.usable().join(", "))
                };
                report.problem(entry.node.place, &path, message, help);
            }
        }
    }
}

fn check_json(node: &Node, path: &str, report: &mut Report<'_>) {
    if let Err(place) = node.json() {
        report.problem(place, path, "holds a number that JSON cannot hold", "use finite numbers within 64 bits");
    }
}

/// Anything that is one word or number; `outer` is what the operator was asked for.
fn check_scalar(node: &Node, kind: &'static Kind, outer: &'static Kind, path: &str, report: &mut Report<'_>) {
    match (kind, node.text()) {
        (Kind::Boolean, _) if node.boolean().is_some() => {}
        // What it says is read where it is used.
        (Kind::Time, _) if matches!(node.value, Value::Text { .. } | Value::Datetime(_)) => {}
        (Kind::Integer(min, max), _) => {
            let integer = node.integer().and_then(|integer| u64::try_from(integer).ok());
            check_range(node, integer.map(|it| *min <= it && it <= *max), kind, path, report);
        }
        (Kind::Number(min, max), _) => {
            check_range(node, node.number().map(|it| *min <= it && it <= *max), kind, path, report);
        }
        (Kind::Duration(min, max), _) => check_duration(node, kind, *min..=*max, path, report),
        (Kind::Size(min, max), _) => check_size(node, kind, *min..=*max, path, report),
        (Kind::Rate, Some(text)) => {
            if let Err(help) = rate(text) {
                report.problem(node.place, path, "not a rate", format!("use {help}"));
            }
        }
        (_, Some(text)) if kind.is_text() => check_text(node, text, kind, path, report),
        _ => wrong_type(node, outer, path, report),
    }
}

/// `within` is `None` where the value is of another type.
fn check_range(node: &Node, within: Option<bool>, kind: &'static Kind, path: &str, report: &mut Report<'_>) {
    let is_fraction = matches!((kind, &node.value), (Kind::Integer(..), Value::Float(_)));
    let is_number = !is_fraction && (matches!(node.value, Value::Integer(_)) || node.number().is_some());
    match within {
        Some(true) => {}
        Some(false) => report.problem(node.place, path, "out of range", format!("use {}", kind.expected())),
        None if is_number => report.problem(node.place, path, "out of range", format!("use {}", kind.expected())),
        None => wrong_type(node, kind, path, report),
    }
}

fn check_duration(
    node: &Node,
    kind: &'static Kind,
    range: std::ops::RangeInclusive<std::time::Duration>,
    path: &str,
    report: &mut Report<'_>,
) {
    match (&node.value, node.text().map(duration)) {
        (_, Some(Ok(duration))) if range.contains(&duration) => {}
        (Value::Integer(Some(0)), _) if range.start().is_zero() => {}
        (_, Some(Ok(_))) => report.problem(node.place, path, "out of range", format!("use {}", kind.expected())),
        (_, Some(Err(help))) => report.problem(node.place, path, "not a duration", format!("use {help}")),
        (Value::Integer(Some(number)), _) => {
            let help = format!("write a unit, as in \"{number}s\" or \"{number}ms\"");
            report.problem(node.place, path, "a duration needs a unit", help);
        }
        _ => wrong_type(node, kind, path, report),
    }
}

fn check_size(
    node: &Node,
    kind: &'static Kind,
    range: std::ops::RangeInclusive<u64>,
    path: &str,
    report: &mut Report<'_>,
) {
    match (&node.value, node.text().map(size)) {
        (_, Some(Ok(size))) if range.contains(&size) => {}
        (Value::Integer(Some(0)), _) if *range.start() == 0 => {}
        (_, Some(Ok(_))) => report.problem(node.place, path, "out of range", format!("use {}", kind.expected())),
        (_, Some(Err(help))) if help.starts_with("did you") && !is_filled(node) => {
            report.problem(node.place, path, "not a size", help);
        }
        (_, Some(Err(_))) if is_filled(node) => {
            report.problem(node.place, path, "not a size", format!("use {}", kind.expected()));
        }
        (_, Some(Err(help))) => report.problem(node.place, path, "not a size", format!("use {help}")),
        (Value::Integer(Some(number)), _) => {
            let shown = u64::try_from(*number).map_or_else(|_| "1MiB".into(), show_size);
            report.problem(node.place, path, "a size needs a unit", format!("write it as \"{shown}\""));
        }
        _ => wrong_type(node, kind, path, report),
    }
}

fn check_text(node: &Node, text: &str, kind: &'static Kind, path: &str, report: &mut Report<'_>) {
    match kind {
        Kind::Choice(words) if !words.contains(&text) => {
            report.problem(
                node.place,
                path,
                format!("{} is not one of the choices", shown(node)),
                suggestion(text, words),
            );
        }
        Kind::Plugin => check_plugin(node, text, path, report),
        Kind::SecretName if !is_name(text, kind) => {
            let help = "write the name of an entry of `[secrets]`, never the value itself";
            report.problem(node.place, path, "not the name of a secret", help);
        }
        Kind::Variable if !is_name(text, kind) || looks_secret(text) => {
            let help = if text.contains("${") {
                "write the plain name: nothing is filled in within `[secrets]`".to_owned()
            } else {
                format!("write {}, never the value itself", kind.expected())
            };
            report.problem(node.place, path, "not the name of an environment variable", help);
        }
        _ if !is_name(text, kind) => {
            let message = format!("expected {}, found {}", kind.expected(), shown(node));
            let help = if is_filled(node) || may_hold_secret(text) { String::new() } else { text_help(text, kind) };
            report.problem(node.place, path, message, help);
        }
        _ => {}
    }
}

fn text_help(text: &str, kind: &Kind) -> String {
    match kind {
        Kind::Method if is_name(&text.to_uppercase(), kind) => format!("write \"{}\"", text.to_uppercase()),
        Kind::Address => "write \"127.0.0.1:9100\", or \"[::1]:9100\"".into(),
        Kind::Name | Kind::Queue => {
            let lower: String = text.to_lowercase().replace(['.', ' ', '/'], "-");
            if is_name(&lower, kind) { format!("did you mean `{lower}`?") } else { String::new() }
        }
        _ => String::new(),
    }
}

fn check_plugin(node: &Node, text: &str, path: &str, report: &mut Report<'_>) {
    match text.strip_prefix(BUILTIN_PREFIX) {
        Some(name) if !BUILTINS.contains(&name) => {
            report.problem(node.place, path, format!("{} is not built in", shown(node)), suggestion(name, &BUILTINS));
        }
        None if BUILTINS.contains(&text) => {
            let help = format!("did you mean \"{BUILTIN_PREFIX}{text}\"?");
            report.problem(node.place, path, format!("`{text}` is not the path of a component"), help);
        }
        None if text.is_empty() => {
            report.problem(node.place, path, "names nothing", format!("write {}", Kind::Plugin.expected()))
        }
        _ => {}
    }
}

/// Whether `[secrets]` could name it so.
#[must_use]
pub fn is_secret_name(text: &str) -> bool {
    is_name(text, &Kind::SecretName)
}

/// Whether a text has the form that its kind asks for.
pub(super) fn is_name(text: &str, kind: &Kind) -> bool {
    match kind {
        Kind::Name | Kind::Queue => Name::parse(text).is_ok(),
        Kind::SecretName => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
        }
        Kind::Variable => is_variable_name(text),
        Kind::Method => {
            let allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
            (1..=32).contains(&text.len()) && text.bytes().all(allowed) && !matches!(text, "CONNECT" | "TRACE")
        }
        Kind::HeaderName => http::HeaderName::from_bytes(text.as_bytes()).is_ok(),
        Kind::Address => text.parse::<SocketAddr>().is_ok(),
        Kind::Path => !text.is_empty() && !text.contains('\0'),
        _ => true,
    }
}

fn wrong_type(node: &Node, kind: &'static Kind, path: &str, report: &mut Report<'_>) {
    let message = format!("expected {}, found {}", kind.expected(), node.kind());
    report.problem(node.place, path, message, type_help(node, kind, path));
}

/// What to write where a value is of another type.
fn type_help(node: &Node, kind: &'static Kind, path: &str) -> String {
    let is_scalar = !matches!(node.value, Value::List(_) | Value::Table(_));
    match (kind, &node.value) {
        (_, Value::Text { filled: true, .. }) => String::new(),
        (Kind::Boolean, Value::Text { .. }) => "write true or false, without quotes".into(),
        (Kind::Integer(..), Value::Text { text, .. }) if text.parse::<i64>().is_ok() => "leave out the quotes".into(),
        (Kind::Number(..), Value::Text { text, .. }) if text.parse::<f64>().is_ok() => "leave out the quotes".into(),
        (Kind::Tables(_), Value::Table(_)) => "put the table in square brackets: `[{ … }]`".into(),
        (Kind::List(_), _) if is_scalar => "put it in square brackets: `[…]`".into(),
        (Kind::ShortOrTable(Kind::Queue, _), Value::List(_)) => {
            "a connector reads one queue: write a connector for each".into()
        }
        (Kind::Named(..), _) => format!("write a table for each, under its name: `[{path}.NAME]`"),
        (Kind::Table(section) | Kind::TableOrList(section), _) if is_scalar => {
            format!("write `{{ KEY = … }}`; allowed: {}", section.usable().join(", "))
        }
        (kind, _) if kind.is_text() && is_scalar => "put it in quotes".into(),
        _ => String::new(),
    }
}

fn is_filled(node: &Node) -> bool {
    matches!(node.value, Value::Text { filled: true, .. })
}

/// A value for a message: short, and never one from the environment or one that may be a secret.
fn shown(node: &Node) -> String {
    const CHARS_MAX: usize = 60;
    match &node.value {
        Value::Text { text, filled: false } if text.chars().count() <= CHARS_MAX && !may_hold_secret(text) => {
            format!("{text:?}")
        }
        _ => "this value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{Sources, place_of};
    use super::*;

    /// Every key of the list, as a configuration that writes its default out.
    fn check_defaults(section: &'static Section) {
        let sources = Sources::read(&[]).0;
        for key in section.keys {
            if let Default::Is(text) = key.default {
                let mut report = Report::new(&sources);
                let value = Value::Text { text: text.to_owned(), filled: true };
                let node = Node { place: place_of(&Table::new(), ""), value };
                check_value(&node, &key.kind, key.name, node.place, &mut report);
                assert_eq!(report.finish().0, [], "the default of `{}`", key.name);
            }
            key.kind.section().into_iter().for_each(check_defaults);
        }
    }

    #[test]
    fn every_default_is_allowed_itself() {
        check_defaults(&ROOT);
    }
}
