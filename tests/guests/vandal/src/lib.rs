//! Attacks the host from where the host calls into a guest (its allocator), and through every import.
//!
//! As in `hostile`, the body of a message is a verb, and what it needs behind a space.

mod huge;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bulkhead_sdk::__private::bindings::imports::wasi::config::store as settings;
use bulkhead_sdk::__private::bindings::imports::wasi::keyvalue::store;
use bulkhead_sdk::prelude::*;

/// A size that nothing else has.
const TRIGGER: usize = 54_321;
const PAGE: usize = 64 << 10;

/// Spins for ever when it is asked for [`TRIGGER`] bytes after [`GETS`], or gets them back after [`TAKES`].
struct Trap;

static GETS: AtomicUsize = AtomicUsize::new(0);
static TAKES: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Trap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        spin_if(layout.size() == GETS.load(Relaxed));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        spin_if(layout.size() == TAKES.load(Relaxed));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Trap = Trap;

fn spin_if(is_so: bool) {
    if is_so {
        let mut number = 0_u64;
        loop {
            number = std::hint::black_box(number.wrapping_add(1));
        }
    }
}

struct Vandal;

impl Consumer for Vandal {
    fn handle(message: Message) -> Result<(), Failure> {
        let text = message.text()?;
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        act(verb, rest)
    }
}

export!(Vandal: Consumer);

fn act(verb: &str, rest: &str) -> Result<(), Failure> {
    match verb {
        "ok" => Ok(()),
        "realloc" => {
            store_bytes(TRIGGER)?;
            GETS.store(TRIGGER, Relaxed);
            load_bytes()
        }
        "post-return" => {
            let mut reason = String::with_capacity(TRIGGER);
            reason.extend(std::iter::repeat_n('x', TRIGGER));
            TAKES.store(TRIGGER, Relaxed);
            Err(Failure::reject(reason))
        }
        "fill" => {
            let mut bytes = vec![0_u8; 4 << 20];
            loop {
                bytes.fill(std::hint::black_box(1));
            }
        }
        "long-error" => Err(Failure::reject("x".repeat(number(rest) << 20))),
        "fields" => fields(rest),
        "names" => names(),
        "smuggle" => smuggle(rest),
        "overrule" => overrule(rest),
        "odd" => odd(rest),
        "odd-keys" => odd_keys(),
        "huge" => {
            let (place, mib) = rest.split_once(' ').unwrap_or((rest, "1"));
            huge::huge(place, number(mib))
        }
        "fan-out" => {
            (0..2).try_for_each(|_| queue::publish(rest, Draft::new("fan-out in")).map(drop)).map_err(Failure::from)
        }
        "stain" => page(600, |bytes| bytes.fill(0xA5)),
        "residue" => page(600, |bytes| assert!(bytes.iter().all(|byte| *byte == 0), "memory of another sandbox")),
        "wait" => {
            std::thread::sleep(std::time::Duration::from_nanos(number(rest) as u64));
            Ok(())
        }
        other => Err(Failure::reject(format!("no such verb: {other}"))),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(usize::MAX)
}

fn store_bytes(bytes: usize) -> Result<(), Failure> {
    let bucket = bucket("")?;
    bucket.set("bytes", &vec![1; bytes]).map_err(|error| Failure::reject(format!("{error:?}")))
}

fn load_bytes() -> Result<(), Failure> {
    let bytes = bucket("")?.get("bytes").map_err(|error| Failure::reject(format!("{error:?}")))?;
    Err(Failure::reject(format!("{:?}", bytes.map(|bytes| bytes.len()))))
}

fn bucket(name: &str) -> Result<store::Bucket, Failure> {
    store::open(name).map_err(|error| Failure::reject(format!("{error:?}")))
}

/// So many header fields with values of so many bytes, to a URL.
fn fields(rest: &str) -> Result<(), Failure> {
    let [count, bytes, url] = rest.split(' ').collect::<Vec<_>>()[..] else {
        return Err(Failure::reject("three words"));
    };
    let value = "y".repeat(number(bytes));
    let request = (0..number(count)).fold(http::get(url), |request, nth| request.header(&format!("x-{nth}"), &value));
    request.send().map(drop).map_err(Failure::from)
}

/// What makes a server see another end of a request, or a second one: every one has to be refused.
fn smuggle(url: &str) -> Result<(), Failure> {
    let fields = [
        ("Transfer-Encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("TE", "trailers"),
        ("Trailer", "x-smuggled"),
        ("Connection", "x-smuggled"),
        ("Keep-Alive", "x-smuggled"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("Proxy-Authorization", "x-smuggled"),
        ("x", "a\r\nx-smuggled: 1"),
        ("x", "a\nx-smuggled: 1"),
        ("x", "a\r\n\r\nGET /smuggled HTTP/1.1"),
        ("x", "a\0x-smuggled"),
        ("x smuggled", "1"),
        ("x-smuggled ", "1"),
        ("x-smuggled:", "1"),
        ("x\r\nx-smuggled", "1"),
    ];
    for (name, value) in fields {
        let answer = http::get(url).header(name, value).send().map_err(|error| error.kind().clone());
        if !matches!(answer, Err(http::ErrorKind::Denied(_) | http::ErrorKind::Invalid(_))) {
            return Err(Failure::reject(format!("{name:?}: {value:?} ended with {:?}", answer.map(drop))));
        }
    }
    Ok(())
}

/// What the host says itself in every request, whatever a plugin says of it.
fn overrule(url: &str) -> Result<(), Failure> {
    let fields =
        [("Host", "smuggled.example"), ("Content-Length", "77"), ("content_length", "77"), ("User-Agent", "smuggled")];
    let request = fields.into_iter().fold(http::get(url), |request, (name, value)| request.header(name, value));
    request.send().map(drop).map_err(Failure::from)
}

/// Names that a careless host takes for others: every one has to be refused.
fn names() -> Result<(), Failure> {
    let odd =
        ["../out", "out/../out", "out\0", "o\u{443}t", "OUT", " out", "out ", "@vandal", "in\n", "", ".", "out%00"];
    for name in odd {
        if queue::publish(name, Draft::new("x")).is_ok() || bulkhead_sdk::secrets::get(name).is_ok() {
            return Err(Failure::reject(format!("{name:?} was taken")));
        }
        if !name.is_empty() && store::open(name).is_ok() {
            return Err(Failure::reject(format!("a bucket {name:?} was opened")));
        }
    }
    Ok(())
}

/// Names of nothing that exists: dots, slashes, the end of a C string, letters that look like others, none at all.
const ODD: [&str; 12] =
    ["../out", "out/../out", "out\0", "o\u{443}t", "OUT", " out", "out ", "@vandal", "in\n", "", "a:b", "out%00"];

/// Each of them, and one of a MiB, in the place of a name: a place that answers must refuse.
fn odd(rest: &str) -> Result<(), Failure> {
    let (place, url) = rest.split_once(' ').unwrap_or((rest, ""));
    let long = "x".repeat(1 << 20);
    // A word is a name of HTTP, odd or not.
    let is_word = |name: &str| {
        matches!(name, "OUT" | "out%00") && matches!(place, "message-header" | "http-header" | "http-method")
    };
    for name in ODD.into_iter().chain([&*long]).filter(|name| !is_word(name)) {
        let is_taken = match place {
            "queue" => queue::publish(name, Draft::new("x")).is_ok(),
            "message-header" => queue::publish("out", Draft::new("x").header(name, "x")).is_ok(),
            "secret" => bulkhead_sdk::secrets::get(name).is_ok(),
            "bucket" => !name.is_empty() && store::open(name).is_ok(),
            "config" => !matches!(settings::get(name), Ok(None)),
            "http-header" => http::get(url).header(name, "x").send().is_ok(),
            "http-method" => http::request(name, url).send().is_ok(),
            // The last ones answer nothing.
            "count" | "gauge" | "label" => {
                figure(place, name);
                false
            }
            other => return Err(Failure::reject(format!("no such place: {other}"))),
        };
        if is_taken {
            return Err(Failure::reject(format!("{place}: {:?} was taken", name.get(..10).unwrap_or(name))));
        }
    }
    Ok(())
}

fn figure(place: &str, name: &str) {
    match place {
        "count" => bulkhead_sdk::metrics::count(name, 1, &[]),
        "gauge" => bulkhead_sdk::metrics::gauge(name, f64::NAN, &[]),
        _ => bulkhead_sdk::metrics::observe("figure", 1.0, &[(name, "x")]),
    }
}

/// A key of the state is any text that is neither empty nor too long, and means itself alone.
fn odd_keys() -> Result<(), Failure> {
    let bucket = bucket("")?;
    let long = "x".repeat(513);
    let longest = "x".repeat(1 << 20);
    for key in ["", &long, &longest] {
        let answers = [
            bucket.set(key, b"x").is_err(),
            bucket.get(key).is_err(),
            bucket.delete(key).is_err(),
            bucket.exists(key).is_err(),
        ];
        if answers != [true; 4] {
            return Err(Failure::reject(format!("a key of {} bytes was taken: {answers:?}", key.len())));
        }
    }
    let keys = || ODD.into_iter().filter(|key| !key.is_empty());
    for key in keys() {
        bucket.set(key, key.as_bytes()).map_err(|error| Failure::reject(format!("{key:?}: {error:?}")))?;
    }
    let is_itself = |key: &str| matches!(bucket.get(key), Ok(Some(value)) if value == key.as_bytes());
    match keys().find(|key| !is_itself(key)) {
        Some(key) => Err(Failure::reject(format!("{key:?} is not what it was"))),
        None => Ok(()),
    }
}

/// Takes pages that no allocator has had, and looks at them.
fn page(pages: usize, look: impl Fn(&mut [u8])) -> Result<(), Failure> {
    let begin = core::arch::wasm32::memory_grow::<0>(pages);
    assert_ne!(begin, usize::MAX, "the memory grows");
    // SAFETY: they are new, and nobody else knows of them.
    look(unsafe { std::slice::from_raw_parts_mut((begin * PAGE) as *mut u8, pages * PAGE) });
    Ok(())
}
