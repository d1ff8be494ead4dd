//! Figures of a running host.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For an answer of the admin listener.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    /// Reads Prometheus's text.
    #[must_use]
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The sum of the samples of this name that have these labels; 0 where there are none.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| of.get(*key).is_some_and(|is| is == value))
        };
        self.0.iter().filter(|(of, with, _)| of == name && has(with)).fold(0.0, |sum, (_, _, value)| sum + value)
    }

    /// The limits that have bitten in this connector: labels of `bulkhead_limit_hits_total` with a count.
    #[must_use]
    pub fn limits(&self, connector: &str) -> Vec<String> {
        let hit = |(name, labels, value): &&(String, BTreeMap<String, String>, f64)| {
            name == "bulkhead_limit_hits_total"
                && labels.get("connector").is_some_and(|is| is == connector)
                && *value > 0.0
        };
        self.0.iter().filter(hit).filter_map(|(_, labels, _)| labels.get("limit").cloned()).collect()
    }
}

/// `name{label="value",…} 1.5`; labels come from configurations of ours and hold neither quotes nor commas.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, value) = rest.strip_prefix('{').map_or(Some(("", rest)), |rest| rest.split_once('}'))?;
    let label = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    let labels = labels.split_terminator(',').filter_map(label).collect();
    Some((name.to_owned(), labels, value.split_whitespace().next()?.parse().ok()?))
}

/// The body of an answer with status 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let answer = ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"));
    let (status, body) = answer.expect("the admin listener answers in time");
    assert_eq!(status, 200, "GET {path}: {body}");
    body
}

/// Posts lines of JSON with the token of the data directory; an error where the host goes before it has answered.
pub(crate) fn post_lines(address: SocketAddr, path: &str, token: &str, lines: &str) -> std::io::Result<(u16, String)> {
    let length = lines.len();
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{lines}"
        ),
    )
}

/// Status and body. HTTP/1.0: the end of the answer is the end of the connection.
#[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
fn ask(address: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(ANSWER_WITHIN))?;
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let cut_short = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut_short)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut_short)?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels_that_are_not_named() {
        let text = "# TYPE a counter\na_total{connector=\"x\",limit=\"cpu\"} 2\na_total{connector=\"y\",limit=\"cpu\"} 3\nb 1.5\n# EOF";
        let metrics = Metrics::read(text);
        assert_eq!(metrics.value("a_total", &[("limit", "cpu")]), 5.0);
        assert_eq!(metrics.value("a_total", &[("connector", "y")]), 3.0);
        assert_eq!((metrics.value("b", &[]), metrics.value("c", &[])), (1.5, 0.0));
    }

    #[test]
    fn limits_are_those_that_have_bitten() {
        let text = "bulkhead_limit_hits_total{connector=\"x\",limit=\"cpu\"} 1\nbulkhead_limit_hits_total{connector=\"x\",limit=\"log\"} 0";
        assert_eq!(Metrics::read(text).limits("x"), ["cpu"]);
    }
}
