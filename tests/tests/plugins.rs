//! Plugins that cannot run: refused before anything is started or written, with what to change.

use bulkhead_tests::{Bulkhead, guest};

/// The host ends with 2 before it has written anything, and every part of `says` is in what it says.
fn check(plugin: Option<&[u8]>, says: &[&str]) {
    let host = Bulkhead::new("[connectors.bad]\nplugin = 'bad.wasm'\nconsume = 'in'\n");
    if let Some(plugin) = plugin {
        std::fs::write(host.path("bad.wasm"), plugin).unwrap();
    }
    for arguments in [&["run"][..], &["check"]] {
        let refused = host.run(arguments).ended_with(2);
        let text = refused.errors() + &refused.output;
        for part in ["bulkhead.toml:7:10", "connectors.bad.plugin", "bad.wasm"].iter().chain(says) {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert!(!host.data().exists(), "nothing is written");
    }
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_missing_file() {
    check(None, &["there is no file `", "give the path of a component, or builtin:NAME"]);
}

#[test]
fn an_empty_file() {
    check(Some(b""), &["this is not a WebAssembly component"]);
}

#[test]
fn a_script() {
    check(Some(b"#!/bin/sh\n"), &["this is not a WebAssembly component"]);
}

#[test]
fn a_core_module() {
    let says = ["this is a core WebAssembly module, not a component", "build it for `wasm32-wasip2`"];
    check(Some(&component("(module)")), &says);
}

#[test]
fn a_file_that_was_cut_short() {
    let whole = std::fs::read(guest("echo")).unwrap();
    check(Some(&whole[..whole.len() / 2]), &["the component is broken or cut short (build or copy it again)"]);
}

#[test]
fn a_component_with_a_flipped_bit() {
    let mut plugin = std::fs::read(guest("echo")).unwrap();
    // The length of the first section.
    plugin[9] ^= 0x40;
    check(Some(&plugin), &["the component is broken or cut short"]);
}

#[test]
fn an_interface_that_is_not_offered() {
    let plugin = component(r#"(component (import "acme:things/stuff@1.0.0" (instance)))"#);
    let says = ["it imports `acme:things/stuff@1.0.0`", "nothing of `acme:things` is offered", "remove the import"];
    check(Some(&plugin), &says);
}

#[test]
fn a_version_that_is_not_offered() {
    let plugin = component(r#"(component (import "wasi:http/outgoing-handler@0.3.0" (instance)))"#);
    let says = ["it imports `wasi:http/outgoing-handler@0.3.0`", "offered: 0.2.x", "target `wasm32-wasip2`"];
    check(Some(&plugin), &says);
}

#[test]
fn several_that_are_not_offered_are_named_together() {
    let plugin = component(
        r#"(component (import "acme:things/stuff@1.0.0" (instance)) (import "wasi:nn/graph@0.2.0" (instance)))"#,
    );
    check(Some(&plugin), &["`acme:things/stuff@1.0.0`", "`wasi:nn/graph@0.2.0`"]);
}

#[test]
fn a_function_that_is_not_there() {
    let plugin =
        component(r#"(component (import "bulkhead:connector/queue@0.1.0" (instance (export "explode" (func)))))"#);
    check(Some(&plugin), &["other types than the host's", "build it against the same WIT", "explode"]);
}

#[test]
fn an_export_of_another_type() {
    let plugin = component(
        r#"(component
            (core module $m (func (export "handle")))
            (core instance $i (instantiate $m))
            (func $handle (canon lift (core func $i "handle")))
            (instance $consumer (export "handle" (func $handle)))
            (export "bulkhead:connector/consumer@0.1.0" (instance $consumer)))"#,
    );
    check(Some(&plugin), &["other types than the host's", "build it against the same WIT"]);
}

#[test]
fn nothing_to_call() {
    check(Some(&component("(component)")), &["the component exports no interface that the host calls", "`consumer`"]);
}

/// A sound plugin under a connector that wants something else of it: nothing is started or written.
fn check_use(connector: &str, says: &[&str]) {
    let host = Bulkhead::new(&format!("[connectors.bad]\n{connector}\n"));
    for arguments in [&["run"][..], &["check"]] {
        let refused = host.run(arguments).ended_with(2);
        let text = refused.errors() + &refused.output;
        for part in ["bulkhead.toml:7:10", "connectors.bad.plugin"].iter().chain(says) {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert!(!host.data().exists(), "nothing is written");
    }
}

#[test]
fn messages_for_a_plugin_that_takes_none() {
    check_use(
        "plugin = 'builtin:http-poll'\nconsume = 'in'",
        &["exports neither `consumer` nor `batch-consumer`", "take `consume` away"],
    );
}

#[test]
fn a_schedule_for_a_plugin_that_runs_by_no_clock() {
    let connector = format!("plugin = '{}'\nschedule = {{ every = '1h' }}", guest("echo").display());
    check_use(&connector, &["it does not export `scheduled`", "take `schedule` away"]);
}

#[test]
fn idempotency_keys_of_a_plugin_that_takes_many_messages_in_one_call() {
    let connector = format!(
        "plugin = '{}'\nconsume = 'in'\nallow.http = [{{ url = 'https://example.com/*', methods = ['POST'], idempotency = true }}]",
        guest("batch").display()
    );
    check_use(&connector, &["the plugin takes many messages in one call", "take `idempotency` out of `allow.http`"]);
}

#[test]
fn a_config_that_the_plugin_does_not_take() {
    let host = Bulkhead::new("[connectors.bad]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = { progam = '.' }\n");
    for arguments in [&["run"][..], &["check"]] {
        let refused = host.run(arguments).ended_with(2);
        let text = refused.errors() + &refused.output;
        let place = "bulkhead.toml:9:12: connectors.bad.config.progam: unknown key\n";
        for part in [place, "9 | config = { progam = '…' }\n", "did you mean `program`?"] {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert!(!text.contains("config.program"), "a misspelt key is not missing as well: {text}");
        assert!(!host.data().exists(), "nothing is written");
    }
}

/// What the engine has switched off: each of these is valid WebAssembly for somebody else.
#[test]
fn a_proposal_that_is_not_offered() {
    let modules = [
        ("(memory 1 1 shared)", "threads"),
        ("(memory i64 1)", "memory64"),
        ("(type (struct (field i32)))", "gc"),
        ("(tag)", "exceptions"),
        ("(memory 1 (pagesize 1))", "custom page sizes"),
    ];
    for (module, names) in modules {
        check(
            Some(&component(&format!("(component (core module {module}))"))),
            &["or needs a proposal that is off here", names],
        );
    }
}

#[test]
fn every_bad_plugin_is_named_at_once() {
    let host = Bulkhead::new(
        "[connectors.one]\nplugin = 'one.wasm'\nconsume = 'in'\n[connectors.two]\nplugin = 'two.wasm'\nconsume = 'in'\n",
    );
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("one.wasm") && refused.contains("two.wasm"), "{refused}");
    assert!(!host.data().exists());
}
