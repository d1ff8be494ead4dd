//! Stands where the host's own module stands.

pub(crate) mod local;
