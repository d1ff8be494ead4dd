//! A plugin's own figures, exported under its connector's name.
//!
//! Names and labels are checked and bounded where they are kept, in [`crate::metrics`]; here a refusal is counted and
//! becomes a line in the log. The interface answers nothing: a figure that is refused changes nothing for the plugin.

use super::Session;
use crate::bindings::bulkhead::connector::metrics::{Host, Label};
use crate::metrics::{Effect, Figure, LABELS_MAX};

impl Session {
    fn record(&mut self, name: &str, labels: &[Label], figure: Figure) {
        let connector = &self.grants.subject.name;
        // A label is shown like any text.
        let hidden = |(name, value): &Label| (name.clone(), self.hide(value).into_owned());
        // One too many is refused as more are.
        let hidden: Vec<Label> = labels.iter().take(LABELS_MAX + 1).map(hidden).collect();
        let Err(reason) = self.grants.services.metrics.plugin(connector, name, &hidden, figure) else { return };
        let text = match reason {
            "too_many" => "a figure of the plugin is refused: a connector has 64 names and 512 sets of labels",
            "kind" => "a figure of the plugin is refused: its name is already one of another kind",
            _ => {
                "a figure of the plugin is refused: a name is of `a-z`, `0-9` and `_`, up to 64 bytes, with 8 labels at most"
            }
        };
        self.refuse(Effect::Metric, reason, "", text);
    }
}

impl Host for Session {
    fn count(&mut self, name: String, value: u64, labels: Vec<Label>) {
        self.record(&name, &labels, Figure::Count(value));
    }

    fn gauge(&mut self, name: String, value: f64, labels: Vec<Label>) {
        self.record(&name, &labels, Figure::Gauge(value));
    }

    fn observe(&mut self, name: String, value: f64, labels: Vec<Label>) {
        self.record(&name, &labels, Figure::Observe(value));
    }
}
