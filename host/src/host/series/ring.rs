//! The values of the last steps.
//!
//! A step without a value of its own has the default one. Invariant: what has the default value for an hour takes no
//! memory, so a thousand connectors that do nothing cost nothing here.

use std::collections::VecDeque;

/// Steps that are kept: an hour.
pub(super) const STEPS_MAX: usize = 360;

/// One value a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring<Value> {
    /// The step of the first value.
    first: u64,
    values: VecDeque<Value>,
}

impl<Value: Copy + Default + PartialEq> Ring<Value> {
    /// Adds the value of a step, later than all before.
    pub(super) fn push(&mut self, step: u64, value: Value) {
        let nothing = Value::default();
        if self.values.is_empty() {
            self.first = step;
        }
        self.values.push_back(value);
        while self.values.len() > STEPS_MAX || self.values.front().is_some_and(|oldest| *oldest == nothing) {
            self.values.pop_front();
            self.first += 1;
        }
        if self.values.is_empty() && self.values.capacity() > 0 {
            self.values = VecDeque::new();
        }
    }

    /// The value of a step.
    pub(super) fn get(&self, step: u64) -> Value {
        let place = step.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.values.get(place)).copied().unwrap_or_default()
    }

    /// Whether every step has the default value.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hour_is_kept_and_nothing_is_nothing() {
        let mut ring = Ring::default();
        (0..10).for_each(|step| ring.push(step, 0));
        assert!(ring.is_empty());
        ring.push(10, 7);
        ring.push(11, 0);
        assert_eq!((ring.get(9), ring.get(10), ring.get(11), ring.get(12)), (0, 7, 0, 0));
        (12..400).for_each(|step| ring.push(step, step % 2));
        assert_eq!((ring.get(10), ring.get(41), ring.get(399), ring.get(400)), (0, 1, 1, 0));
        assert!(ring.values.len() <= STEPS_MAX, "{}", ring.values.len());
        (400..800).for_each(|step| ring.push(step, 0));
        assert!(ring.is_empty() && ring.values.capacity() == 0);
    }
}
