//! A Bloom filter over fingerprints: "surely not" or "maybe".
//!
//! Pure. Fingerprints are uniform already, so their two halves serve as the hashes.

/// Bits for each entry: with [`HASHES`] one wrong "maybe" in some three hundred.
const BITS_PER_ENTRY: u64 = 12;
const HASHES: u64 = 8;
/// A smaller filter is not worth the name.
const BYTES_MIN: u64 = 64;

/// The filter.
#[derive(Debug)]
pub(super) struct Bloom(Vec<u8>);

impl Bloom {
    /// An empty one for so many entries.
    pub(super) fn for_entries(entries: u64) -> Self {
        let bytes = (entries.saturating_mul(BITS_PER_ENTRY) / 8).max(BYTES_MIN);
        Self(vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)])
    }

    /// One that was stored; an empty text makes one that says "maybe" to everything.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(if bytes.is_empty() { vec![0xff] } else { bytes })
    }

    /// As it is stored.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a fingerprint.
    pub(super) fn insert(&mut self, fingerprint: &[u8; 16]) {
        for (byte, bit) in self.places(fingerprint) {
            self.0[byte] |= bit;
        }
    }

    /// Whether it may have been added.
    pub(super) fn may_hold(&self, fingerprint: &[u8; 16]) -> bool {
        self.places(fingerprint).all(|(byte, bit)| self.0[byte] & bit != 0)
    }

    fn places(&self, fingerprint: &[u8; 16]) -> impl Iterator<Item = (usize, u8)> + use<> {
        let both = u128::from_le_bytes(*fingerprint);
        let bits = self.0.len() as u64 * 8;
        // The halves of a fingerprint; cutting them off is meant.
        #[expect(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
        let (first, second) = (both as u64, (both >> 64) as u64 | 1);
        (0..HASHES).map(move |round| {
            let bit = first.wrapping_add(round.wrapping_mul(second)) % bits;
            (usize::try_from(bit / 8).unwrap_or(0), 1 << (bit % 8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(number: u64) -> [u8; 16] {
        let hash = (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (hash ^ (hash >> 61)).to_le_bytes()
    }

    #[test]
    fn never_denies_what_it_holds_and_seldom_errs() {
        let mut filter = Bloom::for_entries(2_000);
        (0..2_000).for_each(|number| filter.insert(&print(number)));
        let stored = Bloom::from_bytes(filter.as_bytes().to_vec());
        assert!((0..2_000).all(|number| stored.may_hold(&print(number))));
        let wrong = (2_000..12_000).filter(|number| stored.may_hold(&print(*number))).count();
        assert!(wrong < 300, "{wrong} of 10,000");
    }
}
