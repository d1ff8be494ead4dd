//! `bulkhead docs`: a page for each connector, and one with all of them, written from what the configuration says and the
//! plugins say of themselves.
//!
//! Values of `config` are left out, for some put there what they should not. Invariant: what a plugin says is data, and
//! never Markdown of ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::graph::mermaid;
use super::main::{Outcome, complain_of};
use super::output::{counted, is_steering, print};
use super::{Docs, unusable};
use crate::clock::{rfc3339, wall};
use crate::config::{Config, Connector, Flow, Loaded, times};
use crate::host;
use crate::metrics::Metrics;
use crate::page;
use crate::runtime::inspect::Inspection;
use crate::trigger::schedule::Plan;

/// Times to come of each schedule.
const NEXT: usize = 5;

/// Writes the pages.
///
/// # Errors
/// The folder cannot be written, or has a file of that name that is somebody else's.
pub async fn run(loaded: &Loaded, arguments: &Docs, as_json: bool) -> Outcome {
    let plugins = match host::prepare(loaded, &Metrics::default()).await {
        Ok(plugins) => plugins,
        Err(problems) => {
            complain_of(&problems);
            return Ok(unusable());
        }
    };
    let from = arguments.from.or_else(|| Timestamp::try_from(wall()).ok()).unwrap_or_default();
    let mut pages = BTreeMap::from([("README.md".to_owned(), index(&loaded.config))]);
    for connector in &loaded.config.connectors {
        let inspection = plugins.inspection(connector.name.as_str()).await;
        pages.insert(format!("{}.md", connector.name), of(connector, inspection.as_ref(), from));
    }
    page::write(&arguments.folder, &pages)?;
    let folder = arguments.folder.display();
    print(&if as_json {
        serde_json::json!({ "folder": folder.to_string(), "pages": pages.keys().collect::<Vec<_>>() }).to_string()
    } else {
        format!("{} in {folder}", counted(pages.len(), "page"))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn index(config: &Config) -> String {
    let mut text = format!("# Integrations\n\n```mermaid\n{}```\n\n", mermaid(&Flow::of(config)));
    text.push_str("| connector | plugin | runs |\n| --- | --- | --- |\n");
    for connector in &config.connectors {
        let name = &connector.name;
        let cells = [plugin(connector), started_by(connector).join("; ")].map(|cell| cell.replace('|', "\\|"));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| [{name}]({name}.md) | {} | {} |", cells[0], cells[1]);
    }
    text
}

/// The page of a connector.
fn of(connector: &Connector, inspection: Option<&Inspection>, from: Timestamp) -> String {
    let mut text = format!("# {}\n\n", connector.name);
    if !connector.enabled {
        text.push_str("It is not enabled: it keeps its messages, and nothing runs.\n\n");
    }
    let _ = writeln!(text, "```mermaid\n{}```\n", mermaid(&Flow::around(connector)));
    for line in started_by(connector) {
        let _ = writeln!(text, "- It runs {line}.");
    }
    let policy = &connector.retry;
    if connector.plugin.is_some() {
        let _ = writeln!(text, "- What fails is tried {} at most.", counted(policy.attempts as usize, "time"));
    }
    if let Some(queue) = &connector.on_dead {
        let _ = writeln!(text, "- Of every dead letter the queue {} is told.", code(queue.as_str()));
    }
    text.push_str("\n## What it may do\n\n");
    let may = host::permissions(Handle::current(), connector);
    text.extend(may.iter().map(|line| format!("- {}\n", escaped(line))));
    text.push_str(if may.is_empty() { "Nothing.\n" } else { "\nNothing else.\n" });
    if !connector.schedules.is_empty() {
        text.push_str(&schedules(connector, from));
    }
    if let Some(inspection) = inspection {
        text.push_str(&of_plugin(connector, inspection));
    }
    text
}

/// The next times, as the schedule plans them: where the connector was renamed, `every` may lie otherwise.
fn schedules(connector: &Connector, from: Timestamp) -> String {
    let mut text =
        format!("\n## Schedules\n\nThe next times after {from}:\n\n| schedule | when | next |\n| --- | --- | --- |\n");
    let lineage = connector.was.as_ref().unwrap_or(&connector.name);
    for schedule in &connector.schedules {
        let plan = Plan::new(lineage.as_str(), schedule);
        let first = plan.after(u64::try_from(from.as_millisecond()).unwrap_or(0));
        let next: Vec<String> = std::iter::successors(first, |ms| plan.after(*ms)).take(NEXT).map(rfc3339).collect();
        let when = code(&times(schedule)).replace('|', "\\|");
        let _ = writeln!(text, "| {} | {when} | {} |", schedule.name, next.join("<br>"));
    }
    text
}

fn of_plugin(connector: &Connector, inspection: &Inspection) -> String {
    let Inspection { name, version, summary, wants, config_schema, sha256, .. } = inspection;
    let mut text = format!("\n## Its plugin\n\n{}", plugin(connector));
    let known = [("name", name), ("version", version), ("summary", summary)];
    let known = known.into_iter().filter_map(|(what, said)| Some(format!("{what}: {}\n", said.as_ref()?)));
    let _ = write!(text, " says of itself:\n\n{}", fenced("text", &known.collect::<String>()));
    let _ = writeln!(text, "\nThe SHA-256 of its bytes is `{sha256}`.");
    if !wants.is_empty() {
        let _ = write!(text, "\nTo be useful it wants to be allowed:\n\n{}", fenced("toml", &wants.join("\n")));
    }
    if let Some(schema) = config_schema {
        let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = write!(text, "\n## Its configuration\n\nThe JSON Schema of `config`:\n\n{}", fenced("json", &schema));
    }
    text
}

/// What makes it run, after "it runs".
fn started_by(connector: &Connector) -> Vec<String> {
    let consume =
        connector.consume.iter().map(|consume| format!("on messages of the queue {}", code(consume.queue.as_str())));
    let schedules = connector.schedules.iter().map(|schedule| format!("by the clock, {}", code(&times(schedule))));
    let webhook = connector
        .webhook
        .iter()
        .map(|webhook| format!("on requests {}", code(&format!("{} {}", webhook.methods.join(", "), webhook.path))));
    consume.chain(schedules).chain(webhook).collect()
}

/// As the configuration names it, without the folders of this machine.
fn plugin(connector: &Connector) -> String {
    let source = connector.plugin.as_ref().map(|plugin| plugin.source());
    source.map_or_else(|| "none".to_owned(), |source| code(source.rsplit('/').next().unwrap_or_default()))
}

/// Text of ours with names in backticks, in which nothing else may be markup.
fn escaped(text: &str) -> String {
    text.split('`').enumerate().fold(String::new(), |line, (nth, part)| {
        let is_code = nth % 2 == 1;
        line + &if is_code { code(part) } else { plain(part) }
    })
}

fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, character| {
        match character {
            '\\' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '&' | '~' => safe.extend(['\\', character]),
            character if is_steering(character) => safe.push(' '),
            character => safe.push(character),
        }
        safe
    })
}

/// A text in one line that means nothing.
fn code(text: &str) -> String {
    let ticks = "`".repeat(longest_ticks(text) + 1);
    let text: String = text.chars().map(|character| if is_steering(character) { ' ' } else { character }).collect();
    if text.starts_with('`') || text.ends_with('`') {
        format!("{ticks} {text} {ticks}")
    } else {
        format!("{ticks}{text}{ticks}")
    }
}

/// A text in lines of its own that means nothing.
fn fenced(kind: &str, text: &str) -> String {
    let fence = "`".repeat(longest_ticks(text).max(2) + 1);
    format!("{fence}{kind}\n{}\n{fence}\n", text.trim_end())
}

fn longest_ticks(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_ends_where_it_should() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("`a``b\n"), "``` `a``b  ```");
        assert_eq!(fenced("text", "a\n````\n# b"), "`````text\na\n````\n# b\n`````\n");
        assert_eq!(escaped("may *do* `GET <x>` & <b>"), "may \\*do\\* `GET <x>` \\& \\<b\\>");
    }
}
