//! Attacks the host from where the host calls into a guest (its allocator), and through every import.
//!
//! As in `hostile`, the body of a message is a verb, and what it needs behind a space.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
        "huge" => huge(rest),
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

fn fields(url: &str) -> Result<(), Failure> {
    let request = (0..40_000).fold(http::get(url), |request, nth| request.header(&format!("x-{nth}"), "y"));
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

/// A text of so many MiB in the place of every name and text that the host takes.
fn huge(rest: &str) -> Result<(), Failure> {
    let (place, mib) = rest.split_once(' ').unwrap_or((rest, "1"));
    let text = "x".repeat(number(mib) << 20);
    match place {
        "queue" => drop(queue::publish(&text, Draft::new("x"))),
        "key" => drop(queue::publish("out", Draft::new("x").key(&text))),
        "header" => drop(queue::publish("out", Draft::new("x").header(&text, &text))),
        "secret" => drop(bulkhead_sdk::secrets::get(&text)),
        "metric" => bulkhead_sdk::metrics::count(&text, 1, &[(&text, &text)]),
        "bucket" => drop(store::open(&text)),
        "state" => drop(bucket("")?.set(&text, &[])),
        "read" => drop(bucket("")?.get(&text)),
        "url" => drop(http::get(&text).send()),
        "method" => drop(http::get("http://127.0.0.1:9/").header(&text, &text).send()),
        other => return Err(Failure::reject(format!("no such place: {other}"))),
    }
    Ok(())
}

/// Takes pages that no allocator has had, and looks at them.
fn page(pages: usize, look: impl Fn(&mut [u8])) -> Result<(), Failure> {
    let begin = core::arch::wasm32::memory_grow::<0>(pages);
    assert_ne!(begin, usize::MAX, "the memory grows");
    // SAFETY: they are new, and nobody else knows of them.
    look(unsafe { std::slice::from_raw_parts_mut((begin * PAGE) as *mut u8, pages * PAGE) });
    Ok(())
}
