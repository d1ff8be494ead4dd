//! Handles many messages at once. Each body is a verb: `ok` publishes a copy to `out` with its cause, `bad` publishes one
//! and then fails, `shared` publishes one with an id and no cause, `nameless` one with neither. `count` publishes nothing
//! and adds one to a counter in the connector's state.

use bulkhead_sdk::prelude::*;

struct Batch;

impl BatchConsumer for Batch {
    fn handle(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
        messages.iter().map(act).collect()
    }
}

export!(Batch: BatchConsumer);

fn act(message: &Message) -> Result<(), Failure> {
    if message.body == b"count" {
        let before: Option<u64> = state::get("total")?;
        return state::set("total", &(before.unwrap_or(0) + 1));
    }
    let draft = Draft::new(message.body.clone());
    let draft = match message.text()? {
        "shared" => draft.id("of-all"),
        "nameless" => draft,
        _ => draft.cause(message),
    };
    queue::publish("out", draft)?;
    if message.body == b"bad" { Err(Failure::reject("it is bad")) } else { Ok(()) }
}
