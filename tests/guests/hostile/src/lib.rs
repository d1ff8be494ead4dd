//! Does to the host what the body of a message asks for: a verb, and what it needs behind a space.
//!
//! Every limit and every refusal has a verb here, so that a test is a TOML and a line.

use std::time::Duration;

use bulkhead_sdk::__private::bindings::imports::wasi::keyvalue::store;
use bulkhead_sdk::prelude::*;

struct Hostile;

impl Consumer for Hostile {
    fn handle(message: Message) -> Result<(), Failure> {
        let text = message.text()?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        act(verb, rest)
    }
}

/// A tick does what its input says, or shows what it is.
impl Scheduled for Hostile {
    fn run(tick: Tick) -> Result<(), Failure> {
        // Text comes as JSON too.
        let text = tick.input.as_deref().unwrap_or("ok").trim_matches('"');
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        if verb == "show" {
            let Tick { schedule, planned_at_ms, attempt, previous_ms, .. } = &tick;
            let shown =
                format!("schedule {schedule}, planned {planned_at_ms}, attempt {attempt}, previous {previous_ms:?}");
            return Err(Failure::reject(shown));
        }
        act(verb, rest)
    }
}

export!(Hostile: Consumer, Scheduled);

fn act(verb: &str, rest: &str) -> Result<(), Failure> {
    match verb {
        "ok" => Ok(()),
        "spin" => spin(),
        "spin-ask" => loop {
            (0..100_000_u64).for_each(|number| {
                let _ = std::hint::black_box(number);
            });
            let _ = http::get(rest).send();
        },
        "sleep" => {
            std::thread::sleep(Duration::from_secs(number(rest)));
            Ok(())
        }
        "grow" => grow(),
        "recurse" => recurse(0).map(|_| ()),
        "print" => print(number(rest)),
        "trap" => {
            eprintln!("last words: {rest}");
            std::process::abort()
        }
        "panic" => panic!("{rest}"),
        "retry" => Err(Failure::retry(rest)),
        "retry-after" => {
            Err(Failure::Retry { reason: "asked to".into(), after: Some(Duration::from_millis(number(rest))) })
        }
        "reject" => Err(Failure::reject(rest)),
        "publish" => queue::publish(rest, Draft::new("hello")).map(drop).map_err(Failure::from),
        "publish-later" => publish(rest, Draft::delay),
        "publish-briefly" => publish(rest, Draft::expires),
        "flood" => flood(rest),
        "large" => queue::publish(rest, Draft::new(vec![0_u8; 2 << 20])).map(drop).map_err(Failure::from),
        "get" => http::get(rest).send()?.check().map(drop).map_err(Failure::from),
        "requests" => (0..100_000).try_for_each(|_| http::get(rest).send().map(drop)).map_err(Failure::from),
        "insist" => loop {
            let _ = http::get(rest).send();
        },
        "seek" => seek(rest),
        "count" => count(rest),
        "count-slowly" => {
            let before: Option<u64> = state::get("count")?;
            http::get(rest).send()?.check()?;
            state::set("count", &(before.unwrap_or(0) + 1))
        }
        "count-aloud" => {
            queue::publish("out", Draft::new("aloud"))?;
            act("count-slowly", rest)
        }
        "post" => http::post(rest).body(vec![b'x'; 1 << 16]).send().map(drop).map_err(Failure::from),
        "trace" => trace_more_than_fits(),
        "forge" => forge(rest),
        "handles" => handles(),
        "fill-state" => (0..20_000).try_for_each(|number: u32| state::set(&format!("key-{number}"), &number)),
        "put" => put(rest),
        "touch" => (0..u32::MAX).try_for_each(|number| state::get_bytes(&format!("absent-{number}")).map(drop)),
        "file" => refused(std::fs::read_to_string("/etc/passwd").is_err()),
        "environment" => refused(std::env::vars().next().is_none() && std::env::args().len() <= 1),
        "secret" => secrets::get(rest).map(drop).map_err(Failure::from),
        "bucket" => refused(store::open(rest).is_err()),
        "refused-requests" => {
            for place in 0..number(rest) {
                refused(http::get(format!("https://example.com/{place}")).send().is_err())?;
            }
            Ok(())
        }
        "socket" => refused(std::net::TcpStream::connect("127.0.0.1:80").is_err()),
        "lookup" => refused(std::net::ToSocketAddrs::to_socket_addrs("localhost:80").is_err()),
        other => Err(Failure::reject(format!("no such verb: {other}"))),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

fn grow() -> Result<(), Failure> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(vec![1; 1 << 20]);
        std::hint::black_box(&all);
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> Result<u64, Failure> {
    let frame = std::hint::black_box([depth; 64]);
    Ok(recurse(depth + 1)? + frame[0])
}

fn print(lines: u64) -> Result<(), Failure> {
    let line = "x".repeat(1023);
    for _ in 0..lines {
        println!("{line}");
    }
    Ok(())
}

/// Publishes a message to a queue that has something to do with so many milliseconds.
fn publish(rest: &str, time: fn(Draft, Duration) -> Draft) -> Result<(), Failure> {
    let (queue, milliseconds) = rest.split_once(' ').unwrap_or((rest, "0"));
    let draft = time(Draft::new(milliseconds), Duration::from_millis(number(milliseconds)));
    queue::publish(queue, draft).map(drop).map_err(Failure::from)
}

/// Publishes until the host refuses; the refusal is the outcome.
fn flood(queue: &str) -> Result<(), Failure> {
    loop {
        queue::publish(queue, Draft::new(vec![0_u8; 1024]))?;
    }
}

/// Says more than a trace takes, under names that are none and the host's own.
fn trace_more_than_fits() -> Result<(), Failure> {
    trace::set_attribute("said", "first");
    trace::set_attribute("said", "again");
    trace::set_attribute("long", "x".repeat(5000));
    for name in ["bulkhead.connector", "messaging.system", "", "a b", "\u{e4}"] {
        trace::set_attribute(name, "forged");
    }
    (0..100).for_each(|nth| trace::set_attribute(&format!("key-{nth}"), nth));
    trace::add_event("seen", [("page", 2.into()), ("is_last", true.into()), ("part", 0.5.into())]);
    trace::add_event("wide", (0..9).map(|nth| ("k", nth.into())));
    (0..100).for_each(|_| trace::add_event("again", []));
    Ok(())
}

/// Publishes a message of another trace, which is to be recorded.
fn forge(queue: &str) -> Result<(), Failure> {
    let draft = Draft::new("forged").header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    queue::publish(queue, draft).map(drop).map_err(Failure::from)
}

/// Opens its bucket again and again, and closes none.
fn handles() -> Result<(), Failure> {
    loop {
        let bucket = store::open("").map_err(|error| Failure::reject(format!("{error:?}")))?;
        std::mem::forget(bucket);
    }
}

/// Asks for so many names below a domain, and waits for none of them.
fn seek(rest: &str) -> Result<(), Failure> {
    let (count, domain) = rest.split_once(' ').unwrap_or(("1", rest));
    for nth in 0..number(count) {
        let _ = http::get(format!("http://n{nth}.{domain}/")).timeout(Duration::ZERO).send();
    }
    Ok(())
}

/// Adds one to a counter in the connector's state.
fn count(key: &str) -> Result<(), Failure> {
    let before: Option<u64> = state::get(key)?;
    state::set(key, &(before.unwrap_or(0) + 1))
}

/// So many values of so many bytes under keys that begin so; and asks for something then, if there is a URL.
fn put(rest: &str) -> Result<(), Failure> {
    let words: Vec<&str> = rest.split(' ').collect();
    let [prefix, count, bytes, ref url @ ..] = words[..] else { return Err(Failure::reject("three words")) };
    let value = vec![b'x'; number(bytes) as usize];
    (0..number(count)).try_for_each(|nth| state::set_bytes(&format!("{prefix}{nth}"), &value))?;
    url.iter().try_for_each(|url| http::get(*url).send().map(drop)).map_err(Failure::from)
}

fn refused(is_refused: bool) -> Result<(), Failure> {
    if is_refused { Ok(()) } else { Err(Failure::reject("the sandbox has a hole")) }
}
