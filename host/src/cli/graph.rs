//! `bulkhead graph`: how data flows, drawn from the configuration alone.
//!
//! What starts a connector, what it reads, publishes and asks, as nodes and arrows; and their text in Mermaid and in DOT.
//! Invariant: no name or text of the configuration is more than a label in either: nodes have names of their own.

use std::fmt::Write as _;

use serde::Serialize;

use super::GraphFormat;
use super::output::print;
use crate::config::{self, Config, Connector};
use crate::trigger::schedule::{Settings, When};

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Schedule,
    Webhook,
    Connector,
    Queue,
    Outside,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Node {
    id: String,
    kind: Kind,
    name: String,
}

/// An arrow; `what` is empty where the nodes say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Link {
    from: String,
    to: String,
    what: String,
}

/// Nodes and arrows, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Flow {
    nodes: Vec<Node>,
    links: Vec<Link>,
}

/// Prints the data flow.
///
/// # Errors
/// Standard output is broken.
pub fn run(config: &Config, format: GraphFormat, as_json: bool) -> anyhow::Result<()> {
    let flow = Flow::of(config);
    let text = match format {
        _ if as_json => serde_json::to_string(&flow)?,
        GraphFormat::Mermaid => flow.mermaid(),
        GraphFormat::Dot => flow.dot(),
    };
    print(text.trim_end())
}

impl Flow {
    /// All of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let mut flow = Self::default();
        config.connectors.iter().for_each(|connector| flow.add(connector));
        for route in &config.routes {
            let from = flow.node(Kind::Queue, route.from.as_str());
            for to in &route.to {
                let to = flow.node(Kind::Queue, to.as_str());
                flow.link(&from, &to, format!("route {}", route.name));
            }
        }
        // What nobody reads or fills is there all the same.
        config.queues.keys().for_each(|queue| drop(flow.node(Kind::Queue, queue.as_str())));
        flow
    }

    /// One connector with what is next to it.
    pub(super) fn around(connector: &Connector) -> Self {
        let mut flow = Self::default();
        flow.add(connector);
        flow
    }

    fn add(&mut self, connector: &Connector) {
        let name = &connector.name;
        let it = self
            .node(Kind::Connector, &if connector.enabled { name.to_string() } else { format!("{name} (not enabled)") });
        for schedule in &connector.schedules {
            let from = self.node(Kind::Schedule, &times(schedule));
            self.link(&from, &it, String::new());
        }
        if let Some(webhook) = &connector.webhook {
            let from = self.node(Kind::Webhook, &format!("{} {}", webhook.methods.join(", "), webhook.path));
            self.link(&from, &it, String::new());
        }
        if let Some(consume) = &connector.consume {
            let from = self.node(Kind::Queue, consume.queue.as_str());
            self.link(&from, &it, String::new());
        }
        let stored = connector.webhook.iter().filter_map(|webhook| webhook.publish.as_ref());
        for queue in connector.allow.publish.iter().chain(stored) {
            let to = self.node(Kind::Queue, queue.as_str());
            self.link(&it, &to, String::new());
        }
        for grant in &connector.allow.http {
            let to = self.node(Kind::Outside, grant.pattern.origin());
            self.link(&it, &to, grant.methods.join(", "));
        }
        if let Some(queue) = &connector.on_dead {
            let to = self.node(Kind::Queue, queue.as_str());
            self.link(&it, &to, "dead letters".to_owned());
        }
    }

    fn node(&mut self, kind: Kind, name: &str) -> String {
        if let Some(known) = self.nodes.iter().find(|node| node.kind == kind && node.name == name) {
            return known.id.clone();
        }
        let id = format!("n{}", self.nodes.len() + 1);
        self.nodes.push(Node { id: id.clone(), kind, name: name.to_owned() });
        id
    }

    fn link(&mut self, from: &str, to: &str, what: String) {
        let link = Link { from: from.to_owned(), to: to.to_owned(), what };
        if !self.links.contains(&link) {
            self.links.push(link);
        }
    }

    /// As Mermaid draws it.
    pub(super) fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for Node { id, kind, name } in &self.nodes {
            let (open, close) = match kind {
                Kind::Schedule | Kind::Webhook => ("([", "])"),
                Kind::Connector => ("[", "]"),
                Kind::Queue => ("[(", ")]"),
                Kind::Outside => ("{{", "}}"),
            };
            // Writing into a String cannot fail.
            let _ = writeln!(text, "    {id}{open}\"{}\"{close}", for_mermaid(name));
        }
        for Link { from, to, what } in &self.links {
            let arrow = if what.is_empty() { "-->".to_owned() } else { format!("-->|\"{}\"|", for_mermaid(what)) };
            let _ = writeln!(text, "    {from} {arrow} {to}");
        }
        text
    }

    /// As Graphviz draws it.
    fn dot(&self) -> String {
        let mut text = "digraph bulkhead {\n    rankdir=LR;\n".to_owned();
        for Node { id, kind, name } in &self.nodes {
            let shape = match kind {
                Kind::Schedule | Kind::Webhook => "ellipse",
                Kind::Connector => "box",
                Kind::Queue => "cylinder",
                Kind::Outside => "hexagon",
            };
            let _ = writeln!(text, "    {id} [label=\"{}\", shape={shape}];", for_dot(name));
        }
        for Link { from, to, what } in &self.links {
            let label = if what.is_empty() { String::new() } else { format!(" [label=\"{}\"]", for_dot(what)) };
            let _ = writeln!(text, "    {from} -> {to}{label};");
        }
        text + "}\n"
    }
}

/// When a schedule fires, with its name where it has one.
pub(super) fn times(schedule: &Settings) -> String {
    let times = match &schedule.when {
        When::Every(period) => format!("every {}", config::show_duration(*period)),
        When::Cron(cron) => cron.to_string(),
    };
    if schedule.name == "default" { times } else { format!("{}: {times}", schedule.name) }
}

/// Mermaid has a number for every character, and a meaning for most that are neither letters nor digits.
fn for_mermaid(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, character| {
        if character.is_alphanumeric() || " -_./:,()".contains(character) {
            safe.push(character);
        } else {
            let _ = write!(safe, "#{};", u32::from(character));
        }
        safe
    })
}

/// Within quotes Graphviz knows backslashes, and names of characters after `&`.
fn for_dot(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, character| {
        match character {
            '"' | '\\' => safe.extend(['\\', character]),
            '&' => safe.push_str("&amp;"),
            character if character.is_control() => safe.push(' '),
            character => safe.push(character),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_more_than_a_label() {
        let name = "a\"] end\n%% <b>&amp; `x` \\N #quot; \u{e9}";
        let mut flow = Flow::default();
        let (from, to) = (flow.node(Kind::Outside, name), flow.node(Kind::Queue, "end"));
        flow.link(&from, &to, name.to_owned());
        let safe = "a#34;#93; end#10;#37;#37; #60;b#62;#38;amp#59; #96;x#96; #92;N #35;quot#59; \u{e9}";
        let mermaid = format!("flowchart LR\n    n1{{{{\"{safe}\"}}}}\n    n2[(\"end\")]\n    n1 -->|\"{safe}\"| n2\n");
        assert_eq!(flow.mermaid(), mermaid);
        let safe = "a\\\"] end %% <b>&amp;amp; `x` \\\\N #quot; \u{e9}";
        let dot = format!(
            "digraph bulkhead {{\n    rankdir=LR;\n    n1 [label=\"{safe}\", shape=hexagon];\n    n2 [label=\"end\", shape=cylinder];\n    n1 -> n2 [label=\"{safe}\"];\n}}\n"
        );
        assert_eq!(flow.dot(), dot);
    }
}
