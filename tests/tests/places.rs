//! A guest that attacks from every place where it is entered: its start, its allocator, its function, the destructor of
//! a resource of its own, and after its return. It loops or it traps; the message dies of it, the next does not notice.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, MESSAGE_TYPES, Metrics, Running};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOP: &str = "(loop $again (br $again))";
const TRAP: &str = "(unreachable)";
/// The length of a body that nothing else has: the allocator is asked for it before anything of the message is seen.
const TRIGGER: usize = 777;

/// What a guest does in each of its places; nothing where it behaves.
#[derive(Default)]
struct Places {
    /// Tables, memories and globals of its own.
    fields: &'static str,
    start: String,
    realloc: String,
    handle: String,
    destructor: String,
    post_return: String,
}

impl Places {
    /// A connector with such a plugin, called `places`.
    fn host(&self, limits: &str) -> Bulkhead {
        let host = Bulkhead::new(&format!(
            "[connectors.places]\nplugin = 'places.wasm'\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\nretry = {{ attempts = 1 }}\nlimits = {{ {limits} }}\n"
        ));
        std::fs::write(host.path("places.wasm"), wat::parse_str(self.text()).unwrap()).unwrap();
        host
    }

    /// Memory from 1024 on is given away once, in order; what lies below is the answer, which is a success.
    fn text(&self) -> String {
        let Self { fields, start, realloc, handle, destructor, post_return } = self;
        format!(
            r#"(component
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
            (core func $now (canon lower (func $clock "now")))
            (core module $destructor (func (export "drop") (param i32) {destructor}))
            (core instance $destructor (instantiate $destructor))
            (type $own (resource (rep i32) (dtor (core func $destructor "drop"))))
            (core func $new (canon resource.new $own))
            (core func $close (canon resource.drop $own))
            (core module $second (memory 0) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
            (core instance $second (instantiate $second))
            (core instance $host (export "new" (func $new)) (export "close" (func $close)) (export "now" (func $now)))
            (core module $main
                (import "host" "new" (func $new (param i32) (result i32)))
                (import "host" "close" (func $close (param i32)))
                (import "host" "now" (func $now (result i64)))
                (import "second" "grow" (func $grow-second (param i32) (result i32)))
                (memory (export "memory") 1)
                (global $free (mut i32) (i32.const 1024))
                (global $is_attack (mut i32) (i32.const 0))
                {fields}
                (func $start {start})
                (start $start)
                (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
                    (if (i32.eq (local.get $size) (i32.const {TRIGGER})) (then {realloc}))
                    (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                    (global.get $free)
                    (global.set $free (i32.add (global.get $free) (local.get $size))))
                (func (export "handle") (param $message i32) (result i32)
                    (global.set $is_attack (i32.eq (i32.load offset=40 (local.get $message)) (i32.const {TRIGGER})))
                    (if (global.get $is_attack) (then {handle} (call $close (call $new (i32.const 1)))))
                    (i32.const 0))
                (func (export "post-return") (param i32)
                    (if (global.get $is_attack) (then {post_return}))))
            (core instance $i (instantiate $main (with "host" (instance $host)) (with "second" (instance $second))))
            {MESSAGE_TYPES}{EXPORT})"#
        )
    }
}

/// `bulkhead:connector/consumer`, as `wit/consumer.wit` has it; after the types of messages.
const EXPORT: &str = r#"
    (func $handle (param "message" $message) (result (result (error $failure)))
        (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
            (post-return (core func $i "post-return"))))
    (instance $consumer (export "handle" (func $handle)))
    (export "bulkhead:connector/consumer@0.1.0" (instance $consumer))"#;

fn ended(metrics: &Metrics, outcome: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)])
}

/// Sends an attack between two that are none: it dies, they do not.
fn attacked(host: &Bulkhead) -> Running {
    let running = host.start();
    host.send("in", &["ok".to_owned(), "x".repeat(TRIGGER), "ok".to_owned()]);
    running.wait_until("settled", PATIENCE, |metrics| ended(metrics, "dead") + ended(metrics, "done") == 3.0);
    let metrics = running.metrics();
    assert_eq!((ended(&metrics, "dead"), ended(&metrics, "done")), (1.0, 2.0), "{:?}", running.log());
    assert_eq!(metrics.value("bulkhead_panics_total", &[]), 0.0);
    running
}

fn check_loop(places: &Places) {
    let running = attacked(&places.host("cpu = '50ms'"));
    assert_eq!(running.metrics().limits("places"), ["cpu"]);
}

fn check_trap(places: &Places) {
    let host = places.host("");
    let running = attacked(&host);
    assert_eq!(running.metrics().limits("places"), Vec::<String>::new());
    let _ = running.terminate().ok();
    let dead = host.ledger().dead();
    assert!(dead[0].reason.contains("the plugin trapped: "), "{}", dead[0].reason);
}

#[test]
fn a_loop_in_a_destructor_is_ended_by_the_cpu_budget() {
    check_loop(&Places { destructor: LOOP.to_owned(), ..Places::default() });
}

#[test]
fn a_loop_in_the_function_is_ended_by_the_cpu_budget() {
    check_loop(&Places { handle: LOOP.to_owned(), ..Places::default() });
}

#[test]
fn a_loop_in_the_allocator_is_ended_by_the_cpu_budget() {
    check_loop(&Places { realloc: LOOP.to_owned(), ..Places::default() });
}

#[test]
fn a_loop_after_the_return_is_ended_by_the_cpu_budget() {
    check_loop(&Places { post_return: LOOP.to_owned(), ..Places::default() });
}

#[test]
fn a_trap_in_a_destructor_costs_its_message() {
    check_trap(&Places { destructor: TRAP.to_owned(), ..Places::default() });
}

#[test]
fn a_trap_in_the_function_costs_its_message() {
    check_trap(&Places { handle: TRAP.to_owned(), ..Places::default() });
}

#[test]
fn a_trap_in_the_allocator_costs_its_message() {
    check_trap(&Places { realloc: TRAP.to_owned(), ..Places::default() });
}

#[test]
fn a_trap_after_the_return_costs_its_message() {
    check_trap(&Places { post_return: TRAP.to_owned(), ..Places::default() });
}

#[test]
fn a_trap_in_the_start_is_refused_at_load() {
    let host = Places { start: TRAP.to_owned(), ..Places::default() }.host("");
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("connectors.places.plugin") && refused.contains("does not start"), "{refused}");
}

/// It behaves when it is loaded: the first reading of its clock is zero or nearly so, and those after a second are not.
fn check_later_start(attack: &str, limits: &[&str]) {
    let start = format!("(if (i64.gt_u (call $now) (i64.const 1000000000)) (then {attack}))");
    let host = Places { start, ..Places::default() }.host("cpu = '50ms'");
    let running = host.start();
    while ended(&running.metrics(), "dead") == 0.0 {
        host.send("in", &["ok"]);
        running.rest();
    }
    assert_eq!(running.metrics().limits("places"), limits);
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
}

#[test]
fn a_loop_in_the_start_of_a_later_sandbox_is_ended_by_the_cpu_budget() {
    check_later_start(LOOP, &["cpu"]);
}

#[test]
fn a_trap_in_the_start_of_a_later_sandbox_costs_its_message() {
    check_later_start(TRAP, &[]);
}

/// Grows until it is refused, and breaks then.
fn check_growth(before: &str, grow: &str, limits: &str) {
    let handle = format!("{before} (loop $more (br_if $more (i32.ne {grow} (i32.const -1)))) (unreachable)");
    let fields = "(table $table 0 funcref)";
    let running = attacked(&Places { fields, handle, ..Places::default() }.host(limits));
    assert_eq!(running.metrics().limits("places"), ["memory"]);
}

const GROW_TABLE: &str = "(table.grow $table (ref.null func) (i32.const 1000))";

/// Half of the limit is a memory's, so that the rest of it ends before the 100,000 entries that any table may have.
#[test]
fn a_table_that_grows_is_held_by_the_memory_limit() {
    check_growth("(drop (call $grow-second (i32.const 8)))", GROW_TABLE, "memory = '1MiB'");
}

#[test]
fn a_table_that_grows_beyond_what_any_may_have_is_held_too() {
    check_growth("", GROW_TABLE, "");
}

/// One takes half of the limit, so that the other meets it far below its own.
#[test]
fn memories_that_grow_are_held_by_their_sum() {
    let half = "(if (i32.eq (call $grow-second (i32.const 64)) (i32.const -1)) (then (return (i32.const 0))))
        (if (i32.ne (memory.grow (i32.const 64)) (i32.const -1)) (then (return (i32.const 0))))";
    check_growth(half, "(i32.const -1)", "memory = '8MiB'");
}

/// Every entry of the table is looked at before it is filled: one that holds something was another sandbox's.
#[test]
fn tables_of_a_sandbox_hold_nothing_of_another() {
    let fields = "(table $table 50000 funcref) (func $stain) (elem declare func $stain)";
    let start = "(local $at i32)
        (loop $next
            (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (unreachable)))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 50000))))
        (table.fill $table (i32.const 0) (ref.func $stain) (i32.const 50000))";
    let host = Places { fields, start: start.to_owned(), ..Places::default() }.host("");
    let running = host.start();
    host.send("in", &["ok"; 200]);
    running.wait_until("all done", PATIENCE, |metrics| ended(metrics, "done") == 200.0);
}
