//! Where secret values come from.

use std::path::PathBuf;

/// One entry of `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An environment variable, removed from the process at start.
    Env(String),
    /// A file.
    File(PathBuf),
}
