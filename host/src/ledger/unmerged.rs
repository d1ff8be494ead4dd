//! Stands in for the ledger until it is merged: state and byte accounts in memory.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::settlement::{ConnectorId, QueueId, StateChanges, StateVersion};

#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    state: BTreeMap<String, (Vec<u8>, u64)>,
    is_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Bound,
    Disk,
}

#[derive(Debug, Default)]
pub struct Reservation;

impl Reservation {
    pub fn absorb(&mut self, _other: Self) {}
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateUsage {
    pub keys: u64,
    pub bytes: u64,
}

impl Ledger {
    pub fn fill(&self) {
        self.0.lock().expect("lock").is_full = true;
    }
    pub fn reserve(&self, _queue: QueueId, _bytes: u64) -> Result<Reservation, Full> {
        if self.0.lock().expect("lock").is_full { Err(Full::Bound) } else { Ok(Reservation) }
    }
    pub async fn settled(&self, _connector: ConnectorId) {}
    pub fn state_get(&self, _connector: ConnectorId, key: &str) -> anyhow::Result<(Option<Vec<u8>>, StateVersion)> {
        let inner = self.0.lock().expect("lock");
        Ok(inner.state.get(key).map_or((None, 0), |(value, version)| (Some(value.clone()), *version)))
    }
    pub fn state_list(
        &self,
        _connector: ConnectorId,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<(Vec<String>, StateVersion)> {
        let inner = self.0.lock().expect("lock");
        let keys = inner.state.keys().filter(|key| after.is_none_or(|after| key.as_str() > after)).take(limit);
        Ok((keys.cloned().collect(), inner.version))
    }
    pub fn state_usage(&self, _connector: ConnectorId) -> anyhow::Result<StateUsage> {
        let inner = self.0.lock().expect("lock");
        let bytes = inner.state.iter().map(|(key, (value, _))| (key.len() + value.len()) as u64).sum();
        Ok(StateUsage { keys: inner.state.len() as u64, bytes })
    }
    pub fn commit(&self, changes: StateChanges) {
        let mut inner = self.0.lock().expect("lock");
        inner.version += 1;
        let version = inner.version;
        for (key, value) in changes.writes {
            match value {
                Some(value) => inner.state.insert(key, (value, version)),
                None => inner.state.remove(&key),
            };
        }
    }
}
