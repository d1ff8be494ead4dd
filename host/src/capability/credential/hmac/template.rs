//! What a signature covers: a text in which `{method}` and its like stand for parts of the request as it is sent.
//!
//! Knows neither keys nor hashes. Invariant: a template that was parsed has at least one part of the request in it.

use std::fmt;

use url::Position;

use crate::capability::credential::Draft;

/// The names that may stand between braces.
pub const NAMES: [&str; 5] = ["method", "path", "host", "timestamp", "body"];

/// Text and parts, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Between braces stands something else.
    #[error("what stands between braces is no part of a request")]
    Unknown(String),
    /// Braces do not come in pairs.
    #[error("a brace without its other one: each pair stands around the name of a part")]
    Unpaired,
    /// The same would be signed whatever is asked for.
    #[error("no part of the request is in it")]
    Constant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Part),
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Method,
    /// And the query.
    Path,
    /// And the port, where it is not the scheme's own.
    Host,
    Timestamp,
    Body,
}

impl Default for Template {
    /// The body alone.
    fn default() -> Self {
        Self { text: "{body}".to_owned(), pieces: vec![Piece::Part(Part::Body)] }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.escape_debug().fmt(formatter)
    }
}

impl Template {
    /// Reads a template as it stands in the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or(Unreadable::Unpaired)?;
            pieces.extend(literal(before)?);
            pieces.push(Piece::Part(part(name)?));
            rest = behind;
        }
        pieces.extend(literal(rest)?);
        if !pieces.iter().any(|piece| matches!(piece, Piece::Part(_))) {
            return Err(Unreadable::Constant);
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// Whether the receiver must be told the time of signing.
    #[must_use]
    pub fn has_timestamp(&self) -> bool {
        self.has(Part::Timestamp)
    }

    /// Whether the whole body must be known before the first byte is sent.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.has(Part::Body)
    }

    fn has(&self, part: Part) -> bool {
        self.pieces.contains(&Piece::Part(part))
    }

    /// Hands what is signed over, piece by piece; `timestamp` is in seconds since the Unix epoch. `None` where a body that
    /// it wants is not known.
    pub(super) fn each(&self, draft: &Draft<'_>, timestamp: &str, mut take: impl FnMut(&[u8])) -> Option<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => take(text.as_bytes()),
                Piece::Part(Part::Method) => take(draft.method.as_str().as_bytes()),
                Piece::Part(Part::Path) => take(draft.url[Position::BeforePath..Position::AfterQuery].as_bytes()),
                Piece::Part(Part::Host) => take(draft.url[Position::BeforeHost..Position::AfterPort].as_bytes()),
                Piece::Part(Part::Timestamp) => take(timestamp.as_bytes()),
                Piece::Part(Part::Body) => take(draft.body.known()?),
            }
        }
        Some(())
    }
}

fn literal(text: &str) -> Result<Option<Piece>, Unreadable> {
    if text.contains('}') {
        return Err(Unreadable::Unpaired);
    }
    Ok((!text.is_empty()).then(|| Piece::Text(text.to_owned())))
}

fn part(name: &str) -> Result<Part, Unreadable> {
    match name {
        "method" => Ok(Part::Method),
        "path" => Ok(Part::Path),
        "host" => Ok(Part::Host),
        "timestamp" => Ok(Part::Timestamp),
        "body" => Ok(Part::Body),
        other => Err(Unreadable::Unknown(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use http::header::HeaderMap;
    use url::Url;

    use super::*;
    use crate::capability::credential::sigv4::Payload;

    fn signed(text: &str, url: &str, body: Payload<'_>) -> Option<Vec<u8>> {
        let (mut headers, mut url, mut signed) = (HeaderMap::new(), Url::parse(url).unwrap(), Vec::new());
        let draft = Draft { method: &Method::PUT, headers: &mut headers, url: &mut url, body };
        Template::parse(text).unwrap().each(&draft, "17", |bytes| signed.extend_from_slice(bytes))?;
        Some(signed)
    }

    #[test]
    fn parts_stand_where_their_names_did_and_bodies_are_bytes() {
        let body = Payload::Known(&[0xff, b'{', 0, b'}']);
        let all = "v0:{timestamp}\n{method} {path}\n{host}{body}{body}.";
        let expected = b"v0:17\nPUT /a%20b?c=d&e\nexample.com:8443\xff{\0}\xff{\0}.";
        assert_eq!(signed(all, "https://example.com:8443/a%20b?c=d&e", body).unwrap(), expected);
        assert_eq!(signed("{host}{path}", "https://[::1]:443", body).unwrap(), b"[::1]/");
    }

    #[test]
    fn a_body_that_is_not_known_is_only_missed_where_it_is_signed() {
        assert_eq!(signed("{path}", "http://a.example/x", Payload::Unsigned).unwrap(), b"/x");
        assert_eq!(signed("{path}{body}", "http://a.example/x", Payload::Unsigned), None);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, expected) in [
            ("", Unreadable::Constant),
            ("body", Unreadable::Constant),
            ("{bdoy}", Unreadable::Unknown("bdoy".to_owned())),
            ("{}", Unreadable::Unknown(String::new())),
            ("{body", Unreadable::Unpaired),
            ("body}", Unreadable::Unpaired),
            ("{body}}", Unreadable::Unpaired),
            ("}{body}", Unreadable::Unpaired),
            ("{{body}", Unreadable::Unknown("{body".to_owned())),
        ] {
            assert_eq!(Template::parse(text), Err(expected), "{text}");
        }
        assert_eq!(Template::parse("{body}"), Ok(Template::default()));
        assert_eq!(Template::parse("{path}\n").unwrap().to_string(), "{path}\\n");
    }
}
