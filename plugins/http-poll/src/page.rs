//! Where a page is, and where the next one is.

use bulkhead_sdk::http::{Request, get, join};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Record, plain};
use crate::settings::Config;

/// How the next page is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Paging {
    /// There is none.
    None,
    /// By the `Link` header.
    Link,
    /// By a URL in the body.
    Next { pointer: String },
    /// By counting, until a page has no record.
    Number { query: String, first: u64, step: u64 },
    /// By a cursor in the body.
    Cursor { pointer: String, query: String },
    /// By a cursor in the page's last record.
    Last { pointer: String, query: String },
}

/// A page's URL, and its number where pages are counted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Position {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) number: u64,
}

/// What a page tells about the next one.
pub(crate) struct Seen<'a> {
    pub(crate) link: Option<&'a str>,
    pub(crate) body: &'a [u8],
    pub(crate) records: &'a [Record],
}

impl Paging {
    /// The first page of a pass.
    pub(crate) fn first(&self, config: &Config, since: Option<&Value>) -> Position {
        let base = base(config, since);
        match self {
            Self::Number { query, first, .. } => {
                Position { url: base.query(query, *first).url().to_owned(), number: *first }
            }
            _ => Position { url: base.url().to_owned(), number: 0 },
        }
    }

    /// The page after `here`, or `None` at the end.
    pub(crate) fn next(
        &self,
        config: &Config,
        since: Option<&Value>,
        here: &Position,
        seen: &Seen,
    ) -> Option<Position> {
        let at = |url: &str| Position { url: url.to_owned(), number: 0 };
        match self {
            Self::None => None,
            Self::Link => seen.link.and_then(next_link).map(|url| at(&join(&here.url, url))),
            Self::Next { pointer } => in_body(seen.body, pointer).map(|url| at(&join(&here.url, &url))),
            Self::Number { query, step, .. } => {
                let number = here.number.checked_add(*step).filter(|_| !seen.records.is_empty())?;
                Some(Position { url: base(config, since).query(query, number).url().to_owned(), number })
            }
            Self::Cursor { pointer, query } => {
                in_body(seen.body, pointer).map(|cursor| at(base(config, since).query(query, cursor).url()))
            }
            Self::Last { pointer, query } => {
                let cursor = seen.records.last()?.value.pointer(pointer).and_then(plain)?;
                Some(at(base(config, since).query(query, cursor).url()))
            }
        }
    }
}

/// The URL with the query and the since-value, as a request that is never sent.
fn base(config: &Config, since: Option<&Value>) -> Request {
    let mut request = get(config.url.as_str());
    for (name, value) in &config.query {
        request = request.query(name, plain(value));
    }
    match (&config.since, since.and_then(plain)) {
        (Some(setting), Some(value)) => request.query(&setting.query, value),
        _ => request,
    }
}

fn in_body(body: &[u8], pointer: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.pointer(pointer).and_then(plain)
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let end = end_of_parameters(after);
        if after[..end].split(';').any(is_next) {
            return Some(target.trim());
        }
        rest = &after[end..];
    }
    None
}

/// Up to the comma before the next link, which may also stand inside quotes.
fn end_of_parameters(text: &str) -> usize {
    let mut quoted = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return index,
            _ => {}
        }
    }
    text.len()
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("rel")
        && value.trim().trim_matches('"').split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Config {
        let since = json!({"query": "after", "pointer": "/at"});
        let table = json!({"url": "https://a.example/orders", "publish": "q", "query": {"size": 2, "open": true}, "since": since});
        serde_json::from_value(table).unwrap()
    }

    fn check(paging: Paging, link: Option<&str>, body: &str, expected: Option<&str>) {
        let config = config();
        let texts = crate::slice::elements(body.as_bytes(), "/data").unwrap_or_default();
        let records: Vec<_> = texts.into_iter().map(|text| crate::record::read(&config, text).unwrap()).collect();
        let here = Position { url: "https://a.example/orders?page=1".into(), number: 1 };
        let seen = Seen { link, body: body.as_bytes(), records: &records };
        let next = paging.next(&config, Some(&json!("x y")), &here, &seen);
        assert_eq!(next.map(|position| position.url).as_deref(), expected);
    }

    #[test]
    fn the_first_page_has_query_and_since() {
        let paging = Paging::Number { query: "page".into(), first: 0, step: 2 };
        let first = paging.first(&config(), Some(&json!(5)));
        assert_eq!(first.url, "https://a.example/orders?open=true&size=2&after=5&page=0");
        assert_eq!(Paging::Link.first(&config(), None).url, "https://a.example/orders?open=true&size=2");
    }

    #[test]
    fn links_are_found_among_others() {
        let check = |link: &str, expected| assert_eq!(next_link(link), expected, "{link}");
        check(r#"<https://a/1>; rel="prev", <https://a/3>; rel="next""#, Some("https://a/3"));
        check(r#"</x?a=1,2>; title="a, b"; REL=next"#, Some("/x?a=1,2"));
        check(r#"<https://a/3>; rel="last next""#, Some("https://a/3"));
        check(r#"<https://a/3>; rel="nexter""#, None);
        check("nonsense", None);
        check("<open", None);
    }

    #[test]
    fn each_way_finds_its_next_page() {
        check(Paging::None, Some(r#"</b>; rel="next""#), "{}", None);
        check(Paging::Link, Some(r#"</b>; rel="next""#), "{}", Some("https://a.example/b"));
        check(
            Paging::Next { pointer: "/next".into() },
            None,
            r#"{"next": "?page=2"}"#,
            Some("https://a.example/orders?page=2"),
        );
        check(Paging::Next { pointer: "/next".into() }, None, r#"{"next": null}"#, None);
        let cursor = Paging::Cursor { pointer: "/c".into(), query: "cursor".into() };
        check(
            cursor.clone(),
            None,
            r#"{"c": "a="}"#,
            Some("https://a.example/orders?open=true&size=2&after=x%20y&cursor=a%3D"),
        );
        check(cursor, None, r#"{"c": ""}"#, None);
        let number = Paging::Number { query: "page".into(), first: 1, step: 1 };
        check(
            number.clone(),
            None,
            r#"{"data": [1]}"#,
            Some("https://a.example/orders?open=true&size=2&after=x%20y&page=2"),
        );
        check(number, None, r#"{"data": []}"#, None);
        let last = Paging::Last { pointer: "/id".into(), query: "from".into() };
        check(
            last.clone(),
            None,
            r#"{"data": [{"id": 1}, {"id": 2}]}"#,
            Some("https://a.example/orders?open=true&size=2&after=x%20y&from=2"),
        );
        check(last, None, r#"{"data": []}"#, None);
    }
}
