//! Figures on their way to people and programs: a table on standard error while they come, JSON at the end.

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The figure of the same run that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) against: Option<&'static str>,
    /// This figure divided by that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// How it was measured, and how far its rounds lie apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Figure {
    /// The median of several rounds; the note says how far they lie apart.
    pub(crate) fn of_rounds(name: &'static str, unit: &'static str, rounds: &[f64], how: &str) -> Self {
        let (least, most) = (percentile(rounds, 0), percentile(rounds, 100));
        let note = format!("{how}; {} rounds, {least:.1} to {most:.1}", rounds.len());
        Self { name, value: percentile(rounds, 50), unit, against: None, ratio: None, note: Some(note) }
    }

    /// The product against itself, in turn with everything that it is compared with: how far apart chance alone brings two
    /// medians.
    pub(crate) fn of_chance(name: &'static str, rounds: &[f64], again: &[f64]) -> Self {
        let value = percentile(again, 50) / percentile(rounds, 50);
        let note = "the product once more in each round, against itself: what a ratio owes to chance".to_owned();
        Self { name, value, unit: "ratio", against: None, ratio: None, note: Some(note) }
    }

    /// Compared with another figure of this run.
    pub(crate) fn against(mut self, other: &Self) -> Self {
        self.against = Some(other.name);
        self.ratio = Some(self.value / other.value);
        self
    }

    /// Shows it to whoever waits.
    pub(crate) fn show(&self) {
        let compared = match (self.against, self.ratio) {
            (Some(against), Some(ratio)) => format!("  {ratio:.2} of {against}"),
            _ => String::new(),
        };
        let note = self.note.as_deref().unwrap_or_default();
        eprintln!("{:<32} {:>12.2} {:<10}{compared}\n{:34}{note}", self.name, self.value, self.unit, "");
    }
}

/// The value below which so many per cent of the others lie.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent / 100]
}
