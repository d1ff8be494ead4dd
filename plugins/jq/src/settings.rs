//! The connector's `config`.

use bulkhead_sdk::prelude::*;

/// `config` of `builtin:jq`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The jq program. Its input is the message's body; each output becomes a message.
    pub program: String,
    /// The queue that outputs go to which name none themselves.
    #[serde(default)]
    pub publish: Option<String>,
}
