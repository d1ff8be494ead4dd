//! Takes every message and does nothing with it.

use bulkhead_sdk::prelude::*;

struct Discard;

impl BatchConsumer for Discard {
    fn handle(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
        messages.iter().map(|_| Ok(())).collect()
    }
}

export!(Discard: BatchConsumer);
