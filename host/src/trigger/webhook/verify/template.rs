//! What a general `hmac` is made over: fixed text, and parts of the request between braces.
//!
//! Invariant: the body is part of it, else a signature would be good for any body.

use super::Incoming;

/// Names that may stand between braces.
const NAMES: &str = "{body}, {timestamp}, {id}, {method} and {path}";

/// `signed` of `hmac`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A part that changes from request to request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The raw body.
    Body,
    /// The value of the header that holds the time.
    Timestamp,
    /// The value of the header that holds the event's id.
    Id,
    /// The method.
    Method,
    /// Path and query, as received.
    Path,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What was read from headers for a template.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values<'a> {
    pub(super) timestamp: &'a str,
    pub(super) id: &'a str,
}

impl Template {
    /// Reads a template such as `v0:{timestamp}:{body}`.
    ///
    /// # Errors
    /// What is wrong, and what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(start);
            let end = from.find('}').filter(|_| from.starts_with('{'));
            let end = end.ok_or("a brace stands alone: fields are written as `{body}`")?;
            let field = Field::named(&from[1..end]);
            let field = field.ok_or_else(|| format!("`{}` is no field: use {NAMES}", &from[..=end]))?;
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Field(field));
            rest = &from[end + 1..];
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        let template = Self(parts);
        if template.has(Field::Body) { Ok(template) } else { Err("`{body}` is missing: nobody would sign it".into()) }
    }

    /// Whether a field is part of it.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.0.contains(&Part::Field(field))
    }

    /// Hands over the bytes that are signed, piece by piece.
    pub(super) fn feed(&self, incoming: &Incoming<'_>, values: Values<'_>, mut take: impl FnMut(&[u8])) {
        for part in &self.0 {
            take(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Field(Field::Body) => incoming.body,
                Part::Field(Field::Timestamp) => values.timestamp.as_bytes(),
                Part::Field(Field::Id) => values.id.as_bytes(),
                Part::Field(Field::Method) => incoming.method.as_bytes(),
                Part::Field(Field::Path) => incoming.target.as_bytes(),
            });
        }
    }
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "body" => Self::Body,
            "timestamp" => Self::Timestamp,
            "id" => Self::Id,
            "method" => Self::Method,
            "path" => Self::Path,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields() {
        use Field::{Body, Timestamp};
        let text = |text: &str| Part::Text(text.to_owned());
        let expected = vec![text("v0:"), Part::Field(Timestamp), text(":"), Part::Field(Body)];
        assert_eq!(Template::parse("v0:{timestamp}:{body}"), Ok(Template(expected)));
        assert_eq!(Template::parse("{body}"), Ok(Template(vec![Part::Field(Body)])));
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, why) in [
            ("", "`{body}` is missing"),
            ("{timestamp}", "`{body}` is missing"),
            ("{body", "a brace stands alone"),
            ("body}", "a brace stands alone"),
            ("{body}{", "a brace stands alone"),
            ("{{body}}", "`{{body}` is no field"),
            ("{Body}", "`{Body}` is no field"),
            ("é{é}", "`{é}` is no field"),
        ] {
            let problem = Template::parse(text).err().unwrap_or_default();
            assert!(problem.contains(why), "{text}: {problem:?}");
        }
    }
}
