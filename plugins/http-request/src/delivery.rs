//! The request that delivers a message.

use bulkhead_sdk::http::{self, Request};
use bulkhead_sdk::{Failure, Message};
use serde_json::Value;

use crate::settings::Config;
use crate::template::Source;

/// Builds it; nothing is sent.
pub(crate) fn request(config: &Config, message: &Message) -> Result<Request, Failure> {
    let source = Source::new(message);
    let mut request = http::request(config.method.to_ascii_uppercase(), source.fill_url(&config.url)?);
    for (name, value) in &config.headers {
        request = request.header(name, source.fill(value)?);
    }
    let Some((body, content_type)) = body(config, message, &source)? else { return Ok(request) };
    if !request.headers().iter().any(|(name, _)| name == "content-type") {
        request = request.header("content-type", content_type);
    }
    Ok(request.body(body))
}

/// The body, and its type where the config names none.
fn body(config: &Config, message: &Message, source: &Source) -> Result<Option<(Vec<u8>, String)>, Failure> {
    let (body, known_type) = match &config.body {
        Some(Value::String(text)) => (source.fill(text)?.into_bytes(), None),
        Some(template) => (serde_json::to_vec(&source.fill_json(template)?)?, None),
        None if has_body(&config.method) => (message.body.clone(), message.header("content-type")),
        None => return Ok(None),
    };
    let content_type = known_type.unwrap_or_else(|| guess(&body)).to_owned();
    Ok(Some((body, content_type)))
}

fn has_body(method: &str) -> bool {
    ["POST", "PUT", "PATCH"].iter().any(|known| method.eq_ignore_ascii_case(known))
}

fn guess(body: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        "application/json"
    } else if std::str::from_utf8(body).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(config: Value, message: &Message) -> Request {
        request(&serde_json::from_value(config).unwrap(), message).unwrap()
    }

    fn order() -> Message {
        Message { body: br#"{"id":7}"#.to_vec(), ..Message::default() }
    }

    fn content_type(request: &Request) -> Option<&str> {
        request.headers().iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_body_goes_as_it_is() {
        let request = sent(json!({"url": "https://a.example/orders"}), &order());
        assert_eq!((request.method(), request.url()), ("POST", "https://a.example/orders"));
        assert_eq!(
            (request.body_bytes(), content_type(&request)),
            (br#"{"id":7}"#.as_slice(), Some("application/json"))
        );
    }

    #[test]
    fn a_get_has_no_body() {
        let request = sent(json!({"method": "get", "url": "https://a.example/{{ /id }}"}), &order());
        assert_eq!((request.method(), request.url()), ("GET", "https://a.example/7"));
        assert_eq!((request.body_bytes(), content_type(&request)), (b"".as_slice(), None));
    }

    #[test]
    fn a_table_becomes_json() {
        let request = sent(json!({"url": "https://a.example/", "body": {"order": "{{ /id }}"}}), &order());
        assert_eq!(request.body_bytes(), br#"{"order":7}"#);
    }

    #[test]
    fn text_is_filled_in() {
        let request = sent(json!({"url": "https://a.example/", "body": "order {{ /id }}"}), &order());
        assert_eq!(
            (request.body_bytes(), content_type(&request)),
            (b"order 7".as_slice(), Some("text/plain; charset=utf-8"))
        );
    }

    #[test]
    fn the_message_or_the_config_names_the_type() {
        let message = Message {
            headers: vec![("content-type".into(), "text/csv".into())],
            body: b"a,b".to_vec(),
            ..Message::default()
        };
        assert_eq!(content_type(&sent(json!({"url": "https://a.example/"}), &message)), Some("text/csv"));
        let config = json!({"url": "https://a.example/", "headers": {"Content-Type": "application/x"}});
        assert_eq!(content_type(&sent(config, &message)), Some("application/x"));
    }
}
