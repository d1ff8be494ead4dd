//! The examples in other languages than Rust: built with their own toolchains, run as their READMEs say.
//!
//! A toolchain that is not on the PATH skips its test with a word on standard error; with
//! `BULKHEAD_REQUIRE_TOOLCHAINS` set it fails it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_tests::{Answer, Bulkhead, Fixture, has_program};
use serde_json::{Value, json};

/// Where the READMEs let the shop listen.
const SHOP: &str = "http://127.0.0.1:8000";
const WORLD: &str = "consumer-and-scheduled-plugin";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").canonicalize().unwrap()
}

fn has(program: &str) -> bool {
    has_program(program, "the example that it builds is not tested")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Two connectors more, which may do nothing.
const UNGRANTED: &str = r#"
[connectors.ungranted-publish]
plugin  = "shop.wasm"
consume = "orders"
config  = { publish = "totals" }

[connectors.ungranted-request]
plugin   = "shop.wasm"
schedule = { every = "365d" }
config   = { url = "http://127.0.0.1:1/", publish = "orders" }
"#;

/// A folder with the example's TOML, its shop on a port of its own; the totals are kept, to be looked at.
fn example(language: &str, shop: &Fixture) -> Bulkhead {
    let toml = fs::read_to_string(examples().join(language).join("bulkhead.toml")).unwrap();
    assert!(toml.contains(SHOP));
    Bulkhead::new(&format!("{}{UNGRANTED}[queues.totals]\nkeep = '1h'\n", toml.replace(SHOP, &shop.url())))
}

/// The shop's orders go through both connectors; the broken one dies with the language's own words, and so does what is no JSON.
fn check(language: &str, build: impl FnOnce(&Path), exception: &str) {
    let feed = fs::read(examples().join("feed/orders.json")).unwrap();
    let shop = Fixture::answering([Answer::status(200).body(feed)]);
    let bulkhead = example(language, &shop);
    build(&bulkhead.path("shop.wasm"));
    bulkhead.send("orders", &["no JSON"]);
    let _ = bulkhead.run_until_idle();
    let ledger = bulkhead.ledger();
    let totals: Vec<Value> =
        ledger.messages("totals").iter().map(|message| serde_json::from_slice(&message.body).unwrap()).collect();
    let total = |id: u32, cents: u32| json!({"id": id, "total_cents": cents});
    assert_eq!(totals, [total(1, 900), total(2, 2299), total(4, 0)]);
    assert_eq!(ledger.state("fetch"), [("newest".to_owned(), b"4".to_vec())]);
    assert_eq!(ledger.state("total"), [("added_up".to_owned(), b"3".to_vec())]);
    let reasons = |connector: &str, attempts: u32| {
        let mut letters = ledger.dead();
        letters.retain(|letter| letter.connector == connector && letter.attempts == attempts);
        letters.into_iter().map(|letter| letter.reason).collect::<Vec<_>>()
    };
    check_reason(&reasons("total", 1), 1, "an order is JSON: ");
    check_reason(&reasons("total", 2), 1, exception);
    check_reason(&reasons("ungranted-publish", 1), 4, "`connectors.ungranted-publish.allow.publish`");
    check_reason(&reasons("ungranted-request", 1), 1, "`connectors.ungranted-request.allow.http`");
}

/// At least one of so many reasons holds the text.
fn check_reason(reasons: &[String], count: usize, text: &str) {
    assert!(reasons.len() == count && reasons.iter().any(|reason| reason.contains(text)), "{text}: {reasons:?}");
}

#[test]
fn a_plugin_in_python_fetches_and_adds_up() {
    if !has("componentize-py") {
        return;
    }
    let build = |out: &Path| {
        let mut componentize = Command::new("componentize-py");
        componentize.args(["-d", "../../sdk/wit", "-w", WORLD, "componentize", "shop", "-o"]).arg(out);
        run(componentize.current_dir(examples().join("python")));
    };
    check("python", build, "KeyError: 'items'");
}

#[test]
fn a_plugin_in_javascript_fetches_and_adds_up() {
    if !has("componentize-js") {
        return;
    }
    let build = |out: &Path| {
        let mut componentize = Command::new("componentize-js");
        componentize.args(["shop.js", "--wit", "../../sdk/wit", "--world-name", WORLD, "--out"]).arg(out);
        run(componentize.current_dir(examples().join("javascript")));
    };
    check("javascript", build, "TypeError");
}
