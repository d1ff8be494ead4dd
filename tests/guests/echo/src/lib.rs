//! Publishes a mapped copy of every message to the queue that its config names: a JSON object whose `items` have `qty`
//! and `price` gets their `total`; anything else is copied as it is.

use bulkhead_sdk::prelude::*;
use serde_json::Value;

/// The connector's `config`.
#[derive(Deserialize, JsonSchema)]
struct Config {
    /// The queue that the copies go to.
    publish: String,
}

struct Echo;

impl Consumer for Echo {
    fn handle(message: Message) -> Result<(), Failure> {
        thread_local! {
            static QUEUE: Result<String, Failure> = config::load::<Config>().map(|config| config.publish);
        }
        let draft = mapped(message)?;
        QUEUE.with(|queue| {
            queue::publish(queue.as_deref().map_err(Clone::clone)?, draft).map(drop).map_err(Failure::from)
        })
    }
}

fn mapped(message: Message) -> Result<Draft, Failure> {
    if message.body.first() != Some(&b'{') {
        return Ok(message.into());
    }
    let mut value: Value = message.json()?;
    if let Some(items) = value["items"].as_array() {
        let number = |item: &Value, name: &str| item[name].as_f64().unwrap_or(0.0);
        let total: f64 = items.iter().map(|item| number(item, "qty") * number(item, "price")).sum();
        value["total"] = total.into();
    }
    let body = serde_json::to_vec(&value)?;
    Ok(Draft { body, ..Draft::from(message) })
}

export!(Echo: Consumer, config = Config, wants = [r#"publish = ["QUEUE"]"#]);
