//! TOML files as one tree of values that still know where they were written.
//!
//! Owns reading, syntax errors and merging; it knows no keys except through the schema's word on tables that an overlay
//! replaces as a whole. Invariant: every node's place points into the file that it came from, also after merging.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::variables_in;
use super::excerpt::{self, Mark, line_and_column};
use super::problem::{Problem, Report, Severity};
use super::schema::Section;
use super::{Origin, secrecy, syntax, whole};

/// More than this is not a configuration; it also bounds what a mistyped `--config` reads.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A key or a value of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    file: usize,
    /// Its first byte, and the one after its last; `None` means the file as such.
    bytes: Option<(usize, usize)>,
}

impl Place {
    /// The first file as such, for what no file says.
    pub(super) const NOWHERE: Self = Self { file: 0, bytes: None };

    fn new(file: usize, bytes: &Range<usize>) -> Self {
        Self { file, bytes: Some((bytes.start, bytes.end)) }
    }
}

/// The files as they were read, for positions and relative paths.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    files: Vec<Source>,
    /// Names in `[secrets]` of any of them, once somebody wants to know.
    secrets: OnceLock<BTreeSet<String>>,
}

#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    text: String,
    /// What of it is never shown, once somebody wants to know.
    hidden: OnceLock<Vec<Range<usize>>>,
}

impl Sources {
    /// Reads every file; those that cannot be read are problems of their own.
    pub(super) fn read(files: &[PathBuf]) -> (Self, Vec<(Place, Unreadable)>) {
        let mut failed = Vec::new();
        let mut sources = Vec::new();
        for (file, path) in files.iter().enumerate() {
            let text = read_text(path).unwrap_or_else(|unreadable| {
                failed.push((Place { file, bytes: None }, unreadable));
                String::new()
            });
            sources.push(Source { path: path.clone(), text, hidden: OnceLock::new() });
        }
        (Self { files: sources, secrets: OnceLock::new() }, failed)
    }

    /// Parses every file, reports syntax errors, and merges in the order of the files.
    pub(super) fn merged(&self, root: &'static Section, report: &mut Report<'_>) -> Table {
        let mut merged = Table::new();
        for (file, source) in self.files.iter().enumerate() {
            let (table, errors) = DeTable::parse_recoverable(&source.text);
            let mut lines = BTreeSet::new();
            for error in errors {
                // What follows on a line is most often the same mistake.
                if !lines.insert(line_and_column(&source.text, error.span().map_or(0, |span| span.start)).0) {
                    continue;
                }
                let place = Place::new(file, &error.span().unwrap_or(0..0));
                let (message, help) = syntax::explain(&source.text, &error);
                report.problem(place, "", message, help);
            }
            merge(&mut merged, convert_table(file, table.into_inner()), Some(root));
        }
        merged
    }

    /// Which files they were.
    pub(super) fn origin(&self) -> Origin {
        let mut hash = Sha256::new();
        self.files.iter().for_each(|source| hash.update(&source.text));
        let files = self.files.iter().map(|source| whole(&source.path)).collect();
        Origin { files, sha256: HEXLOWER.encode(&hash.finalize()) }
    }

    /// Where relative paths of the file at `place` begin.
    pub(super) fn folder(&self, place: Place) -> PathBuf {
        let folder = self.files.get(place.file).and_then(|source| source.path.parent());
        folder.map_or_else(PathBuf::new, Path::to_path_buf)
    }

    /// A problem with its position spelt out, and the line that shows it.
    pub(super) fn problem(
        &self,
        place: Place,
        severity: Severity,
        key: &str,
        message: String,
        help: String,
    ) -> Problem {
        let source = self.files.get(place.file);
        let file = source.map_or_else(String::new, |source| source.path.display().to_string());
        let help = self.with_origin(place, key, &message, help);
        let mark = self.mark(place, "");
        let (line, column) = mark.as_ref().map_or((0, 0), |mark| (mark.line, mark.column));
        Problem { severity, file, line, column, key: key.to_owned(), message, help, marks: mark.into_iter().collect() }
    }

    /// A place as it may be shown, and what it has to do with a problem.
    pub(super) fn mark(&self, place: Place, label: &str) -> Option<Mark> {
        let (source, (start, end)) = (self.files.get(place.file)?, place.bytes?);
        let hidden = source.hidden.get_or_init(|| secrecy::hidden(&source.text, self.secrets()));
        let (line, column) = line_and_column(&source.text, start);
        let (text, span) = excerpt::line(&source.text, start..end, hidden);
        Some(Mark { file: source.path.display().to_string(), line, column, text, span, label: label.to_owned() })
    }

    fn secrets(&self) -> &BTreeSet<String> {
        self.secrets.get_or_init(|| self.files.iter().flat_map(|source| secrecy::names(&source.text)).collect())
    }

    /// What is wrong with a value that variables were filled into is mended where they are set.
    fn with_origin(&self, place: Place, key: &str, message: &str, help: String) -> String {
        let written = place.bytes.and_then(|(start, end)| self.files.get(place.file)?.text.get(start..end));
        let written = written.filter(|text| text.starts_with(['"', '\'']) && !key.starts_with("secrets."));
        let variables = written.map(variables_in).unwrap_or_default();
        let untold: Vec<String> = variables
            .into_iter()
            .filter(|name| !message.contains(&format!("`{name}`")))
            .map(|name| format!("`${{{name}}}`"))
            .collect();
        if untold.is_empty() {
            return help;
        }
        let origin = format!("the environment fills in {}", untold.join(", "));
        if help.is_empty() { origin } else { format!("{help}; {origin}") }
    }
}

/// Why a file cannot be read, and what to do.
pub(super) struct Unreadable {
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// As in TOML, except that numbers are read and dates stay text.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `filled` tells that a variable was put in: then the text may also stand for a number or a boolean.
    Text {
        text: String,
        filled: bool,
    },
    /// `None` is beyond 64 bits.
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    /// A string whose variables could not be filled in; reported already.
    Unfilled,
    List(Vec<Node>),
    Table(Table),
}

pub(super) type Table = BTreeMap<String, Entry>;

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key_place: Place,
    pub(super) node: Node,
}

impl Node {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text { .. } => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date or time",
            Value::Unfilled => "nothing",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match &self.value {
            Value::Integer(integer) => *integer,
            Value::Text { text, filled: true } => text.parse().ok(),
            _ => None,
        }
    }

    /// Zero needs no unit.
    pub(super) fn is_zero(&self) -> bool {
        matches!(self.value, Value::Integer(Some(0)))
    }

    pub(super) fn number(&self) -> Option<f64> {
        match &self.value {
            Value::Float(number) => Some(*number),
            // A factor is small; beyond 2^53 the range check refuses it anyway.
            Value::Integer(integer) => integer.and_then(|integer| i32::try_from(integer).ok()).map(f64::from),
            Value::Text { text, filled: true } => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.value {
            Value::Boolean(boolean) => Some(*boolean),
            Value::Text { text, filled: true } => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(nodes) => Some(nodes),
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value as JSON, or the place of a number that JSON cannot hold.
    pub(super) fn json(&self) -> Result<serde_json::Value, Place> {
        Ok(match &self.value {
            Value::Text { text, .. } | Value::Datetime(text) => text.as_str().into(),
            Value::Integer(integer) => integer.ok_or(self.place)?.into(),
            Value::Float(number) => serde_json::Value::Number(serde_json::Number::from_f64(*number).ok_or(self.place)?),
            Value::Boolean(boolean) => (*boolean).into(),
            Value::Unfilled => serde_json::Value::Null,
            Value::List(nodes) => serde_json::Value::Array(nodes.iter().map(Self::json).collect::<Result<_, _>>()?),
            Value::Table(table) => serde_json::Value::Object(json_object(table)?),
        })
    }
}

/// A table as a JSON object, or the place of a number that JSON cannot hold.
pub(super) fn json_object(table: &Table) -> Result<serde_json::Map<String, serde_json::Value>, Place> {
    table.iter().map(|(key, entry)| Ok((key.clone(), entry.node.json()?))).collect()
}

/// Where the value of a TOML path was written, or the nearest table around it.
pub(super) fn place_of(table: &Table, wanted: &str) -> Place {
    nearest(table, "", wanted).unwrap_or(Place::NOWHERE)
}

/// Where the key at the end of a TOML path was written.
pub(super) fn key_place_of(table: &Table, wanted: &str) -> Option<Place> {
    key_in(table, "", wanted)
}

fn key_in(table: &Table, path: &str, wanted: &str) -> Option<Place> {
    table.iter().find_map(|(key, entry)| {
        let path = join(path, key);
        if path == wanted { Some(entry.key_place) } else { key_below(&entry.node, &path, wanted) }
    })
}

fn key_below(node: &Node, path: &str, wanted: &str) -> Option<Place> {
    if !wanted.strip_prefix(path)?.starts_with(['.', '[']) {
        return None;
    }
    match &node.value {
        Value::Table(table) => key_in(table, path, wanted),
        Value::List(nodes) => {
            let mut items = nodes.iter().enumerate();
            items.find_map(|(index, node)| key_below(node, &format!("{path}[{index}]"), wanted))
        }
        _ => None,
    }
}

/// A key after a path, quoted where TOML needs it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn nearest(table: &Table, path: &str, wanted: &str) -> Option<Place> {
    table.iter().find_map(|(key, entry)| nearest_in(&entry.node, &join(path, key), wanted))
}

fn nearest_in(node: &Node, path: &str, wanted: &str) -> Option<Place> {
    let rest = wanted.strip_prefix(path)?;
    if !rest.is_empty() && !rest.starts_with(['.', '[']) {
        return None;
    }
    let inside = match &node.value {
        Value::Table(table) => nearest(table, path, wanted),
        Value::List(nodes) => {
            let mut items = nodes.iter().enumerate();
            items.find_map(|(index, node)| nearest_in(node, &format!("{path}[{index}]"), wanted))
        }
        _ => None,
    };
    Some(inside.unwrap_or(node.place))
}

pub(super) fn read_text(path: &Path) -> Result<String, Unreadable> {
    let unreadable = |message: String, help| Unreadable { message, help };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(unreadable(
            format!("cannot be read: {error}"),
            "`--config FILE` names the file; it may be given several times",
        )),
        Ok(length) if length as u64 > FILE_BYTES_MAX => {
            let message = format!("is larger than {} MiB", FILE_BYTES_MAX >> 20);
            Err(unreadable(message, "`--config FILE` names a TOML file"))
        }
        Ok(_) if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") => {
            Err(unreadable("is UTF-16, not UTF-8".into(), "save it as UTF-8"))
        }
        Ok(_) => String::from_utf8(bytes).map_err(|error| {
            let (valid, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            // What is valid is text.
            let (line, column) = line_and_column(&String::from_utf8_lossy(valid), valid.len());
            let byte = rest.first().copied().unwrap_or_default();
            let message = format!("is not UTF-8: byte 0x{byte:02X} at line {line}, column {column}");
            unreadable(message, "save it as UTF-8, or mend that character")
        }),
    }
}

fn convert_table(file: usize, table: DeTable<'_>) -> Table {
    let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
        let key_place = Place::new(file, &key.span());
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), Entry { key_place, node: convert(file, value) })
    };
    table.into_iter().map(entry).collect()
}

fn convert(file: usize, value: Spanned<DeValue<'_>>) -> Node {
    let place = Place::new(file, &value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text { text: text.into_owned(), filled: false },
        DeValue::Integer(digits) => Value::Integer(i64::from_str_radix(digits.as_str(), digits.radix()).ok()),
        DeValue::Float(digits) => Value::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Array(nodes) => Value::List(nodes.into_iter().map(|node| convert(file, node)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(file, table)),
    };
    Node { place, value }
}

/// Tables merge key by key, everything else is replaced; so is a table that holds one of several alternatives.
fn merge(base: &mut Table, overlay: Table, section: Option<&'static Section>) {
    for (key, entry) in overlay {
        let inner = section.and_then(|section| section.table_of(&key));
        let replace = inner.is_some_and(|section| section.exactly_one);
        match (base.get_mut(&key), entry) {
            (Some(Entry { node: Node { value: Value::Table(old), .. }, .. }), Entry { node, .. })
                if !replace && matches!(node.value, Value::Table(_)) =>
            {
                if let Value::Table(new) = node.value {
                    merge(old, new, inner);
                }
            }
            (_, entry) => {
                base.insert(key, entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(join("", "host"), "host");
        assert_eq!(join("connectors", "a.b"), "connectors.\"a.b\"");
    }
}
