//! `builtin:jq`.
