//! The gate: every effect of a plugin is authorised, limited, counted and carried out here.
pub mod credential;
pub mod http;
