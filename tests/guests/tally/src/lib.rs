//! Publishes a copy of every message and counts it in the connector's state: both, or neither.

use bulkhead_sdk::prelude::*;

/// The connector's `config`.
#[derive(Deserialize, JsonSchema)]
struct Config {
    /// The queue that the copies go to.
    publish: String,
}

struct Tally;

impl Consumer for Tally {
    fn handle(message: Message) -> Result<(), Failure> {
        let config: Config = config::load()?;
        let before: Option<u64> = state::get("count")?;
        queue::publish(&config.publish, Draft::from(message))?;
        state::set("count", &(before.unwrap_or(0) + 1))
    }
}

export!(Tally: Consumer, config = Config, wants = [r#"publish = ["QUEUE"]"#]);
