//! As much of HTTP/1.1 as the producer and the sink need, of their own.
//!
//! One request a connection for the producer; the sink keeps connections for as long as the host does.

use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For an answer: a host that was stopped goes on after some seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Larger requests than any that is sent here.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was answered with this status.
    Status(u16),
    /// The connection broke first, or nothing came.
    Unanswered,
    /// Nobody listened.
    NotSent,
}

/// A request as the sink reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Posts a body, and waits for the status.
pub(crate) fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    ask(address, &format!("POST {path}"), headers, body)
}

/// Asks for something, and waits for the status.
pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, &format!("GET {path}"), &[], b"")
}

#[expect(clippy::disallowed_methods, reason = "the checker talks to the host on loopback, as any client does")]
fn ask(address: SocketAddr, what: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    match TcpStream::connect(address) {
        Ok(stream) => {
            exchange(stream, what, headers, body).map_or(Reply::Unanswered, |(status, _)| Reply::Status(status))
        }
        Err(_) => Reply::NotSent,
    }
}

/// Asks for a text; `None` where there is no such answer.
#[expect(clippy::disallowed_methods, reason = "the checker talks to the host on loopback, as any client does")]
pub(crate) fn text(address: SocketAddr, path: &str) -> Option<String> {
    let stream = TcpStream::connect(address).ok()?;
    let (status, body) = exchange(stream, &format!("GET {path}"), &[], b"").ok()?;
    (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
}

/// The status of the answer and its body.
fn exchange(mut stream: TcpStream, what: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    let (length, host) = (body.len(), stream.peer_addr()?);
    let mut request = format!("{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    let mut request = (request + "\r\n").into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?.split(' ').nth(1).and_then(|status| status.parse().ok());
    // The whole of it: an answer that is cut short is none.
    let headers = read_headers(&mut reader)?;
    let body = read_body(&mut reader, &headers)?;
    Ok((status.ok_or(ErrorKind::InvalidData)?, body))
}

/// The next request of a connection; `None` where it has ended.
pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let first = line(reader)?;
    if first.is_empty() {
        return Ok(None);
    }
    let path = first.split(' ').nth(1).ok_or(ErrorKind::InvalidData)?.to_owned();
    let headers = read_headers(reader)?;
    let body = read_body(reader, &headers)?;
    Ok(Some(Request { path, headers, body }))
}

fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        let Some((name, value)) = line.split_once(':') else { return Ok(headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let length = u64::from_str_radix(&line(reader)?, 16).map_err(|_| ErrorKind::InvalidData)?;
            read_exactly(reader, length, &mut body)?;
            line(reader)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
    let length = header("content-length").map_or(Ok(0), str::parse).map_err(|_| ErrorKind::InvalidData)?;
    read_exactly(reader, length, &mut body)?;
    Ok(body)
}

fn read_exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length > BODY_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let read = reader.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// A line without its end; empty at the end of the connection.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(64 << 10).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_connection_are_read_one_by_one_with_a_length_or_in_chunks() {
        let mut wire: &[u8] = b"POST /a HTTP/1.1\r\nX-Id: 7\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\n\
            Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n";
        let first = read(&mut wire).expect("it is well-formed").expect("it is there");
        assert_eq!((first.path.as_str(), first.header("x-id"), &first.body[..]), ("/a", Some("7"), &b"abc"[..]));
        let second = read(&mut wire).expect("it is well-formed").expect("it is there");
        assert_eq!((second.path.as_str(), &second.body[..]), ("/b", &b"def"[..]));
        assert_eq!(read(&mut wire).expect("it has ended"), None);
    }

    #[test]
    fn a_request_that_is_cut_short_is_none() {
        assert!(read(&mut &b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"[..]).is_err());
    }
}
