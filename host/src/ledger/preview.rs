//! What a layout would leave without a reader, as `bulkhead check` tells before a start.
//!
//! It looks from outside, beside a host that runs or without one, and applies nothing. Invariant: neither the ledger's
//! file nor its log is changed, and beside a file that was closed well no other is made.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};

use super::configure::{ConnectorLayout, read_by};
use super::open::{is_in_use, is_unmade, open_reader, refuse_strangers, refuse_tables};
use super::schema::unsql;
use super::{Layout, Ledger, Settings};
use crate::id::Name;

/// Messages that wait for a connector that would not read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The queue.
    pub queue: Name,
    /// The connector that read it.
    pub connector: Name,
    /// How many.
    pub messages: u64,
}

impl Ledger {
    /// What would be orphaned under a layout and has messages; nothing where there is no ledger yet.
    ///
    /// # Errors
    /// The file is not a ledger that this program knows, or cannot be read.
    pub fn unread_under(layout: &Layout, dir: &Path) -> anyhow::Result<Vec<Unread>> {
        let path = Settings::new(dir.to_owned()).file();
        if !path.try_exists().with_context(|| format!("cannot look into {}", dir.display()))? {
            return Ok(Vec::new());
        }
        refuse_strangers(&path)?;
        if is_unmade(&path)? {
            return Ok(Vec::new());
        }
        let unreadable = || format!("cannot read {}", path.display());
        let db = if is_in_use(dir) || has_log(&path) { open_reader(&path) } else { open_unchanging(&path) };
        let db = db.with_context(unreadable)?;
        refuse_tables(&db, &path)?;
        unread(&db, layout).with_context(unreadable)
    }
}

/// Whether a process that was killed has left commits outside of the file.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Opens a file that nobody writes, so that SQLite needs no files beside it.
pub(super) fn open_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    #[expect(clippy::disallowed_methods, reason = "the ledger opens its own file, here and in `open`")]
    Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
}

fn unread(db: &Connection, layout: &Layout) -> rusqlite::Result<Vec<Unread>> {
    // A file whose making was cut short holds nothing.
    let is_born = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'subscription'")?.exists([])?;
    if !is_born {
        return Ok(Vec::new());
    }
    let mut names = db.prepare("SELECT name FROM connector")?;
    let known: HashSet<String> = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut statement = db.prepare(
        "SELECT queue.name, connector.name, max(queue.tail - subscription.cursor
         - coalesce((SELECT sum(last - first + 1) FROM settled WHERE subscription = subscription.id), 0), 0)
         + subscription.pending + subscription.parked
         FROM subscription JOIN queue ON queue.id = subscription.queue
         JOIN connector ON connector.id = subscription.connector
         WHERE subscription.forgotten = 0 ORDER BY 1, 2",
    )?;
    let all = statement.query_map([], |row| {
        let (queue, connector) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        Ok(Unread { queue: Name::stored(queue), connector: Name::stored(connector), messages: unsql(row.get(2)?) })
    })?;
    let is_unread =
        |of: &Unread| of.messages > 0 && !layout.connectors.iter().any(|connector| reads(connector, of, &known));
    all.filter(|of| of.as_ref().map_or(true, is_unread)).collect()
}

/// Whether a connector would go on reading, under the name that it has or had.
fn reads(connector: &ConnectorLayout, of: &Unread, known: &HashSet<String>) -> bool {
    let is_renamed = connector.was.as_ref() == Some(&of.connector) && !known.contains(connector.name.as_str());
    let queue = if is_renamed && of.queue == Name::inbox_of(&of.connector) {
        Name::inbox_of(&connector.name)
    } else {
        of.queue.clone()
    };
    (is_renamed || connector.name == of.connector) && read_by(connector).iter().any(|read| read.queue == queue)
}
