//! How data flows and what it is about, as `graph` draws it and `docs` writes it, for the configurations of the repository:
//! compared with what lies in `tests/snapshots`. `BLESS=1` writes what is printed now.
#![allow(clippy::disallowed_methods, reason = "BLESS is for whoever runs the tests")]

use std::fs;
use std::path::Path;

use bulkhead_tests::Bulkhead;
use serde_json::Value;

/// A host with a configuration of the repository.
fn host(toml: &str) -> Bulkhead {
    let host = Bulkhead::new("");
    fs::copy(repository().join(toml), host.path("bulkhead.toml")).unwrap();
    host
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn compare(name: &str, text: &str) {
    let path = repository().join("tests/snapshots").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} is otherwise, see BLESS in this file:\n{text}", path.display());
}

fn check_graph(name: &str, toml: &str) {
    let host = host(toml);
    for (format, ending) in [("mermaid", "mmd"), ("dot", "dot")] {
        let drawn = host.run(&["graph", "--format", format]).ok().output;
        compare(&format!("graph/{name}.{ending}"), &drawn);
    }
    assert!(!host.data().exists());
}

#[test]
fn the_flow_of_the_demo() {
    check_graph("demo", "demo/bulkhead.toml");
}

#[test]
fn the_flow_of_a_saga() {
    check_graph("saga", "examples/saga/bulkhead.toml");
}

#[test]
fn the_flow_of_an_outbox() {
    check_graph("outbox", "examples/outbox/bulkhead.toml");
}

#[test]
fn a_flow_as_json_has_nodes_and_edges_between_them() {
    let flow = host("examples/saga/bulkhead.toml").run(&["graph", "--json"]).ok().json();
    let nodes: Vec<&Value> = flow["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    let edges = flow["edges"].as_array().unwrap();
    assert!(edges.iter().all(|edge| nodes.contains(&&edge["from"]) && nodes.contains(&&edge["to"])));
    assert!(edges.iter().any(|edge| edge["kind"] == "dead_letters" && edge["label"] == "dead letters"));
}

/// Without the schema, which is the plugin's and has tests there, and what differs from build to build.
fn of_ours(text: &str) -> String {
    let (text, schema) = text.split_once("```json\n").unwrap_or((text, "{}\n```"));
    let schema = schema.strip_suffix("```\n").unwrap_or("{}");
    assert!(serde_json::from_str::<Value>(schema).unwrap().is_object());
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words: Vec<&str> = text.split('`').map(|word| if is_hash(word) { "HASH" } else { word }).collect();
    words.join("`")
}

#[test]
fn the_pages_of_the_demo() {
    let host = host("demo/bulkhead.toml");
    host.warm();
    let written = ["docs", "pages", "--from", "2026-03-01T09:00:00Z", "--json"];
    let pages = host.run(&written).ok().json()["pages"].clone();
    assert_eq!(pages, serde_json::json!(["README.md", "deliver.md", "poll-orders.md", "to-shipment.md"]));
    for page in pages.as_array().unwrap() {
        let page = page.as_str().unwrap();
        let text = fs::read_to_string(host.path("pages").join(page)).unwrap();
        compare(&format!("docs/{page}"), &of_ours(&text));
    }
    // What was written is written again, and goes with its connector; what others wrote stays.
    fs::write(host.path("pages/notes.md"), "# Ours\n").unwrap();
    fs::write(host.path("bulkhead.toml"), "[connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n").unwrap();
    let _ = host.run(&["docs", "pages"]).ok();
    let mut left: Vec<String> = fs::read_dir(host.path("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["README.md", "notes.md", "show.md"]);
    fs::write(host.path("pages/show.md"), "# Ours\n").unwrap();
    let refused = host.run(&["docs", "pages"]).ended_with(1);
    assert!(refused.errors().contains("was not written by `bulkhead docs`"), "{}", refused.errors());
}
