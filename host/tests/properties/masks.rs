//! What is shown of a body, against a second way to mask it: over a tree of values, as a parser makes it.

use bulkhead_host::mask::{Masks, Pointer};
use serde_json::Value;

/// Stands for what the second way takes out.
const OUT: &str = "<masked>";

/// In what is shown nothing masked is left and all else is there; sent back as it is, it is the body again. What cannot be
/// read is shown whole or not at all.
pub fn check(pointers: &[&str], body: &[u8]) {
    let pointers: Vec<&str> = pointers.iter().copied().filter(|text| Pointer::parse(text).is_ok()).collect();
    let masks = Masks::new([], pointers.iter().filter_map(|text| Pointer::parse(text).ok()));
    let shown = masks.body(body);
    let (whole, seen) = (several(body), several(&shown));
    let Some(mut whole) = whole else {
        // Only a sequence of values is shown in parts.
        assert!(shown == body || shown.starts_with(b"<masked: "), "{}", String::from_utf8_lossy(&shown));
        return;
    };
    if shown.starts_with(b"<masked: ") {
        return;
    }
    let mut seen = seen.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&shown)));
    for pointer in pointers {
        let steps: Vec<&str> = pointer.split('/').skip(1).collect();
        whole.iter_mut().for_each(|value| take_out(value, &steps));
    }
    seen.iter_mut().for_each(rename_marks);
    assert_eq!(seen, whole, "{}", String::from_utf8_lossy(body));
    let is_told_apart = !body.windows(6).any(|part| part.eq_ignore_ascii_case(b"masked"));
    let names_all = !shown.windows(OUT.len()).any(|part| part == OUT.as_bytes());
    if is_told_apart && names_all && !has_name_twice(body) {
        assert_eq!(masks.restored(shown.to_vec(), body).as_deref(), Ok(body));
    }
}

/// One value after the other.
fn several(body: &[u8]) -> Option<Vec<Value>> {
    serde_json::Deserializer::from_slice(body).into_iter().collect::<Result<_, _>>().ok()
}

/// A parser keeps one of them: what it writes is shorter.
fn has_name_twice(body: &[u8]) -> bool {
    let names = |value: &[u8]| value.iter().filter(|byte| **byte == b':').count();
    let written: Vec<u8> =
        several(body).into_iter().flatten().flat_map(|value| value.to_string().into_bytes()).collect();
    names(&written) != names(body)
}

fn take_out(value: &mut Value, steps: &[&str]) {
    let Some((step, rest)) = steps.split_first() else {
        *value = Value::from(OUT);
        return;
    };
    let name = step.replace("~1", "/").replace("~0", "~");
    match value {
        Value::Array(elements) if *step == "*" => elements.iter_mut().for_each(|it| take_out(it, rest)),
        Value::Object(members) if *step == "*" => members.values_mut().for_each(|it| take_out(it, rest)),
        Value::Array(elements) => {
            let index = name.parse().ok().filter(|index: &usize| index.to_string() == name);
            index.and_then(|index| elements.get_mut(index)).into_iter().for_each(|it| take_out(it, rest));
        }
        Value::Object(members) => members.get_mut(&name).into_iter().for_each(|it| take_out(it, rest)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn rename_marks(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("<masked") => OUT.clone_into(text),
        Value::Array(elements) => elements.iter_mut().for_each(rename_marks),
        Value::Object(members) => members.values_mut().for_each(rename_marks),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
