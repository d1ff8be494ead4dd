//! Streams bodies through `wasi:http`, holding one chunk at a time. The body of a message is a verb with its arguments:
//! `download URL BYTES`, `upload URL BYTES`, `events URL COUNT`, `ignore URL SECONDS`.

use bulkhead_sdk::prelude::*;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

/// One read or write; the host takes no more at once.
const CHUNK_BYTES: u64 = 64 * 1024;

struct Stream;

impl Consumer for Stream {
    fn handle(message: Message) -> Result<(), Failure> {
        let words: Vec<&str> = message.text()?.split(' ').collect();
        let [verb, url, number] = words[..] else { return Err(Failure::reject("three words")) };
        let number: u64 = number.parse().or_reject("a number")?;
        match verb {
            "download" => download(url, number),
            "upload" => upload(url, number),
            "events" => events(url, number),
            "ignore" => ignore(url, number),
            other => Err(Failure::reject(format!("no such verb: {other}"))),
        }
    }
}

export!(Stream: Consumer);

fn download(url: &str, bytes: u64) -> Result<(), Failure> {
    let mut read = 0;
    receive(request(Method::Get, url)?, |chunk| {
        read += chunk.len() as u64;
        true
    })?;
    if read == bytes { Ok(()) } else { Err(Failure::reject(format!("{read} bytes came"))) }
}

/// Counts events as they come and does not wait for the end, because there is none.
fn events(url: &str, count: u64) -> Result<(), Failure> {
    let mut seen = 0;
    receive(request(Method::Get, url)?, |chunk| {
        seen += chunk.windows(2).filter(|pair| *pair == b"\n\n").count() as u64;
        seen < count
    })
}

/// Takes the beginning of a body and does something else then.
fn ignore(url: &str, seconds: u64) -> Result<(), Failure> {
    receive(request(Method::Get, url)?, |_| {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        false
    })
}

fn upload(url: &str, bytes: u64) -> Result<(), Failure> {
    let request = request(Method::Post, url)?;
    let body = request.body().ok().or_reject("a body")?;
    let pending = outgoing_handler::handle(request, None).map_err(failed)?;
    let stream = body.write().ok().or_reject("a stream")?;
    let chunk = vec![b'x'; CHUNK_BYTES as usize];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(CHUNK_BYTES);
        stream.blocking_write_and_flush(&chunk[..size.min(4096) as usize]).map_err(failed)?;
        left -= size.min(4096);
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(failed)?;
    pending.subscribe().block();
    let response = pending.get().and_then(Result::ok).or_reject("an answer")?.map_err(failed)?;
    if response.status() == 200 { Ok(()) } else { Err(Failure::reject(format!("status {}", response.status()))) }
}

/// Hands the body over piece by piece, until `more` is false.
fn receive(request: OutgoingRequest, mut more: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
    let pending = outgoing_handler::handle(request, None).map_err(failed)?;
    pending.subscribe().block();
    let response: IncomingResponse = pending.get().and_then(Result::ok).or_reject("an answer")?.map_err(failed)?;
    let body: IncomingBody = response.consume().ok().or_reject("a body")?;
    let stream = body.stream().ok().or_reject("a stream")?;
    loop {
        match stream.blocking_read(CHUNK_BYTES) {
            Ok(chunk) if more(&chunk) => {}
            Ok(_) | Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn request(method: Method, url: &str) -> Result<OutgoingRequest, Failure> {
    let (authority, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).or_reject("a URL")?;
    let request = OutgoingRequest::new(Fields::new());
    let is_set = request.set_method(&method).is_ok()
        && request.set_scheme(Some(&Scheme::Http)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(&format!("/{path}"))).is_ok();
    if is_set { Ok(request) } else { Err(Failure::reject("not a request")) }
}

fn failed(error: impl std::fmt::Debug) -> Failure {
    Failure::retry(format!("{error:?}"))
}
