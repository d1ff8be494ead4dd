//! The in-flight file of a host that was killed: what each worker was running, read without the host.

use std::path::Path;

/// Checksum, boot, subscription, number of deliveries, flags; then 1,024 deliveries.
const HEADER_BYTES: usize = 32;
const SLOT_BYTES: usize = HEADER_BYTES + 1024 * 8;

/// A run that was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The subscription's number in the ledger.
    pub subscription: u32,
    /// The places of its messages in the queue.
    pub seqs: Vec<i64>,
    /// Whether it was a suspect that ran alone.
    pub is_alone: bool,
}

/// The file's bytes; none where there is no file yet.
pub(crate) fn bytes(data: &Path) -> Vec<u8> {
    std::fs::read(data.join("inflight")).unwrap_or_default()
}

/// The runs that it names. A slot that is torn or free names none.
pub(crate) fn runs(bytes: &[u8]) -> Vec<Run> {
    bytes.chunks(SLOT_BYTES).filter_map(run).collect()
}

fn run(slot: &[u8]) -> Option<Run> {
    let long = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from_le_bytes(slot.get(at..at + 4)?.try_into().ok()?));
    if long(0)? == 0 {
        return None;
    }
    let (subscription, count) = (short(16)?, usize::try_from(short(20)?).ok()?);
    let seqs = (0..count).map_while(|nth| i64::try_from(long(HEADER_BYTES + nth * 8)?).ok()).collect();
    Some(Run { subscription, seqs, is_alone: long(24)? == 1 })
}
