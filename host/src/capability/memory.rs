//! The memory of a sandbox: one account over all its linear memories and tables, and over what the host keeps for it.
//!
//! The engine's own limits are for each memory alone; this sums them. Invariant: what a failed growth was allowed is
//! taken back, so the account never says more than there is.

use wasmtime::ResourceLimiter;

/// The account of one sandbox.
#[derive(Debug)]
pub struct Account {
    bytes_max: u64,
    used: u64,
    /// What the last growth was allowed.
    last: u64,
    was_refused: bool,
}

impl Account {
    /// An empty account with its bound.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, used: 0, last: 0, was_refused: false }
    }

    /// Whether a growth was refused since the call began.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        self.was_refused
    }

    /// Bytes in use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used
    }

    /// Takes room for what the host keeps for the guest; whether there was enough.
    pub(super) fn charge(&mut self, bytes: u64) -> bool {
        let has_room = self.grow(bytes);
        // No growth of the guest's that could fail.
        self.last = 0;
        has_room
    }

    /// Gives room back that was charged.
    pub(super) fn release(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    pub(super) fn begin_call(&mut self) {
        self.was_refused = false;
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let wanted = self.used.saturating_add(bytes);
        self.last = 0;
        if wanted > self.bytes_max {
            self.was_refused = true;
            return false;
        }
        self.last = bytes;
        self.used = wanted;
        true
    }

    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last));
        self.was_refused = true;
    }
}

impl ResourceLimiter for Account {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current) as u64;
        Ok(self.grow(elements.saturating_mul(size_of::<usize>() as u64)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_bound() {
        let mut account = Account::new(1_000);
        assert!(account.memory_growing(0, 600, None).expect("it never traps"));
        assert!(!account.memory_growing(0, 600, None).expect("it never traps"));
        assert!(account.table_growing(0, 50, None).expect("it never traps"));
        assert!(!account.table_growing(50, 51, None).expect("it never traps"));
        assert!(account.was_refused() && account.used_bytes() == 1_000);
    }

    #[test]
    fn what_the_host_keeps_takes_its_part_until_it_is_given_back() {
        let mut account = Account::new(1_000);
        assert!(account.charge(600) && !account.charge(600) && account.was_refused());
        account.release(600);
        account.begin_call();
        assert!(account.charge(1_000) && !account.was_refused());
    }

    #[test]
    fn a_growth_that_failed_is_taken_back() {
        let mut account = Account::new(1_000);
        assert!(account.memory_growing(0, 600, None).expect("it never traps"));
        account.memory_grow_failed(wasmtime::Error::msg("no memory")).expect("it never traps");
        assert_eq!(account.used_bytes(), 0);
    }
}
