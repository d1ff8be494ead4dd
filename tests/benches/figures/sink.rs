//! What lies at the end of a pipeline, read from the ledger's file after the host has gone.
//!
//! A figure counts only if every message arrived once, under the id that is derived from its parent's, with the payload
//! that native code computes; and if the source is empty, because settled messages are removed.

use std::collections::HashMap;

use anyhow::ensure;
use bulkhead_host::id::{self, Kind};
use bulkhead_tests::Bulkhead;
use sha2::{Digest, Sha256};

use crate::order::{invoice, order};

/// Checks the queues `in` and `out`; `parents` are the ids of what was sent, in order.
pub(crate) fn check(bulkhead: &Bulkhead, parents: &[String]) -> anyhow::Result<()> {
    let ledger = bulkhead.ledger();
    let arrived = ledger.messages("out");
    ensure!(arrived.len() == parents.len(), "{} of {} messages have arrived", arrived.len(), parents.len());
    let mut expected: HashMap<String, u64> = (1..)
        .zip(parents)
        .map(|(number, parent)| (id::derive(Kind::Publish, &["map", "out", parent], 0), number))
        .collect();
    let (mut have, mut want) = (Sha256::new(), Sha256::new());
    for message in &arrived {
        let Some(number) = expected.remove(&message.id) else {
            anyhow::bail!("a message has arrived twice, or under an unknown id: {}", message.id);
        };
        have.update(&message.body);
        want.update(invoice(order(number).as_bytes()));
    }
    ensure!(have.finalize() == want.finalize(), "a payload differs from what native code computes");
    ensure!(ledger.dead().is_empty() && ledger.pending() == 0, "something is left over");
    ensure!(ledger.messages("in").is_empty(), "settled messages were not removed");
    Ok(())
}
