//! A delivery until it is settled.
//!
//! [`lane`] runs batches of deliveries through sandboxes and hands settlements in; [`segment`] collects what commits
//! together; [`outcome`] and [`retry`] decide what a failure means, [`behind`] what waits for the one that failed;
//! [`brake`] and [`hold`] stop a connector that only does harm; [`history`] keeps what attempts did, [`teller`] tells it,
//! and [`tracing`] tells it to whoever collects traces; [`supersession`] ends ticks whose place a later one has taken;
//! [`direct`] is for a delivery that somebody waits for. Nothing here knows where
//! deliveries come from (that is [`crate::trigger`]) or how they are stored.

pub mod behind;
pub mod brake;
pub mod connector;
pub mod direct;
mod handing;
pub mod history;
pub mod hold;
pub mod lane;
pub mod outcome;
pub mod retry;
pub mod segment;
pub mod supersession;
pub mod teller;
pub mod tracing;

pub use crate::capability::Staged;
