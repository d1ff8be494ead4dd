//! Requests that their connector answers: `respond = "connector"`.
//!
//! Each runs to its end whether its sender waits or not. Invariant: of requests with the same mark one runs; the others
//! get its answer, meanwhile and afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::Hook;
use super::answer::{Refusal, Reply};
use super::server::Room;
use crate::delivery::direct::{Direct, Unanswered};
use crate::limit::Limit;
use crate::message::Message;
use crate::message::request::{Answer, Request};
use crate::runtime::failure::Failure;
use crate::settlement::Mark;

/// Requests that wait for a run at most.
const WAITING_MAX: usize = 1024;

/// How a request ended.
type Outcome = Result<Arc<Answer>, Refusal>;

/// What runs a connector's plugin for requests.
#[derive(Clone)]
pub struct Runs {
    /// The plugin, and where it settles.
    pub direct: Direct,
    /// Every run under way, for the host to wait for.
    pub under_way: TaskTracker,
}

pub(super) struct Synchronous {
    runs: Runs,
    timeout: Duration,
    /// Runs under way and those that wait for a place.
    admitted: Arc<Semaphore>,
    /// By each key of their marks.
    marked: Arc<Marked>,
}

#[derive(Default)]
struct Marked(Mutex<HashMap<String, watch::Receiver<Option<Outcome>>>>);

/// The keys of a request under way; they are free again when it is dropped.
struct Held {
    marked: Arc<Marked>,
    keys: Vec<String>,
    told: watch::Sender<Option<Outcome>>,
}

impl Synchronous {
    /// `before` is what answered until now: a repeat of a request that is under way there waits for its answer.
    pub(super) fn new(runs: Runs, timeout: Duration, concurrency: usize, before: Option<&Self>) -> Self {
        let admitted = Arc::new(Semaphore::new(concurrency.saturating_add(WAITING_MAX)));
        let marked = before.map(|before| before.marked.clone()).unwrap_or_default();
        Self { runs, timeout, admitted, marked }
    }

    /// Waits for the answer of the request's run, or of that of which it is a repeat.
    pub(super) async fn answer(
        &self,
        hook: &Arc<Hook>,
        request: Request,
        room: Room,
        mark: Option<Mark>,
    ) -> Result<Reply, Refusal> {
        let deadline = Instant::now() + self.timeout;
        let mut outcome = match self.marked.hold(mark.as_ref().map_or(&[][..], |mark| &mark.keys)) {
            Err(first) => first,
            Ok(held) => {
                self.may_begin()?;
                // More than these would only find out later that nobody waits for them any more.
                let admission = self.admitted.clone().try_acquire_owned().map_err(|_| Refusal::RETRY)?;
                let outcome = held.told.subscribe();
                self.begin(hook, request, mark, held, (admission, room));
                outcome
            }
        };
        let told = tokio::time::timeout_at(deadline.into(), outcome.wait_for(Option::is_some)).await;
        match told {
            Err(_) => Err(Refusal::Deadline),
            // The run has broken.
            Ok(Err(_)) => Err(Refusal::Broken),
            Ok(Ok(outcome)) => match outcome.as_ref() {
                Some(Ok(answer)) => Ok(Reply::of_plugin(answer)),
                Some(Err(refusal)) => Err(*refusal),
                None => Err(Refusal::Broken),
            },
        }
    }

    /// A connector that is held takes nothing, and nothing waits for it.
    fn may_begin(&self) -> Result<(), Refusal> {
        let connector = &self.runs.direct.connector;
        if connector.hold.is_stopped() {
            return Err(Refusal::RETRY);
        }
        connector.pause().map_or(Ok(()), |left| Err(Refusal::Retry(left)))
    }

    /// `kept` is what the request takes until its run has ended.
    fn begin(&self, hook: &Arc<Hook>, request: Request, mark: Option<Mark>, held: Held, kept: impl Send + 'static) {
        let (hook, direct) = (hook.clone(), self.runs.direct.clone());
        let run = async move {
            let outcome = run(&hook, &direct, request, mark).await;
            drop(kept);
            held.tell(outcome);
        };
        self.runs.under_way.spawn(run);
    }
}

async fn run(hook: &Hook, direct: &Direct, request: Request, mark: Option<Mark>) -> Outcome {
    if let Some(mark) = &mark {
        let known = hook.ledger.received(mark.inbox, mark.keys.clone()).await.map_err(|_| Refusal::Stopping)?;
        if let Some(known) = known {
            let answer = known.answer.as_deref().and_then(Answer::from_bytes);
            // What was accepted before by other settings was not answered by the plugin.
            return Ok(Arc::new(answer.unwrap_or(Answer { status: 202, headers: Vec::new(), body: Vec::new() })));
        }
    }
    let draft = request.into_draft();
    let message = Message {
        id: draft.id,
        headers: draft.headers,
        body: draft.body,
        enqueued_at_ms: hook.ledger.clock().now_ms(),
        ..Message::default()
    };
    let with_answer = |answer: &Answer| mark.clone().map(|mark| Mark { answer: Some(answer.to_bytes()), ..mark });
    let message_id = message.id.clone();
    let answered = direct.run(message, with_answer).await;
    answered.map(Arc::new).map_err(|unanswered| refusal(hook, &message_id, unanswered))
}

fn refusal(hook: &Hook, message_id: &str, unanswered: Unanswered) -> Refusal {
    let failure = match unanswered {
        Unanswered::Closed => return Refusal::Stopping,
        Unanswered::Failed(failure) => failure,
    };
    let (connector, reason) = (&hook.connector, failure.reason());
    tracing::warn!(%connector, message_id, reason, "a webhook request failed; its sender is told so");
    match failure {
        Failure::Retry { after, .. } => after.map_or(Refusal::RETRY, Refusal::Retry),
        Failure::Held { delay, .. } => Refusal::Retry(delay),
        Failure::Reject { .. } => Refusal::Rejected,
        Failure::Limit { limit: Limit::Wall, .. } => Refusal::Deadline,
        Failure::Trap { .. } | Failure::Limit { .. } => Refusal::Broken,
    }
}

impl Marked {
    /// Takes the keys, or answers how the request goes that has one of them.
    fn hold(self: &Arc<Self>, keys: &[String]) -> Result<Held, watch::Receiver<Option<Outcome>>> {
        let mut marked = self.lock();
        if let Some(first) = keys.iter().find_map(|key| marked.get(key)) {
            return Err(first.clone());
        }
        let told = watch::Sender::new(None);
        marked.extend(keys.iter().map(|key| (key.clone(), told.subscribe())));
        Ok(Held { marked: self.clone(), keys: keys.to_vec(), told })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Outcome>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Tells all who wait. Whoever comes now finds a success in the ledger, and of a failure nothing is left.
    fn tell(self, outcome: Outcome) {
        let told = self.told.clone();
        drop(self);
        told.send_replace(Some(outcome));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut marked = self.marked.lock();
        self.keys.iter().for_each(|key| drop(marked.remove(key)));
    }
}
