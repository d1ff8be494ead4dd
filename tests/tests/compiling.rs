//! Plugins that are an attack on the compiler: it is a process of its own that pays for them.

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

/// Refused as over this bound of the compiler, with what moves it; nothing is written.
fn check(host: &Bulkhead, plugin: &[u8], key: &str, says: &str) {
    std::fs::write(host.path("bomb.wasm"), plugin).unwrap();
    let refused = host.run(&["run", "--until-idle"]).ended_with(2);
    let errors = refused.errors();
    assert!(errors.contains("connectors.bomb.plugin") && errors.contains(says), "{errors}");
    assert!(errors.contains(&format!("raise `{key}`")), "{errors}");
    assert!(errors.contains(&format!(r#""connector":"bomb","limit":"compile","key":"{key}""#)), "{errors}");
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
    let host = Bulkhead::new(TOML).cold().under("-t 4");
    check(
        &host,
        &takes_hours(),
        "host.compile.time",
        "the component is not compiled: it takes more than 60s to compile",
    );
}

#[test]
fn the_time_that_a_plugin_may_take_can_be_set() {
    let host = Bulkhead::new(&format!("[host.compile]\ntime = '5ms'\n{TOML}")).cold();
    let plugin = std::fs::read(guest("hostile")).unwrap();
    check(&host, &plugin, "host.compile.time", "the component is not compiled: it takes more than 5ms to compile");
}

#[test]
fn the_size_that_a_plugin_may_have_can_be_set() {
    let large = component(&format!("(data (i32.const 0) \"{}\")", "x".repeat(2_048)));
    let host = Bulkhead::new(&format!("[host.compile]\nsize = '2KiB'\n{TOML}")).cold();
    let says = "bomb.wasm` is larger than 2048 bytes, the most that a plugin may have";
    check(&host, &large, "host.compile.size", says);
}

/// What is larger than the default is read and compiled: in the end it is no plugin.
#[test]
fn a_plugin_may_be_allowed_to_be_larger_than_the_default() {
    let large = component(&format!("(data (i32.const 0) \"{}\")", "x".repeat(33 << 20)));
    let host = Bulkhead::new(&format!("[host.compile]\nsize = '34MiB'\n{TOML}")).cold();
    std::fs::write(host.path("bomb.wasm"), large).unwrap();
    let errors = host.run(&["run"]).ended_with(2).errors();
    assert!(errors.contains("the component exports no interface that the host calls"), "{errors}");
}

/// As the system shows it, while it works.
#[test]
fn the_compiler_has_its_bounds_and_nothing_of_the_hosts_environment() {
    // The one that holds: the higher one beside it may be what whoever started the host has set.
    const BOUNDS: [&str; 4] =
        ["Max address space 2147483648 ", "Max file size 0 ", "Max core file size 0 ", "Max open files 16 "];
    let host = Bulkhead::new(TOML).cold().under("-t 4").variable("CANARY", "canary");
    std::fs::write(host.path("bomb.wasm"), takes_hours()).unwrap();
    let running = host.launch();
    // It sets them itself, before it reads a byte of the plugin.
    let compiler = running.wait_for_child("compiler within its bounds", PATIENCE, |child| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let limits: Vec<String> = child.limits.lines().map(words).collect();
        let is_bound = |bound: &&str| limits.iter().any(|limit| limit.starts_with(bound));
        child.command.ends_with("compile-plugin") && BOUNDS.iter().all(is_bound)
    });
    // What the host says to the allocator, and nothing that was said to the host.
    assert_eq!(compiler.environment.trim_end(), "MIMALLOC_ARENA_RESERVE=32768");
    let _ = running.wait().ended_with(2);
}

/// A large function: the compiler needs a hundred times its size.
#[test]
fn a_plugin_that_takes_the_compiler_all_memory_is_refused() {
    // Of the memory that it would have, the shell leaves a fifth; one run's tables fit into it.
    let host = Bulkhead::new(&format!("[host]\nruns = 1\n{TOML}")).cold().under("-d 450000");
    let body = "(local.set 0 (i32.add (local.get 0) (i32.load (local.get 0))))".repeat(450_000);
    let plugin = component(&format!("(func (local i32) {body})"));
    let says = "the component is not compiled: it takes more than 2147483648 bytes of memory to compile";
    check(&host, &plugin, "host.compile.memory", says);
}

/// A usual plugin is compiled in the least of it.
#[test]
fn the_memory_that_a_plugin_may_take_can_be_set() {
    let toml = format!("[host]\nruns = 1\ncompile = {{ memory = '512MiB' }}\n{TOML}");
    let body = "(local.set 0 (i32.add (local.get 0) (i32.load (local.get 0))))".repeat(450_000);
    let plugin = component(&format!("(func (local i32) {body})"));
    let says = "the component is not compiled: it takes more than 536870912 bytes of memory to compile";
    check(&Bulkhead::new(&toml).cold(), &plugin, "host.compile.memory", says);
    let host = Bulkhead::new(&toml).cold();
    std::fs::copy(guest("hostile"), host.path("bomb.wasm")).unwrap();
    let _ = host.run_until_idle();
}

/// With a cache, nothing is compiled and no process is started.
#[test]
fn a_plugin_that_was_compiled_before_is_not_compiled_again() {
    let host = Bulkhead::new(TOML).cold();
    std::fs::copy(guest("hostile"), host.path("bomb.wasm")).unwrap();
    for compiled in [1, 0] {
        let log = host.run_until_idle().errors();
        assert!(log.contains(&format!(r#""plugins":1,"compiled":{compiled}"#)), "{log}");
    }
}
