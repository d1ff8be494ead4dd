//! The paths of webhooks: exact, with `{name}` for a whole segment.
//!
//! A request's path is compared as it was sent, byte by byte and segment by segment; nothing is normalised. Invariant: a
//! path that another program could read differently (dots, encoded slashes, empty segments, backslashes) is no webhook's.

use percent_encoding::percent_decode_str;

/// Bytes of a configured path.
const PATH_BYTES_MAX: usize = 512;
/// Bytes of the value of a parameter.
const VALUE_BYTES_MAX: usize = 256;

/// `webhook.path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// The values of a path's parameters, with their names.
pub type Values = Vec<(String, String)>;

impl Pattern {
    /// Reads a path from the configuration.
    ///
    /// # Errors
    /// The text says what is wrong, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATH_BYTES_MAX {
            return Err(format!("longer than {PATH_BYTES_MAX} bytes"));
        }
        let Some(path) = text.strip_prefix('/') else { return Err("it must begin with `/`".to_owned()) };
        let mut names = Vec::new();
        let segments = path.split('/').map(|segment| Segment::parse(segment, &mut names)).collect::<Result<_, _>>()?;
        Ok(Self { segments })
    }

    /// The values of its parameters, if a request's path is one of these.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Values> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if segments.len() != self.segments.len() {
            return None;
        }
        let mut values = Values::new();
        for (own, given) in self.segments.iter().zip(segments) {
            match own {
                Segment::Literal(text) if text == given => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(name) => values.push((name.clone(), value(given)?)),
            }
        }
        Some(values)
    }

    /// Whether a path can be one of both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let both = self.segments.iter().zip(&other.segments);
        let is_same = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            _ => true,
        };
        self.segments.len() == other.segments.len() && both.into_iter().all(is_same)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(formatter, "/{text}"),
            Segment::Parameter(name) => write!(formatter, "/{{{name}}}"),
        })
    }
}

impl Segment {
    fn parse<'t>(text: &'t str, names: &mut Vec<&'t str>) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
            if name.is_empty() || name.len() > 32 || !name.bytes().all(is_name) {
                return Err(format!("`{{{name}}}` is not a parameter: use 1 to 32 of a-z, 0-9, `_` and `-`"));
            }
            if names.contains(&name) {
                return Err(format!("`{{{name}}}` is in it twice"));
            }
            names.push(name);
            return Ok(Self::Parameter(name.to_owned()));
        }
        if matches!(text, "" | "." | "..") {
            return Err("a segment is empty, `.` or `..`: write `/one/two`, without a `/` at the end".to_owned());
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)) {
            let help = "use letters, digits and `-._~!$&'()*+,;=:@`, or `{name}` for a whole segment";
            return Err(format!("`{text}` has characters that no path is sent with: {help}"));
        }
        Ok(Self::Literal(text.to_owned()))
    }
}

/// The value of a parameter, decoded; `None` where it could be read as something else than one segment.
fn value(segment: &str) -> Option<String> {
    if segment.bytes().any(|byte| byte == b'\\' || !byte.is_ascii_graphic()) {
        return None;
    }
    let value = percent_decode_str(segment).decode_utf8().ok()?.into_owned();
    let is_odd = |character: char| character.is_control() || matches!(character, '/' | '\\');
    let fits = !matches!(value.as_str(), "" | "." | "..") && value.len() <= VALUE_BYTES_MAX;
    (fits && !value.contains(is_odd)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("it is a path")
    }

    #[test]
    fn only_the_very_path_is_found() {
        let hook = pattern("/hooks/shop");
        assert_eq!(hook.find("/hooks/shop"), Some(Values::new()));
        let others = [
            "/hooks/shop/",
            "//hooks/shop",
            "/hooks//shop",
            "/hooks/./shop",
            "/hooks/x/../shop",
            "/hooks%2Fshop",
            "/hooks/%73hop",
            "/Hooks/shop",
            "/hooks/shop;a",
            "/hooks\\shop",
            "/hooks/shop%00",
            "hooks/shop",
            "/",
            "*",
        ];
        for other in others {
            assert_eq!(hook.find(other), None, "{other}");
        }
    }

    #[test]
    fn a_parameter_is_one_whole_segment() {
        let hook = pattern("/hooks/{tenant}/in");
        let found = |path| hook.find(path).map(|values| values[0].1.clone());
        assert_eq!(found("/hooks/a%20b/in").as_deref(), Some("a b"));
        for other in [
            "/hooks//in",
            "/hooks/../in",
            "/hooks/%2e%2E/in",
            "/hooks/a%2fb/in",
            "/hooks/a%5cb/in",
            "/hooks/a%00/in",
            "/hooks/%ff/in",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn two_that_share_a_path_meet() {
        assert!(pattern("/a/{x}").meets(&pattern("/a/b")) && pattern("/{y}/b").meets(&pattern("/a/{x}")));
        assert!(!pattern("/a/b").meets(&pattern("/a/c")) && !pattern("/a").meets(&pattern("/a/b")));
    }

    #[test]
    fn odd_paths_are_refused() {
        for text in ["", "hooks", "/a/", "//a", "/a/../b", "/a b", "/a%20b", "/{", "/{A}", "/{a}x", "/{a}/{a}", "/a?b"]
        {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
