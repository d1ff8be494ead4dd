//! `wasi:keyvalue`: the connector's own state, in its one bucket.
//!
//! Reads come from the ledger, with the version of each key noted at first touch; writes are staged and commit with the
//! delivery, if no version has changed. A call sees what it wrote, and what earlier calls of its segment wrote.
//! Invariant: the first touch of a segment waits until everything that the connector has handed in is committed. The
//! ledger knows the bounds too: it lets nothing past them that two runs at once may write without knowing.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Ledger, StateUsage};
use crate::limit::{Limit, Limits};
use crate::metrics::Effect;
use crate::settlement::{StateChanges, StateVersion};

use super::{Grants, Session};

mod keyvalue;

pub(super) use keyvalue::link;

/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 512;
/// One call may touch so many times as many keys as there may be: each is remembered with its version until the commit.
const TOUCHED_PER_KEY: u64 = 2;
/// Keys of one answer to `list-keys`.
const PAGE_KEYS_MAX: usize = 1_000;
/// Bytes of one answer to `get-many`: a few of the largest values.
const ANSWER_BYTES_MAX: usize = 8 << 20;

type Value = Option<Vec<u8>>;

/// What the calls of one sandbox have seen and written.
#[derive(Debug, Default)]
pub(super) struct Stage {
    segment: u64,
    /// Whether this segment has waited for what was handed in before it.
    is_settled: bool,
    /// What is stored with the segment's writes so far; loaded at its first write.
    usage: Option<StateUsage>,
    /// What earlier calls of this segment wrote.
    earlier: BTreeMap<String, Value>,
    seen: BTreeMap<String, StateVersion>,
    listed: Option<StateVersion>,
    writes: BTreeMap<String, Value>,
}

/// Why state was not read or written.
#[derive(Debug)]
enum Refusal {
    /// Over a limit of the connector.
    Over(Limit, String),
    /// Over a bound that is fixed.
    Fixed(String),
    /// Nothing that can be a key.
    Invalid(String),
    /// The ledger is not there.
    Other(String),
}

impl Stage {
    /// A call begins. What failed calls wrote went with their sandbox; what succeeded stays visible in its segment.
    pub(super) fn begin_call(&mut self, segment: u64) {
        if segment != self.segment {
            *self = Self { segment, ..Self::default() };
        }
    }

    pub(super) fn end_call(&mut self) -> StateChanges {
        let writes = std::mem::take(&mut self.writes);
        if !writes.is_empty() {
            self.earlier.extend(writes.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        StateChanges {
            seen: std::mem::take(&mut self.seen).into_iter().collect(),
            listed: self.listed.take(),
            writes: writes.into_iter().collect(),
        }
    }

    fn written(&self, key: &str) -> Option<&Value> {
        self.writes.get(key).or_else(|| self.earlier.get(key))
    }

    async fn settle(&mut self, grants: &Grants) -> Result<Ledger, Refusal> {
        let Some(ledger) = grants.services.ledger.clone() else { return Err(other("no state is kept here")) };
        if !self.is_settled {
            ledger.settled(grants.subject.id).await.map_err(|_| gone())?;
            self.is_settled = true;
        }
        Ok(ledger)
    }

    async fn read(&mut self, grants: &Grants, key: &str) -> Result<Value, Refusal> {
        check_key(key)?;
        if let Some(value) = self.written(key) {
            return Ok(value.clone());
        }
        let ledger = self.settle(grants).await?;
        let touched_max = grants.limits.state_keys * TOUCHED_PER_KEY;
        if self.seen.len() as u64 >= touched_max && !self.seen.contains_key(key) {
            let text = format!("one call may touch {touched_max} keys of the state");
            return Err(Refusal::Over(Limit::StateKeys, text));
        }
        let (value, version) = ledger.state_get(grants.subject.id, key).map_err(|_| gone())?;
        self.seen.entry(key.to_owned()).or_insert(version);
        Ok(value)
    }

    async fn write(&mut self, grants: &Grants, key: &str, value: Value) -> Result<(), Refusal> {
        let bytes = value.as_ref().map_or(0, Vec::len);
        if bytes > VALUE_BYTES_MAX {
            return Err(Refusal::Fixed(format!("a value of {bytes} bytes: {VALUE_BYTES_MAX} are the most")));
        }
        let before = self.read(grants, key).await?;
        let usage = self.usage(grants).await?;
        let after = usage_after(usage, key, before.as_deref(), value.as_deref());
        check_room(&grants.limits, usage, after)?;
        self.usage = Some(after);
        self.writes.insert(key.to_owned(), value);
        Ok(())
    }

    async fn usage(&mut self, grants: &Grants) -> Result<StateUsage, Refusal> {
        if let Some(usage) = self.usage {
            return Ok(usage);
        }
        let ledger = self.settle(grants).await?;
        ledger.state_usage(grants.subject.id).map_err(|_| gone())
    }

    /// Every key, in order: what is stored, with what this segment wrote.
    async fn keys(&mut self, grants: &Grants) -> Result<BTreeSet<String>, Refusal> {
        let ledger = self.settle(grants).await?;
        let mut keys = BTreeSet::new();
        let mut after = None;
        loop {
            let page = ledger.state_list(grants.subject.id, after.as_deref()).map_err(|_| gone())?;
            self.listed.get_or_insert(page.version);
            keys.extend(page.keys);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for (key, value) in self.earlier.iter().chain(&self.writes) {
            if value.is_some() {
                keys.insert(key.clone())
            } else {
                keys.remove(key)
            };
        }
        Ok(keys)
    }
}

/// What is stored after one key changes.
fn usage_after(usage: StateUsage, key: &str, before: Option<&[u8]>, value: Option<&[u8]>) -> StateUsage {
    let size = |value: Option<&[u8]>| value.map_or(0, |value| (key.len() + value.len()) as u64);
    StateUsage {
        keys: (usage.keys + u64::from(value.is_some())).saturating_sub(u64::from(before.is_some())),
        bytes: (usage.bytes + size(value)).saturating_sub(size(before)),
    }
}

/// What does not become more may always be written, also where a limit was lowered.
fn check_room(limits: &Limits, usage: StateUsage, after: StateUsage) -> Result<(), Refusal> {
    let full = |limit, most: u64, what| {
        Err(Refusal::Over(limit, format!("the connector's state is full: {most} {what} are the most")))
    };
    if after.keys > limits.state_keys.max(usage.keys) {
        return full(Limit::StateKeys, limits.state_keys, "keys");
    }
    if after.bytes > limits.state_bytes.max(usage.bytes) {
        return full(Limit::State, limits.state_bytes, "bytes");
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Refusal::Invalid(format!("a key of the state has 1 to {KEY_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn other(text: &str) -> Refusal {
    Refusal::Other(text.to_owned())
}

fn gone() -> Refusal {
    other("the state cannot be read just now")
}

impl Session {
    /// What the plugin is told.
    fn refuse_state(&mut self, refusal: Refusal) -> String {
        match refusal {
            Refusal::Over(limit, text) => {
                let key = limit.key(self.grants.subject.name.as_str()).unwrap_or_default();
                let text = format!("{text}: raise `{key}`");
                self.refuse_over(Effect::State, limit, &key, &text);
                text
            }
            Refusal::Fixed(text) => {
                self.refuse_over(Effect::State, Limit::State, "", &text);
                text
            }
            Refusal::Invalid(text) => {
                self.refuse(Effect::State, "invalid", "", &text);
                text
            }
            Refusal::Other(text) => text,
        }
    }

    async fn state_read(&mut self, key: &str) -> Result<Value, String> {
        let read = self.state.read(&self.grants, key).await;
        read.map_err(|refusal| self.refuse_state(refusal))
    }

    async fn state_write(&mut self, key: &str, value: Value) -> Result<(), String> {
        let written = self.state.write(&self.grants, key, value).await;
        written.map_err(|refusal| self.refuse_state(refusal))
    }

    async fn state_read_many(&mut self, keys: Vec<String>) -> Result<Vec<(String, Value)>, String> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for key in keys {
            let value = self.state_read(&key).await?;
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            if bytes > ANSWER_BYTES_MAX {
                return Err(format!("more than {ANSWER_BYTES_MAX} bytes at once: ask for fewer keys"));
            }
            found.push((key, value));
        }
        Ok(found)
    }

    async fn state_keys(&mut self) -> Result<BTreeSet<String>, String> {
        let keys = self.state.keys(&self.grants).await;
        keys.map_err(|refusal| self.refuse_state(refusal))
    }

    /// Adds to a number that is stored as decimal text; an absent key counts as 0.
    async fn state_increment(
        &mut self,
        key: &str,
        delta: i128,
        range: std::ops::RangeInclusive<i128>,
    ) -> Result<i128, String> {
        let before: i128 = match self.state_read(key).await? {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or("the value is no whole number in decimal text")?,
        };
        let after = before.saturating_add(delta);
        if !range.contains(&after) {
            return Err("the number would leave its range".to_owned());
        }
        self.state_write(key, Some(after.to_string().into_bytes())).await?;
        Ok(after)
    }

    fn state_open(&mut self, identifier: &str) -> bool {
        let is_own = identifier.is_empty() || identifier == "default";
        if !is_own {
            let text = "the plugin opens a bucket that is not its own: a connector has the one bucket `default`";
            self.refuse(Effect::State, "not_granted", "", text);
        }
        is_own
    }
}
