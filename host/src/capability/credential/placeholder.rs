//! Words that stand for a secret in a request until the gate puts its value there.
//!
//! The word is made anew for every sandbox and cannot be guessed, so a message from outside cannot ask for a secret by
//! writing its word. Invariant: a value stays inside the place that its word had: it is encoded for where it stands.

use aho_corasick::AhoCorasick;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use url::Url;
use zeroize::Zeroizing;

use super::Unfit;
use crate::capability::http::target::is_plain;
use crate::id;
use crate::mask::Secret;

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What cannot stand in a path as it is; `:` and other characters that tokens have can.
const RESERVED_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// A URL or a header after filling: servers rarely take more.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// One entry of a grant's `placeholders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the secret.
    pub secret: String,
    /// Where its word is replaced.
    pub part: Part,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The path of the URL.
    Path,
    /// The query of the URL.
    Query,
    /// The values of headers.
    Header,
    /// The body.
    Body,
}

impl Part {
    /// As people say it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "headers",
            Self::Body => "body",
        }
    }
}

/// The words of one sandbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(Vec<Word>);

/// A word, and the name of the secret that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) secret: String,
}

impl Words {
    /// The word for a secret: the same for as long as the sandbox lives.
    pub(crate) fn of(&mut self, secret: &str) -> String {
        if let Some(word) = self.0.iter().find(|word| word.secret == secret) {
            return word.text.clone();
        }
        // Letters, digits and `_` only: no encoder on the way changes it.
        let text = format!("bulkhead_secret_{}", id::random());
        self.0.push(Word { text: text.clone(), secret: secret.to_owned() });
        text
    }

    /// Those that the entries name.
    pub(crate) fn named_in(&self, entries: &[Settings]) -> Self {
        let is_named = |word: &&Word| entries.iter().any(|entry| entry.secret == word.secret);
        Self(self.0.iter().filter(is_named).cloned().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Word> {
        self.0.iter()
    }

    /// The same text for every sandbox: with names in place of words.
    pub(crate) fn stable(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, word| text.replace(&word.text, &format!("{{{}}}", word.secret)))
    }
}

/// Puts a value into the path of a URL; whether its word stood there.
pub(crate) fn fill_path(url: &mut Url, word: &str, value: &Secret) -> Result<bool, Unfit> {
    let encoded = Zeroizing::new(percent_encode(value.expose(), RESERVED_IN_PATH).to_string());
    let Some(path) = replace(url.path().as_bytes(), word, encoded.as_bytes(), LINE_BYTES_MAX)? else {
        return Ok(false);
    };
    let path = Zeroizing::new(String::from_utf8(path).map_err(|_| Unfit)?);
    if !path.split('/').all(is_plain) {
        return Err(Unfit);
    }
    url.set_path(&path);
    Ok(true)
}

/// Puts a value into the query of a URL; whether its word stood there.
pub(crate) fn fill_query(url: &mut Url, word: &str, value: &Secret) -> Result<bool, Unfit> {
    let encoded = Zeroizing::new(percent_encode(value.expose(), RESERVED).to_string());
    let query = replace(url.query().unwrap_or_default().as_bytes(), word, encoded.as_bytes(), LINE_BYTES_MAX)?;
    let Some(query) = query else { return Ok(false) };
    let query = Zeroizing::new(String::from_utf8(query).map_err(|_| Unfit)?);
    url.set_query(Some(&query));
    Ok(true)
}

/// Puts a value into the values of headers; whether its word stood in one.
pub(crate) fn fill_headers(headers: &mut HeaderMap, word: &str, value: &Secret) -> Result<bool, Unfit> {
    let mut found = false;
    for header in headers.values_mut() {
        let Some(bytes) = replace(header.as_bytes(), word, value.expose(), LINE_BYTES_MAX)? else { continue };
        *header = HeaderValue::from_bytes(&Zeroizing::new(bytes)).map_err(|_| Unfit)?;
        header.set_sensitive(true);
        found = true;
    }
    Ok(found)
}

/// The body with a value in it, encoded as its content type wants; `None` where its word does not stand there.
pub(crate) fn fill_body(
    body: &[u8],
    headers: &HeaderMap,
    word: &str,
    value: &Secret,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, Unfit> {
    let kind = header_text(headers, &CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoded = Zeroizing::new(match kind.as_str() {
        "application/x-www-form-urlencoded" => percent_encode(value.expose(), RESERVED).to_string().into_bytes(),
        kind if kind == "application/json" || kind.ends_with("+json") => json_text(value)?,
        _ => value.expose().to_vec(),
    });
    replace(body, word, &encoded, bytes_max)
}

/// As it stands between quotes in JSON.
fn json_text(value: &Secret) -> Result<Vec<u8>, Unfit> {
    let text = std::str::from_utf8(value.expose()).map_err(|_| Unfit)?;
    let quoted = Zeroizing::new(serde_json::to_string(text).map_err(|_| Unfit)?);
    Ok(quoted.as_bytes()[1..quoted.len() - 1].to_vec())
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn replace(bytes: &[u8], word: &str, value: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, Unfit> {
    let finder = AhoCorasick::new([word]).map_err(|_| Unfit)?;
    let count = finder.find_iter(bytes).count();
    if count == 0 {
        return Ok(None);
    }
    if count.saturating_mul(value.len()).saturating_add(bytes.len()) > bytes_max {
        return Err(Unfit);
    }
    Ok(Some(finder.replace_all_bytes(bytes, &[value])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn a_value_stays_in_its_place_in_a_url() {
        let mut url = Url::parse("https://a.example/botW/send?key=W&x=1").unwrap();
        assert!(fill_path(&mut url, "W", &secret("12:AB?c")).unwrap());
        assert!(fill_query(&mut url, "W", &secret("a&b=c d")).unwrap());
        assert_eq!(url.as_str(), "https://a.example/bot12:AB%3Fc/send?key=a%26b%3Dc%20d&x=1");
        assert!(!fill_path(&mut url, "W", &secret("v")).unwrap());
        for (path, value) in [("/W", ".."), ("/a/W", "b/c"), ("/W/c", "a\\b"), ("/W", "a%2fb"), ("/.W", ".")] {
            let mut url = Url::parse(&format!("https://a.example{path}")).unwrap();
            assert_eq!(fill_path(&mut url, "W", &secret(value)), Err(Unfit), "{path} {value}");
            assert_eq!(url.path(), path);
        }
    }

    #[test]
    fn a_value_is_encoded_as_the_body_wants() {
        for (kind, body, expected) in [
            ("application/json; charset=utf-8", r#"{"a":"W"}"#, r#"{"a":"x\"y&z"}"#),
            ("application/vnd.api+json", r#"{"a":"W"}"#, r#"{"a":"x\"y&z"}"#),
            ("application/x-www-form-urlencoded", "a=W&b=1", "a=x%22y%26z&b=1"),
            ("text/plain", "W and W", "x\"y&z and x\"y&z"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            let filled = fill_body(body.as_bytes(), &headers, "W", &secret("x\"y&z"), 100).unwrap().unwrap();
            assert_eq!(String::from_utf8(filled).unwrap(), expected, "{kind}");
        }
        let many = "W".repeat(60);
        assert_eq!(fill_body(many.as_bytes(), &HeaderMap::new(), "W", &secret("12"), 100), Err(Unfit));
    }

    #[test]
    fn a_header_that_would_break_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", "W".parse().unwrap());
        assert_eq!(fill_headers(&mut headers, "W", &secret("a\r\nb")), Err(Unfit));
        assert!(fill_headers(&mut headers, "W", &secret("value")).unwrap());
        assert!(headers["x-key"] == "value" && headers["x-key"].is_sensitive());
    }

    #[test]
    fn words_differ_between_sandboxes_and_read_the_same_for_keys() {
        let (mut one, mut other) = (Words::default(), Words::default());
        let (a, b) = (one.of("token"), other.of("token"));
        assert!(a != b && one.of("token") == a && one.of("other") != a);
        assert_eq!(one.stable(&format!("/bot{a}/x")), other.stable(&format!("/bot{b}/x")));
    }
}
