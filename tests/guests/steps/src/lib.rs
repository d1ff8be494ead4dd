//! Counts the calls of its sandbox. A body is a name, and a verb behind a space where something is to happen: `stumble N`
//! asks for another attempt until the attempt after N, `reject`, `trap` and `spin` do what they say, `keep N` holds on to
//! N MiB for as long as the sandbox lives, `figure` counts something of its own, `trace N` logs by `tracing`. Whoever ends well publishes `NAME CALL ATTEMPT` to `out`, with the message's key.

use std::cell::{Cell, RefCell};

use bulkhead_sdk::prelude::*;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

struct Steps;

impl Consumer for Steps {
    fn handle(message: Message) -> Result<(), Failure> {
        let call = CALLS.get() + 1;
        CALLS.set(call);
        let text = message.text()?;
        let (name, what) = text.split_once(' ').unwrap_or((text, ""));
        act(what, message.attempt)?;
        let draft = Draft { key: message.key.clone(), ..Draft::new(format!("{name} {call} {}", message.attempt)) };
        queue::publish("out", draft).map(drop).map_err(Failure::from)
    }
}

export!(Steps: Consumer);

fn act(what: &str, attempt: u32) -> Result<(), Failure> {
    let (verb, number) = what.split_once(' ').unwrap_or((what, "0"));
    let number: u32 = number.parse().map_err(|_| Failure::reject("no number"))?;
    match verb {
        "" => Ok(()),
        "stumble" if attempt > number => Ok(()),
        "stumble" => Err(Failure::retry("it stumbles")),
        "reject" => Err(Failure::reject("it is rejected")),
        "trap" => std::process::abort(),
        "spin" => loop {
            std::hint::black_box(attempt);
        },
        "keep" => {
            KEPT.with_borrow_mut(|kept| kept.extend((0..number).map(|_| vec![1; 1 << 20])));
            Ok(())
        }
        "figure" => {
            metrics::count("steps", 1, &[("kind", "test")]);
            Ok(())
        }
        "trace" => {
            tracing::info_span!("a span", number).in_scope(|| tracing::info!(n = number, "within"));
            tracing::warn!(n = number, text = "t", "without");
            Ok(())
        }
        other => Err(Failure::reject(format!("no such verb: {other}"))),
    }
}
