//! Calls for many messages as a component makes them that no SDK has checked.

use bulkhead_tests::{Bulkhead, MESSAGE_TYPES};

/// A component that exports both interfaces: for one message it traps, for many it answers this number of successes,
/// in which `$count` is the number of messages. Memory from 1024 on is given away once, in order; the second page stays
/// zero, which is a list of successes, and the answer lies at 0.
fn component(answers: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
        (core module $main
            (memory (export "memory") 2)
            (global $free (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
                (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.get $free)
                (global.set $free (i32.add (global.get $free) (local.get $size))))
            (func (export "one") (param i32) (result i32) unreachable)
            (func (export "many") (param i32) (param $count i32) (result i32)
                (i32.store (i32.const 0) (i32.const 65536))
                (i32.store (i32.const 4) {answers})
                (i32.const 0)))
        (core instance $i (instantiate $main))
        {MESSAGE_TYPES}
        (func $one (param "message" $message) (result (result (error $failure)))
            (canon lift (core func $i "one") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
        (instance $consumer (export "handle" (func $one)))
        (export "bulkhead:connector/consumer@0.1.0" (instance $consumer))
        (func $many (param "messages" (list $message)) (result (list (result (error $failure))))
            (canon lift (core func $i "many") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
        (instance $batch (export "handle" (func $many)))
        (export "bulkhead:connector/batch-consumer@0.1.0" (instance $batch)))"#
    );
    wat::parse_str(text).unwrap()
}

/// The reasons and attempts of what died of three messages in one run.
fn died(answers: &str) -> Vec<(String, u32)> {
    let retry = "retry = { attempts = 2, first = '1ms' }";
    let host = Bulkhead::new(&format!("[connectors.it]\nplugin = 'it.wasm'\nconsume = 'in'\n{retry}\n"));
    std::fs::write(host.path("it.wasm"), component(answers)).unwrap();
    host.send("in", &["a", "b", "c"]);
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    assert_eq!((ledger.messages("in"), ledger.pending()), (vec![], 0));
    ledger.dead().into_iter().map(|letter| (letter.reason, letter.attempts)).collect()
}

#[test]
fn a_component_that_takes_one_and_many_is_called_for_many() {
    assert_eq!(died("(local.get $count)"), []);
}

/// The first call is for three messages, each of the others for one that broke it.
#[test]
fn a_wrong_number_of_results_fails_every_message_of_the_call_as_a_retry() {
    for (answers, got) in [("(i32.const 0)", 0), ("(i32.add (local.get $count) (i32.const 1))", 2)] {
        let reason = format!("the plugin answered {got} results for 1 messages");
        let died = died(answers);
        assert_eq!(died.len(), 3, "{died:?}");
        assert!(died.iter().all(|(of, attempts)| of.contains(&reason) && *attempts == 2), "{died:?}");
    }
}
