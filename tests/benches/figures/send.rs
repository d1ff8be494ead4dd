//! `bulkhead send --lines`: messages of 1 KB from one producer, all on disk before it returns.
//!
//! The time is the whole process's, from its start to its end. Checked in the file: count, order and payloads.

use std::time::Instant;

use anyhow::ensure;
use bulkhead_tests::Bulkhead;

use crate::order::order;

const TOML: &str = r#"
[queues.in]
max_bytes = "16GiB"
[connectors.log]
plugin = "builtin:log"
consume = "in"
enabled = false
"#;

/// Who opens the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// `send` itself: no host runs.
    File,
    /// A running host, asked over its admin listener.
    Host,
}

/// Messages a second of one pass over `messages`.
pub(crate) fn pass(messages: u64, through: Through) -> anyhow::Result<f64> {
    let bulkhead = Bulkhead::new(TOML);
    let input: String = (1..=messages).flat_map(|number| [order(number), "\n".to_owned()]).collect();
    let running = (through == Through::Host).then(|| bulkhead.start());
    let started = Instant::now();
    let sent = bulkhead.run_with(&["send", "in", "--lines"], input.as_bytes()).ok();
    let elapsed = started.elapsed();
    ensure!(sent.output.contains(&messages.to_string()), "send says: {}", sent.output);
    if let Some(running) = running {
        let _ = running.terminate().ok();
    }
    let stored = bulkhead.ledger().messages("in");
    ensure!(stored.len() == usize::try_from(messages)?, "{} of {messages} messages are stored", stored.len());
    for (number, message) in (1..).zip(stored) {
        ensure!(message.body == order(number).as_bytes(), "message {number} is not what was sent");
    }
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    Ok(messages as f64 / elapsed.as_secs_f64())
}
