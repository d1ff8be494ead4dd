//! Figures of plugins, as `bulkhead_plugin_NAME{connector,…}`.
//!
//! A plugin chooses names and labels, so both are bounded: in number, in length, in characters. What is over a bound is
//! refused with a fixed word and changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::FloatGauge;
use super::families::Seconds;
use crate::id::Name;

/// Names that one connector may use: a plugin's dashboard, not a database.
const NAMES_MAX: usize = 64;
/// Label sets that one connector may use over all its names.
const SERIES_MAX: usize = 512;
/// Labels of one figure.
pub(crate) const LABELS_MAX: usize = 8;
/// Bytes of a name, a label's name or a label's value.
const TEXT_BYTES_MAX: usize = 64;

/// One figure of a plugin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// Adds to a counter.
    Count(u64),
    /// Sets a gauge.
    Gauge(f64),
    /// Observes a value of a histogram.
    Observe(f64),
}

type Labels = Vec<(String, String)>;

enum Metric {
    Counter(Family<Labels, Counter>),
    Gauge(Family<Labels, FloatGauge>),
    Histogram(Family<Labels, Histogram, Seconds>),
}

#[derive(Default)]
struct Used {
    names: HashSet<String>,
    series: HashSet<(String, Labels)>,
}

/// What plugins have recorded so far.
#[derive(Default)]
pub struct PluginMetrics(Mutex<State>);

#[derive(Default)]
struct State {
    metrics: HashMap<String, Metric>,
    used: HashMap<Name, Used>,
}

impl PluginMetrics {
    /// Records one figure under the connector's name.
    ///
    /// # Errors
    /// A fixed word: `invalid`, `too_many` or `kind` (the name is already of another kind).
    pub fn record(
        &self,
        registry: &mut Registry,
        connector: &Name,
        name: &str,
        labels: &[(String, String)],
        figure: Figure,
    ) -> Result<(), &'static str> {
        let name = bare(name, figure)?;
        check(name, labels)?;
        let mut all: Labels = Vec::with_capacity(labels.len() + 1);
        all.push(("connector".to_owned(), connector.to_string()));
        all.extend_from_slice(labels);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.used.entry(connector.clone()).or_default().admit(name, &all)?;
        let metric = state.metrics.entry(name.to_owned()).or_insert_with(|| Metric::register(registry, name, figure));
        metric.record(&all, figure)
    }
}

impl Used {
    fn admit(&mut self, name: &str, labels: &Labels) -> Result<(), &'static str> {
        let series = (name.to_owned(), labels.clone());
        if self.series.contains(&series) {
            return Ok(());
        }
        let is_new_name = !self.names.contains(name);
        if self.series.len() >= SERIES_MAX || (is_new_name && self.names.len() >= NAMES_MAX) {
            return Err("too_many");
        }
        self.names.insert(name.to_owned());
        self.series.insert(series);
        Ok(())
    }
}

impl Metric {
    fn register(registry: &mut Registry, name: &str, figure: Figure) -> Self {
        let full = format!("bulkhead_plugin_{name}");
        let help = "A figure of a plugin's own";
        match figure {
            Figure::Count(_) => {
                let family = Family::default();
                registry.register(full, help, family.clone());
                Self::Counter(family)
            }
            Figure::Gauge(_) => {
                let family = Family::default();
                registry.register(full, help, family.clone());
                Self::Gauge(family)
            }
            Figure::Observe(_) => {
                let family = Family::new_with_constructor(Seconds);
                registry.register(full, help, family.clone());
                Self::Histogram(family)
            }
        }
    }

    fn record(&self, labels: &Labels, figure: Figure) -> Result<(), &'static str> {
        match (self, figure) {
            (Self::Counter(family), Figure::Count(value)) => {
                family.get_or_create(labels).inc_by(value);
            }
            (Self::Gauge(family), Figure::Gauge(value)) => {
                family.get_or_create(labels).set(value);
            }
            (Self::Histogram(family), Figure::Observe(value)) => {
                family.get_or_create(labels).observe(value);
            }
            (Self::Counter(_) | Self::Gauge(_) | Self::Histogram(_), _) => return Err("kind"),
        }
        Ok(())
    }
}

/// The name without the ending that the encoder gives it: a counter's `_total` may be written or left out. What another
/// kind would end with is refused, for two figures must not come to the same name.
fn bare(name: &str, figure: Figure) -> Result<&str, &'static str> {
    if let Figure::Count(_) = figure {
        return Ok(name.strip_suffix("_total").unwrap_or(name));
    }
    let is_taken = ["_total", "_count", "_sum", "_bucket"].iter().any(|ending| name.ends_with(ending));
    if is_taken { Err("invalid") } else { Ok(name) }
}

fn check(name: &str, labels: &[(String, String)]) -> Result<(), &'static str> {
    let is_word = |text: &str| {
        text.len() <= TEXT_BYTES_MAX
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let is_label = |(label, value): &(String, String)| {
        is_word(label) && label != "connector" && label != "le" && value.len() <= TEXT_BYTES_MAX
    };
    let names: HashSet<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
    if is_word(name) && labels.len() <= LABELS_MAX && labels.iter().all(is_label) && names.len() == labels.len() {
        Ok(())
    } else {
        Err("invalid")
    }
}
