//! The TOML of the documentation and of the examples is what the host takes: every block is checked as its reader would,
//! with `bulkhead check`, and one that is wrong is named by its file and line. So is the Rust that the README asks for.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_tests::{Bulkhead, guest};
use serde_json::Value;
use toml::Table;

/// Where people read TOML, below the repository's folder.
const PLACES: [&str; 8] = ["README.md", "CONTRIBUTING.md", "docs", "plugins", "examples", "sdk", "demo", "wit"];
/// What a manifest of cargo has, and no configuration.
const OF_CARGO: [&str; 4] = ["package", "lib", "dependencies", "workspace"];
/// Fewer than there are: what finds none has checked nothing.
const BLOCKS_MIN: usize = 8;

/// A piece of TOML.
struct Block {
    file: PathBuf,
    /// Its first line, from 1.
    line: usize,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All files below, those that are built or fetched left out.
fn files(place: &Path, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        return found.push(place.to_owned());
    }
    let hidden = ["target", "node_modules", "prebuilt"];
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let is_hidden = |path: &PathBuf| hidden.iter().any(|name| path.ends_with(name)) || path.is_symlink();
    entries.filter(|path| !is_hidden(path)).for_each(|path| files(&path, found));
}

/// The blocks of a text that are fenced as TOML, and a file of TOML as a whole.
fn blocks(file: &Path) -> Vec<Block> {
    let kind = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_read = matches!(kind, "md" | "rs" | "wit" | "toml");
    let text = if is_read { fs::read_to_string(file).unwrap() } else { String::new() };
    let file = file.strip_prefix(root()).unwrap().to_owned();
    if kind == "toml" {
        return vec![Block { file, line: 1, text }];
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_within = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = if kind == "md" { line } else { line.trim_start_matches(['/', '!', ' ']) };
        match line.trim() {
            "```toml" => {
                is_within = true;
                blocks.push(Block { file: file.clone(), line: number + 1, text: String::new() });
            }
            "```" => is_within = false,
            _ if is_within => blocks.last_mut().unwrap().text += &format!("{line}\n"),
            _ => {}
        }
    }
    blocks
}

/// What the host says of it, as `file:line: key: message`. The plugins and variables that it names are there.
fn problems(block: &Block) -> Vec<String> {
    let place = |line: u64| format!("{}:{}", block.file.display(), block.line as u64 + line.saturating_sub(1));
    // What is no TOML at all is told by the host, like anything else.
    let table: Table = block.text.parse().unwrap_or_default();
    if table.keys().any(|key| OF_CARGO.contains(&key.as_str())) {
        return Vec::new();
    }
    let host = with_surroundings(&table);
    fs::write(host.path("bulkhead.toml"), &block.text).unwrap();
    host.warm();
    let found = host.run(&["check", "--json"]).json();
    let is_meant = |problem: &&Value| !is_of_another_machine(&table, problem["key"].as_str().unwrap());
    let problems = found["problems"].as_array().unwrap().iter().filter(is_meant);
    let told = problems.map(|problem| {
        format!("{}: {}: {}", place(problem["line"].as_u64().unwrap()), problem["key"], problem["message"])
    });
    told.collect()
}

/// A folder with a plugin wherever one is named, and a value for every variable.
fn with_surroundings(table: &Table) -> Bulkhead {
    let mut host = Bulkhead::new("");
    for (_, secret) in table.get("secrets").and_then(|it| it.as_table()).into_iter().flatten() {
        if let Some(variable) = secret.get("env").and_then(|it| it.as_str()) {
            host = host.variable(variable, "a value");
        }
    }
    for (_, connector) in table.get("connectors").and_then(|it| it.as_table()).into_iter().flatten() {
        let plugin = connector.get("plugin").and_then(|it| it.as_str()).unwrap_or_default();
        if !plugin.starts_with("builtin:") && !plugin.is_empty() {
            fs::create_dir_all(host.path(plugin).parent().unwrap()).unwrap();
            fs::copy(guest("hostile"), host.path(plugin)).unwrap();
        }
    }
    host
}

/// A secret that a file or the data directory of a reader holds, and no test's.
fn is_of_another_machine(table: &Table, key: &str) -> bool {
    let secret = key.strip_prefix("secrets.").and_then(|name| table["secrets"].get(name));
    secret.is_some_and(|secret| secret.get("file").is_some() || secret.get("sealed").is_some())
}

/// What a reader needs to build anything is the version that cargo asks for.
#[test]
fn the_readme_names_the_rust_that_is_needed() {
    let read = |file| fs::read_to_string(root().join(file)).unwrap();
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(read("README.md").contains(&format!("has Rust {version} or newer")), "{version}");
}

#[test]
fn every_configuration_in_the_documentation_is_one() {
    let mut found = Vec::new();
    PLACES.iter().for_each(|place| files(&root().join(place), &mut found));
    let blocks: Vec<Block> = found.iter().flat_map(|file| blocks(file)).collect();
    assert!(blocks.len() >= BLOCKS_MIN, "{} blocks", blocks.len());
    let problems: Vec<String> = blocks.iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
