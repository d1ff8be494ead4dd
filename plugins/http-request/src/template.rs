//! Text with `{{ … }}` places that are filled from the message.
//!
//! A place is a JSON pointer into the body (`{{ /customer/id }}`), `id`, `key`, `queue`, `attempt` or `header.NAME`. What
//! the message does not have is an error, never empty text: half a request must not be sent.

use bulkhead_sdk::http::encode;
use bulkhead_sdk::{Failure, Message};
use serde_json::Value;

/// What places are filled from.
pub(crate) struct Source<'a> {
    message: &'a Message,
    body: Result<Value, String>,
}

impl<'a> Source<'a> {
    /// The body need not be JSON until a place points into it.
    pub(crate) fn new(message: &'a Message) -> Self {
        let body = serde_json::from_slice(&message.body).map_err(|error| error.to_string());
        Self { message, body }
    }

    /// The text with every place filled in.
    pub(crate) fn fill(&self, text: &str) -> Result<String, Failure> {
        self.fill_with(text, |value| Ok(plain(value)))
    }

    /// The same with every value percent-encoded, so that it stays within its part of the URL.
    pub(crate) fn fill_url(&self, text: &str) -> Result<String, Failure> {
        self.fill_with(text, |value| match plain(value).as_str() {
            dots @ ("." | "..") => Err(Failure::reject(format!("`{dots}` cannot be a part of a URL"))),
            value => Ok(encode(value)),
        })
    }

    /// Text and tables all the way down. Text that is one place and nothing else becomes the value itself, with its type.
    pub(crate) fn fill_json(&self, template: &Value) -> Result<Value, Failure> {
        Ok(match template {
            Value::String(text) => match only_place(text) {
                Some(place) => self.value(place)?,
                None => Value::String(self.fill(text)?),
            },
            Value::Array(items) => items.iter().map(|item| self.fill_json(item)).collect::<Result<_, _>>()?,
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| Ok((name.clone(), self.fill_json(field)?)));
                Value::Object(fields.collect::<Result<_, Failure>>()?)
            }
            other => other.clone(),
        })
    }

    fn fill_with(&self, text: &str, render: impl Fn(Value) -> Result<String, Failure>) -> Result<String, Failure> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (place, after) =
                after.split_once("}}").ok_or_else(|| Failure::reject(format!("`{text}`: `{{{{` without `}}}}`")))?;
            filled.push_str(before);
            filled.push_str(&render(self.value(place.trim())?)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, place: &str) -> Result<Value, Failure> {
        let missing = || Failure::reject(format!("the message has no `{place}`"));
        let message = self.message;
        if place.is_empty() || place.starts_with('/') {
            let body = self.body.as_ref();
            let body = body.map_err(|error| Failure::reject(format!("`{place}` needs a JSON body: {error}")))?;
            return body.pointer(place).cloned().ok_or_else(missing);
        }
        if let Some(name) = place.strip_prefix("header.") {
            return message.header(name).map(Value::from).ok_or_else(missing);
        }
        match place {
            "id" => Ok(message.id.as_str().into()),
            "key" => message.key.as_deref().map(Value::from).ok_or_else(missing),
            "queue" => Ok(message.queue.as_str().into()),
            "attempt" => Ok(message.attempt.into()),
            _ => Err(Failure::reject(format!(
                "`{{{{ {place} }}}}` is no place: use a JSON pointer as in `/id`, `id`, `key`, `queue`, `attempt` or `header.NAME`"
            ))),
        }
    }
}

/// The place, where the text is nothing but one.
fn only_place(text: &str) -> Option<&str> {
    let place = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!place.contains("{{") && !place.contains("}}")).then(|| place.trim())
}

/// Text bare, anything else as JSON.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message() -> Message {
        Message {
            id: "m1".into(),
            key: Some("k/1".into()),
            queue: "orders".into(),
            headers: vec![("source".into(), "shop".into())],
            body: br#"{"id": 7, "name": "a b/c", "dots": "..", "paid": true, "null": null}"#.to_vec(),
            attempt: 2,
            ..Message::default()
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(Source::new(&message()).fill(text), Ok(expected.to_owned()));
    }

    fn check_refused(text: &str, expected: &str) {
        assert_eq!(Source::new(&message()).fill_url(text), Err(Failure::reject(expected)));
    }

    #[test]
    fn places_are_filled() {
        check(
            "{{ /id }}: {{/name}} {{ id }} {{ key }} {{ queue }} {{ attempt }} {{ header.Source }}!",
            "7: a b/c m1 k/1 orders 2 shop!",
        );
        check("no place } { {", "no place } { {");
        check("{{ /paid }} {{ /null }}", "true null");
    }

    #[test]
    fn urls_are_encoded() {
        let filled = Source::new(&message()).fill_url("https://a.example/{{ /name }}?key={{ key }}");
        assert_eq!(filled.unwrap(), "https://a.example/a%20b%2Fc?key=k%2F1");
    }

    #[test]
    fn what_is_missing_is_never_left_out() {
        check_refused("{{ /nothing }}", "the message has no `/nothing`");
        check_refused("{{ header.x }}", "the message has no `header.x`");
        check_refused("{{ /dots }}", "`..` cannot be a part of a URL");
        check_refused("{{ id", "`{{ id`: `{{` without `}}`");
    }

    #[test]
    fn json_keeps_types() {
        let template = json!({"number": "{{ /id }}", "text": "no. {{ /id }}", "list": ["{{ /paid }}"], "fixed": 1});
        let expected = json!({"number": 7, "text": "no. 7", "list": [true], "fixed": 1});
        assert_eq!(Source::new(&message()).fill_json(&template).unwrap(), expected);
    }

    #[test]
    fn a_body_that_is_no_json_still_has_an_id() {
        let message = Message { id: "m1".into(), body: b"a,b".to_vec(), ..Message::default() };
        assert_eq!(Source::new(&message).fill("{{ id }}").unwrap(), "m1");
        assert!(Source::new(&message).fill("{{ /a }}").unwrap_err().reason().starts_with("`/a` needs a JSON body"));
    }
}
