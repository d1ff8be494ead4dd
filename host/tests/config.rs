//! The configuration at its boundary: a case is a folder of `tests/config` with `bulkhead.toml`, perhaps `overlay.toml`
//! and `environment.txt`, and in `expected.txt` what `bulkhead check` prints. `BLESS=1` writes what is printed now.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its case has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_host::cli::check;
use bulkhead_host::config::{self, Loaded, Problem};
use proptest::prelude::*;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config")
}

fn load_case(folder: &Path) -> Result<Loaded, Vec<Problem>> {
    let files = ["bulkhead.toml", "overlay.toml"].map(|name| folder.join(name));
    let files: Vec<PathBuf> = files.into_iter().filter(|path| path.exists()).collect();
    let environment = fs::read_to_string(folder.join("environment.txt")).unwrap_or_default();
    let environment: BTreeMap<&str, &str> = environment.lines().filter_map(|line| line.split_once('=')).collect();
    config::load(&files, &|name| environment.get(name).map(ToString::to_string))
}

fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bulkhead.toml");
    fs::write(&file, text).unwrap();
    config::load(&[file], &|_| None)
}

#[test]
fn every_case_prints_what_is_expected() {
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 25, "the cases are there");
    for folder in folders {
        let printed = check::text(&check::outcome(load_case(&folder), |_| Vec::new()));
        let printed = printed.replace(&format!("{}/", folder.display()), "");
        let expected = folder.join("expected.txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &printed).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != printed {
            wrong.push(format!("{}:\n{printed}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_in_docs_is_written_from_the_keys() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference-config.md");
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, config::reference()).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == config::reference(), "run the tests with BLESS=1 to write docs/reference-config.md again");
}

#[test]
fn the_examples_of_plugins_and_demo_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut examples: Vec<String> = fs::read_to_string(root.join("demo/bulkhead.toml")).into_iter().collect();
    for plugin in fs::read_dir(root.join("plugins")).unwrap() {
        let readme = fs::read_to_string(plugin.unwrap().path().join("README.md")).unwrap_or_default();
        let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        examples.extend(blocks.map(ToOwned::to_owned));
    }
    for example in examples {
        if let Err(problems) = load_text(&example) {
            panic!("{}\n{example}", check::problems_text(&problems));
        }
    }
}

#[test]
fn problems_are_json_for_tools() {
    let printed = check::json(&check::outcome(load_text("hosst = 1"), |_| Vec::new()));
    let mut printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    printed["problems"][0]["file"] = "bulkhead.toml".into();
    let problem = serde_json::json!({
        "file": "bulkhead.toml", "line": 1, "column": 1, "key": "hosst", "message": "unknown key",
        "help": "did you mean `host`? allowed: host, secrets, queues, connectors",
    });
    assert_eq!(printed, serde_json::json!({ "ok": false, "problems": [problem], "warnings": [] }));
}

#[test]
fn a_plugin_that_does_not_load_is_shown_where_it_is_named() {
    let loaded = load_text("[connectors.a]\nplugin = \"a.wasm\"\nconsume = \"q\"\n").unwrap();
    let problem = loaded.problem("connectors.a.plugin", "cannot be read", "");
    assert_eq!((problem.line, problem.column), (2, 10));
    let problem = loaded.problem("connectors.a.limits.memory", "too small", "");
    assert_eq!(problem.line, 1, "the nearest table that is written");
}

#[test]
fn deep_nesting_is_a_problem_and_no_crash() {
    for text in [format!("a{} = 1", ".a".repeat(100_000)), format!("a = {}", "[".repeat(100_000))] {
        assert!(load_text(&text).is_err());
    }
}

/// Pieces of a configuration, so that arbitrary text gets past the parser often.
fn fragment() -> impl Strategy<Value = String> {
    let key =
        "(host|secrets|queues|connectors|a|plugin|consume|schedule|retry|limits|allow|http|auth|bearer|url|every)";
    let value = r#"(1|-1|1e999|9223372036854775808|true|"builtin:jq"|"\$\{X\}"|"\$\$\{"|"5m"|\[\]|\[1\]|\[\{a=1\}\]|\{\}|1979-05-27)"#;
    let patterns = [
        format!("\\[{key}(\\.{key}){{0,3}}\\]\n"),
        format!("{key}(\\.{key}){{0,4}} = {value}\n"),
        format!("{key} = \\[\\{{ {key} = {value}, {key}\\.{key} = {value} \\}}\\]\n"),
    ]
    .map(|pattern| proptest::string::string_regex(&pattern).unwrap());
    let [header, pair, list] = patterns;
    prop_oneof![header, pair, list]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = load_text(&text);
    }

    #[test]
    fn arbitrary_tables_never_panic(fragments in proptest::collection::vec(fragment(), 0..12)) {
        let printed = check::text(&check::outcome(load_text(&fragments.concat()), |_| Vec::new()));
        prop_assert!(!printed.is_empty());
    }
}
