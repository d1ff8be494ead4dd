//! What differs between two configurations, key by key, and which secrets a table names.
//!
//! Values are compared as they are after merging and filling in; where they were written does not count. Invariant: names
//! of keys come out, never a value.

use std::collections::BTreeSet;

use super::Loaded;
use super::document::{Node, Table, Value, join};

impl Loaded {
    /// The keys below a table of these names whose values are others than in `before`, where the table may have had another
    /// name: `[a, b]` is `[a.b]`.
    #[must_use]
    pub fn differing(&self, names: &[&str], before: (&Self, &[&str])) -> Vec<String> {
        let path = names.iter().fold(String::new(), |path, name| join(&path, name));
        let (old, empty) = (before.0.table(before.1), Table::new());
        let mut found = Vec::new();
        differing(old.unwrap_or(&empty), self.table(names).unwrap_or(&empty), &path, &mut found);
        found
    }

    /// The entries of `[secrets]` that a table names anywhere.
    #[must_use]
    pub fn secrets_named_in(&self, names: &[&str]) -> BTreeSet<&str> {
        let mut texts = BTreeSet::new();
        self.table(names).into_iter().flatten().for_each(|(_, entry)| texts_of(&entry.node, &mut texts));
        texts.into_iter().filter(|text| self.config.secrets.contains_key(*text)).collect()
    }

    fn table(&self, names: &[&str]) -> Option<&Table> {
        names.iter().try_fold(&self.tree, |table, name| table.get(*name)?.node.table())
    }
}

fn differing(old: &Table, new: &Table, path: &str, found: &mut Vec<String>) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let path = join(path, name);
        match (old.get(name).map(|entry| &entry.node), new.get(name).map(|entry| &entry.node)) {
            (Some(Node { value: Value::Table(old), .. }), Some(Node { value: Value::Table(new), .. })) => {
                differing(old, new, &path, found);
            }
            (Some(old), Some(new)) if is_same(old, new) => {}
            _ => found.push(path),
        }
    }
}

fn is_same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Text { text: one, .. }, Value::Text { text: other, .. })
        | (Value::Datetime(one), Value::Datetime(other)) => one == other,
        (Value::Integer(one), Value::Integer(other)) => one == other,
        (Value::Float(one), Value::Float(other)) => one.total_cmp(other).is_eq(),
        (Value::Boolean(one), Value::Boolean(other)) => one == other,
        (Value::Unfilled, Value::Unfilled) => true,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Table(one), Value::Table(other)) => {
            let mut found = Vec::new();
            differing(one, other, "", &mut found);
            found.is_empty()
        }
        _ => false,
    }
}

fn texts_of<'t>(node: &'t Node, texts: &mut BTreeSet<&'t str>) {
    match &node.value {
        Value::Text { text, .. } => drop(texts.insert(text)),
        Value::List(nodes) => nodes.iter().for_each(|node| texts_of(node, texts)),
        Value::Table(table) => table.values().for_each(|entry| texts_of(&entry.node, texts)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Unfilled => {}
    }
}
