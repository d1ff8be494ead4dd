//! Why a connector must not run although it is configured: an operator's pause, or its brake. Both survive a restart.

use rusqlite::params;

use super::Ledger;
use super::schema::sql;
use crate::metrics::Held;
use crate::settlement::ConnectorId;

impl Ledger {
    /// Stores a reason to hold a connector; answers when it is on disk.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed.
    pub async fn hold(&self, connector: ConnectorId, reason: Held) -> anyhow::Result<()> {
        self.change(move |write| {
            let now_ms = sql(write.now.due_ms);
            write
                .db
                .prepare_cached("INSERT OR IGNORE INTO hold (connector, reason, since_ms) VALUES (?1, ?2, ?3)")?
                .execute(params![connector.0, reason.label(), now_ms])?;
            Ok(())
        })
        .await
    }

    /// Removes every stored reason to hold a connector; answers when it is on disk.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed.
    pub async fn release_holds(&self, connector: ConnectorId) -> anyhow::Result<()> {
        self.change(move |write| {
            write.db.prepare_cached("DELETE FROM hold WHERE connector = ?1")?.execute([connector.0])?;
            Ok(())
        })
        .await
    }

    /// The stored reasons to hold a connector.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn holds(&self, connector: ConnectorId) -> anyhow::Result<Vec<Held>> {
        let labels: Vec<String> = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT reason FROM hold WHERE connector = ?1 ORDER BY reason")?
                .query_map([connector.0], |row| row.get(0))?
                .collect()
        })?;
        let of_label = |label: &String| [Held::Paused, Held::Brake].into_iter().find(|held| held.label() == label);
        Ok(labels.iter().filter_map(of_label).collect())
    }
}
