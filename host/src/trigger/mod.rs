//! What makes deliveries happen: queues and schedules.
//!
//! A trigger leases or enqueues and hands over to [`crate::delivery`]; it never runs a plugin itself. Webhooks come later.

pub mod clockwork;
pub mod cron;
pub mod overlap;
pub mod queue;
pub mod schedule;
