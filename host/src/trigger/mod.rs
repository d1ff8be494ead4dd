//! What makes deliveries happen: queues and schedules.
pub mod schedule;
