//! Reading connector state. Writing is part of a settlement.

use rusqlite::{OptionalExtension, params};

use super::Ledger;
use super::schema::unsql;
use crate::settlement::{ConnectorId, StateVersion};

/// Keys of a page of a listing.
const PAGE_KEYS: u32 = 1_000;

/// A page of a connector's keys, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// Where the next page begins, where there is one.
    pub next: Option<String>,
    /// The bucket's version, for [`crate::settlement::StateChanges::listed`].
    pub version: StateVersion,
}

/// How much state a connector has, as of the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateUsage {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Ledger {
    /// A key's value and version; `None` and 0 where it is absent.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn state_get(&self, connector: ConnectorId, key: &str) -> anyhow::Result<(Option<Vec<u8>>, StateVersion)> {
        let found = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT value, version FROM state WHERE connector = ?1 AND key = ?2")?
                .query_row(params![connector.0, key], |row| Ok((row.get(0)?, unsql(row.get(1)?))))
                .optional()
        })?;
        Ok(found.map_or((None, 0), |(value, version)| (Some(value), version)))
    }

    /// A page of a connector's keys after `after`, with the bucket's version.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn state_list(&self, connector: ConnectorId, after: Option<&str>) -> anyhow::Result<KeyPage> {
        let page = self.shared().readers.read(|db| {
            // One statement, so that keys and version are of the same moment.
            let mut statement = db.prepare_cached(
                "SELECT connector.state_version, state.key FROM connector
                 LEFT JOIN state ON state.connector = connector.id AND (?2 IS NULL OR state.key > ?2)
                 WHERE connector.id = ?1 ORDER BY state.key LIMIT ?3",
            )?;
            let mut rows = statement.query(params![connector.0, after, PAGE_KEYS + 1])?;
            let mut page = KeyPage::default();
            while let Some(row) = rows.next()? {
                page.version = unsql(row.get(0)?);
                page.keys.extend(row.get::<_, Option<String>>(1)?);
            }
            Ok(page)
        })?;
        Ok(page.cut())
    }

    /// How many keys and bytes of state a connector has.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn state_usage(&self, connector: ConnectorId) -> anyhow::Result<StateUsage> {
        let usage = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT state_keys, state_bytes FROM connector WHERE id = ?1")?
                .query_row([connector.0], |row| Ok(StateUsage { keys: unsql(row.get(0)?), bytes: unsql(row.get(1)?) }))
                .optional()
        })?;
        Ok(usage.unwrap_or_default())
    }
}

impl KeyPage {
    fn cut(mut self) -> Self {
        if self.keys.len() > PAGE_KEYS as usize {
            self.keys.truncate(PAGE_KEYS as usize);
            self.next = self.keys.last().cloned();
        }
        self
    }
}
