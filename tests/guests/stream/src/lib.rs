//! Streams bodies through `wasi:http`, holding one chunk at a time. The body of a message is a verb with its arguments:
//! `download URL BYTES`, `upload URL BYTES`, `place URL SECRET`, `events URL COUNT`, `ignore URL SECONDS`, and what only
//! harms: `hoard URL KIND`, `pour URL MANNER`, `hunt URL WORD`, `smuggle URL`, `fields URL COUNT BYTES MANNER`, or a list of targets to
//! knock at in JSON.

use std::mem::forget;

use bulkhead_sdk::__private::bindings::imports::wasi::keyvalue::{atomics, store};
use bulkhead_sdk::prelude::*;
use wasip2::cli::{stderr, stdin, stdout};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;

/// One read or write; the host takes no more at once.
const CHUNK_BYTES: u64 = 64 * 1024;

struct Stream;

impl Consumer for Stream {
    fn handle(message: Message) -> Result<(), Failure> {
        if message.text()?.starts_with('[') {
            return knock(&message.json::<Vec<[String; 3]>>()?);
        }
        let words: Vec<&str> = message.text()?.split(' ').collect();
        match words[..] {
            ["ok"] => return Ok(()),
            ["hoard", url, kind] => return hoard(url, kind),
            ["pour", url, manner] => return pour(url, manner),
            ["hunt", url, word] => return hunt(url, word),
            ["smuggle", url] => return smuggle(url),
            ["place", url, secret] => return place(url, secret),
            ["fields", url, count, bytes, manner] => {
                return fields(url, count.parse().or_reject("a number")?, bytes.parse().or_reject("a number")?, manner);
            }
            _ => {}
        }
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

/// Opens things of one kind without end, and closes none.
fn hoard(url: &str, kind: &str) -> Result<(), Failure> {
    let bucket = store::open("").map_err(failed)?;
    if kind == "swaps-of-large-values" {
        bucket.set("large", &vec![1; 1 << 20]).map_err(failed)?;
    }
    loop {
        match kind {
            "fields" => forget(Fields::new()),
            "full-fields" => forget(full_fields()),
            "options" => forget(RequestOptions::new()),
            "requests" => forget(request(Method::Get, url)?),
            "headers" => forget(request(Method::Get, url).map(|request| (request.headers(), request))?),
            "bodies" => forget(request(Method::Post, url).map(|request| (request.body(), request))?),
            "written-bodies" => forget(written(&request(Method::Post, url)?)?),
            "unanswered" => forget(outgoing_handler::handle(request(Method::Get, url)?, None).map_err(failed)?),
            "answers" => forget(answer(url)?),
            "answers-unread" => forget(answer(url).map(|(_, response)| response)?),
            "alarms" => forget(monotonic_clock::subscribe_duration(u64::MAX)),
            "pollables-of-a-stream" => forget(stdin::get_stdin()),
            "outputs" => forget((stdout::get_stdout(), stderr::get_stderr())),
            "output-pollables" => {
                let stream = stdout::get_stdout();
                forget((stream.subscribe(), stream));
            }
            "networks" => forget(instance_network()),
            "buckets" => forget(store::open("").map_err(failed)?),
            "swaps" => forget(atomics::Cas::new(&bucket, "absent").map_err(failed)?),
            "swaps-of-large-values" => forget(atomics::Cas::new(&bucket, "large").map_err(failed)?),
            other => return Err(Failure::reject(format!("nothing to hoard: {other}"))),
        }
    }
}

/// As large as they may be.
fn full_fields() -> Fields {
    let fields = Fields::new();
    let _ = fields.append("x", &vec![b'y'; 60_000]);
    fields
}

/// A body with as much in it as it takes while nobody sends it.
fn written(request: &OutgoingRequest) -> Result<impl Sized + use<>, Failure> {
    let body = request.body().ok().or_reject("a body")?;
    let stream = body.write().ok().or_reject("a stream")?;
    while let Ok(bytes @ 1..) = stream.check_write() {
        stream.write(&vec![b'x'; bytes.min(CHUNK_BYTES) as usize]).map_err(failed)?;
    }
    Ok((stream, body))
}

/// With all that an answer consists of.
fn answer(url: &str) -> Result<(impl Sized + use<>, IncomingResponse), Failure> {
    let pending: FutureIncomingResponse = outgoing_handler::handle(request(Method::Get, url)?, None).map_err(failed)?;
    pending.subscribe().block();
    let response = pending.get().and_then(Result::ok).or_reject("an answer")?.map_err(failed)?;
    let body = response.consume().ok().or_reject("a body")?;
    let stream = body.stream().ok().or_reject("a stream")?;
    Ok(((stream.subscribe(), stream, body, pending), response))
}

/// Writes a body without an end. One that is `heedless` goes on when it is told that it is over, `early` lets nobody send it.
fn pour(url: &str, manner: &str) -> Result<(), Failure> {
    let request = request(Method::Post, url)?;
    let body = request.body().ok().or_reject("a body")?;
    let stream = body.write().ok().or_reject("a stream")?;
    let mut request = Some(request);
    let pending = match manner {
        "early" => None,
        _ => request.take().map(|request| outgoing_handler::handle(request, None)).transpose().map_err(failed)?,
    };
    let chunk = vec![b'x'; 4096];
    loop {
        let Err(_) = stream.blocking_write_and_flush(&chunk) else { continue };
        if manner == "heedless" {
            continue;
        }
        // Why it is over stands in the answer.
        let pending = pending.as_ref().or_reject("nobody sends it")?;
        pending.subscribe().block();
        return Err(match pending.get().and_then(Result::ok) {
            Some(Err(error)) => failed(error),
            other => Failure::reject(format!("its end was answered with {:?}", other.map(|answer| answer.is_ok()))),
        });
    }
}

/// Looks for a word in an answer; finding it is a failure.
fn hunt(url: &str, word: &str) -> Result<(), Failure> {
    let (word, mut seen, mut bytes) = (word.as_bytes(), Vec::new(), 0);
    let mut is_found = false;
    receive(request(Method::Get, url)?, |chunk| {
        bytes += chunk.len();
        seen.extend_from_slice(chunk);
        is_found |= seen.windows(word.len()).any(|part| part == word);
        seen.drain(..seen.len().saturating_sub(word.len()));
        true
    })?;
    if is_found { Err(Failure::reject("the sandbox has a hole: it found the word")) } else { found_none(bytes) }
}

/// Asks with so many header fields, whose values have so many bytes, given one by one or as a list.
fn fields(url: &str, count: usize, bytes: usize, manner: &str) -> Result<(), Failure> {
    let pairs: Vec<(String, Vec<u8>)> = (0..count).map(|nth| (format!("x-{nth}"), vec![b'y'; bytes])).collect();
    let fields = if manner == "list" { Fields::from_list(&pairs).map_err(failed)? } else { Fields::new() };
    if manner != "list" {
        pairs.iter().try_for_each(|(name, value)| fields.append(name, value)).map_err(failed)?;
    }
    receive(request_with(fields, Method::Get, url)?, |_| true)
}

/// What makes a server see another end of a request, another place or a second request; publishes how many fields could
/// not even be written down, how many the gate refused, and how many were sent, whatever became of them.
fn smuggle(url: &str) -> Result<(), Failure> {
    let given: [(&str, &[u8]); 13] = [
        ("Transfer-Encoding", b"chunked"),
        ("Connection", b"x-smuggled"),
        ("Keep-Alive", b"x-smuggled"),
        ("Upgrade", b"h2c"),
        ("Expect", b"100-continue"),
        ("x", b"a\r\nx-smuggled: 1"),
        ("x", b"a\nx-smuggled: 1"),
        ("x", b"a\0x-smuggled"),
        ("x smuggled", b"1"),
        ("x-smuggled:", b"1"),
        ("x\r\nx-smuggled", b"1"),
        ("Host", b"smuggled.example"),
        ("User-Agent", b"smuggled"),
    ];
    let (mut unset, mut refused, mut sent) = (0, 0, 0);
    for (name, value) in given {
        let fields = Fields::new();
        if fields.append(name, value).is_err() {
            unset += 1;
            continue;
        }
        let pending = outgoing_handler::handle(request_with(fields, Method::Get, url)?, None).map_err(failed)?;
        pending.subscribe().block();
        match pending.get().and_then(Result::ok).or_reject("an answer")? {
            Err(ErrorCode::HttpRequestDenied | ErrorCode::InternalError(_)) => refused += 1,
            Ok(_) => sent += 1,
            Err(other) => return Err(Failure::reject(format!("{name:?} ended with {other:?}"))),
        }
    }
    queue::publish("seen", Draft::new(format!("{unset} {refused} {sent}"))).map(drop).map_err(Failure::from)
}

/// Asks each target, of scheme, authority and path, and publishes how many could not even be written down, how many the
/// host's types did not take, and how many the gate refused. Another end of one is a failure.
fn knock(targets: &[[String; 3]]) -> Result<(), Failure> {
    let (mut unset, mut untaken, mut refused) = (0, 0, 0);
    for target @ [scheme, authority, path] in targets {
        let scheme = match scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.to_owned()),
        };
        let request = OutgoingRequest::new(Fields::new());
        let is_set = request.set_scheme(Some(&scheme)).is_ok()
            && request.set_authority(Some(authority)).is_ok()
            && request.set_path_with_query(Some(path)).is_ok();
        if !is_set {
            unset += 1;
            continue;
        }
        let Ok(pending) = outgoing_handler::handle(request, None) else {
            untaken += 1;
            continue;
        };
        pending.subscribe().block();
        match pending.get().and_then(Result::ok).or_reject("an answer")? {
            Err(ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited | ErrorCode::InternalError(_)) => {
                refused += 1;
            }
            other => return Err(Failure::reject(format!("{target:?} ended with {:?}", other.map(drop)))),
        }
    }
    queue::publish("seen", Draft::new(format!("{unset} {untaken} {refused}"))).map(drop).map_err(Failure::from)
}

fn found_none(bytes: usize) -> Result<(), Failure> {
    queue::publish("seen", Draft::new(bytes.to_string())).map(drop).map_err(Failure::from)
}

fn upload(url: &str, bytes: u64) -> Result<(), Failure> {
    let (bytes, chunk) = (bytes as usize, [b'x'; 4096]);
    post(url, (0..bytes).step_by(chunk.len()).map(|at| &chunk[..chunk.len().min(bytes - at)]))
}

/// A body with the placeholder of a secret in it, which comes in two pieces.
fn place(url: &str, secret: &str) -> Result<(), Failure> {
    let word = secrets::get(secret)?.placeholder();
    let (start, end) = word.as_bytes().split_at(word.len() / 2);
    post(url, [b"<".as_slice(), start, end, b">"].into_iter())
}

/// Sends a body piece by piece.
fn post<'a>(url: &str, pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), Failure> {
    let request = request(Method::Post, url)?;
    let body = request.body().ok().or_reject("a body")?;
    let pending = outgoing_handler::handle(request, None).map_err(failed)?;
    let stream = body.write().ok().or_reject("a stream")?;
    // Why it is over before its end stands in the answer.
    let is_whole = pieces.map(|piece| stream.blocking_write_and_flush(piece)).all(|written| written.is_ok());
    drop(stream);
    if is_whole {
        OutgoingBody::finish(body, None).map_err(failed)?;
    }
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
    request_with(Fields::new(), method, url)
}

fn request_with(fields: Fields, method: Method, url: &str) -> Result<OutgoingRequest, Failure> {
    let (scheme, rest) = url.split_once("://").or_reject("a URL")?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, path) = rest.split_once('/').or_reject("a URL")?;
    let request = OutgoingRequest::new(fields);
    let is_set = request.set_method(&method).is_ok()
        && request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(&format!("/{path}"))).is_ok();
    if is_set { Ok(request) } else { Err(Failure::reject("not a request")) }
}

fn failed(error: impl std::fmt::Debug) -> Failure {
    Failure::retry(format!("{error:?}"))
}
