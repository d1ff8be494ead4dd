//! A table with its schema beside it: values come out typed, with the schema's default where a key is absent.
//!
//! Wrong values have been reported by then, and nothing is built from them: they read as absent.

use std::path::PathBuf;
use std::time::Duration;

use super::document::{Node, Place, Table, Value, join};
use super::problem::Report;
use super::quantity;
use super::schema::{Default, Key, Section};
use crate::capability::rate::Rate;

/// One table, present or not.
pub(super) struct View<'a> {
    table: Option<&'a Table>,
    section: &'static Section,
    /// As in `connectors.issues.retry`.
    pub(super) path: String,
    /// Where the table begins.
    pub(super) place: Place,
}

impl<'a> View<'a> {
    pub(super) fn root(table: &'a Table, section: &'static Section) -> Self {
        Self { table: Some(table), section, path: String::new(), place: Place::NOWHERE }
    }

    /// The table under a key, if it is written as a table.
    pub(super) fn child(&self, name: &str) -> Option<Self> {
        let child = self.child_or_empty(name);
        child.table.is_some().then_some(child)
    }

    /// The table under a key; every key of it absent where it is not written.
    pub(super) fn child_or_empty(&self, name: &str) -> Self {
        let section = self.section.table_of(name).unwrap_or(self.section);
        let table = self.node(name).and_then(Node::table);
        Self { table, section, path: self.path_of(name), place: self.key_place(name) }
    }

    /// The tables of a list, or the one that is written without a list.
    pub(super) fn children(&self, name: &str) -> Vec<Self> {
        let Some(nodes) = self.node(name).and_then(Node::list) else {
            return self.child(name).into_iter().collect();
        };
        let section = self.section.table_of(name).unwrap_or(self.section);
        let path = self.path_of(name);
        let item = |(index, node): (usize, &'a Node)| {
            let table = Some(node.table()?);
            Some(Self { table, section, path: format!("{path}[{index}]"), place: node.place })
        };
        nodes.iter().enumerate().filter_map(item).collect()
    }

    /// The tables under their names, in the order of the names.
    pub(super) fn named(&self, name: &str) -> Vec<(&'a str, Self)> {
        let child = self.child_or_empty(name);
        let entries = child.table.into_iter().flatten();
        entries.filter_map(|(key, _)| Some((key.as_str(), child.entry(key)?))).collect()
    }

    fn entry(&self, name: &str) -> Option<Self> {
        let table = Some(self.node(name)?.table()?);
        Some(Self { table, section: self.section, path: self.path_of(name), place: self.key_place(name) })
    }

    pub(super) fn node(&self, name: &str) -> Option<&'a Node> {
        self.table?.get(name).map(|entry| &entry.node)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The keys that are written in it.
    pub(super) fn written(&self) -> impl Iterator<Item = &'a str> {
        self.table.into_iter().flatten().map(|(key, _)| key.as_str())
    }

    /// Whether it holds a key that the schema does not know, which has been reported.
    pub(super) fn has_unknown(&self) -> bool {
        self.table.is_some_and(|table| table.keys().any(|name| self.section.key(name).is_none()))
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Where the value is written; the table's place where it is not.
    pub(super) fn place_of(&self, name: &str) -> Place {
        self.node(name).map_or(self.place, |node| node.place)
    }

    fn key_place(&self, name: &str) -> Place {
        self.table.and_then(|table| table.get(name)).map_or(self.place, |entry| entry.key_place)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.node(name).and_then(Node::text).or_else(|| self.default(name))
    }

    /// The texts of a list, each with its place in it.
    pub(super) fn texts(&self, name: &str) -> Vec<(&'a str, &'a Node)> {
        let nodes = self.node(name).and_then(Node::list).unwrap_or_default();
        nodes.iter().filter_map(|node| Some((node.text()?, node))).collect()
    }

    /// A time: a date with its time as TOML has them, or the same in a string.
    pub(super) fn time(&self, name: &str) -> Option<&'a str> {
        match self.node(name).map(|node| &node.value) {
            Some(Value::Text { text, .. } | Value::Datetime(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        self.node(name).and_then(Node::boolean).unwrap_or_else(|| self.default(name) == Some("true"))
    }

    pub(super) fn integer<T: TryFrom<u64> + std::default::Default>(&self, name: &str) -> T {
        self.integer_if(name).unwrap_or_default()
    }

    pub(super) fn integer_if<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        let written = self.node(name).and_then(Node::integer).and_then(|integer| u64::try_from(integer).ok());
        written.or_else(|| self.default(name)?.parse().ok()).and_then(|integer| integer.try_into().ok())
    }

    pub(super) fn number(&self, name: &str) -> f64 {
        let written = self.node(name).and_then(Node::number);
        written.or_else(|| self.default(name)?.parse().ok()).unwrap_or_default()
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        self.duration_if(name).unwrap_or_default()
    }

    pub(super) fn duration_if(&self, name: &str) -> Option<Duration> {
        if self.node(name).is_some_and(Node::is_zero) {
            return Some(Duration::ZERO);
        }
        self.text(name).and_then(|text| quantity::duration(text).ok())
    }

    pub(super) fn size(&self, name: &str) -> u64 {
        self.size_if(name).unwrap_or_default()
    }

    pub(super) fn size_if(&self, name: &str) -> Option<u64> {
        if self.node(name).is_some_and(Node::is_zero) {
            return Some(0);
        }
        self.text(name).and_then(|text| quantity::size(text).ok())
    }

    pub(super) fn rate_if(&self, name: &str) -> Option<Rate> {
        self.text(name).and_then(|text| quantity::rate(text).ok())
    }

    /// A path, relative to the file that names it.
    pub(super) fn path(&self, name: &str, report: &Report<'_>) -> Option<PathBuf> {
        let place = self.node(name).map_or(Place::NOWHERE, |node| node.place);
        Some(report.sources().folder(place).join(self.text(name)?))
    }

    /// A value as JSON; a table as it is.
    pub(super) fn json(&self, name: &str) -> Option<serde_json::Value> {
        let node = self.node(name)?;
        if matches!(node.value, Value::Unfilled) { None } else { node.json().ok() }
    }

    fn default(&self, name: &str) -> Option<&'static str> {
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "the list of keys knows `{name}`");
        match key {
            Some(Key { default: Default::Is(text), .. }) => Some(text),
            _ => None,
        }
    }
}
