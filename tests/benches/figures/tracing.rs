//! What traces cost: the pipeline with 10 % of its traces recorded, against itself without `[host.otlp]`, in pairs.
//!
//! The collector runs on the same machine, and takes what it is sent without looking at it. A pass whose spans did not
//! come is an error, not a figure.

use bulkhead_tests::Collector;

use crate::pipeline;
use crate::report::{Figure, percentile};

/// The part of the traces that is recorded.
const SAMPLE: f64 = 0.1;

/// Throughput with traces divided by that without, in as many pairs as there are rounds.
pub(crate) fn measure(rounds: usize, messages: u64) -> anyhow::Result<Vec<Figure>> {
    let (mut ratios, mut exported, mut dropped) = (Vec::new(), 0.0, 0.0);
    for round in 0..rounds {
        // Who goes first goes second in the next pair: what warms up, or fills, does so for both.
        let is_on_first = round % 2 == 1;
        let first = if is_on_first { on(messages)? } else { pipeline::pass(messages)?.into() };
        let second = if is_on_first { pipeline::pass(messages)?.into() } else { on(messages)? };
        let (with, without) = if is_on_first { (first, second) } else { (second, first) };
        ratios.push(with.per_second / without.per_second);
        (exported, dropped) = (exported + with.exported, dropped + with.dropped);
    }
    let (least, most) = (percentile(&ratios, 0), percentile(&ratios, 100));
    Ok(vec![Figure {
        name: "tracing_on_ratio",
        value: percentile(&ratios, 50),
        unit: "ratio",
        against: None,
        ratio: None,
        note: Some(format!(
            "the pipeline's throughput with `sample = {SAMPLE}` against without `[host.otlp]`, the collector beside it; {rounds} pairs, {least:.3} to {most:.3}; {exported:.0} spans exported, {dropped:.0} dropped"
        )),
    }])
}

/// One pass, with what became of its spans.
struct Pass {
    per_second: f64,
    exported: f64,
    dropped: f64,
}

impl From<f64> for Pass {
    fn from(per_second: f64) -> Self {
        Self { per_second, exported: 0.0, dropped: 0.0 }
    }
}

fn on(messages: u64) -> anyhow::Result<Pass> {
    let collector = Collector::start();
    let host = format!("[host.otlp]\nurl = '{}'\nsample = {SAMPLE}\n", collector.url());
    let (per_second, metrics) = pipeline::pass_with(messages, &host)?;
    let exported = metrics.value("bulkhead_trace_spans_exported_total", &[]);
    let dropped = metrics.value("bulkhead_trace_spans_dropped_total", &[]);
    let came = collector.spans().len();
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    let expected = messages as f64 * SAMPLE;
    anyhow::ensure!(
        exported + dropped > expected,
        "{exported} spans exported and {dropped} dropped of {messages} messages"
    );
    anyhow::ensure!(came > 0, "the collector got nothing");
    Ok(Pass { per_second, exported, dropped })
}
