//! Bugs that a build for tests can be given, so that what looks for bugs can be seen to find some.
//!
//! A build without the feature `faults`, which every build is that does not ask for it, has none of them: there
//! [`has`] is a constant, and the variable that names a bug is not read. Each bug is one condition where the right thing
//! is done. Nothing here changes what a host does that was given none.

#[cfg(not(feature = "faults"))]
mod disabled;
#[cfg(feature = "faults")]
mod enabled;

#[cfg(not(feature = "faults"))]
pub use disabled::has;
#[cfg(feature = "faults")]
pub use enabled::has;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A send is answered before it is on disk.
    AckBeforeCommit,
    /// Commits are not synchronised.
    SkipFsync,
    /// What is cut off the log is cut off with messages that wait for another attempt.
    DropOnRotation,
    /// A message is handed to two workers.
    DoubleLease,
    /// The mark of a webhook's event is looked up before, and stored after, the transaction that accepts it.
    DedupOutsideTransaction,
    /// All that one call publishes has one id.
    ReuseId,
    /// A message is delivered although one before it of its key has failed.
    ReorderWithinKey,
    /// State is written whatever others have written meanwhile.
    StateUnchecked,
    /// A backup lacks the last message of each queue.
    PartialBackup,
    /// A function of the host panics when a plugin publishes [`PANIC`].
    HostPanic,
}

/// The payload that a host with [`Bug::HostPanic`] cannot take.
pub const PANIC: &[u8] = b"panic";

impl Bug {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::AckBeforeCommit,
        Self::SkipFsync,
        Self::DropOnRotation,
        Self::DoubleLease,
        Self::DedupOutsideTransaction,
        Self::ReuseId,
        Self::ReorderWithinKey,
        Self::StateUnchecked,
        Self::PartialBackup,
        Self::HostPanic,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::SkipFsync => "skip-fsync",
            Self::DropOnRotation => "drop-on-rotation",
            Self::DoubleLease => "double-lease",
            Self::DedupOutsideTransaction => "dedup-outside-transaction",
            Self::ReuseId => "reuse-id",
            Self::ReorderWithinKey => "reorder-within-key",
            Self::StateUnchecked => "state-unchecked",
            Self::PartialBackup => "partial-backup",
            Self::HostPanic => "host-panic",
        }
    }
}
