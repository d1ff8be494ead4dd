//! Whether the writer works.

use super::Ledger;

impl Ledger {
    /// Waits until the writer has answered something that changes nothing; whether it can go on. For want of room it waits
    /// for some, which is no fault of its own.
    pub async fn answers(&self) -> bool {
        self.change(|_| Ok(())).await.is_ok() || self.disk_is_full()
    }
}
