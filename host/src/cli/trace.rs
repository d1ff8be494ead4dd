//! `bulkhead trace`: the tree of a message, for people.

use super::dead::effect_text;
use super::main::Failed;
use super::output::{counted, plain, print};
use super::target::Target;
use crate::admin::api::trace::{Copy, Delivery, Ended, Node, Tree};
use crate::config::Config;

/// Shows it.
///
/// # Errors
/// Nothing is known of this id, or the ledger cannot be opened or read.
pub async fn run(config: &Config, message_id: &str, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let tree = target.trace(message_id).await;
    target.close();
    let tree = tree?;
    let text = if as_json { serde_json::to_string(&tree).map_err(anyhow::Error::from)? } else { plain(&show(&tree)) };
    Ok(print(&text)?)
}

fn show(tree: &Tree) -> String {
    let mut lines = Vec::new();
    for (depth, ancestor) in tree.ancestors.iter().enumerate() {
        add(&mut lines, ancestor, depth);
    }
    add(&mut lines, &tree.message, tree.ancestors.len());
    if !tree.is_complete {
        lines.push("not all was looked through: there may be more".to_owned());
    }
    lines.push(format!("({})", tree.note));
    lines.join("\n")
}

fn add(lines: &mut Vec<String>, node: &Node, depth: usize) {
    let indent = "  ".repeat(depth);
    let known = if node.copies.is_empty() && node.attempts.is_empty() { ", no longer known" } else { "" };
    lines.push(format!("{indent}message {}{known}", node.message_id));
    for copy in &node.copies {
        lines.push(format!("{indent}    {}", place(copy)));
        for delivery in &copy.deliveries {
            lines.push(format!("{indent}      {}", standing(delivery)));
            let attempts = delivery.history.iter();
            lines.extend(
                attempts.map(|attempt| format!("{indent}        {}: {}", attempt.at, first_line(&attempt.reason))),
            );
        }
    }
    for ended in &node.attempts {
        let Ended { connector, attempt, started_at, ended_at, outcome, reason, effects, .. } = ended;
        let reason = reason.as_ref().map(|reason| format!(": {}", first_line(reason))).unwrap_or_default();
        lines.push(format!(
            "{indent}    attempt {attempt} of {connector}, {started_at} to {ended_at}, {outcome}{reason}"
        ));
        lines.extend(effects.iter().map(|effect| format!("{indent}      {}", effect_text(effect))));
    }
    node.children.iter().for_each(|child| add(lines, child, depth + 1));
}

fn place(copy: &Copy) -> String {
    let Copy { place, queue, accepted_at, due_at, letter, .. } = copy;
    let where_it_is = match (letter, due_at) {
        (Some(letter), _) => format!("dead letter {letter} of queue `{queue}`"),
        (None, Some(due_at)) => format!("delayed until {due_at}, for queue `{queue}`"),
        (None, None) if place == "redriven" => format!("delivered again, from queue `{queue}`"),
        (None, None) => format!("queue `{queue}`"),
    };
    format!("{where_it_is}, accepted {accepted_at}")
}

fn standing(delivery: &Delivery) -> String {
    let Delivery { connector, state, attempts, at, .. } = delivery;
    let at = match (state.as_str(), at) {
        ("retrying", Some(at)) => format!(", next {at}"),
        (_, Some(at)) => format!(" since {at}"),
        (_, None) => String::new(),
    };
    let attempts = counted(*attempts as usize, "attempt");
    format!("{connector}: {state}{at}, {attempts} charged")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
