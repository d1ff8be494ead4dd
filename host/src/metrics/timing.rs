//! A histogram of seconds that can name an example for each of its buckets: the trace of what was measured.
//!
//! Examples cost a lock more for each figure. Invariant: where traces go nowhere it is a plain histogram.

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::families::{Seconds, seconds_buckets};
use crate::clock;
use crate::message::trace::Trace;

/// Seconds, with or without examples. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Timing(Form);

#[derive(Clone, Debug)]
enum Form {
    Plain(Histogram),
    WithExamples(HistogramWithExemplars<OfTrace>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTrace {
    trace_id: String,
}

/// Whether histograms name examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Examples {
    None,
    Traces,
}

impl MetricConstructor<Timing> for Examples {
    fn new_metric(&self) -> Timing {
        Timing(match self {
            Self::None => Form::Plain(Seconds.new_metric()),
            Self::Traces => Form::WithExamples(HistogramWithExemplars::new(seconds_buckets())),
        })
    }
}

impl Timing {
    /// Counts one figure; `trace` is that of what was measured, where it is recorded.
    pub fn observe(&self, seconds: f64, trace: Option<&Trace>) {
        match &self.0 {
            Form::Plain(histogram) => histogram.observe(seconds),
            Form::WithExamples(histogram) => {
                let labels = trace.map(|trace| OfTrace { trace_id: trace.id().to_owned() });
                let at = labels.is_some().then(clock::wall);
                histogram.observe(seconds, labels, at);
            }
        }
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Timing {
    fn encode(&self, encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        match &self.0 {
            Form::Plain(histogram) => histogram.encode(encoder),
            Form::WithExamples(histogram) => histogram.encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
