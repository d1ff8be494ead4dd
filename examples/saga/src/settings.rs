//! The connector's `config`.

use std::collections::BTreeSet;

use bulkhead_sdk::prelude::*;

/// Steps at most: a message passes through 32 connectors in a host, and every step, done and undone, is one of them.
const STEPS_MAX: usize = 15;

/// `config`. The connector that takes the orders in needs `queue` alone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The queue of the sagas' own messages. What comes from another queue is an order.
    pub queue: String,
    /// The queue that is told how each saga ended.
    #[serde(default)]
    pub ended: String,
    /// In the order in which they are done, 15 at most.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name: part of its idempotency key, so it must not change.
    pub name: String,
    /// Where it is done, by POST.
    pub url: String,
    /// Where it is undone, by POST. Left out, there is nothing to undo.
    #[serde(default)]
    pub undo: Option<String>,
}

impl Config {
    /// # Errors
    /// A rejection where no saga can go by it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let names: BTreeSet<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        if names.len() != self.steps.len() {
            return Err(Failure::reject("config: two of `steps` have one name"));
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Err(Failure::reject(format!("config: `steps` has 1 to {STEPS_MAX} entries")));
        }
        Ok(())
    }
}
