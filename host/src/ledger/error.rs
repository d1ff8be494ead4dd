//! What can go wrong in the ledger, by what the caller does about it.
//!
//! Errors of SQLite are sorted here, and nowhere else, into those that pass, those that end the process, and those that
//! concern one statement.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{ErrorCode, ffi};

use crate::id::Name;

/// Why a ledger could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on the same folder.
    #[error("{} is in use by another process{}: stop it, or set another `host.data_dir`", dir.display(), of_holder(*holder))]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The other process, where it said who it is.
        holder: Option<u32>,
    },
    /// A newer program wrote it.
    #[error("the ledger has version {found}, this program knows up to {known}: use a newer bulkhead")]
    Newer {
        /// The version in the file.
        found: i32,
        /// The newest one known here.
        known: i32,
    },
    /// The file is not a ledger.
    #[error("{} is not a ledger of bulkhead: set another `host.data_dir`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Anything else, for people.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

fn of_holder(holder: Option<u32>) -> String {
    holder.map(|process| format!(" (process {process})")).unwrap_or_default()
}

/// Why there is no room for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The queue is at its `max_bytes`.
    #[error("the queue is full")]
    Bound,
    /// The disk is below `host.min_free`.
    #[error("the disk has no room")]
    Disk,
}

/// Why messages were not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// A queue is at its `max_bytes`; nothing was accepted.
    #[error("queue `{queue}` is full: let its consumers catch up, or raise `queues.{queue}.max_bytes`")]
    Full {
        /// The queue.
        queue: Name,
    },
    /// A message is larger than the queue's consumers take; nothing was accepted.
    #[error("a message of {bytes} bytes is too large for queue `{queue}`, which takes {bytes_max}")]
    TooLarge {
        /// The queue.
        queue: Name,
        /// The message's size.
        bytes: u64,
        /// The queue's bound.
        bytes_max: u64,
    },
    /// There is no such queue; nothing was accepted.
    #[error("no such queue")]
    NoSuchQueue,
    /// The disk has no room; the messages before the last answered group may have been accepted.
    #[error("the disk has no room: free some, or lower `host.min_free`")]
    Disk,
    /// The messages could not be stored; the ones before the last answered group may have been.
    #[error("the ledger could not store a message: {0}")]
    Failed(Arc<str>),
    /// The ledger has stopped; what was not answered is not accepted.
    #[error("the ledger has stopped")]
    Closed,
}

/// What an error of SQLite means for the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No room on the disk: try again when there is.
    Full,
    /// Someone else holds the file: try again.
    Busy,
    /// Durability is unknown from here on: the process must end.
    Fatal,
    /// One statement cannot be carried out.
    Statement,
}

/// Sorts an error.
pub(super) fn fault(error: &rusqlite::Error) -> Fault {
    // The index of the write-ahead log found no room to grow: nothing was written yet.
    if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
        return Fault::Full;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy,
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied,
        ) => Fault::Fatal,
        _ => Fault::Statement,
    }
}

/// Whether an error says that the file is not as it was written.
pub(super) fn is_of_sqlite_damage(error: &rusqlite::Error) -> bool {
    match error {
        // Every column has the type that it was made with.
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
    }
}

/// The same of any error.
pub(super) fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_of_sqlite_damage))
}

/// Whether the cause of an error is a disk without room.
pub(super) fn is_for_want_of_room(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_sqlite = cause.downcast_ref().is_some_and(|error| fault(error) == Fault::Full);
        let of_system = cause.downcast_ref().map(std::io::Error::kind);
        of_sqlite || of_system == Some(std::io::ErrorKind::StorageFull)
    })
}
