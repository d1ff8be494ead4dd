//! The in-flight file: what each worker is running right now.
//!
//! Before a run its worker writes the run's deliveries into a slot of its own with one `pwrite` that is not synced: it
//! survives the death of the process, and nothing else. At the next start the unsettled ones are suspects. Invariant: a
//! slot counts only if it was written since the machine booted and its checksum is right.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use crate::settlement::{Origin, SubscriptionId};

const FILE: &str = "inflight";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Deliveries that a slot names; what a larger run holds beyond them cannot become a suspect.
const ORIGINS_MAX: usize = 1024;
/// Checksum, boot, subscription, number of origins, flags.
const HEADER_BYTES: usize = 8 + 8 + 4 + 4 + 8;
const ORIGIN_BYTES: usize = 8;
const SLOT_BYTES: usize = HEADER_BYTES + ORIGINS_MAX * ORIGIN_BYTES;
/// Marks a row of the parked messages.
const PARKED: u64 = 1 << 63;
const ALONE: u64 = 1;

/// A delivery that was being run when the process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Whose it was.
    pub subscription: SubscriptionId,
    /// Where its message lies.
    pub origin: Origin,
    /// Whether nothing else was in its run, and no other suspect ran: then it is charged an attempt.
    pub was_alone: bool,
}

/// The file.
#[derive(Debug)]
pub struct Inflight {
    file: File,
    boot: u64,
    /// Slots in use, by number.
    used: Mutex<Vec<bool>>,
}

/// One worker's slot; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    inflight: Arc<Inflight>,
    number: usize,
    buffer: Mutex<Vec<u8>>,
}

impl Inflight {
    /// Opens the file and empties it, answering what it said.
    pub(super) fn open(dir: &Path) -> anyhow::Result<(Self, Vec<Suspect>)> {
        let path = dir.join(FILE);
        let boot = checksum(&std::fs::read(BOOT_ID).unwrap_or_default());
        let written = std::fs::read(&path).unwrap_or_default();
        let suspects = written.chunks(SLOT_BYTES).flat_map(|slot| suspects_in(slot, boot)).collect();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok((Self { file, boot, used: Mutex::default() }, suspects))
    }

    /// A slot for a worker.
    #[must_use]
    pub fn slot(self: &Arc<Self>) -> Slot {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let number = used.iter().position(|is_used| !is_used).unwrap_or(used.len());
        if number == used.len() {
            used.push(true);
        }
        used[number] = true;
        Slot { inflight: self.clone(), number, buffer: Mutex::default() }
    }

    /// Empties the file: a clean stop leaves no suspects.
    pub(super) fn empty(&self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!(%error, "cannot empty the in-flight file: some messages will run alone after the next start");
        }
    }
}

impl Slot {
    /// Notes what is about to run.
    pub fn write(&self, subscription: SubscriptionId, origins: impl Iterator<Item = Origin>, is_alone: bool) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut buffer, self.inflight.boot, subscription, origins, is_alone);
        self.put(&buffer);
    }

    /// Notes that nothing runs.
    pub fn clear(&self) {
        self.put(&[0; 8]);
    }

    fn put(&self, bytes: &[u8]) {
        // Without the note a crash is not charged to anyone; the run itself must not fail for it.
        if let Err(error) = self.inflight.file.write_all_at(bytes, (self.number * SLOT_BYTES) as u64) {
            tracing::warn!(%error, "cannot write the in-flight file");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.clear();
        let mut used = self.inflight.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_used) = used.get_mut(self.number) {
            *is_used = false;
        }
    }
}

fn encode(
    buffer: &mut Vec<u8>,
    boot: u64,
    subscription: SubscriptionId,
    origins: impl Iterator<Item = Origin>,
    is_alone: bool,
) {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    let mut count: u32 = 0;
    for origin in origins.take(ORIGINS_MAX) {
        let number = match origin {
            Origin::Log(seq) => seq,
            Origin::Parked(row) => row.unsigned_abs() | PARKED,
        };
        buffer.extend_from_slice(&number.to_le_bytes());
        count += 1;
    }
    buffer[8..16].copy_from_slice(&boot.to_le_bytes());
    buffer[16..20].copy_from_slice(&subscription.0.to_le_bytes());
    buffer[20..24].copy_from_slice(&count.to_le_bytes());
    buffer[24..32].copy_from_slice(&if is_alone { ALONE } else { 0 }.to_le_bytes());
    let sum = checksum(&buffer[8..]);
    buffer[..8].copy_from_slice(&sum.to_le_bytes());
}

/// What a slot says; nothing where it is empty, torn, or of an earlier boot.
fn suspects_in(slot: &[u8], boot: u64) -> Vec<Suspect> {
    let number = |at: usize| slot.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let short = |at: usize| slot.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let read = || {
        let (sum, booted, flags) = (number(0)?, number(8)?, number(24)?);
        let (subscription, count) = (SubscriptionId(short(16)?), short(20)? as usize);
        let end = HEADER_BYTES + count.min(ORIGINS_MAX) * ORIGIN_BYTES;
        let is_whole = booted == boot && sum == checksum(slot.get(8..end)?);
        is_whole.then_some((subscription, flags & ALONE != 0, slot.get(HEADER_BYTES..end)?))
    };
    let Some((subscription, was_alone, origins)) = read() else { return Vec::new() };
    let origin = |bytes: &[u8]| {
        let number = bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        match number & PARKED {
            0 => Origin::Log(number),
            _ => Origin::Parked(i64::try_from(number & !PARKED).unwrap_or_default()),
        }
    };
    origins.chunks_exact(ORIGIN_BYTES).map(|bytes| Suspect { subscription, origin: origin(bytes), was_alone }).collect()
}

/// FNV-1a: enough to tell a torn write.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SUBSCRIPTION: SubscriptionId = SubscriptionId(7);

    fn suspect(origin: Origin, was_alone: bool) -> Suspect {
        Suspect { subscription: SUBSCRIPTION, origin, was_alone }
    }

    #[test]
    fn a_process_that_died_leaves_what_it_ran() {
        let dir = tempfile::tempdir().unwrap();
        let (inflight, found) = Inflight::open(dir.path()).unwrap();
        assert!(found.is_empty());
        let inflight = Arc::new(inflight);
        let (first, second, third) = (inflight.slot(), inflight.slot(), inflight.slot());
        first.write(SUBSCRIPTION, [Origin::Log(3), Origin::Parked(9)].into_iter(), false);
        second.write(SUBSCRIPTION, std::iter::once(Origin::Log(5)), true);
        third.write(SUBSCRIPTION, std::iter::once(Origin::Log(6)), false);
        third.clear();
        // As if the process had died: no slot is cleared.
        std::mem::forget((first, second, third));
        let (_, found) = Inflight::open(dir.path()).unwrap();
        let expected =
            [suspect(Origin::Log(3), false), suspect(Origin::Parked(9), false), suspect(Origin::Log(5), true)];
        assert_eq!(found, expected);
        assert!(Inflight::open(dir.path()).unwrap().1.is_empty(), "read once");
    }

    #[test]
    fn torn_slots_and_other_boots_count_for_nothing() {
        let mut buffer = Vec::new();
        encode(&mut buffer, 1, SUBSCRIPTION, [Origin::Log(3), Origin::Log(4)].into_iter(), false);
        assert_eq!(suspects_in(&buffer, 1).len(), 2);
        assert!(suspects_in(&buffer, 2).is_empty());
        assert!(suspects_in(&buffer[..buffer.len() - 1], 1).is_empty());
        buffer[HEADER_BYTES] ^= 1;
        assert!(suspects_in(&buffer, 1).is_empty());
        assert!(suspects_in(&[], 1).is_empty());
    }
}
