//! Figures read from the host's `/metrics`: counters, gauges, and quantiles of histograms.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Sample>);

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Figures {
    /// Reads Prometheus's text; lines that are no samples are left out.
    pub(crate) fn read(text: &str) -> Self {
        Self(text.lines().filter_map(Sample::read).collect())
    }

    /// The sum of the samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // Starting from zero: the sum of no floats is -0.0.
        self.matching(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// Unsettled messages of a queue, over all its subscriptions.
    pub(crate) fn backlog(&self, queue: &str) -> f64 {
        self.sum("bulkhead_queue_backlog", &[("queue", queue)])
    }

    /// A quantile of a histogram in seconds, as Prometheus computes it: linear inside the bucket. `None` without samples.
    pub(crate) fn quantile(&self, name: &str, labels: &[(&str, &str)], quantile: f64) -> Option<f64> {
        let mut buckets: Vec<(f64, f64)> = self
            .matching(&format!("{name}_bucket"), labels)
            .filter_map(|sample| Some((bound(sample.labels.get("le")?)?, sample.value)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rank = buckets.last().filter(|(_, count)| *count > 0.0)?.1 * quantile;
        let place = buckets.iter().position(|(_, count)| *count >= rank)?;
        let (lower, below) = if place == 0 { (0.0, 0.0) } else { buckets[place - 1] };
        let (upper, count) = buckets[place];
        if upper.is_infinite() {
            return Some(lower);
        }
        Some(lower + (upper - lower) * (rank - below) / (count - below).max(f64::MIN_POSITIVE))
    }

    /// The mean of a histogram in seconds. `None` without samples.
    pub(crate) fn mean(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let count = self.sum(&format!("{name}_count"), labels);
        (count > 0.0).then(|| self.sum(&format!("{name}_sum"), labels) / count)
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        let has = move |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        };
        self.0.iter().filter(has)
    }
}

impl Sample {
    /// `name{label="value",…} 1.5`
    fn read(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, rest) = line.split_at(line.find(['{', ' '])?);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None => ("", rest),
        };
        let value = value.split_whitespace().next()?.parse().ok()?;
        let labels = labels.split_terminator(',').filter_map(label).collect();
        Some(Self { name: name.to_owned(), labels, value })
    }
}

/// `label="value"`; labels of the host come from its configuration and hold no quotes.
fn label(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.trim_matches('"').to_owned()))
}

fn bound(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP bulkhead_deliveries Deliveries.
bulkhead_deliveries_total{connector=\"a\",outcome=\"done\"} 7
bulkhead_deliveries_total{connector=\"b\",outcome=\"done\"} 5
bulkhead_attempt_seconds_sum{connector=\"a\"} 4.0
bulkhead_attempt_seconds_count{connector=\"a\"} 10
bulkhead_attempt_seconds_bucket{le=\"1.0\",connector=\"a\"} 5
bulkhead_attempt_seconds_bucket{le=\"2.0\",connector=\"a\"} 10
bulkhead_attempt_seconds_bucket{le=\"+Inf\",connector=\"a\"} 10
bulkhead_panics_total 0
# EOF
";

    #[test]
    fn counters_are_summed_over_the_labels_that_are_not_named() {
        let figures = Figures::read(TEXT);
        assert_eq!(figures.sum("bulkhead_deliveries_total", &[]), 12.0);
        assert_eq!(figures.sum("bulkhead_deliveries_total", &[("connector", "b"), ("outcome", "done")]), 5.0);
    }

    #[test]
    fn quantiles_are_linear_inside_a_bucket() {
        let figures = Figures::read(TEXT);
        let quantile = |q| figures.quantile("bulkhead_attempt_seconds", &[("connector", "a")], q);
        assert_eq!((quantile(0.5), quantile(0.75), quantile(0.25)), (Some(1.0), Some(1.5), Some(0.5)));
        assert_eq!(figures.quantile("bulkhead_attempt_seconds", &[("connector", "b")], 0.5), None);
        assert_eq!(figures.mean("bulkhead_attempt_seconds", &[("connector", "a")]), Some(0.4));
    }
}
