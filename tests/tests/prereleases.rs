//! The pre-releases of WASI interfaces that are offered beside those that the SDK uses: each is called, and answers as its
//! own text says.

use bulkhead_tests::{Bulkhead, guest};
use serde_json::{Value, json};

/// What a component of this interface and version sees.
fn seen(interface: &str) -> (Value, Bulkhead) {
    let host = Bulkhead::new(&format!(
        "[connectors.it]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['out']\nlimits.cpu = '1m'\n
        config = {{ text = 'a text', list = [1, 'two'] }}\n",
        guest("prerelease").display()
    ));
    host.send("in", &[interface]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<Value>::new(), "{interface}");
    let seen = serde_json::from_slice(&host.ledger().messages("out")[0].body).unwrap();
    (seen, host)
}

#[test]
fn every_version_of_the_configuration_is_read_alike() {
    let expected = json!({
        "text": "a text", "list": r#"[1,"two"]"#, "absent": null,
        "all": [["list", r#"[1,"two"]"#], ["text", "a text"], ["$", r#"{"list":[1,"two"],"text":"a text"}"#]],
    });
    for version in ["0.2.0-rc.1", "0.2.0-draft", "0.2.0-draft-2024-09-27"] {
        assert_eq!(seen(&format!("config {version}")).0, expected, "{version}");
    }
}

/// What a bucket holds in the end, and what was seen of it, is the same in both but for what is not there.
fn check_keyvalue(version: &str, absent: &Value) {
    let (seen, host) = seen(&format!("keyvalue {version}"));
    let expected = json!({
        "many": [["b", "2"], absent, ["a", "1"]],
        "one_by_one": [null, "4", true, false],
        "pages": [1_000, 1],
        "keys": 1_001,
        "ends": ["b", "key-1000"],
        "is_refused": true,
    });
    assert_eq!(seen, expected, "{version}");
    let state = host.ledger().state("it");
    assert_eq!((state.len(), &state[0]), (1_001, &("b".to_owned(), b"4".to_vec())), "{version}");
}

#[test]
fn the_first_draft_of_keys_and_values_leaves_out_what_is_not_there() {
    check_keyvalue("0.2.0-draft", &Value::Null);
}

#[test]
fn the_second_draft_of_keys_and_values_names_what_is_not_there() {
    check_keyvalue("0.2.0-draft2", &json!(["absent", null]));
}

#[test]
fn the_first_draft_of_atomics_counts_up() {
    assert_eq!(seen("atomics 0.2.0-draft").0, json!({ "counts": [5, 7], "stored": "7" }));
}

#[test]
fn the_second_draft_of_atomics_counts_both_ways_and_swaps_what_has_not_changed() {
    let expected = json!({ "counts": [5, -2], "swapped": [null, "by another", "in time"] });
    assert_eq!(seen("atomics 0.2.0-draft2").0, expected);
}
