//! The JSON Schema of a configuration file, written from the list of keys: for editors that complete and check.
//!
//! It sees what a single key may hold: names of keys, types, patterns, ranges of numbers. What concerns several keys, or
//! several files, `bulkhead check` alone finds. Invariant: what `check` accepts in one file, the schema accepts.

use serde_json::{Map, Value, json};

use super::keys::{BUILTINS, ROOT};
use super::schema::{Available, Default, Key, Kind, Section};
use super::validate::BUILTIN_PREFIX;

/// Where the schema of the newest version lies.
const ID: &str = "https://raw.githubusercontent.com/bulkhead-dev/bulkhead/main/docs/bulkhead.schema.json";
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// A string that a variable is filled into may come to be anything.
const VARIABLE: &str = r"\$\{";

const OCTET: &str = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)";
const PORT: &str = r"0*(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|\d{1,4})";

/// The schema as `docs/bulkhead.schema.json` holds it.
#[must_use]
pub fn json_schema() -> Value {
    let mut writer = Writer { tables: Map::new() };
    let mut root = writer.table(&ROOT, "");
    root.insert("$schema".into(), DRAFT.into());
    root.insert("$id".into(), ID.into());
    root.insert("title".into(), "Configuration of Bulkhead".into());
    root.insert("$defs".into(), Value::Object(writer.tables));
    Value::Object(root)
}

/// Whether `${VAR}` is filled into the strings of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variables {
    Filled,
    Plain,
}

struct Writer {
    /// By their path in the reference.
    tables: Map<String, Value>,
}

impl Writer {
    fn table(&mut self, section: &'static Section, path: &str) -> Map<String, Value> {
        let mut properties = Map::new();
        for key in section.keys.iter().filter(|key| key.available == Available::Now) {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            properties.insert(key.name.to_owned(), self.key(key, &path));
        }
        let required = section.keys.iter().filter(|key| matches!(key.default, Default::Required));
        let required: Vec<&str> = required.map(|key| key.name).collect();
        let mut table = Map::new();
        table.insert("type".into(), "object".into());
        table.insert("description".into(), section.about.into());
        table.insert("additionalProperties".into(), false.into());
        table.insert("properties".into(), Value::Object(properties));
        if !required.is_empty() {
            table.insert("required".into(), required.into());
        }
        if section.exactly_one {
            table.insert("minProperties".into(), 1.into());
            table.insert("maxProperties".into(), 1.into());
        }
        table
    }

    fn key(&mut self, key: &'static Key, path: &str) -> Value {
        let mut schema = self.kind(&key.kind, path);
        let mut about = key.about.to_owned();
        match key.default {
            Default::Is(text) => {
                schema.insert("default".into(), default(&key.kind, text));
            }
            Default::Words(words) => about = format!("{about} Default: {words}."),
            Default::Required | Default::Unset => {}
        }
        schema.insert("description".into(), about.into());
        Value::Object(schema)
    }

    /// A table that is described once, however often it is named.
    fn reference(&mut self, section: &'static Section, path: &str) -> Value {
        if !self.tables.contains_key(path) {
            let table = self.table(section, path);
            self.tables.insert(path.to_owned(), Value::Object(table));
        }
        json!({ "$ref": format!("#/$defs/{path}") })
    }

    fn kind(&mut self, kind: &'static Kind, path: &str) -> Map<String, Value> {
        let variables = if path.starts_with("secrets.") { Variables::Plain } else { Variables::Filled };
        let schema = match kind {
            Kind::List(each) => json!({ "type": "array", "items": self.kind(each, path) }),
            Kind::OneOrList(each) => {
                let each = self.kind(each, path);
                json!({ "anyOf": [each, { "type": "array", "items": each }] })
            }
            Kind::Any => json!({}),
            Kind::AnyTable => json!({ "type": "object" }),
            Kind::Table(section) => self.reference(section, path),
            Kind::Tables(section) => json!({ "type": "array", "items": self.reference(section, path) }),
            Kind::TableOrList(section) => {
                let table = self.reference(section, path);
                json!({ "anyOf": [table, { "type": "array", "items": table }] })
            }
            Kind::ShortOrTable(short, section) => {
                json!({ "anyOf": [self.kind(short, path), self.reference(section, path)] })
            }
            Kind::Named(name, section) => json!({
                "type": "object",
                "propertyNames": scalar(name, Variables::Plain),
                "additionalProperties": self.reference(section, path),
            }),
            _ => scalar(kind, variables),
        };
        match schema {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }
}

/// What is one word or one number.
fn scalar(kind: &Kind, variables: Variables) -> Value {
    match kind {
        Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Address => text(&format!(r"({OCTET}(\.{OCTET}){{3}}|\[[0-9A-Fa-f:.]+(%\w+)?\]):{PORT}"), variables),
        Kind::Plugin => plugin(variables),
        Kind::Name | Kind::Queue => text("[a-z0-9_-]{1,63}", variables),
        Kind::SecretName => text("[A-Za-z0-9_-]{1,63}", variables),
        Kind::Variable => text("[A-Za-z_][A-Za-z0-9_]*", variables),
        Kind::Method => {
            let mut method = text("[A-Z-]{1,32}", variables);
            method["not"] = json!({ "enum": ["CONNECT", "TRACE"] });
            method
        }
        Kind::HeaderName => text(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+", variables),
        Kind::Boolean => other("boolean", &json!({}), variables),
        Kind::Integer(min, max) => other("integer", &json!({ "minimum": min, "maximum": max }), variables),
        Kind::Number(min, max) => other("number", &json!({ "minimum": min, "maximum": max }), variables),
        Kind::Duration(min, _) => quantity(r"\s*(\d+\s*(ms|s|m|h|d|w)\s*)+", min.is_zero(), variables),
        Kind::Size(min, _) => quantity(r"\s*\d+\s*(B|KiB|MiB|GiB|TiB)\s*", *min == 0, variables),
        Kind::Rate => text(r"\s*0*(1000000|[1-9]\d{0,5})\s*/\s*[smh]\s*", variables),
        Kind::Time => text(r"\d{4}-\d{2}-\d{2}[Tt ].+", variables),
        Kind::Choice(words) => match variables {
            Variables::Plain => json!({ "enum": words }),
            Variables::Filled => json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": VARIABLE }] }),
        },
        // The other kinds are no scalars.
        _ => json!({ "type": "string" }),
    }
}

fn text(pattern: &str, variables: Variables) -> Value {
    let pattern = match variables {
        Variables::Plain => format!("^({pattern})$"),
        Variables::Filled => format!("^({pattern})$|{VARIABLE}"),
    };
    json!({ "type": "string", "pattern": pattern })
}

/// `bounds` hold for numbers, the pattern for strings alone.
fn other(kind: &str, bounds: &Value, variables: Variables) -> Value {
    let mut schema = bounds.clone();
    schema["type"] = match variables {
        Variables::Plain => kind.into(),
        Variables::Filled => json!([kind, "string"]),
    };
    if variables == Variables::Filled {
        schema["pattern"] = VARIABLE.into();
    }
    schema
}

/// A string with units, or 0 where nothing is allowed.
fn quantity(pattern: &str, may_be_zero: bool, variables: Variables) -> Value {
    let mut schema = text(pattern, variables);
    if may_be_zero {
        schema["type"] = json!(["string", "integer"]);
        schema["minimum"] = 0.into();
        schema["maximum"] = 0.into();
    }
    schema
}

/// A path, or one of the embedded plugins, which are offered for completion.
fn plugin(variables: Variables) -> Value {
    let builtins: Vec<String> = BUILTINS.iter().map(|name| format!("{BUILTIN_PREFIX}{name}")).collect();
    let prefix = format!("^{BUILTIN_PREFIX}");
    let foreign =
        json!({ "type": "string", "minLength": 1, "not": { "anyOf": [{ "pattern": prefix }, { "enum": BUILTINS }] } });
    let mut ways = vec![json!({ "enum": builtins }), foreign];
    if variables == Variables::Filled {
        ways.push(json!({ "type": "string", "pattern": VARIABLE }));
    }
    json!({ "anyOf": ways })
}

fn default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Boolean => (text == "true").into(),
        Kind::Integer(..) => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        Kind::Number(..) => text.parse::<f64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}
