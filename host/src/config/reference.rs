//! The reference of the configuration, written from the list of keys.

use std::fmt::Write as _;

use super::keys::ROOT;
use super::quantity::{show_duration, show_size};
use super::schema::{Available, Default, Key, Kind, Section};

const OPENING: &str = "# Reference: the configuration

<!-- Written from `host/src/config/keys.rs`; a test compares. Do not edit by hand. -->

A configuration is one TOML file, `bulkhead.toml`, or several: every `--config FILE` overrides the ones before it.
Tables merge key by key; strings, numbers and lists are replaced, and so is a table that holds one of several
alternatives (a secret, a credential). `bulkhead check` reports everything that is wrong at once; `bulkhead schema` prints
the same keys as a JSON Schema, for editors.

- **Unknown keys** are errors.
- **Durations** are strings with a unit: `500ms`, `30s`, `5m`, `24h`, `7d`, `2w`, or several, as in `1h30m`.
- **Sizes** are strings with a unit: `512B`, `64KiB`, `1MiB`, `2GiB`, `1TiB`.
- **Names** of queues, connectors and schedules are 1 to 63 of a-z, 0-9, `_` and `-`; names of secrets may have capitals.
- **Paths** are relative to the file that names them.
- **Variables**: `${VAR}` and `${VAR:-default}` in any string outside `[secrets]` are filled from the environment; the
  default also stands in for an empty variable, `$${` is a plain `${`. A filled string may stand for a number or a
  boolean.
";

/// The text of `docs/reference-config.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = OPENING.to_owned();
    for key in ROOT.keys {
        if let Some(section) = key.kind.section() {
            write_section(&mut text, section, &path_of(key, key.name));
        }
    }
    text.push_str("\n## Known, but not in this version yet\n\nWriting one of these is an error that says so");
    text.push_str(" (`host.listen` has no effect and is a warning).\n\n| key | meaning |\n| --- | --- |\n");
    write_later(&mut text, &ROOT, "");
    text
}

fn write_section(text: &mut String, section: &'static Section, path: &str) {
    if section.usable().is_empty() {
        return;
    }
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "\n## `{path}`\n\n{}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n",
        section.about
    );
    for key in section.keys.iter().filter(|key| key.available == Available::Now) {
        let value = cell(&value(&key.kind));
        let _ = writeln!(text, "| `{}` | {value} | {} | {} |", key.name, default(key), cell(key.about));
    }
    for key in section.keys {
        if let Some(inner) = key.kind.section() {
            write_section(text, inner, &format!("{path}.{}", path_of(key, key.name)));
        }
    }
}

fn write_later(text: &mut String, section: &'static Section, path: &str) {
    for key in section.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        if key.available != Available::Now {
            let _ = writeln!(text, "| `{path}` | {} |", cell(key.about));
        }
        if let Some(inner) = key.kind.section() {
            write_later(text, inner, &path_of(key, &path));
        }
    }
}

fn path_of(key: &Key, path: &str) -> String {
    match key.kind {
        Kind::Named(..) => format!("{path}.NAME"),
        Kind::Tables(_) => format!("{path}[]"),
        _ => path.to_owned(),
    }
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Table(_) => "table, below".into(),
        Kind::Tables(_) => "list of tables, below".into(),
        Kind::TableOrList(_) => "table or list of tables, below".into(),
        Kind::ShortOrTable(short, section) if !section.usable().is_empty() => {
            format!("{}, or a table, below", value(short))
        }
        Kind::ShortOrTable(short, _) => value(short),
        Kind::Queue => "name of a queue".into(),
        Kind::Name => "name".into(),
        Kind::SecretName => "name of a secret".into(),
        Kind::Variable => "name of an environment variable".into(),
        Kind::OneOrList(Kind::Queue) => "name of a queue, or list of such".into(),
        Kind::List(Kind::Queue) => "list of names of queues".into(),
        Kind::List(Kind::SecretName) => "list of names of secrets".into(),
        Kind::List(Kind::Text) => "list of strings".into(),
        Kind::List(Kind::Method) => "list such as [\"GET\", \"POST\"]".into(),
        Kind::Duration(min, max) => range("duration", &show_duration(*min), &show_duration(*max)),
        Kind::Size(min, max) => range("size", &show_size(*min), &show_size(*max)),
        _ => kind.expected(),
    }
}

fn range(what: &str, min: &str, max: &str) -> String {
    format!("{what}, {min} to {max}")
}

fn default(key: &Key) -> String {
    match key.default {
        Default::Required => "required".into(),
        Default::Unset => "–".into(),
        Default::Is("") => "`\"\"`".into(),
        Default::Is(text) => format!("`{text}`"),
        Default::Words(words) => words.into(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
