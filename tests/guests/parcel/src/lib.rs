//! Posts every message to the URL in its config, breaks where the answer asks for that, and publishes two receipts that
//! are due later. A tick is published as the time that it was planned for.

use std::time::Duration;

use bulkhead_sdk::prelude::*;

/// The connector's `config`.
#[derive(Deserialize, JsonSchema)]
struct Config {
    /// Where messages are posted.
    #[serde(default)]
    url: String,
    /// The queue that receipts and ticks go to.
    publish: String,
    /// When a receipt is due after its message was posted, in milliseconds.
    #[serde(default)]
    delay_ms: u64,
}

struct Parcel;

impl Consumer for Parcel {
    fn handle(message: Message) -> Result<(), Failure> {
        let config: Config = config::load()?;
        let request = http::post(config.url).header("x-id", &message.id).header("x-attempt", message.attempt);
        let response = request.body(message.body).send()?;
        if response.header("x-then") == Some("trap") {
            std::process::abort();
        }
        response.check()?;
        for nth in 0..2 {
            let receipt = Draft::new(format!("{} {nth}", message.id)).delay(Duration::from_millis(config.delay_ms));
            queue::publish(&config.publish, receipt)?;
        }
        Ok(())
    }
}

impl Scheduled for Parcel {
    fn run(tick: Tick) -> Result<(), Failure> {
        let config: Config = config::load()?;
        queue::publish(&config.publish, Draft::json(&tick.planned_at_ms)?)?;
        Ok(())
    }
}

export!(Parcel: Consumer, Scheduled, config = Config, wants = [r#"http = [{ url = "URL", methods = ["POST"] }]"#, r#"publish = ["QUEUE"]"#]);
