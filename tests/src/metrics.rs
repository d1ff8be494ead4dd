//! Figures of a running host.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    /// Reads Prometheus's text.
    #[must_use]
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// Whether there is a sample of this name with these labels.
    #[must_use]
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.0.iter().any(|(of, with, _)| of == name && is_with(with, labels))
    }

    /// The sum of the samples of this name that have these labels; 0 where there are none.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .iter()
            .filter(|(of, with, _)| of == name && is_with(with, labels))
            .fold(0.0, |sum, (_, _, value)| sum + value)
    }

    /// Every name with the names of its labels, as in `bulkhead_held{connector,reason}`; a histogram under its own name.
    #[must_use]
    pub fn families(&self) -> BTreeSet<String> {
        let histograms: BTreeSet<&str> = self.0.iter().filter_map(|(name, ..)| name.strip_suffix("_bucket")).collect();
        let base = |name: &str| {
            let parts = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            parts.filter(|base| histograms.contains(base)).unwrap_or(name).to_owned()
        };
        let family = |(name, labels, _): &(String, BTreeMap<String, String>, f64)| {
            let labels: Vec<&str> = labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            format!("{}{{{}}}", base(name), labels.join(","))
        };
        self.0.iter().map(family).collect()
    }

    /// The limits that have bitten in this connector: labels of `bulkhead_limit_hits_total` with a count.
    #[must_use]
    pub fn limits(&self, connector: &str) -> Vec<String> {
        let hit = |(name, labels, value): &&(String, BTreeMap<String, String>, f64)| {
            name == "bulkhead_limit_hits_total"
                && labels.get("connector").is_some_and(|is| is == connector)
                && *value > 0.0
        };
        self.0.iter().filter(hit).filter_map(|(_, labels, _)| labels.get("limit").cloned()).collect()
    }
}

fn is_with(of: &BTreeMap<String, String>, labels: &[(&str, &str)]) -> bool {
    labels.iter().all(|(key, value)| of.get(*key).is_some_and(|is| is == value))
}

/// `name{label="value",…} 1.5`; labels come from configurations of ours and hold neither quotes nor commas.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, value) = rest.strip_prefix('{').map_or(Some(("", rest)), |rest| rest.split_once('}'))?;
    let label = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    let labels = labels.split_terminator(',').filter_map(label).collect();
    Some((name.to_owned(), labels, value.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels_that_are_not_named() {
        let text = "# TYPE a counter\na_total{connector=\"x\",limit=\"cpu\"} 2\na_total{connector=\"y\",limit=\"cpu\"} 3\nb 1.5\n# EOF";
        let metrics = Metrics::read(text);
        assert_eq!(metrics.value("a_total", &[("limit", "cpu")]), 5.0);
        assert_eq!(metrics.value("a_total", &[("connector", "y")]), 3.0);
        assert_eq!((metrics.value("b", &[]), metrics.value("c", &[])), (1.5, 0.0));
    }

    #[test]
    fn a_histogram_is_one_family() {
        let text =
            "a_seconds_bucket{x=\"1\",le=\"2\"} 1\na_seconds_sum{x=\"1\"} 1\na_seconds_count{x=\"1\"} 1\nb_count 1";
        assert_eq!(Metrics::read(text).families(), ["a_seconds{x}", "b_count{}"].map(str::to_owned).into());
    }

    #[test]
    fn limits_are_those_that_have_bitten() {
        let text = "bulkhead_limit_hits_total{connector=\"x\",limit=\"cpu\"} 1\nbulkhead_limit_hits_total{connector=\"x\",limit=\"log\"} 0";
        assert_eq!(Metrics::read(text).limits("x"), ["cpu"]);
    }
}
