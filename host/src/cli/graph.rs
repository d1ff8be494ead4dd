//! `bulkhead graph`: how data flows, drawn from the configuration alone.
//!
//! Its text in Mermaid and in DOT; what flows where is [`Flow`]'s. Invariant: no name or text of the configuration is more
//! than a label in either: nodes have names of their own.

use std::fmt::Write as _;

use super::GraphFormat;
use super::output::{is_steering, print};
use crate::config::{Config, Edge, Flow, Node, NodeKind};

/// Prints the data flow.
///
/// # Errors
/// Standard output is broken.
pub fn run(config: &Config, format: GraphFormat, as_json: bool) -> anyhow::Result<()> {
    let flow = Flow::of(config);
    let text = match format {
        _ if as_json => serde_json::to_string(&flow)?,
        GraphFormat::Mermaid => mermaid(&flow),
        GraphFormat::Dot => dot(&flow),
    };
    print(text.trim_end())
}

/// As Mermaid draws it.
pub(super) fn mermaid(flow: &Flow) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for Node { id, kind, label, .. } in &flow.nodes {
        let (open, close) = match kind {
            NodeKind::Schedule | NodeKind::Webhook => ("([", "])"),
            NodeKind::Connector => ("[", "]"),
            NodeKind::Queue => ("[(", ")]"),
            NodeKind::Outside => ("{{", "}}"),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "    {id}{open}\"{}\"{close}", for_mermaid(label));
    }
    for Edge { from, to, label, .. } in &flow.edges {
        let arrow = if label.is_empty() { "-->".to_owned() } else { format!("-->|\"{}\"|", for_mermaid(label)) };
        let _ = writeln!(text, "    {from} {arrow} {to}");
    }
    text
}

/// As Graphviz draws it.
fn dot(flow: &Flow) -> String {
    let mut text = "digraph bulkhead {\n    rankdir=LR;\n".to_owned();
    for Node { id, kind, label, .. } in &flow.nodes {
        let shape = match kind {
            NodeKind::Schedule | NodeKind::Webhook => "ellipse",
            NodeKind::Connector => "box",
            NodeKind::Queue => "cylinder",
            NodeKind::Outside => "hexagon",
        };
        let _ = writeln!(text, "    {id} [label=\"{}\", shape={shape}];", for_dot(label));
    }
    for Edge { from, to, label, .. } in &flow.edges {
        let label = if label.is_empty() { String::new() } else { format!(" [label=\"{}\"]", for_dot(label)) };
        let _ = writeln!(text, "    {from} -> {to}{label};");
    }
    text + "}\n"
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
            character if is_steering(character) => safe.push(' '),
            character => safe.push(character),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EdgeKind;

    #[test]
    fn no_text_is_more_than_a_label() {
        let name = "a\"] end\n%% <b>&amp; `x` \\N #quot; \u{e9}";
        let node = |id: &str, kind, name: &str| Node {
            id: id.to_owned(),
            kind,
            name: name.to_owned(),
            label: name.to_owned(),
        };
        let edge = Edge { from: "n1".to_owned(), to: "n2".to_owned(), kind: EdgeKind::Request, label: name.to_owned() };
        let nodes = vec![node("n1", NodeKind::Outside, name), node("n2", NodeKind::Queue, "end")];
        let flow = Flow { nodes, edges: vec![edge] };
        let safe = "a#34;#93; end#10;#37;#37; #60;b#62;#38;amp#59; #96;x#96; #92;N #35;quot#59; \u{e9}";
        let mermaid = format!("flowchart LR\n    n1{{{{\"{safe}\"}}}}\n    n2[(\"end\")]\n    n1 -->|\"{safe}\"| n2\n");
        assert_eq!(super::mermaid(&flow), mermaid);
        let safe = "a\\\"] end %% <b>&amp;amp; `x` \\\\N #quot; \u{e9}";
        let dot = format!(
            "digraph bulkhead {{\n    rankdir=LR;\n    n1 [label=\"{safe}\", shape=hexagon];\n    n2 [label=\"end\", shape=cylinder];\n    n1 -> n2 [label=\"{safe}\"];\n}}\n"
        );
        assert_eq!(super::dot(&flow), dot);
    }
}
