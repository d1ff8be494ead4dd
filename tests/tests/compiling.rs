//! Plugins that are an attack on the compiler: it is a process of its own that pays for them.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const TOML: &str = "[connectors.bomb]\nplugin = 'bomb.wasm'\nconsume = 'in'\n";

/// A component with one core module.
fn component(functions: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module (memory 1) {functions}))")).unwrap()
}

/// Refused at its key, as over a bound of the compiler; nothing is written, and what is beside it is told too.
fn check(host: &Bulkhead, plugin: &[u8], says: &str) {
    std::fs::write(host.path("bomb.wasm"), plugin).unwrap();
    let refused = host.run(&["run"]).ended_with(2);
    let errors = refused.errors();
    assert!(errors.contains("connectors.bomb.plugin") && errors.contains(says), "{errors}");
    assert!(errors.contains(r#""connector":"bomb","limit":"compile","key":"connectors.bomb.plugin""#), "{errors}");
    assert!(!host.data().exists(), "nothing is written");
}

/// Five kilobytes: each of the loops has all of the variables as its parameters.
fn takes_hours() -> Vec<u8> {
    let (loops, variables) = (600, 600);
    let mut body = "(loop ".repeat(loops);
    for variable in 0..variables {
        write!(body, "(local.set {variable} (i32.add (local.get {variable}) (i32.const 1)))").unwrap();
    }
    body.push_str(&"(br_if 0 (local.get 0)))".repeat(loops));
    component(&format!("(func (local{}) {body})", " i32".repeat(variables)))
}

#[test]
fn a_plugin_that_takes_the_compiler_hours_is_refused() {
    // Of the minute that it would have, the shell leaves some seconds.
    let host = Bulkhead::new(TOML).under("-t 4");
    check(&host, &takes_hours(), "the component is not compiled: it takes more than 60 s to compile");
}

/// As the system shows it, while it works.
#[test]
fn the_compiler_has_its_bounds_and_nothing_of_the_hosts_environment() {
    // The one that holds: the higher one beside it may be what whoever started the host has set.
    const BOUNDS: [&str; 4] =
        ["Max address space 2147483648 ", "Max file size 0 ", "Max core file size 0 ", "Max open files 16 "];
    let host = Bulkhead::new(TOML).under("-t 4").variable("CANARY", "canary");
    std::fs::write(host.path("bomb.wasm"), takes_hours()).unwrap();
    let running = host.launch();
    // It sets them itself, before it reads a byte of the plugin.
    let compiler = running.wait_for_child("compiler within its bounds", PATIENCE, |child| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let limits: Vec<String> = child.limits.lines().map(words).collect();
        let is_bound = |bound: &&str| limits.iter().any(|limit| limit.starts_with(bound));
        child.command.ends_with("compile-plugin") && BOUNDS.iter().all(is_bound)
    });
    assert_eq!(compiler.environment, "");
    let _ = running.wait().ended_with(2);
}

/// A large function: the compiler needs a hundred times its size.
#[test]
fn a_plugin_that_takes_the_compiler_all_memory_is_refused() {
    // Of the memory that it would have, the shell leaves a fifth; one run's tables fit into it.
    let host = Bulkhead::new(&format!("[host]\nruns = 1\n{TOML}")).under("-d 450000");
    let body = "(local.set 0 (i32.add (local.get 0) (i32.load (local.get 0))))".repeat(450_000);
    let plugin = component(&format!("(func (local i32) {body})"));
    check(&host, &plugin, "the component is not compiled: it takes more than 2 GiB of memory to compile");
}

/// With a cache, nothing is compiled and no process is started.
#[test]
fn a_plugin_that_was_compiled_before_is_not_compiled_again() {
    let host = Bulkhead::new(TOML);
    std::fs::copy(guest("hostile"), host.path("bomb.wasm")).unwrap();
    for compiled in [1, 0] {
        let log = host.run_until_idle().errors();
        assert!(log.contains(&format!(r#""plugins":1,"compiled":{compiled}"#)), "{log}");
    }
}
