//! Handles many messages at once. Each body is a verb: `ok` publishes a copy to `out` with its cause, `bad` publishes one
//! and then fails, `shared` publishes one with an id and no cause, `nameless` one with neither. `company` publishes the
//! keys of all messages of the call. `count` publishes nothing and adds one to a counter in the connector's state. `alone`
//! breaks the call unless it is the only message, and then takes a second.

use bulkhead_sdk::prelude::*;

struct Batch;

impl BatchConsumer for Batch {
    fn handle(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
        let alone = messages.iter().find(|message| message.body == b"alone");
        if alone.is_some() && messages.len() > 1 {
            std::process::abort();
        }
        let keys: Vec<&str> = messages.iter().map(|message| message.key.as_deref().unwrap_or("-")).collect();
        messages.iter().map(|message| act(message, &keys)).collect()
    }
}

export!(Batch: BatchConsumer);

fn act(message: &Message, keys: &[&str]) -> Result<(), Failure> {
    if message.body == b"alone" {
        std::thread::sleep(std::time::Duration::from_secs(1));
        return Ok(());
    }
    if message.body == b"count" {
        let before: Option<u64> = state::get("total")?;
        return state::set("total", &(before.unwrap_or(0) + 1));
    }
    let draft = Draft::new(message.body.clone());
    let draft = match message.text()? {
        "shared" => draft.id("of-all"),
        "nameless" => draft,
        "company" => Draft::new(keys.join(" ")).cause(message),
        _ => draft.cause(message),
    };
    queue::publish("out", draft)?;
    if message.body == b"bad" { Err(Failure::reject("it is bad")) } else { Ok(()) }
}
