//! What nearly every connector uses: `use bulkhead_sdk::prelude::*;`.

pub use schemars::JsonSchema;
pub use serde::{Deserialize, Serialize};

pub use crate::log::{debug, error, info, trace, warn};
pub use crate::{
    BatchConsumer, Consumer, Draft, Failure, Message, OrFail, Scheduled, Tick, Webhook, config, export, http, metrics,
    queue, secrets, state, trace, webhook,
};
