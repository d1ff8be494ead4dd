//! `builtin:http-request`: delivers each message as an HTTP request.
//!
//! `template` fills in the message, `delivery` builds the request, `outcome` decides what the status means. The
//! credential and the `Idempotency-Key` are attached by the host, as the grant says.

mod delivery;
mod outcome;
mod settings;
mod template;

use bulkhead_sdk::prelude::*;

pub use settings::{Config, Status};

/// The connector.
pub struct HttpRequest;

impl Consumer for HttpRequest {
    fn handle(message: Message) -> Result<(), Failure> {
        let config: Config = config::load()?;
        let response = delivery::request(&config, &message)?.send()?;
        outcome::of(&config, response)
    }
}

export!(
    /// Delivers each message as an HTTP request.
    HttpRequest: Consumer,
    name = "http-request",
    config = Config,
    wants = [r#"http = [{ url = "URL", methods = ["METHOD"] }]"#],
);
