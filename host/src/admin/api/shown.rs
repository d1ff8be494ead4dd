//! Messages as they are shown: the one place where their headers and bodies leave the host.
//!
//! Invariant: what `host.mask` means is masked, what is not text is shown in base64, and what was cut says so.

use schemars::JsonSchema;
use serde::Serialize;

use crate::mask::Masks;
use crate::message::Header;

/// Bytes of a body in a list; the whole of one is asked for by its place.
pub(super) const BODY_BYTES_MAX: usize = 16 << 10;

/// How much of a body is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Up to [`BODY_BYTES_MAX`].
    Beginning,
    /// All of it.
    Whole,
}

/// The contents of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Contents {
    /// Names and values.
    pub headers: Vec<Header>,
    /// The payload, where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The payload in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Bytes of the whole payload.
    pub body_bytes: usize,
    /// Whether the payload goes on.
    pub is_cut: bool,
}

/// The contents of a message, as they are shown.
pub(super) fn shown(masks: &Masks, headers: Vec<Header>, body: Vec<u8>, part: Part) -> Contents {
    let stored_bytes = body.len();
    // Before it is cut: of a part nobody knows what it is a part of.
    let body = if masks.is_empty() { body } else { masks.body(&body).into_owned() };
    let headers = masks.headers(headers);
    let body_bytes = body.len();
    let is_cut = part == Part::Beginning && body_bytes > BODY_BYTES_MAX;
    let (body, body_base64) = match String::from_utf8(body) {
        Ok(mut text) => {
            text.truncate(if is_cut { text.floor_char_boundary(BODY_BYTES_MAX) } else { body_bytes });
            (Some(text), None)
        }
        Err(error) => {
            let bytes = error.as_bytes();
            (None, Some(data_encoding::BASE64.encode(&bytes[..if is_cut { BODY_BYTES_MAX } else { body_bytes }])))
        }
    };
    Contents { headers, body, body_base64, body_bytes: stored_bytes, is_cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_between_characters_unless_all_of_it_is_wanted() {
        let long = "ä".repeat(BODY_BYTES_MAX);
        let cut = shown(&Masks::default(), Vec::new(), format!("x{long}").into_bytes(), Part::Beginning);
        let text = cut.body.unwrap_or_default();
        assert_eq!((text.len(), cut.body_bytes, cut.is_cut), (BODY_BYTES_MAX - 1, 2 * BODY_BYTES_MAX + 1, true));
        let whole = shown(&Masks::default(), Vec::new(), long.clone().into_bytes(), Part::Whole);
        assert_eq!((whole.body, whole.is_cut), (Some(long), false));
        let bytes = shown(&Masks::default(), Vec::new(), vec![0xff; BODY_BYTES_MAX + 1], Part::Beginning);
        let encoded = bytes.body_base64.unwrap_or_default();
        assert_eq!(data_encoding::BASE64.decode(encoded.as_bytes()).map(|it| it.len()), Ok(BODY_BYTES_MAX));
    }
}
