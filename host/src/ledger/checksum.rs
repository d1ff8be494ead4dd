//! What tells a message that changed on the disk from one that was stored.
//!
//! SQLite's file has no checksums: a bit that the disk has flipped in a payload would be delivered. Each message carries
//! one from its acceptance to its end, through retries, parking and the dead letters. Invariant: what is handed out is
//! what was accepted, or an error that names the message.

use rusqlite::types::ValueRef;
use rusqlite::{Row, ffi};

/// The parts of a message that stay the same as long as it lives, as they are stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts<'m> {
    pub(super) id: &'m str,
    pub(super) key: Option<&'m str>,
    pub(super) parent: Option<&'m str>,
    pub(super) headers: Option<&'m str>,
    pub(super) body: &'m [u8],
}

impl Parts<'_> {
    /// CRC-32 over the parts and their lengths: every change of up to 32 bits in a row is found.
    pub(super) fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for text in [Some(self.id), self.key, self.parent, self.headers] {
            // A part that is missing is not one that is empty.
            hasher.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hasher.update(text.unwrap_or_default().as_bytes());
        }
        hasher.update(self.body);
        hasher.finalize()
    }

    /// Compares them with the checksum in a column.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn check(&self, row: &Row<'_>, at: usize) -> rusqlite::Result<()> {
        match row.get_ref(at)? {
            ValueRef::Null => Ok(()),
            ValueRef::Integer(stored) if stored == i64::from(self.checksum()) => Ok(()),
            _ => Err(damaged(self.id)),
        }
    }
}

fn damaged(id: &str) -> rusqlite::Error {
    let text = format!("message `{}` in ledger.db is not what was stored", id.escape_debug());
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_where_it_ends() {
        let parts = Parts { id: "a", key: Some("b"), parent: None, headers: Some("[]"), body: b"body" };
        let others = [
            Parts { id: "A", ..parts },
            Parts { id: "ab", key: Some(""), ..parts },
            Parts { key: None, parent: Some("b"), ..parts },
            Parts { parent: Some(""), ..parts },
            Parts { headers: None, ..parts },
            Parts { body: b"bodY", ..parts },
        ];
        assert_eq!(parts.checksum(), Parts { ..parts }.checksum());
        for other in others {
            assert_ne!(parts.checksum(), other.checksum(), "{other:?}");
        }
    }
}
