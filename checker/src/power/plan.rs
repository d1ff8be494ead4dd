//! Where the power fails, and what is then on the disk: at every synchronisation, before and after it; between two of
//! them; and just after somebody was told that something is accepted.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::disk::{Disk, Fate};
use super::image::Image;
use super::journal::{Change, Record};
use crate::chance::Chance;

/// A moment: so many records were made, and the next one was not.
pub(super) type Position = usize;

/// One power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) position: Position,
    pub(super) fate: Fate,
}

/// All of them, in the order of the journal.
pub(super) fn cuts(records: &[Record], acceptances_us: &[u64], chance: &mut Chance) -> Vec<Cut> {
    let mut fates: BTreeMap<Position, Vec<Fate>> = BTreeMap::new();
    let mut last = 0;
    for (nth, record) in records.iter().enumerate() {
        let after = match record.change {
            Change::SyncBegun { .. } => vec![Fate::Nothing, Fate::All, draw(chance), draw(chance)],
            Change::Synced { .. } => vec![Fate::Nothing, draw(chance)],
            _ => continue,
        };
        fates.entry(nth + 1).or_default().extend(after);
        // Behind the last synchronisation and before this one.
        if nth > last + 1 {
            let between = last + 1 + usize::try_from(chance.below((nth - last - 1) as u64)).unwrap_or(0);
            fates.entry(between).or_default().extend([Fate::All, draw(chance)]);
        }
        last = nth + 1;
    }
    for at_us in acceptances_us {
        let position = records.partition_point(|record| record.at_us <= *at_us);
        fates.entry(position).or_default().extend([Fate::Nothing, draw(chance)]);
    }
    let cuts =
        fates.into_iter().flat_map(|(position, fates)| fates.into_iter().map(move |fate| Cut { position, fate }));
    cuts.collect()
}

fn draw(chance: &mut Chance) -> Fate {
    let seed = chance.below(u64::MAX);
    [Fate::Some, Fate::Torn, Fate::Torn, Fate::Late, Fate::Early][(seed % 5) as usize](seed / 5)
}

/// So many of them, drawn, in the same order.
pub(super) fn sample(mut cuts: Vec<Cut>, count: usize, chance: &mut Chance) -> Vec<Cut> {
    while cuts.len() > count {
        let nth = usize::try_from(chance.below(cuts.len() as u64)).unwrap_or(0);
        cuts.remove(nth);
    }
    cuts
}

/// What is found after each of them; what would be judged alike comes once.
#[derive(Debug)]
pub(super) struct Images<'r> {
    disk: Disk,
    records: &'r [Record],
    cuts: VecDeque<Cut>,
    /// Positions at which something happened that a verdict depends on, sorted.
    events: Vec<Position>,
    applied: Position,
    seen: HashSet<(usize, [u8; 32])>,
}

impl<'r> Images<'r> {
    /// Of a disk as it was before the records.
    pub(super) fn new(disk: Disk, records: &'r [Record], cuts: Vec<Cut>, events_us: &[u64]) -> Self {
        let mut events: Vec<Position> =
            events_us.iter().map(|at_us| records.partition_point(|record| record.at_us <= *at_us)).collect();
        events.sort_unstable();
        Self { disk, records, cuts: cuts.into(), events, applied: 0, seen: HashSet::new() }
    }
}

impl Iterator for Images<'_> {
    type Item = (Cut, Image);

    fn next(&mut self) -> Option<(Cut, Image)> {
        loop {
            let cut = self.cuts.pop_front()?;
            let records = self.records.get(self.applied..cut.position).unwrap_or_default();
            records.iter().for_each(|record| self.disk.apply(record));
            self.applied = self.applied.max(cut.position);
            let image = self.disk.image(cut.fate);
            let events = self.events.partition_point(|position| *position <= cut.position);
            if self.seen.insert((events, image.digest())) {
                return Some((cut, image));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::image::Node;
    use super::*;

    fn records() -> Vec<Record> {
        let wrote = |offset| Change::Wrote { file: 2, offset, bytes: (*b"x").into() };
        let (begun, synced) = (Change::SyncBegun { file: 2, nth: 0 }, Change::Synced { file: 2, nth: 0 });
        let changes = [wrote(0), wrote(1), begun, synced, wrote(2)];
        changes.into_iter().zip(1..).map(|(change, nth)| Record { at_us: 10 * nth, change }).collect()
    }

    #[test]
    fn every_synchronisation_is_cut_before_and_after_and_so_is_what_follows_an_acceptance() {
        let cuts = cuts(&records(), &[45], &mut Chance::new(1, "plan"));
        let at = |position| cuts.iter().filter(move |cut| cut.position == position).map(|cut| cut.fate);
        assert_eq!(at(3).take(2).collect::<Vec<_>>(), [Fate::Nothing, Fate::All]);
        // After the synchronisation, and before the next write, somebody was told.
        assert_eq!(at(4).filter(|fate| *fate == Fate::Nothing).count(), 2);
        assert!(at(1).chain(at(2)).any(|fate| fate == Fate::All));
        assert!(cuts.windows(2).all(|pair| pair[0].position <= pair[1].position));
    }

    #[test]
    fn a_sample_is_smaller_and_in_order() {
        let cuts = cuts(&records(), &[45], &mut Chance::new(1, "plan"));
        let some = sample(cuts.clone(), 3, &mut Chance::new(1, "sample"));
        assert_eq!(some.len(), 3);
        assert!(some.iter().all(|cut| cuts.contains(cut)));
        assert_eq!(sample(cuts.clone(), 99, &mut Chance::new(1, "sample")), cuts);
    }

    #[test]
    fn what_would_be_judged_alike_comes_once_and_again_when_more_was_promised() {
        let records = records();
        let folder = (PathBuf::new(), (1, Node::Folder));
        let found = [folder, (PathBuf::from("a"), (2, Node::File(Vec::new())))];
        let of = |fates: &[(Position, Fate)], events_us: &[u64]| {
            let cuts = fates.iter().map(|(position, fate)| Cut { position: *position, fate: *fate }).collect();
            let images = Images::new(Disk::new(found.clone().into()), &records, cuts, events_us);
            images.map(|(cut, _)| cut.position).collect::<Vec<_>>()
        };
        let fates = [(1, Fate::Nothing), (2, Fate::Nothing), (2, Fate::All), (4, Fate::Nothing), (5, Fate::Nothing)];
        assert_eq!(of(&fates, &[]), [1, 2]);
        assert_eq!(of(&fates, &[45]), [1, 2, 4]);
    }
}
