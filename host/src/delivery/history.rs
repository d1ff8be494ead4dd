//! Which attempts are kept, and what of them.
//!
//! A record follows its delivery from the call to the disk, and is handed to the ledger when what it came to is there.
//! Invariant: what need not be kept costs no memory.

use crate::ledger::Ledger;
use crate::message::trace::Trace;
use crate::runtime::Sandbox;
use crate::settlement::attempt::{Attempt, CANCELLED, EFFECTS_MAX, Effect, FAILED, HELD, Keep};
use crate::settlement::{ConnectorId, Delivery, Outcome, Publish};
use crate::telemetry::otlp::Recording;

use super::Staged;

/// What is known of a call that has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// When it began, in milliseconds since the Unix epoch.
    pub(super) started_ms: u64,
    effects: Vec<Effect>,
    /// What is recorded of it, where its trace is.
    pub(super) recording: Option<Box<Recording>>,
    /// The step that it was, where it was made for several deliveries and has been told already.
    pub(super) call: Option<Trace>,
    /// Whether the plugin was called at all.
    was_called: bool,
    /// State that it has written.
    pub(super) keys: usize,
}

/// The history of one connector.
#[derive(Debug)]
pub struct History {
    keep: Keep,
    connector: ConnectorId,
    ledger: Ledger,
}

impl Record {
    /// Of a call that was not made.
    pub(super) fn empty(started_ms: u64) -> Self {
        Self { started_ms, ..Self::default() }
    }

    /// What a call has done, in this sandbox.
    pub(super) fn of(sandbox: &mut Sandbox, started_ms: u64) -> Self {
        let (effects, (recording, was_called)) = (sandbox.take_effects(), sandbox.take_recording());
        Self { started_ms, effects, recording, was_called, ..Self::default() }
    }

    /// Whether it is known already that no trace of it is recorded.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.was_called && self.recording.is_none() && self.call.is_none()
    }

    /// The trace that it is recorded in, if it is.
    pub(super) fn trace(&self) -> Option<Trace> {
        self.recording.as_ref().map(|recording| recording.attempt.trace)
    }

    fn has_sent(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Request { .. }))
    }
}

impl History {
    /// As the configuration wants it.
    #[must_use]
    pub fn new(keep: Keep, connector: ConnectorId, ledger: Ledger) -> Self {
        Self { keep, connector, ledger }
    }

    /// An attempt that succeeded, where it is kept.
    pub(super) fn success(
        &self,
        queue: &str,
        delivery: &Delivery,
        record: &Record,
        staged: &Staged,
        published: impl Fn(&Publish) -> Effect,
    ) -> Option<Attempt> {
        if !self.keep.keeps_success(&delivery.message.id) {
            return None;
        }
        let mut attempt = self.attempt(queue, delivery, record.clone(), "done");
        // In a batch the drafts of other messages are theirs.
        let own =
            |publish: &&Publish| publish.draft.parent.as_ref().is_none_or(|parent| *parent == delivery.message.id);
        attempt.effects.extend(staged.publishes.iter().filter(own).map(published));
        let keys = staged.state.writes.len();
        attempt.effects.extend((keys > 0).then_some(Effect::State { keys }));
        attempt.effects.truncate(EFFECTS_MAX);
        Some(attempt)
    }

    /// An attempt that did not succeed. One that was charged nothing is kept where it sent a request, for that will be
    /// sent again: those that were held back before are many, and did nothing.
    pub(super) fn failure(
        &self,
        queue: &str,
        delivery: &Delivery,
        record: Record,
        outcome: &Outcome,
    ) -> Option<Attempt> {
        let (label, reason) = match outcome {
            Outcome::Retry { charged: true, reason, .. } => ("retry", Some(reason)),
            Outcome::Dead { reason } => ("dead", Some(reason)),
            Outcome::Retry { charged: false, reason, .. } if record.has_sent() => (HELD, Some(reason)),
            Outcome::Superseded if record.has_sent() => (CANCELLED, None),
            Outcome::Retry { charged: false, .. } | Outcome::Done | Outcome::Expired | Outcome::Superseded => {
                return None;
            }
        };
        let attempt = self.attempt(queue, delivery, record, label);
        Some(Attempt { reason: reason.cloned(), ..attempt })
    }

    /// A request that was not answered by the plugin.
    pub(super) fn unanswered(&self, queue: &str, delivery: &Delivery, record: Record, reason: &str) -> Attempt {
        Attempt { reason: Some(reason.to_owned()), ..self.attempt(queue, delivery, record, FAILED) }
    }

    fn attempt(&self, queue: &str, delivery: &Delivery, record: Record, outcome: &str) -> Attempt {
        let message = &delivery.message;
        Attempt {
            connector: self.connector,
            queue: queue.to_owned(),
            message_id: message.id.clone(),
            parent: message.parent.clone(),
            accepted_ms: message.enqueued_at_ms,
            number: delivery.attempt,
            started_ms: record.started_ms,
            ended_ms: self.ledger.clock().now_ms(),
            outcome: outcome.to_owned(),
            reason: None,
            effects: record.effects,
        }
    }

    /// Hands over what is settled.
    pub(super) fn note(&self, attempts: impl IntoIterator<Item = Attempt>) {
        attempts.into_iter().for_each(|attempt| self.ledger.note_attempt(attempt));
    }
}
