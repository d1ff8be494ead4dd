//! `bulkhead dead`: look at dead letters, deliver them again, drop them.

use super::main::Failed;
use super::output::{counted, plain, print, table};
use super::target::Target;
use super::{Dead, Selection};
use crate::admin::api::dead::{Entry, Filter, Letter, Selection as Selected};
use crate::config::Config;

/// Does what the arguments say.
///
/// # Errors
/// There is no such letter or connector, or the ledger cannot be opened, read or changed.
pub async fn run(config: &Config, command: Dead, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let text = act(&target, command, as_json).await;
    target.close();
    Ok(print(&text?)?)
}

async fn act(target: &Target, command: Dead, as_json: bool) -> anyhow::Result<String> {
    match command {
        Dead::List { connector } => {
            let entries = target.dead_list(connector.as_ref().map(AsRef::as_ref)).await?;
            Ok(if as_json { serde_json::to_string(&entries)? } else { plain(&list(&entries)) })
        }
        Dead::Show { id } => {
            let letter = target.dead_show(&id).await?;
            Ok(if as_json { serde_json::to_string(&letter)? } else { plain(&show(&letter)) })
        }
        Dead::Retry { selection, to } => {
            let selected = Selected { to: to.map(|name| name.to_string()), ..selected(selection) };
            let count = target.dead_retry(&selected).await?;
            Ok(if as_json { serde_json::to_string(&count)? } else { format!("{} delivered again", count.count) })
        }
        Dead::Drop { selection } => {
            let count = target.dead_drop(&selected(selection)).await?;
            Ok(if as_json { serde_json::to_string(&count)? } else { format!("{} dropped", count.count) })
        }
    }
}

fn selected(selection: Selection) -> Selected {
    let ids = (!selection.ids.is_empty()).then_some(selection.ids);
    let connector = selection.connector.map(|name| name.to_string());
    Selected { filter: Filter { connector, ids }, ..Selected::default() }
}

fn list(entries: &[Entry]) -> String {
    let row = |entry: &Entry| {
        let reason = entry.reason.lines().next().unwrap_or_default().to_owned();
        let attempts = entry.attempts.to_string();
        [&entry.id, &entry.connector, &entry.queue, &entry.message_id, &attempts, &entry.died_at, &reason]
            .map(Clone::clone)
            .to_vec()
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&["ID", "CONNECTOR", "QUEUE", "MESSAGE", "ATTEMPTS", "DIED AT", "REASON"], &rows)
}

fn show(letter: &Letter) -> String {
    let entry = &letter.entry;
    let mut lines = vec![
        format!("id         {}", entry.id),
        format!("connector  {}", entry.connector),
        format!("queue      {}", entry.queue),
        format!("message    {}", entry.message_id),
        format!("accepted   {}", letter.enqueued_at),
        format!("died       {}, after {}", entry.died_at, counted(entry.attempts as usize, "attempt")),
    ];
    lines.extend(letter.key.iter().map(|key| format!("key        {key}")));
    lines.extend(letter.parent.iter().map(|parent| format!("parent     {parent}")));
    lines.extend(letter.headers.iter().map(|(name, value)| format!("header     {name}: {value}")));
    lines.extend(letter.history.iter().map(|attempt| format!("attempt    {}: {}", attempt.at, attempt.reason)));
    lines.push(String::new());
    lines.extend(letter.body.clone());
    lines.extend(letter.body_base64.iter().map(|body| format!("(base64) {body}")));
    lines.join("\n")
}
