//! The traits of a connector: implement those that it needs and name them in [`export!`](crate::export).
//!
//! The host calls them in a sandbox that is fresh for each run, so nothing but [`crate::state`] lasts. A panic or a limit
//! that bites costs the message an attempt, like [`Failure::Retry`].

use serde::de::DeserializeOwned;

use crate::{Failure, Message, webhook};

/// A connector that handles messages one by one.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// /// Passes on what is addressed to us.
/// struct Filter;
///
/// impl Consumer for Filter {
///     fn handle(message: Message) -> Result<(), Failure> {
///         if message.header("to") == Some("us") {
///             queue::publish("ours", message.into())?;
///         }
///         Ok(())
///     }
/// }
/// export!(Filter: Consumer);
/// # fn main() {}
/// ```
pub trait Consumer {
    /// Called once for each delivery.
    ///
    /// # Errors
    /// `Retry` delivers the message again, `Reject` makes it a dead letter; all that the call published or wrote is dropped.
    fn handle(message: Message) -> Result<(), Failure>;
}

/// A connector that gains from handling many messages at once. The host prefers it where a connector is a [`Consumer`] too.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// struct Upload;
///
/// impl BatchConsumer for Upload {
///     fn handle(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
///         let rows: Vec<_> = messages.iter().map(|message| message.text().unwrap_or("")).collect();
///         let sent = http::post("https://warehouse.example/rows").body(rows.join("\n")).send().and_then(|answer| answer.check());
///         let outcome = sent.map(drop).map_err(Failure::from);
///         vec![outcome; messages.len()]
///     }
/// }
/// export!(Upload: BatchConsumer);
/// # fn main() {}
/// ```
pub trait BatchConsumer {
    /// Called with one message or more; answers one result for each, in the same order.
    ///
    /// Drafts must name the message that they came from with [`Draft::cause`](crate::Draft::cause), or carry an id.
    fn handle(messages: Vec<Message>) -> Vec<Result<(), Failure>>;
}

/// A connector that runs by the clock.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// struct Heartbeat;
///
/// impl Scheduled for Heartbeat {
///     fn run(tick: Tick) -> Result<(), Failure> {
///         queue::publish("heartbeats", Draft::new(tick.planned_at_ms.to_string()))?;
///         Ok(())
///     }
/// }
/// export!(Heartbeat: Scheduled);
/// # fn main() {}
/// ```
pub trait Scheduled {
    /// Called for each planned time of each of the connector's schedules.
    ///
    /// # Errors
    /// `Retry` runs the tick again, `Reject` makes it a dead letter; all that the call published or wrote is dropped.
    fn run(tick: Tick) -> Result<(), Failure>;
}

/// A connector that takes HTTP requests. The host has verified the sender, bounded the body and dropped repeats.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// struct Intake;
///
/// impl Webhook for Intake {
///     fn receive(request: webhook::Request) -> Result<webhook::Response, Failure> {
///         queue::publish("orders", Draft::new(request.body))?;
///         Ok(webhook::Response::new(202))
///     }
/// }
/// export!(Intake: Webhook);
/// # fn main() {}
/// ```
pub trait Webhook {
    /// Called for each request.
    ///
    /// # Errors
    /// With `respond = "accepted"` as for a message. With `respond = "connector"` the sender sees 503 for `Retry`, 422 for `Reject`.
    fn receive(request: webhook::Request) -> Result<webhook::Response, Failure>;
}

/// One planned time of a schedule.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// let tick = Tick { input: Some(r#"{"region": "eu"}"#.into()), ..Tick::default() };
/// let input: Option<serde_json::Value> = tick.input()?;
/// assert_eq!(input.unwrap()["region"], "eu");
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Which of the connector's schedules; "default" where it has one without a name.
    pub schedule: String,
    /// The planned time, in milliseconds since the Unix epoch: the same on every retry.
    pub planned_at_ms: u64,
    /// 1 + the attempts charged so far.
    pub attempt: u32,
    /// The schedule's own `input` from the configuration, as JSON.
    pub input: Option<String>,
    /// The planned time of the tick before this one that succeeded, in milliseconds since the Unix epoch.
    pub previous_ms: Option<u64>,
}

impl Tick {
    /// The schedule's `input`, parsed; `None` where the configuration gives none.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Tick::default().input::<String>()?, None);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// A rejection when it is not of that shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        Ok(self.input.as_deref().map(serde_json::from_str).transpose()?)
    }
}
