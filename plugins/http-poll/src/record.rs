//! A record as a message: its id, its key, and where it stands in time.
//!
//! The id is made of the record's id *and* version, so that a second change of a record is not taken for a repeat, and of
//! the URL, so that two connectors may feed one queue. It must never change: receivers drop repeats by it.

use std::cmp::Ordering;

use bulkhead_sdk::{Draft, log};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::settings::Config;

/// Longer ids and versions, and those with odd characters, are hashed.
const READABLE_BYTES_MAX: usize = 100;

/// A record on its way to the queue.
pub(crate) struct Record {
    pub(crate) draft: Draft,
    /// What `since` compares.
    pub(crate) since: Option<Value>,
    /// What the next page's cursor is made of, for those who page by the last record.
    pub(crate) value: Value,
}

/// Reads one record; `text` becomes the body as it is.
pub(crate) fn read(config: &Config, text: &[u8]) -> Result<Record, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("a record is not JSON: {error}"))?;
    let id = config.id.as_deref().and_then(|pointer| value.pointer(pointer)).and_then(plain);
    if let (Some(pointer), None) = (&config.id, &id) {
        log::warn!("a record has no id at `{pointer}`: its whole text is taken for it");
    }
    let version = config.version.as_deref().and_then(|pointer| value.pointer(pointer)).and_then(plain);
    let key = match &config.key {
        Some(pointer) => value.pointer(pointer).and_then(plain),
        None => id.clone(),
    };
    let mut draft = Draft::new(text).id(message_id(config, text, id.as_deref(), version.as_deref()));
    draft.key = key;
    let since = config
        .since_pointer()
        .and_then(|pointer| value.pointer(pointer))
        .filter(|since| plain(since).is_some())
        .cloned();
    Ok(Record { draft, since, value })
}

/// The later of two values of `since`: numbers (also as text) as numbers, other text by its letters.
pub(crate) fn later(known: Option<Value>, found: Option<Value>) -> Option<Value> {
    match (known, found) {
        (Some(known), Some(found)) if order(&known, &found) == Ordering::Less => Some(found),
        (known, found) => known.or(found),
    }
}

/// Text and numbers without quotes; `None` for what identifies nothing.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn message_id(config: &Config, text: &[u8], id: Option<&str>, version: Option<&str>) -> String {
    let place = config.url.split('?').next().unwrap_or_default();
    let scope = &hash(place.as_bytes())[..8];
    match (id, version) {
        (None, _) => format!("{}~{scope}", hash(text)),
        (Some(id), Some(version)) => format!("{}@{}~{scope}", readable(id), readable(version)),
        (Some(id), None) => format!("{}@{}~{scope}", readable(id), hash(text)),
    }
}

fn readable(text: &str) -> String {
    let fits = text.len() <= READABLE_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { text.to_owned() } else { hash(text.as_bytes()) }
}

/// 128 bits of SHA-256, as hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn order(left: &Value, right: &Value) -> Ordering {
    let number = |value: &Value| plain(value).and_then(|text| text.parse::<f64>().ok());
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => plain(left).cmp(&plain(right)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORDER: &str = r#"{"id": 7, "at": "2026-01-02", "customer": "c1", "sum": 1.10}"#;

    fn config(more: Value) -> Config {
        let mut table = json!({"url": "https://a.example/orders?x=1", "publish": "orders"});
        for (name, value) in more.as_object().unwrap() {
            table[name] = value.clone();
        }
        serde_json::from_value(table).unwrap()
    }

    fn id(more: Value, text: &str) -> String {
        read(&config(more), text.as_bytes()).unwrap().draft.id.unwrap()
    }

    #[test]
    fn id_and_version_make_the_message_id() {
        let more = json!({"id": "/id", "version": "/at"});
        assert_eq!(id(more.clone(), ORDER), "7@2026-01-02~bfbc0a3e");
        assert_ne!(id(more.clone(), ORDER), id(more, &ORDER.replace("01-02", "01-03")));
    }

    #[test]
    fn without_a_version_the_text_is_it() {
        let more = json!({"id": "/id"});
        assert_ne!(id(more.clone(), ORDER), id(more, &ORDER.replace("1.10", "1.11")));
    }

    #[test]
    fn without_an_id_the_text_is_it() {
        assert_eq!(id(json!({}), ORDER), id(json!({"id": "/nothing"}), ORDER));
    }

    #[test]
    fn two_addresses_never_share_an_id() {
        let more = json!({"id": "/id", "version": "/at"});
        let other = json!({"id": "/id", "version": "/at", "url": "https://b.example/orders"});
        assert_ne!(id(more, ORDER), id(other, ORDER));
    }

    #[test]
    fn odd_ids_are_hashed() {
        let hashed = id(json!({"id": "/id", "version": "/v"}), r#"{"id": "ä b", "v": 1}"#);
        assert!(hashed.is_ascii() && hashed.contains("@1~"), "{hashed}");
    }

    #[test]
    fn the_body_is_the_record_as_it_was() {
        let record = read(&config(json!({"id": "/id", "key": "/customer"})), ORDER.as_bytes()).unwrap();
        assert_eq!((record.draft.body.as_slice(), record.draft.key.as_deref()), (ORDER.as_bytes(), Some("c1")));
        assert_eq!(read(&config(json!({"id": "/id"})), ORDER.as_bytes()).unwrap().draft.key.as_deref(), Some("7"));
    }

    #[test]
    fn time_goes_forward() {
        let check = |left, right, expected| assert_eq!(later(left, right), expected);
        check(Some(json!("2026-01-01")), Some(json!("2026-01-02")), Some(json!("2026-01-02")));
        check(Some(json!(9)), Some(json!(10)), Some(json!(10)));
        check(Some(json!("9")), Some(json!("10")), Some(json!("10")));
        check(None, Some(json!(1)), Some(json!(1)));
        check(Some(json!(1)), None, Some(json!(1)));
    }
}
