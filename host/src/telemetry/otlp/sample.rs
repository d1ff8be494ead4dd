//! Which part of the traces is recorded, by the trace's id alone.
//!
//! The rule is that of OpenTelemetry's consistent probability sampling: the last 56 bits of the id against a threshold, so
//! that every system with the same ratio decides alike. Pure.

use crate::message::trace::Trace;

/// Bits of an id that decide.
const BITS: u32 = 56;

/// A part from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    /// Ids below are not taken.
    threshold: u64,
}

impl Ratio {
    pub(super) fn new(part: f64) -> Self {
        let all = 1_u64 << BITS;
        // Exact: the factor is a power of two, and what is rounded off is less than one id.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^56, as it is clamped")]
        let left_out = ((1.0 - part.clamp(0.0, 1.0)) * (1_u64 << BITS) as f64) as u64;
        Self { threshold: left_out.min(all) }
    }

    pub(super) fn takes_all(self) -> bool {
        self.threshold == 0
    }

    pub(super) fn takes(self, trace: &Trace) -> bool {
        trace.chance() >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_takes_about_its_part_and_more_of_it_takes_no_less() {
        let traces: Vec<_> = (0..10_000).map(|number| Trace::of_message(&number.to_string())).collect();
        let taken = |part| traces.iter().filter(|trace| Ratio::new(part).takes(trace)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&taken(0.1)), "{}", taken(0.1));
        let (few, many) = (Ratio::new(0.1), Ratio::new(0.2));
        assert!(traces.iter().all(|trace| !few.takes(trace) || many.takes(trace)));
    }
}
