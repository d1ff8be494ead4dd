//! What makes deliveries happen: queues, schedules and webhooks.
//!
//! A trigger leases or enqueues and hands over to [`crate::delivery`]; it never runs a plugin itself.

pub mod clockwork;
pub mod cron;
pub mod overlap;
pub mod queue;
pub mod schedule;
pub mod webhook;
