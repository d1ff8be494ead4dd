//! Sets of sequence numbers as merged ranges.
//!
//! Pure. Invariant: ranges are in order and never touch, so there is one way to write each set.

/// Ranges, each from its first to its last number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every range, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The lowest number.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.first().map(|(first, _)| *first)
    }

    /// How many ranges it takes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many numbers are in it.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether a number is in it.
    pub(super) fn contains(&self, number: u64) -> bool {
        let place = self.0.partition_point(|(first, _)| *first <= number);
        place > 0 && self.0[place - 1].1 >= number
    }

    /// Adds a number and joins what it touches.
    pub(super) fn insert(&mut self, number: u64) {
        let place = self.0.partition_point(|(first, _)| *first <= number);
        if place > 0 && self.0[place - 1].1 >= number {
            return;
        }
        let joins_left = place > 0 && self.0[place - 1].1 + 1 == number;
        let joins_right = self.0.get(place).is_some_and(|(first, _)| *first == number + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[place - 1].1 = self.0[place].1;
                self.0.remove(place);
            }
            (true, false) => self.0[place - 1].1 = number,
            (false, true) => self.0[place].0 = number,
            (false, false) => self.0.insert(place, (number, number)),
        }
    }

    /// Appends a range that lies after all others, as when loading.
    pub(super) fn push(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            Some(range) if range.1 + 1 >= first => range.1 = range.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// Takes away everything up to `number`.
    pub(super) fn drop_through(&mut self, number: u64) {
        self.0.retain(|(_, last)| *last > number);
        if let Some(range) = self.0.first_mut() {
            range.0 = range.0.max(number + 1);
        }
    }

    /// Moves a cursor over the ranges that follow it without a gap, and takes them away.
    pub(super) fn advance(&mut self, cursor: &mut u64) {
        let mut taken = 0;
        while let Some((first, last)) = self.0.get(taken)
            && *first <= *cursor + 1
        {
            *cursor = (*cursor).max(*last);
            taken += 1;
        }
        self.0.drain(..taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_what_was_inserted(numbers in proptest::collection::vec(1u64..60, 0..80)) {
            let mut ranges = Ranges::default();
            for number in &numbers {
                ranges.insert(*number);
            }
            for number in 0..62 {
                prop_assert_eq!(ranges.contains(number), numbers.contains(&number));
            }
            let mut last_end = None;
            for (first, last) in ranges.iter() {
                prop_assert!(first <= last && last_end.is_none_or(|end| end + 1 < first));
                last_end = Some(last);
            }
            let mut cursor = 0;
            ranges.advance(&mut cursor);
            let gap = (1..62).find(|number| !numbers.contains(number)).unwrap_or(62);
            prop_assert_eq!(cursor, gap - 1);
            prop_assert!(ranges.iter().all(|(first, _)| first > cursor + 1));
        }
    }
}
