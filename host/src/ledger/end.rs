//! How a ledger ends before the host wants it to, and what is said about it.
//!
//! Whoever waits for the ledger learns that it has ended, and one text says why. Invariant: the text names the file where
//! the disk is at fault, and what to do.

use super::Ledger;
use super::error::{is_damage, is_for_want_of_room};

impl Ledger {
    /// Resolves when the disk can no longer be trusted, or a part has given up; the process must end. Cancel-safe.
    pub async fn fatal(&self) -> anyhow::Error {
        let mut fatal = self.shared().fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(text)) => anyhow::anyhow!("{text}"),
            _ => anyhow::anyhow!("the ledger has stopped"),
        }
    }

    /// Why the disk can no longer be trusted, or a part has given up, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<anyhow::Error> {
        self.shared().fatal.borrow().as_deref().map(|text| anyhow::anyhow!("{text}"))
    }

    /// What is behind an error of a part that works with it: its own end, or its file, which is named.
    #[must_use]
    pub fn behind(&self, error: anyhow::Error) -> anyhow::Error {
        if let Some(failure) = self.failure() {
            return failure;
        }
        let settings = &self.shared().settings;
        if !error.chain().any(|cause| cause.downcast_ref::<rusqlite::Error>().is_some()) {
            return error;
        }
        let lacks_room = is_for_want_of_room(&error);
        let error = error.context(format!("cannot use the ledger {}", settings.file().display()));
        if !lacks_room {
            return error;
        }
        error.context(format!("the disk of {} has no room, free some", settings.dir.display()))
    }

    /// Ends the ledger for everybody: a part without which the host cannot go on has broken.
    pub fn give_up(&self, reason: &str) {
        tracing::error!(reason, "the host cannot go on");
        self.shared().end(reason);
    }

    /// Ends the ledger for everybody if an error of reading says that the file is damaged; whether it does.
    #[must_use]
    pub fn is_given_up_for(&self, error: &anyhow::Error) -> bool {
        let is_damage = is_damage(error);
        if is_damage {
            let file = self.shared().settings.file();
            self.give_up(&format!("the ledger {} is damaged: {error:#}: restore a backup", file.display()));
        }
        is_damage
    }
}
