//! Bodies of all shapes, masked in two ways; and texts about them, in which no masked value is left.

use bulkhead_host::mask::{Masks, Pointer};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::properties::masks;

/// Few enough names that pointers meet them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("0"), Just("1"), Just("*"), Just("x/y"), Just("~"), Just("ü\"\n"), Just("")]
        .prop_map(str::to_owned)
}

fn body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |it| it.is_finite()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..5).prop_map(|map| Value::from_iter(map)),
        ]
    })
}

fn pointer() -> impl Strategy<Value = String> {
    let step =
        prop_oneof![3 => name().prop_map(|name| name.replace('~', "~0").replace('/', "~1")), 1 => Just("*".to_owned())];
    prop::collection::vec(step, 0..5).prop_map(|steps| steps.iter().map(|step| format!("/{step}")).collect())
}

proptest! {
    #[test]
    fn both_ways_to_mask_a_body_come_to_the_same(
        values in prop::collection::vec(body(), 1..3),
        pointers in prop::collection::vec(pointer(), 0..4),
        is_pretty: bool,
    ) {
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        let written = values.iter().map(|value| if is_pretty { format!("{value:#}") } else { value.to_string() });
        masks::check(&pointers, written.collect::<Vec<_>>().join("\n").as_bytes());
    }

    #[test]
    fn a_body_that_is_cut_or_changed_is_shown_whole_or_not_at_all(
        value in body(),
        pointers in prop::collection::vec(pointer(), 0..4),
        place: prop::sample::Index,
        byte: Option<u8>,
    ) {
        let mut written = value.to_string().into_bytes();
        let at = place.index(written.len());
        match byte {
            Some(byte) => written[at] = byte,
            None => written.truncate(at),
        }
        masks::check(&pointers.iter().map(String::as_str).collect::<Vec<_>>(), &written);
    }

    #[test]
    fn no_text_repeats_a_masked_value(
        value in "[A-Za-zÄé 0-9/%\"\\\\+.-]{6,40}",
        before in ".{0,20}",
        after in ".{0,20}",
        spelling in 0..5,
    ) {
        let value = value.trim();
        prop_assume!(value.len() >= 6 && !before.contains(value) && !after.contains(value));
        let body = json!({ "secret": [{ "is": value }] }).to_string();
        let spelled = match spelling {
            0 => value.to_owned(),
            1 => value.replace('%', "%25").replace(' ', "%20").replace('/', "%2F").replace('+', "%2B"),
            2 => serde_json::to_string(value).unwrap(),
            3 => value.replace('%', "%25").replace(' ', "+").replace('/', "%2f"),
            _ => value.chars().map(|it| if it == '/' { "\\/".to_owned() } else { it.to_string() }).collect(),
        };
        let masks = Masks::new([], [Pointer::parse("/secret/*/is").unwrap()]);
        let shown = masks.repeats([(&[][..], body.as_bytes())]).hide(&format!("{before}{spelled}{after}")).into_owned();
        prop_assert!(!shown.contains(value) && !shown.contains(spelled.trim_matches('"')), "{shown}");
    }
}
