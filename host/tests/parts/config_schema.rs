//! The JSON Schema of the configuration: it takes what is valid, and refuses what can be seen in a single key.

#![allow(clippy::disallowed_methods, reason = "BLESS is for whoever runs the tests")]

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_host::cli::check;
use bulkhead_host::cli::diagnostic::Colours;
use bulkhead_host::cli::schema;
use bulkhead_host::config::{self, Problem};

use crate::config::load_text;
use crate::config_cases::{Case, all_cases};

/// What makes a problem one that a schema of single keys sees too, by how its message begins.
const SEEN_BY_SCHEMA: [&str; 7] =
    ["unknown key", "expected ", "not a duration", "not a size", "not a rate", "a duration needs", "a size needs"];

#[test]
fn the_schema_in_docs_is_written_from_the_keys() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bulkhead.schema.json");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, schema::text()).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == schema::text(), "run the tests with BLESS=1 to write docs/bulkhead.schema.json again");
}

/// Whether the schema takes a file, as an editor would find.
struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
        compiler.add_resource("bulkhead:schema", config::json_schema()).unwrap();
        let index = compiler.compile("bulkhead:schema", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// `None` where the text is no TOML.
    fn takes(&self, text: &str) -> Option<Result<(), String>> {
        let table: toml::Table = text.trim_start_matches('\u{feff}').parse().ok()?;
        let json = as_json(toml::Value::Table(table));
        Some(self.schemas.validate(&json, self.index).map_err(|error| error.to_string()))
    }
}

/// As editors turn TOML into JSON: times are strings.
fn as_json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, as_json(value))).collect(),
        other => serde_json::to_value(other).unwrap(),
    }
}

#[test]
fn the_schema_takes_what_is_valid_and_refuses_what_it_can_see() {
    let schema = Schema::new();
    let mut wrong = Vec::new();
    for Case { folder, outcome } in all_cases() {
        let Ok(text) = fs::read_to_string(folder.join("bulkhead.toml")) else { continue };
        let (Some(taken), false) = (schema.takes(&text), folder.join("overlay.toml").exists()) else { continue };
        let is_filled = |mark: &config::Mark| mark.text[mark.span.clone()].contains("${");
        let seen = |problem: &Problem| {
            let starts = SEEN_BY_SCHEMA.iter().any(|start| problem.message.starts_with(start));
            // For a schema, 4.0 is whole; and what lies in `config` another schema sees.
            let is_elsewhere = problem.message.ends_with("found a float") || problem.key.contains(".config.");
            let marked = |mark: &config::Mark| {
                mark.text[mark.span.clone()].starts_with(|it: char| it.is_ascii_digit() || it == '-')
            };
            let is_number = problem.message == "out of range" && problem.marks.iter().all(marked);
            let is_choice = problem.message.ends_with("is not one of the choices");
            (starts || is_number || is_choice) && !is_elsewhere && !problem.marks.iter().any(is_filled)
        };
        let is_seen = outcome.problems.iter().any(seen);
        match taken {
            Err(error) if outcome.is_ok() => wrong.push(format!("{} is valid: {error}", folder.display())),
            Ok(()) if is_seen => wrong.push(format!("{} is taken", folder.display())),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every configuration that the repository shows: those of examples and of documents.
fn examples() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let below = |folder: &str| fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let folders = below("plugins").chain(below("examples"));
    let files = folders.flat_map(|folder| [folder.join("README.md"), folder.join("bulkhead.toml")]);
    let documents = below("docs").chain(["README.md", "demo/bulkhead.toml"].map(|file| root.join(file)));
    let mut examples = Vec::new();
    for file in files.chain(documents) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if file.extension().is_some_and(|extension| extension == "toml") {
            examples.push((file, text));
        } else {
            let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
            // Others are parts of something, or a Cargo.toml.
            let whole = blocks.filter(|block| block.contains("[connectors.") && block.contains("plugin"));
            examples.extend(whole.map(|block| (file.clone(), block.to_owned())));
        }
    }
    examples
}

#[test]
fn the_examples_are_valid_also_for_the_schema() {
    let (schema, examples) = (Schema::new(), examples());
    assert!(examples.len() >= 10, "the examples are there");
    for (file, example) in examples {
        if let Err(problems) = load_text(&example) {
            panic!("{}\n{}\n{example}", file.display(), check::problems_text(&problems, Colours::Off));
        }
        assert_eq!(schema.takes(&example), Some(Ok(())), "{}\n{example}", file.display());
    }
}
