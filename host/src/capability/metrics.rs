//! A plugin's own figures, exported under its connector's name.
//!
//! Names and labels are checked and bounded where they are kept, in [`crate::metrics`]; here a refusal becomes a line in
//! the log. The interface answers nothing: a figure that is refused changes nothing for the plugin.

use super::Session;
use crate::audit::{Kind, Refused};
use crate::bindings::bulkhead::connector::metrics::{Host, Label};
use crate::metrics::Figure;

impl Session {
    fn record(&mut self, name: &str, labels: &[Label], figure: Figure) {
        let connector = &self.grants.subject.name;
        let Err(reason) = self.grants.services.metrics.plugin(connector, name, labels, figure) else { return };
        let text = "a figure of the plugin is refused";
        let refused = Refused { kind: Kind::Refusal, connector, subject: "metrics", reason, key: "", text };
        self.grants.services.audit.refused(&refused);
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
