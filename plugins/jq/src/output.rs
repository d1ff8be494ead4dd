//! What a program yields, as messages for queues.
//!
//! An output is the body of a message for `publish`. An object with `$queue` or `$key` says more: the queue, the key, and
//! the body under `body`. Key and headers of the message that was handled are passed on.

use bulkhead_sdk::{Draft, Failure, Message};
use jaq_json::{Map, Val};
use serde::de::IgnoredAny;

const QUEUE: &str = "$queue";
const KEY: &str = "$key";
const BODY: &str = "body";

/// A message and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) queue: String,
    pub(crate) draft: Draft,
}

/// All of them, or none: half a split must not be published.
pub(crate) fn route_all(outputs: Vec<Val>, publish: Option<&str>, message: Message) -> Result<Vec<Routed>, Failure> {
    let template = Draft { body: Vec::new(), ..Draft::from(message) };
    outputs.into_iter().map(|output| route(&output, publish, template.clone())).collect()
}

fn route(output: &Val, publish: Option<&str>, mut draft: Draft) -> Result<Routed, Failure> {
    let no_queue = || Failure::reject("an output goes nowhere: set `publish`, or name the queue in `$queue`");
    let Some(routing) = routing(output) else {
        draft.body = json(output)?;
        return Ok(Routed { queue: publish.ok_or_else(no_queue)?.to_owned(), draft });
    };
    if let Some(unknown) = routing.keys().find(|name| ![QUEUE, KEY, BODY].iter().any(|known| is_text(name, known))) {
        return Err(Failure::reject(format!("an output with `$queue` or `$key` has {unknown} beside `body`")));
    }
    let queue = match field(routing, QUEUE) {
        Some(queue) => Some(text(queue).ok_or_else(|| Failure::reject("`$queue` must be text"))?),
        None => publish.map(str::to_owned),
    };
    match field(routing, KEY) {
        None => {}
        Some(Val::Null) => draft.key = None,
        Some(key @ (Val::TStr(_) | Val::Num(_))) => draft.key = text(key).or_else(|| Some(key.to_string())),
        Some(_) => return Err(Failure::reject("`$key` must be text, a number or null")),
    }
    draft.body =
        json(field(routing, BODY).ok_or_else(|| Failure::reject("an output with `$queue` or `$key` needs `body`"))?)?;
    Ok(Routed { queue: queue.ok_or_else(no_queue)?, draft })
}

/// The object, where it is one that says where to go.
fn routing(output: &Val) -> Option<&Map> {
    match output {
        Val::Obj(fields) if field(fields, QUEUE).is_some() || field(fields, KEY).is_some() => Some(fields),
        _ => None,
    }
}

fn field<'a>(fields: &'a Map, name: &str) -> Option<&'a Val> {
    fields.get(&Val::from(name.to_owned()))
}

fn is_text(value: &Val, expected: &str) -> bool {
    matches!(value, Val::TStr(bytes) if bytes.as_ref() == expected.as_bytes())
}

fn text(value: &Val) -> Option<String> {
    match value {
        Val::TStr(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

/// jq's values are more than JSON: not-a-number and bytes have no form in it.
fn json(value: &Val) -> Result<Vec<u8>, Failure> {
    let text = value.to_string();
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => Ok(text.into_bytes()),
        Err(error) => Err(Failure::reject(format!("an output has no JSON form: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, publish: Option<&str>, expected: Result<(&str, Option<&str>, &str), &str>) {
        let message = Message { key: Some("k".into()), headers: vec![("a".into(), "b".into())], ..Message::default() };
        let output = jaq_json::read::parse_single(output.as_bytes()).unwrap();
        let found = route_all(vec![output], publish, message).map(|mut routed| routed.remove(0));
        let expected = expected.map(|(queue, key, body)| {
            let draft = Draft { key: key.map(str::to_owned), ..Draft::new(body).header("a", "b") };
            Routed { queue: queue.to_owned(), draft }
        });
        assert_eq!(found, expected.map_err(Failure::reject));
    }

    #[test]
    fn an_output_is_a_message() {
        check(r#"{"b": 1, "a": "x"}"#, Some("out"), Ok(("out", Some("k"), r#"{"b":1,"a":"x"}"#)));
        check("\"text\"", Some("out"), Ok(("out", Some("k"), "\"text\"")));
    }

    #[test]
    fn an_output_may_say_where_it_goes() {
        check(r#"{"$queue": "vip", "$key": 7, "body": [1]}"#, Some("out"), Ok(("vip", Some("7"), "[1]")));
        check(r#"{"$key": null, "body": 1}"#, Some("out"), Ok(("out", None, "1")));
        check(r#"{"$queue": "vip", "body": 1}"#, None, Ok(("vip", Some("k"), "1")));
    }

    #[test]
    fn half_said_is_rejected() {
        check("1", None, Err("an output goes nowhere: set `publish`, or name the queue in `$queue`"));
        check(r#"{"$queue": "vip"}"#, None, Err("an output with `$queue` or `$key` needs `body`"));
        check(r#"{"$queue": 1, "body": 1}"#, None, Err("`$queue` must be text"));
        check(r#"{"$key": [], "body": 1}"#, Some("out"), Err("`$key` must be text, a number or null"));
        check(
            r#"{"$queue": "a", "body": 1, "c": 2}"#,
            None,
            Err("an output with `$queue` or `$key` has \"c\" beside `body`"),
        );
    }

    #[test]
    fn what_is_no_json_is_rejected() {
        check("NaN", Some("out"), Err("an output has no JSON form: expected value at line 1 column 1"));
    }
}
