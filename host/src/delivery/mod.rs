//! A delivery until it is settled.
pub mod retry;
