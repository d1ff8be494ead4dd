//! A message as one line of text.

use bulkhead_sdk::Message;

/// How much of a body is shown.
const BODY_CHARACTERS_MAX: usize = 1_000;

/// `queue id key=… attempt=… body`, control characters escaped, so that one message is one line.
pub(crate) fn of(message: &Message) -> String {
    let key = message.key.as_deref().map(|key| format!(" key={}", escaped(key))).unwrap_or_default();
    let attempt = if message.attempt > 1 { format!(" attempt={}", message.attempt) } else { String::new() };
    format!("{} {}{key}{attempt} {}", message.queue, escaped(&message.id), body(&message.body))
}

fn body(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return format!("({} bytes)", bytes.len()) };
    match text.char_indices().nth(BODY_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", escaped(&text[..end]), bytes.len()),
        None => escaped(text),
    }
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(
            |character| {
                if character.is_control() { character.escape_default().collect::<Vec<_>>() } else { vec![character] }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], expected: &str) {
        let message =
            Message { id: "m1".into(), queue: "orders".into(), body: body.to_vec(), attempt: 1, ..Message::default() };
        assert_eq!(of(&message), format!("orders m1 {expected}"));
    }

    #[test]
    fn text_is_shown_on_one_line() {
        check(b"{\"a\":\n1}", "{\"a\":\\n1}");
    }

    #[test]
    fn other_bytes_are_counted() {
        check(&[0xff, 0], "(2 bytes)");
    }

    #[test]
    fn long_bodies_are_cut() {
        check("ä".repeat(1_001).as_bytes(), &format!("{}… (2002 bytes)", "ä".repeat(1_000)));
    }

    #[test]
    fn key_and_later_attempts_are_named() {
        let message =
            Message { id: "m1".into(), queue: "q".into(), key: Some("k".into()), attempt: 3, ..Message::default() };
        assert_eq!(of(&message), "q m1 key=k attempt=3 ");
    }
}
