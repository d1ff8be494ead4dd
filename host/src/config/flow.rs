//! How data flows: what starts a connector, what it reads, publishes and asks, as nodes and arrows.
//!
//! Made from the configuration alone; how it is drawn is the caller's. Invariant: a name stands in one node only of its
//! kind, and every arrow leads between nodes that are there.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Config, Connector, show_duration};
use crate::trigger::schedule::{Settings, When};

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// The clock.
    Schedule,
    /// Requests from outside.
    Webhook,
    /// A connector.
    Connector,
    /// A queue.
    Queue,
    /// A receiver of requests.
    Outside,
}

/// What an arrow stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// It starts the connector.
    Trigger,
    /// The connector reads the queue.
    Consume,
    /// The connector publishes to the queue.
    Publish,
    /// The connector sends requests there.
    Request,
    /// Messages of the queue are copied to the other.
    Route,
    /// The queue is told of the connector's dead letters.
    DeadLetters,
}

/// A thing that data comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Node {
    /// Names it within the graph.
    pub id: String,
    /// What it stands for.
    pub kind: NodeKind,
    /// Its name: of a connector or a queue, as in the configuration.
    pub name: String,
    /// The same for people.
    pub label: String,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Edge {
    /// The node that it begins at.
    pub from: String,
    /// The node that it leads to.
    pub to: String,
    /// What it stands for.
    pub kind: EdgeKind,
    /// For people; empty where the nodes say it.
    pub label: String,
}

/// Nodes and arrows, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Graph")]
pub struct Flow {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The arrows between them.
    pub edges: Vec<Edge>,
}

impl Flow {
    /// All of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut drawing = Drawing::default();
        config.connectors.iter().for_each(|connector| drawing.add(connector));
        for route in &config.routes {
            let from = drawing.named(NodeKind::Queue, route.from.as_str());
            for to in &route.to {
                let to = drawing.named(NodeKind::Queue, to.as_str());
                drawing.edge(from, to, EdgeKind::Route, format!("route {}", route.name));
            }
        }
        // What nobody reads or fills is there all the same.
        for queue in config.queues.keys() {
            drawing.named(NodeKind::Queue, queue.as_str());
        }
        drawing.flow
    }

    /// One connector with what is next to it.
    #[must_use]
    pub fn around(connector: &Connector) -> Self {
        let mut drawing = Drawing::default();
        drawing.add(connector);
        drawing.flow
    }
}

/// When a schedule fires, with its name where it has one.
#[must_use]
pub fn times(schedule: &Settings) -> String {
    let times = match &schedule.when {
        When::Every(period) => format!("every {}", show_duration(*period)),
        When::Cron(cron) => cron.to_string(),
    };
    if schedule.name == "default" { times } else { format!("{}: {times}", schedule.name) }
}

/// A flow in the making.
#[derive(Default)]
struct Drawing {
    flow: Flow,
    /// Where each node stands: a large configuration has thousands.
    nodes: HashMap<(NodeKind, String), usize>,
    edges: HashSet<(usize, usize, String)>,
}

impl Drawing {
    fn add(&mut self, connector: &Connector) {
        let name = connector.name.as_str();
        let label = if connector.enabled { name.to_owned() } else { format!("{name} (not enabled)") };
        let it = self.node(NodeKind::Connector, name, label);
        for schedule in &connector.schedules {
            let from = self.named(NodeKind::Schedule, &times(schedule));
            self.edge(from, it, EdgeKind::Trigger, String::new());
        }
        if let Some(webhook) = &connector.webhook {
            let path = webhook.path.to_string();
            let from = self.node(NodeKind::Webhook, &path, format!("{} {path}", webhook.methods.join(", ")));
            self.edge(from, it, EdgeKind::Trigger, String::new());
        }
        if let Some(consume) = &connector.consume {
            let from = self.named(NodeKind::Queue, consume.queue.as_str());
            self.edge(from, it, EdgeKind::Consume, String::new());
        }
        let stored = connector.webhook.iter().filter_map(|webhook| webhook.publish.as_ref());
        for queue in connector.allow.publish.iter().chain(stored) {
            let to = self.named(NodeKind::Queue, queue.as_str());
            self.edge(it, to, EdgeKind::Publish, String::new());
        }
        for grant in &connector.allow.http {
            let to = self.named(NodeKind::Outside, grant.pattern.origin());
            self.edge(it, to, EdgeKind::Request, grant.methods.join(", "));
        }
        if let Some(queue) = &connector.on_dead {
            let to = self.named(NodeKind::Queue, queue.as_str());
            self.edge(it, to, EdgeKind::DeadLetters, "dead letters".to_owned());
        }
    }

    fn named(&mut self, kind: NodeKind, name: &str) -> usize {
        self.node(kind, name, name.to_owned())
    }

    fn node(&mut self, kind: NodeKind, name: &str, label: String) -> usize {
        let nodes = &mut self.flow.nodes;
        *self.nodes.entry((kind, label.clone())).or_insert_with(|| {
            nodes.push(Node { id: format!("n{}", nodes.len() + 1), kind, name: name.to_owned(), label });
            nodes.len() - 1
        })
    }

    fn edge(&mut self, from: usize, to: usize, kind: EdgeKind, label: String) {
        if self.edges.insert((from, to, label.clone())) {
            let id = |place: usize| self.flow.nodes[place].id.clone();
            let edge = Edge { from: id(from), to: id(to), kind, label };
            self.flow.edges.push(edge);
        }
    }
}
