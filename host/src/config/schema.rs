//! How a table of the configuration is described: its keys, what each may hold, its default and its meaning.
//!
//! The descriptions themselves lie in [`super::keys`]. From them come what is known, what is checked, what is suggested,
//! the defaults that are filled in, and the reference for operators.

use std::time::Duration;

use super::quantity::{show_duration, show_size};

/// A table with known keys.
#[derive(Debug)]
pub(super) struct Section {
    /// What the table is for, for the reference.
    pub(super) about: &'static str,
    /// The keys are alternatives: one of them stands alone.
    pub(super) exactly_one: bool,
    /// In the order of the reference.
    pub(super) keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
    pub(super) available: Available,
    /// What it means, for the reference.
    pub(super) about: &'static str,
}

/// Whether this version acts on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Available {
    Now,
    /// Known, but its absence would matter: a problem.
    Later,
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// Its absence is a problem.
    Required,
    /// Nothing.
    Unset,
    /// This value, written as in TOML but without quotes.
    Is(&'static str),
    /// A value that is found out at start, in words.
    Words(&'static str),
}

/// What a key may hold.
#[derive(Debug)]
pub(super) enum Kind {
    /// Any string.
    Text,
    /// A file or folder; relative to the file that names it.
    Path,
    /// IP address and port.
    Address,
    /// A path, or `builtin:NAME`.
    Plugin,
    /// A name of a connector or schedule.
    Name,
    /// A queue; it exists by being named.
    Queue,
    /// A new name in `[secrets]`.
    SecretName,
    /// The name of an environment variable.
    Variable,
    /// An HTTP method.
    Method,
    /// The name of an HTTP header.
    HeaderName,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer(u64, u64),
    /// A number.
    Number(f64, f64),
    /// A string such as "5m".
    Duration(Duration, Duration),
    /// A string such as "1MiB".
    Size(u64, u64),
    /// A string such as "10/s".
    Rate,
    /// A date with its time and offset.
    Time,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list.
    List(&'static Self),
    /// A list, or what it holds one of.
    OneOrList(&'static Self),
    /// Any TOML value.
    Any,
    /// A table whose keys are somebody else's.
    AnyTable,
    /// A table.
    Table(&'static Section),
    /// A list of tables.
    Tables(&'static Section),
    /// One table, or a list of them.
    TableOrList(&'static Section),
    /// The short form, or a table.
    ShortOrTable(&'static Self, &'static Section),
    /// One table for each name; the first kind is the name's.
    Named(&'static Self, &'static Section),
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }

    /// The keys that this version acts on.
    pub(super) fn usable(&self) -> Vec<&'static str> {
        self.keys.iter().filter(|key| key.available == Available::Now).map(|key| key.name).collect()
    }

    /// The table under one of its keys, whichever form of it is written.
    pub(super) fn table_of(&self, name: &str) -> Option<&'static Self> {
        self.key(name).and_then(|key| key.kind.section())
    }
}

impl Key {
    /// A key that this version acts on.
    pub(super) const fn new(name: &'static str, kind: Kind, default: Default, about: &'static str) -> Self {
        Self { name, kind, default, available: Available::Now, about }
    }

    /// A key of the design that this version does not act on yet.
    pub(super) const fn later(name: &'static str, about: &'static str) -> Self {
        Self { name, kind: Kind::Any, default: Default::Unset, available: Available::Later, about }
    }
}

impl Kind {
    /// The table that it may hold, if its keys are known.
    pub(super) fn section(&self) -> Option<&'static Section> {
        match self {
            Self::Table(section)
            | Self::Tables(section)
            | Self::TableOrList(section)
            | Self::ShortOrTable(_, section)
            | Self::Named(_, section) => Some(section),
            _ => None,
        }
    }

    /// Whether it is written as a string whatever its content.
    pub(super) fn is_text(&self) -> bool {
        match self {
            Self::Text
            | Self::Path
            | Self::Address
            | Self::Plugin
            | Self::Name
            | Self::Queue
            | Self::SecretName
            | Self::Variable
            | Self::Method
            | Self::HeaderName
            | Self::Choice(_) => true,
            Self::Boolean
            | Self::Integer(..)
            | Self::Number(..)
            | Self::Duration(..)
            | Self::Size(..)
            | Self::Rate
            | Self::Time
            | Self::List(_)
            | Self::OneOrList(_)
            | Self::Any
            | Self::AnyTable
            | Self::Table(_)
            | Self::Tables(_)
            | Self::TableOrList(_)
            | Self::ShortOrTable(..)
            | Self::Named(..) => false,
        }
    }

    /// What is allowed, as the end of "expected …".
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Text => "a string".into(),
            Self::Path => "a path".into(),
            Self::Address => "an IP address and a port, such as \"127.0.0.1:9100\"".into(),
            Self::Plugin => "the path of a .wasm file, or \"builtin:NAME\"".into(),
            Self::Name => "a name: 1 to 63 of a-z, 0-9, `_` and `-`".into(),
            Self::Queue => "the name of a queue: 1 to 63 of a-z, 0-9, `_` and `-`".into(),
            Self::SecretName => "the name of a secret: 1 to 63 of A-Z, a-z, 0-9, `_` and `-`".into(),
            Self::Variable => "the name of an environment variable: A-Z, a-z, 0-9 and `_`, no digit first".into(),
            Self::Method => "an HTTP method in capitals, such as \"GET\" or \"POST\"".into(),
            Self::HeaderName => "the name of an HTTP header, such as \"X-Api-Key\"".into(),
            Self::Boolean => "true or false".into(),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Duration(min, max) => {
                let range = format!("from {} to {}", show_duration(*min), show_duration(*max));
                format!("a duration such as \"500ms\", \"30s\", \"5m\", \"24h\" or \"7d\", {range}")
            }
            Self::Size(min, max) => {
                format!("a size such as \"64KiB\" or \"1MiB\", from {} to {}", show_size(*min), show_size(*max))
            }
            Self::Rate => "a rate such as \"10/s\", \"600/m\" or \"5000/h\"".into(),
            Self::Time => "a time such as \"2026-03-01T09:00:00Z\"".into(),
            Self::Choice(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Self::List(kind) => format!("a list, each {}", kind.expected()),
            Self::OneOrList(kind) => format!("{}, or a list of such", kind.expected()),
            Self::Any => "any value".into(),
            Self::AnyTable | Self::Table(_) => "a table".into(),
            Self::Tables(_) => "a list of tables".into(),
            Self::TableOrList(_) => "a table or a list of tables".into(),
            Self::ShortOrTable(short, section) if section.usable().is_empty() => short.expected(),
            Self::ShortOrTable(short, _) => format!("{}, or a table", short.expected()),
            Self::Named(..) => "a table of named tables".into(),
        }
    }
}
