//! Publishing: drafts are checked, given their ids, and staged until the call ends.
//!
//! Nothing is stored here: what a call staged commits with its delivery, or not at all. Invariant: a draft that is staged
//! has its room reserved, so that a settlement never fails for room; and a draft's id is the same on every redelivery.

use std::time::Duration;

use super::{Call, Grants, Session, trace};
use crate::bindings::bulkhead::connector::queue::{Host, PublishError};
use crate::bindings::bulkhead::connector::types;
use crate::id::{self, Kind, Name};
use crate::ledger::{Full, Reservation};
use crate::limit::Limit;
use crate::message::trace::{TRACEPARENT, TRACESTATE, Trace};
use crate::message::{self, Draft};
use crate::metrics::Effect;
use crate::planted::{self, Bug};
use crate::settlement::{Lack, Publish, QueueId};
use crate::telemetry::otlp::{self, Recording, Tracer};

/// The gate's own delay for a call that ended because a queue was full.
const FULL_DELAY: Duration = Duration::from_secs(1);

/// A queue that a connector may publish to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in the configuration.
    pub name: Name,
    /// Its number in the ledger.
    pub id: QueueId,
    /// The largest message that it takes.
    pub message_bytes: u64,
    /// The key that says so: that of the consumer which takes the smallest, or its own; none where neither is less than
    /// the default.
    pub message_key: Option<String>,
}

/// `allow.publish` of one connector.
#[derive(Debug)]
pub(super) struct Grant {
    targets: Vec<Target>,
}

impl Grant {
    pub(super) fn new(targets: Vec<Target>) -> Self {
        Self { targets }
    }

    pub(super) fn permissions(&self) -> impl Iterator<Item = String> {
        self.targets.iter().map(|target| format!("may publish to `{}`", target.name))
    }

    pub(super) fn name(&self, id: QueueId) -> Option<&str> {
        self.targets.iter().find(|target| target.id == id).map(|target| target.name.as_str())
    }

    fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name.as_str() == name)
    }
}

/// What the present call publishes.
#[derive(Debug, Default)]
pub(super) struct Stage {
    parents: Vec<Parent>,
    is_batch: bool,
    consumed: String,
    /// Where the last cause was found: drafts mostly come in the order of their causes.
    last_cause: usize,
    /// Where the drafts of the last publish stood: memory to be used again.
    places: Vec<Place>,
    count: u32,
    bytes: u64,
    staged: Vec<Publish>,
    /// In a batch, the cause of each.
    causes: Vec<Option<usize>>,
    reservation: Reservation,
}

/// What a call has published.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) publishes: Vec<Publish>,
    pub(super) causes: Vec<Option<usize>>,
    pub(super) reservation: Reservation,
}

/// A message that is being handled, as the parent of drafts.
#[derive(Debug, Default)]
struct Parent {
    id: String,
    hops: u32,
    trace: Option<Trace>,
    state: Option<String>,
    /// Counts its drafts, refused ones too.
    ordinal: u64,
}

impl Parent {
    /// Stands for another message from now on, in the memory that it has.
    fn begin(&mut self, cause: &super::Cause<'_>) {
        self.id.clear();
        self.id.push_str(cause.id);
        (self.hops, self.trace, self.ordinal) = (cause.hops, cause.trace, 0);
        self.state = cause.state.map(str::to_owned);
    }
}

/// Where a draft stands among those of its call.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its parent; none for a draft with an id and no cause in a batch.
    parent: Option<usize>,
    ordinal: u64,
}

/// Why nothing of a publish is staged.
#[derive(Debug)]
enum Refusal {
    Denied(String),
    Invalid(String),
    Limit { limit: Limit, key: String, text: String },
    Full { key: String, text: String, lack: Option<Lack> },
}

impl Stage {
    pub(super) fn begin_call(&mut self, call: &Call<'_>) {
        self.parents.truncate(call.causes.len());
        let kept = self.parents.len();
        for (parent, cause) in self.parents.iter_mut().zip(call.causes) {
            parent.begin(cause);
        }
        self.parents.extend(call.causes[kept..].iter().map(|cause| {
            let mut parent = Parent::default();
            parent.begin(cause);
            parent
        }));
        self.is_batch = call.is_batch;
        self.consumed.clear();
        self.consumed.push_str(call.queue);
        (self.last_cause, self.count, self.bytes) = (0, 0, 0);
        self.end_call();
    }

    pub(super) fn end_call(&mut self) -> Published {
        Published {
            publishes: std::mem::take(&mut self.staged),
            causes: std::mem::take(&mut self.causes),
            reservation: std::mem::take(&mut self.reservation),
        }
    }

    /// Numbers the drafts, whatever becomes of them, so that a refusal shifts no other draft's id.
    fn number(&mut self, drafts: &[types::Draft], places: &mut Vec<Place>) -> Result<(), Refusal> {
        places.clear();
        let mut refusal = None;
        for draft in drafts {
            match self.place(draft) {
                Ok(place) => places.push(place),
                Err(first) => drop(refusal.get_or_insert(first)),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn place(&mut self, draft: &types::Draft) -> Result<Place, Refusal> {
        let parent = match (&draft.cause, self.is_batch) {
            (Some(cause), _) => Some(self.find(cause)?),
            (None, false) if self.parents.is_empty() => return Err(invalid("no message is being handled")),
            (None, false) => Some(0),
            (None, true) if draft.id.is_some() => None,
            (None, true) => {
                return Err(invalid("in a batch, a draft needs the `cause` that it was made from, or an `id`"));
            }
        };
        let ordinal = parent.map_or(0, |parent| {
            let counter = &mut self.parents[parent].ordinal;
            std::mem::replace(counter, *counter + 1)
        });
        Ok(Place { parent, ordinal })
    }

    fn find(&mut self, cause: &str) -> Result<usize, Refusal> {
        let count = self.parents.len();
        let found = (0..count).map(|step| (self.last_cause + step) % count).find(|at| self.parents[*at].id == cause);
        self.last_cause = found.ok_or_else(|| invalid("its `cause` is not a message of this call"))?;
        Ok(self.last_cause)
    }

    fn stage(&mut self, grants: &Grants, queue: &str, drafts: Vec<types::Draft>) -> Result<Vec<String>, Refusal> {
        let mut places = std::mem::take(&mut self.places);
        let staged = self.stage_at(grants, queue, drafts, &mut places);
        self.places = places;
        staged
    }

    fn stage_at(
        &mut self,
        grants: &Grants,
        queue: &str,
        drafts: Vec<types::Draft>,
        places: &mut Vec<Place>,
    ) -> Result<Vec<String>, Refusal> {
        let panics = planted::has(Bug::HostPanic) && drafts.iter().any(|draft| draft.body == planted::PANIC);
        assert!(!panics, "a bug that was planted");
        self.number(&drafts, places)?;
        let target = grants.queue.target(queue).ok_or_else(|| denied(grants, queue))?;
        let mut accepted = Vec::with_capacity(drafts.len());
        let mut bytes = 0;
        for (draft, place) in drafts.into_iter().zip(places.iter().copied()) {
            let draft = self.accept(grants, target, draft, place)?;
            bytes += draft.size_bytes();
            accepted.push(Publish { queue: target.id, draft });
        }
        self.count(grants, accepted.len(), bytes)?;
        self.reserve(grants, target, bytes)?;
        let ids = accepted.iter().map(|publish| publish.draft.id.clone()).collect();
        if self.is_batch {
            self.causes.extend(places.iter().map(|place| place.parent));
        }
        if self.staged.is_empty() {
            self.staged = accepted;
        } else {
            self.staged.append(&mut accepted);
        }
        Ok(ids)
    }

    /// From a guest's draft to one that is fit to be stored.
    fn accept(&self, grants: &Grants, target: &Target, draft: types::Draft, place: Place) -> Result<Draft, Refusal> {
        let parent = place.parent.map(|parent| &self.parents[parent]);
        let id = match (draft.id, parent) {
            (Some(id), _) => id,
            (None, Some(parent)) => {
                let parts = [grants.subject.lineage.as_str(), target.name.as_str(), parent.id.as_str()];
                id::derive(Kind::Publish, &parts, if planted::has(Bug::ReuseId) { 0 } else { place.ordinal })
            }
            (None, None) => return Err(invalid("it has neither `id` nor `cause`")),
        };
        message::check(&id, draft.key.as_deref(), &draft.headers).map_err(Refusal::Invalid)?;
        if draft.delay_ms.is_some_and(|delay| delay > message::DELAY_MS_MAX) {
            return Err(invalid("its `delay-ms` is longer than 30 days"));
        }
        let hops =
            parent.map_or_else(|| self.parents.iter().map(|parent| parent.hops).max().unwrap_or(0), |it| it.hops);
        let mut draft = Draft {
            id,
            key: draft.key,
            headers: draft.headers,
            body: draft.body,
            delay_ms: draft.delay_ms,
            expires_ms: draft.expires_ms.map(|expires| expires.min(message::EXPIRES_MS_MAX)),
            parent: parent.map(|parent| parent.id.clone()),
            hops: hops.saturating_add(1),
        };
        let size = draft.size_bytes();
        if size > target.message_bytes {
            return Err(too_large(target, size));
        }
        carry_on(&grants.services.tracer, parent, &mut draft, target.message_bytes - size);
        Ok(draft)
    }

    fn count(&mut self, grants: &Grants, drafts: usize, bytes: u64) -> Result<(), Refusal> {
        let count = self.count.saturating_add(u32::try_from(drafts).unwrap_or(u32::MAX));
        if count > grants.limits.publishes {
            return Err(over(grants, Limit::Publishes, u64::from(grants.limits.publishes)));
        }
        let bytes = self.bytes.saturating_add(bytes);
        if bytes > grants.limits.publish_bytes {
            return Err(over(grants, Limit::PublishBytes, grants.limits.publish_bytes));
        }
        (self.count, self.bytes) = (count, bytes);
        Ok(())
    }

    /// Publishing to the queue that is being consumed may go beyond its bound, by what one call may publish: else a full
    /// queue could never be emptied. No further: each message of a connector that feeds itself could become two.
    fn reserve(&mut self, grants: &Grants, target: &Target, bytes: u64) -> Result<(), Refusal> {
        let Some(ledger) = &grants.services.ledger else { return Err(invalid("nothing can be published here")) };
        let beyond = if target.name.as_str() == self.consumed { grants.limits.publish_bytes } else { 0 };
        match ledger.reserve_beyond(target.id, bytes, beyond) {
            Ok(reservation) => self.reservation.absorb(reservation),
            Err(Full::Bound) => {
                let key = format!("queues.{}.max_bytes", target.name);
                let text = format!("queue `{}` is full: its bound is `{key}`", target.name);
                let lack = Lack { queue: target.id, bytes: bytes.saturating_add(self.staged_bytes(target.id)), beyond };
                return Err(Refusal::Full { key, text, lack: Some(lack) });
            }
            Err(Full::Disk) => {
                let (key, text) = ("host.min_free".to_owned(), "the disk is full: see `host.min_free`".to_owned());
                return Err(Refusal::Full { key, text, lack: None });
            }
        }
        Ok(())
    }

    /// Tells of what was staged after the first `before`.
    fn record(&self, grants: &Grants, queue: &str, before: usize, recording: &mut Recording) {
        let attempt = recording.attempt.trace;
        for (place, publish) in self.staged.iter().enumerate().skip(before) {
            let cause = self.causes.get(place).copied().flatten();
            let parent = self.parents.get(cause.unwrap_or(0)).filter(|_| cause.is_some() || !self.is_batch);
            let Some(of_parent) = parent.and_then(|it| it.trace).filter(Trace::is_recorded) else { continue };
            let before = match parent {
                Some(parent) if recording.is_batch => {
                    otlp::delivery(of_parent, grants.subject.name.as_str(), &parent.id)
                }
                _ => attempt,
            };
            recording.published(cause, || trace::published(before, &grants.subject.name, queue, &publish.draft));
        }
    }

    /// Of what this call has staged for a queue.
    fn staged_bytes(&self, queue: QueueId) -> u64 {
        let staged = self.staged.iter().filter(|publish| publish.queue == queue);
        staged.map(|publish| publish.draft.size_bytes()).sum()
    }
}

/// A draft belongs to the trace of its parent, unless it names one itself, or has no room left for that.
fn carry_on(tracer: &Tracer, parent: Option<&Parent>, draft: &mut Draft, room_bytes: u64) {
    let trace = parent.and_then(|parent| parent.trace);
    if let Some((_, named)) = draft.headers.iter_mut().find(|(name, _)| name == TRACEPARENT) {
        if let Some(other) = tracer.is_on().then(|| corrected(named, trace, &draft.id)).flatten() {
            *named = other;
        }
        return;
    }
    let Some(trace) = trace else { return };
    // Nothing is recorded of the step between: what comes next comes after the step before.
    let is_passed_on = tracer.is_on() && !trace.is_recorded();
    let value = if is_passed_on { trace.header() } else { trace.parent_of(&draft.id) };
    let state = parent.and_then(|parent| parent.state.clone());
    let mut room_bytes = room_bytes;
    for (name, value) in [(TRACEPARENT, Some(value)), (TRACESTATE, state)] {
        let Some(value) = value else { continue };
        let bytes = (name.len() + value.len()) as u64;
        if draft.headers.len() >= message::HEADERS_MAX || bytes > room_bytes {
            return;
        }
        room_bytes -= bytes;
        draft.headers.push((name.to_owned(), value));
    }
}

/// The header of a draft that names a trace itself, where it must be another: the draft is a step of its own in the trace
/// of its message, whose header it may have been given; and a plugin does not decide what is recorded.
fn corrected(named: &str, present: Option<Trace>, draft_id: &str) -> Option<String> {
    let named = Trace::parse(named)?;
    match present.filter(Trace::is_recorded) {
        Some(present) => present.is_same(&named).then(|| present.parent_of(draft_id)),
        None => named.is_recorded().then(|| named.recorded(false).header()),
    }
}

fn invalid(text: &str) -> Refusal {
    Refusal::Invalid(text.to_owned())
}

fn denied(grants: &Grants, queue: &str) -> Refusal {
    let connector = &grants.subject.name;
    // Only a name is repeated: anything else would be the guest's text in the operator's log.
    let queue = Name::parse(queue).map_or_else(|_| "a queue of no valid name".to_owned(), |name| format!("`{name}`"));
    let key = format!("connectors.{connector}.allow.publish");
    Refusal::Denied(format!("connector `{connector}` may not publish to {queue}: add it to `{key}`"))
}

fn over(grants: &Grants, limit: Limit, most: u64) -> Refusal {
    let (connector, label) = (&grants.subject.name, limit.label());
    let key = format!("connectors.{connector}.limits.{label}");
    Refusal::Limit { limit, text: format!("one call may publish {most} at most: raise `{key}`"), key }
}

fn too_large(target: &Target, size: u64) -> Refusal {
    let (name, most) = (&target.name, target.message_bytes);
    let text = format!("a message of {size} bytes is more than queue `{name}` takes, which is {most} bytes");
    let (key, help) = match &target.message_key {
        Some(key) => (key.clone(), format!("raise `{key}`, which is its smallest bound")),
        None => (String::new(), "nobody consumes it".to_owned()),
    };
    Refusal::Limit { limit: Limit::Message, key, text: format!("{text}: {help}") }
}

impl Session {
    fn refuse_publish(&mut self, refusal: Refusal) -> PublishError {
        match refusal {
            Refusal::Denied(text) => {
                let key = format!("connectors.{}.allow.publish", self.grants.subject.name);
                self.refuse(Effect::Publish, "not_granted", &key, &text);
                PublishError::Denied(text)
            }
            Refusal::Invalid(text) => {
                self.refuse(Effect::Publish, "invalid", "", &text);
                PublishError::Invalid(text)
            }
            Refusal::Limit { limit, key, text } => {
                self.refuse_over(Effect::Publish, limit, &key, &text);
                PublishError::Invalid(text)
            }
            Refusal::Full { key, text, lack } => {
                self.hold(FULL_DELAY);
                self.lack = lack.or(self.lack);
                self.refuse(Effect::Publish, "full", &key, &text);
                PublishError::Full(text)
            }
        }
    }
}

impl Host for Session {
    fn publish(&mut self, queue: String, messages: Vec<types::Draft>) -> Result<Vec<String>, PublishError> {
        let before = self.queue.staged.len();
        let staged = self.queue.stage(&self.grants, &queue, messages);
        if staged.is_ok()
            && let Some(recording) = &mut self.recording.0
        {
            self.queue.record(&self.grants, &queue, before, recording);
        }
        staged.map_err(|refusal| self.refuse_publish(refusal))
    }
}
