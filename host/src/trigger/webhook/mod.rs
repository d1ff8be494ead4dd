//! Requests from outside that become deliveries.

pub mod verify;
