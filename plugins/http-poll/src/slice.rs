//! Parts of a JSON text as they were written.
//!
//! A record is passed on byte for byte: parsing it and writing it again would change long numbers and the order of keys.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

/// The elements of the list at `pointer`; an object there counts as the only one.
pub(crate) fn elements<'a>(json: &'a [u8], pointer: &str) -> Result<Vec<&'a [u8]>, String> {
    let place = find(json, pointer)?.ok_or_else(|| format!("the answer has nothing at `{pointer}`"))?;
    let found = &json[place.clone()];
    match found.first() {
        Some(b'[') => Ok(members(json, place.start)?.into_iter().map(|member| &json[member.value]).collect()),
        Some(b'{') => Ok(vec![found]),
        _ => Err(format!("the answer has no list at `{pointer}`")),
    }
}

struct Member {
    /// In an object.
    name: Option<String>,
    value: Range<usize>,
}

fn find(json: &[u8], pointer: &str) -> Result<Option<Range<usize>>, String> {
    let start = skip_blanks(json, 0);
    let mut place = start..value_end(json, start)?;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let mut members = members(json, place.start)?.into_iter().enumerate();
        let chosen = members.find(|(index, member)| match &member.name {
            Some(name) => *name == token,
            None => index.to_string() == token,
        });
        match chosen {
            Some((_, member)) => place = member.value,
            None => return Ok(None),
        }
    }
    Ok(Some(place))
}

/// What the list or object that starts at `start` consists of; nothing for any other value.
fn members(json: &[u8], start: usize) -> Result<Vec<Member>, String> {
    let named = match json.get(start) {
        Some(b'{') => true,
        Some(b'[') => false,
        _ => return Ok(Vec::new()),
    };
    let mut members = Vec::new();
    let mut at = skip_blanks(json, start + 1);
    while !matches!(json.get(at), None | Some(b']' | b'}')) {
        let name = if named {
            let end = value_end(json, at)?;
            let name = serde_json::from_slice(&json[at..end]).map_err(|error| error.to_string())?;
            at = skip_blanks(json, skip_blanks(json, end) + 1);
            Some(name)
        } else {
            None
        };
        let end = value_end(json, at)?;
        members.push(Member { name, value: at..end });
        at = skip_blanks(json, end);
        if json.get(at) == Some(&b',') {
            at = skip_blanks(json, at + 1);
        }
    }
    Ok(members)
}

/// Where the value that starts at `start` ends.
fn value_end(json: &[u8], start: usize) -> Result<usize, String> {
    let mut values = Deserializer::from_slice(json.get(start..).unwrap_or_default()).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Ok(start + values.byte_offset()),
        Some(Err(error)) => Err(format!("the answer is not JSON: {error}")),
        None => Err("the answer is not JSON: it is empty".to_owned()),
    }
}

fn skip_blanks(json: &[u8], start: usize) -> usize {
    let blanks = json.iter().skip(start).take_while(|byte| byte.is_ascii_whitespace()).count();
    start + blanks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, pointer: &str, expected: Result<&[&str], &str>) {
        let found = elements(json.as_bytes(), pointer);
        let found: Result<Vec<_>, _> =
            found.map(|parts| parts.into_iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect());
        assert_eq!(found, expected.map(|parts| parts.iter().map(ToString::to_string).collect()).map_err(str::to_owned));
    }

    #[test]
    fn records_are_cut_out_as_they_are() {
        check(r#" [ {"b": 1.10, "a":[1,{}]} ,2, "x,]" ] "#, "", Ok(&[r#"{"b": 1.10, "a":[1,{}]}"#, "2", r#""x,]""#]));
        check("[]", "", Ok(&[]));
        check("[12345678901234567890123, 0.1]", "", Ok(&["12345678901234567890123", "0.1"]));
    }

    #[test]
    fn pointers_lead_through_objects_and_lists() {
        check(r#"{"a": 1, "data" : {"items" :[ 1, 2 ]}}"#, "/data/items", Ok(&["1", "2"]));
        check(r#"[0, {"a/b": [3]}]"#, "/1/a~1b", Ok(&["3"]));
    }

    #[test]
    fn an_object_is_one_record() {
        check(r#"{"id": 1}"#, "", Ok(&[r#"{"id": 1}"#]));
    }

    #[test]
    fn what_is_no_list_is_told() {
        check(r#"{"a": 1}"#, "/b", Err("the answer has nothing at `/b`"));
        check(r#"{"a": 1}"#, "/a", Err("the answer has no list at `/a`"));
        check("", "", Err("the answer is not JSON: it is empty"));
        check("<html>", "", Err("the answer is not JSON: expected value at line 1 column 1"));
    }
}
