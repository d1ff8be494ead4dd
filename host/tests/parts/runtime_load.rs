//! From bytes to a plugin that runs, or to a message that says what to change.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_host::capability::{Allow, Grants, Services, Subject};
use bulkhead_host::limit::{CompileLimits, Limit, Limits};
use bulkhead_host::metrics::Metrics;
use bulkhead_host::plugin_store::{self, PluginStore};
use bulkhead_host::runtime::Plugin;
use bulkhead_host::runtime::compile::{LoadError, Maker, compile, keep};
use bulkhead_host::runtime::inspect::inspect;
use bulkhead_host::settlement::ConnectorId;
use bulkhead_host::{config, host};

use crate::support::guest::guest;
use crate::support::runtime::{compiled, counts, engine, name};

async fn load(bytes: &[u8]) -> Result<Plugin, LoadError> {
    let services = Services::idle(tokio::runtime::Handle::current());
    let grants = Arc::new(Grants::none(&services, name("orders")));
    Plugin::load(engine(), &compiled(bytes)?, grants).await
}

async fn refused(text: &str) -> String {
    load(&wat::parse_str(text).unwrap()).await.unwrap_err().to_string()
}

fn check(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` in: {message}");
    }
}

#[tokio::test]
async fn an_interface_of_another_version_is_named_with_those_that_are_offered() {
    let message = refused(r#"(component (import "wasi:config/store@0.3.0-draft" (instance)))"#).await;
    check(&message, &["`wasi:config/store@0.3.0-draft`", "0.2.0-rc.1, 0.2.0-draft, 0.2.0-draft-2024-09-27"]);
    let message = refused(r#"(component (import "wasi:clocks/monotonic-clock@0.3.0" (instance)))"#).await;
    check(&message, &["`wasi:clocks/monotonic-clock@0.3.0`", "0.2.x", "wasm32-wasip2"]);
}

#[tokio::test]
async fn an_unknown_package_is_named_with_what_to_do() {
    let message = refused(r#"(component (import "acme:things/stuff@1.0.0" (instance)))"#).await;
    check(&message, &["`acme:things/stuff@1.0.0`", "nothing of `acme:things` is offered", "compose"]);
}

#[tokio::test]
async fn an_unknown_interface_of_a_known_package_is_named_with_its_neighbours() {
    let message = refused(r#"(component (import "wasi:clocks/timezone@0.2.0" (instance)))"#).await;
    check(&message, &["`wasi:clocks/timezone@0.2.0`", "wall-clock, monotonic-clock"]);
}

#[tokio::test]
async fn a_function_that_is_not_there_is_a_misfit() {
    let text = r#"(component (import "bulkhead:connector/queue@0.1.0" (instance (export "explode" (func)))))"#;
    check(&refused(text).await, &["explode", "build it against the same WIT"]);
}

#[tokio::test]
async fn a_component_that_exports_nothing_to_call_is_refused() {
    check(&refused("(component)").await, &["`consumer`", "`scheduled`"]);
}

#[tokio::test]
async fn a_core_module_is_called_what_it_is() {
    let message = load(&wat::parse_str("(module)").unwrap()).await.unwrap_err().to_string();
    check(&message, &["core WebAssembly module", "wasm32-wasip2"]);
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_broken() {
    let whole = guest("batch");
    let message = load(&whole[..whole.len() / 2]).await.unwrap_err().to_string();
    check(&message, &["cut short"]);
}

#[tokio::test]
async fn anything_else_is_no_component() {
    assert!(matches!(load(b"#!/bin/sh").await, Err(LoadError::NotWasm)));
    assert!(matches!(load(b"").await, Err(LoadError::NotWasm)));
}

#[test]
fn a_plugin_that_is_too_large_is_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    std::fs::File::create(&path).unwrap().set_len(1025).unwrap();
    let error = LoadError::from(plugin_store::read(&path, 1024).unwrap_err());
    assert_eq!((error.limit(), error.key()), (Some(Limit::Compile), Some("host.compile.size")));
    check(&error.to_string(), &["large.wasm", "1024 bytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_over_a_bound_of_the_compiler_is_counted_under_its_connector() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("large.wasm"))
        .unwrap()
        .set_len(CompileLimits::default().size_bytes + 1)
        .unwrap();
    let file = folder.path().join("bulkhead.toml");
    std::fs::write(&file, "[connectors.large]\nplugin = 'large.wasm'\nconsume = 'in'\n").unwrap();
    let (loaded, metrics) = (config::load(&[file], &|_| None).unwrap(), Metrics::default());
    assert!(host::prepare(&loaded, &metrics).await.is_err());
    let text = metrics.text();
    let hits: Vec<_> = text.lines().filter(|line| line.contains("limit_hits_total{")).collect();
    assert_eq!(hits, [r#"bulkhead_limit_hits_total{connector="large",limit="compile"} 1"#]);
}

/// A component that exports a `consumer` of the wrong type; `start` runs when it is instantiated.
fn misfit(start: &str) -> String {
    format!(
        r#"(component
            (core module $m (func $start {start}) (func (export "handle")) (start $start))
            (core instance $i (instantiate $m))
            (func $handle (canon lift (core func $i "handle")))
            (instance $consumer (export "handle" (func $handle)))
            (export "bulkhead:connector/consumer@0.1.0" (instance $consumer)))"#
    )
}

#[tokio::test]
async fn an_export_of_another_type_is_a_misfit() {
    check(&refused(&misfit("")).await, &["build it against the same WIT"]);
}

#[tokio::test]
async fn a_start_without_end_is_refused() {
    let services = Services::idle(tokio::runtime::Handle::current());
    let subject = Subject { name: name("orders"), lineage: name("orders"), id: ConnectorId(1) };
    let limits = Limits { cpu: Duration::from_millis(20), ..Limits::default() };
    let grants = Grants::new(&services, subject, limits, &serde_json::Map::new(), Allow::default());
    let component = compiled(&wat::parse_str(misfit("(loop $again (br $again))")).unwrap()).unwrap();
    let error = Plugin::load(engine(), &component, Arc::new(grants)).await.unwrap_err();
    check(&error.to_string(), &["does not start", "connectors.orders.limits.cpu"]);
}

/// Starts a component and expects that `limits.LABEL` ends its start.
async fn ends(text: &str, label: &str) {
    let services = Services::idle(tokio::runtime::Handle::current());
    let grants = Arc::new(Grants::none(&services, name("orders")));
    let component = compiled(&wat::parse_str(text).unwrap()).unwrap();
    let error = Plugin::load(engine(), &component, grants.clone()).await.unwrap_err();
    check(&error.to_string(), &[&format!("connectors.orders.limits.{label}")]);
    counts(grants.metrics(), &format!(r#"bulkhead_limit_hits_total{{connector="orders",limit="{label}"}} 1"#));
}

/// A component that exports something to call, with more of its own before its core module.
fn with(before: &str, module: &str, arguments: &str) -> String {
    format!(
        r#"(component
            {before}
            (core module $m {module} (func (export "handle")))
            (core instance $i (instantiate $m {arguments}))
            (func $handle (canon lift (core func $i "handle")))
            (instance $consumer (export "handle" (func $handle)))
            (export "bulkhead:connector/consumer@0.1.0" (instance $consumer)))"#
    )
}

#[tokio::test]
async fn handles_of_the_hosts_resources_are_bounded() {
    let before = r#"
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $own (eq $outer)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core instance $host (export "subscribe" (func $subscribe)))"#;
    let module = r#"
        (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
        (func $start (loop $again (drop (call $subscribe (i64.const 1))) (br $again)))
        (start $start)"#;
    ends(&with(before, module, r#"(with "host" (instance $host))"#), "handles").await;
}

#[tokio::test]
async fn handles_of_a_plugins_own_resources_are_bounded() {
    let before = r#"
        (type $thing (resource (rep i32)))
        (core func $new (canon resource.new $thing))
        (core instance $host (export "new" (func $new)))"#;
    let module = r#"
        (import "host" "new" (func $new (param i32) (result i32)))
        (func $start (loop $again (drop (call $new (i32.const 1))) (br $again)))
        (start $start)"#;
    ends(&with(before, module, r#"(with "host" (instance $host))"#), "handles").await;
}

#[tokio::test]
async fn memories_count_together() {
    // Four memories of 24 MiB, each within the limit of 64 MiB.
    let many = "(core instance (instantiate $large))".repeat(4);
    let before = format!("(core module $large (memory 384)) {many}");
    ends(&with(&before, "", ""), "memory").await;
}

#[tokio::test]
async fn memory_holds_no_residue_of_another_sandbox() {
    let module = r#"
        (memory 64)
        (func $start (local $at i32)
            (loop $next
                (if (i32.load8_u (local.get $at)) (then (unreachable)))
                (local.set $at (i32.add (local.get $at) (i32.const 64)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 4194304))))
            (memory.fill (i32.const 0) (i32.const 170) (i32.const 4194304)))
        (start $start)"#;
    let bytes = wat::parse_str(with("", module, "")).unwrap();
    let component = compiled(&bytes).unwrap();
    for _ in 0..40 {
        let services = Services::idle(tokio::runtime::Handle::current());
        let grants = Arc::new(Grants::none(&services, name("orders")));
        let error = Plugin::load(engine(), &component, grants).await.unwrap_err();
        // It starts, every time; only its export has no type that fits.
        assert!(matches!(error, LoadError::Misfit(_)), "{error}");
    }
}

#[test]
fn compiled_code_is_kept_and_a_changed_file_is_compiled_again() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = PluginStore::open(data_dir.path()).unwrap();
    let bytes = guest("batch");
    let load = || compile(engine(), Some(&store), Maker::Host, &bytes).unwrap();
    let first = load();
    assert_eq!((first.is_cached(), load().is_cached()), (false, false), "compiling keeps nothing by itself");
    keep(engine(), &store, &first);
    assert!(load().is_cached());
    let file = kept(data_dir.path());
    let mut bad = std::fs::read(&file).unwrap();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let again = load();
    assert!(!again.is_cached());
    keep(engine(), &store, &again);
    assert_ne!(std::fs::read(&file).unwrap(), bad, "it is replaced");
    assert!(load().is_cached());
}

fn kept(data_dir: &std::path::Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(data_dir.join("compiled")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "nothing else is left there");
    file
}

#[tokio::test]
async fn a_plugin_is_described_without_any_grant() {
    let inspection = inspect(engine(), &compiled(&guest("echo")).unwrap()).await;
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["name"], "guest-echo");
    assert_eq!(json["wants"], serde_json::json!([r#"publish = ["QUEUE"]"#]));
    assert_eq!(
        json["exports"],
        serde_json::json!(["bulkhead:connector/about@0.1.0", "bulkhead:connector/consumer@0.1.0"])
    );
    assert!(json["config_schema"]["properties"]["publish"].is_object(), "{json}");
    let imports = json["imports"].as_array().unwrap();
    assert!(
        imports.iter().any(|import| import["name"] == "bulkhead:connector/queue@0.1.0" && import["offered"] == "yes")
    );
    assert!(imports.iter().all(|import| import["offered"] != "no"), "{json}");
    assert_eq!(json["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn what_cannot_be_linked_can_still_be_inspected() {
    let text = r#"(component
        (import "acme:things/stuff@1.0.0" (instance))
        (import "wasi:sockets/instance-network@0.2.0" (instance)))"#;
    let inspection = inspect(engine(), &compiled(&wat::parse_str(text).unwrap()).unwrap()).await;
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["imports"][0]["offered"], "no");
    assert_eq!(json["imports"][1]["offered"], "refused");
    assert!(inspection.problem.is_some());
}
