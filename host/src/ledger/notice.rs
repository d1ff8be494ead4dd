//! Telling a queue of a dead letter, in the transaction that makes the letter.
//!
//! A notice is a message like any other; it is decided with the death, so it goes beyond the bound of a full queue. What
//! it may come to is bounded by `dead_max_bytes`, at which its connector is held. Invariant: a notice is one hop further
//! than what died, and none is made past the limit of hops, so that notices of notices end.

use serde::Serialize;

use super::write::Write;
use crate::clock::rfc3339;
use crate::id::{self, Kind};
use crate::limit::HOPS_MAX;
use crate::message::Draft;

/// A message that has died just now.
pub(super) struct Died<'r> {
    /// The letter's number.
    pub(super) id: i64,
    pub(super) message_id: String,
    pub(super) hops: u32,
    pub(super) attempts: u32,
    pub(super) reason: &'r str,
}

/// The body of a notice, as JSON: what the list of dead letters shows.
#[derive(Serialize)]
struct Notice<'r> {
    id: String,
    connector: &'r str,
    queue: &'r str,
    message_id: &'r str,
    attempts: u32,
    reason: &'r str,
    died_at: String,
}

impl Write<'_> {
    /// Publishes a notice, where the connector in which it died has a queue for them.
    pub(super) fn give_notice(&mut self, connector: u32, queue: u32, died: &Died<'_>) -> rusqlite::Result<()> {
        let Some(connector) = self.book.connector(connector) else { return Ok(()) };
        let (Some(target), Some(queue)) = (connector.on_dead, self.book.queue(queue)) else { return Ok(()) };
        if died.hops >= HOPS_MAX {
            return Ok(());
        }
        let Died { id, message_id, attempts, reason, .. } = died;
        let notice = Notice {
            id: id.to_string(),
            connector: connector.name.as_str(),
            queue: queue.name.as_str(),
            message_id,
            attempts: *attempts,
            reason,
            died_at: rfc3339(self.now.due_ms),
        };
        let parts = [notice.connector, notice.queue, message_id.as_str(), &notice.id];
        let draft = Draft {
            id: id::derive(Kind::Notice, &parts, 0),
            body: serde_json::to_vec(&notice).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
            parent: Some(message_id.clone()),
            hops: died.hops + 1,
            ..Draft::default()
        };
        self.accept(target, &draft).map(drop)
    }
}
