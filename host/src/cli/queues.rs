//! `bulkhead queues`: how every queue and its subscriptions stand, and dropping what is kept for nobody.

use super::Queues;
use super::main::Failed;
use super::output::{print, table};
use super::target::Target;
use crate::config::Config;
use crate::ledger::QueueReport;

/// Lists them.
///
/// # Errors
/// The ledger cannot be opened or read.
pub async fn list(config: &Config, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let reports = target.queues().await;
    target.close();
    let reports = reports?;
    let text = if as_json { serde_json::to_string(&reports).map_err(anyhow::Error::new)? } else { text(&reports) };
    Ok(print(&text)?)
}

/// Does what the arguments say.
///
/// # Errors
/// The connector is configured or never read the queue, or the ledger cannot be opened or changed.
pub async fn change(config: &Config, command: &Queues, as_json: bool) -> Result<(), Failed> {
    let Queues::Forget { queue, connector } = command;
    let target = Target::find(config)?;
    let forgotten = target.forget(queue, connector).await;
    target.close();
    let forgotten = forgotten?;
    let text = if as_json {
        serde_json::to_string(&forgotten).map_err(anyhow::Error::new)?
    } else {
        format!("`{queue}` keeps nothing for {connector} any more: {} messages dropped", forgotten.messages)
    };
    Ok(print(&text)?)
}

fn text(reports: &[QueueReport]) -> String {
    let head = ["QUEUE", "MESSAGES", "BYTES", "CONNECTOR", "BACKLOG", "IN FLIGHT", "RETRYING", "DEAD", "OLDEST"];
    let mut rows = Vec::new();
    for report in reports {
        let queue = [report.queue.clone(), report.messages.to_string(), report.bytes.to_string()];
        if report.subscriptions.is_empty() {
            rows.push(queue.to_vec());
        }
        for subscription in &report.subscriptions {
            let numbers = [subscription.backlog, subscription.in_flight, subscription.retrying, subscription.dead];
            let mut row = queue.to_vec();
            row.push(subscription.connector.clone());
            row.extend(numbers.iter().map(u64::to_string));
            row.push(subscription.oldest_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s")));
            rows.push(row);
        }
    }
    table(&head, &rows)
}
