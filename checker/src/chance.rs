//! Everything that is random, from one seed: the same seed draws the same work and the same faults.
//!
//! When a fault meets which message depends on the machine all the same; what the sink answers to a message never does.

use sha2::{Digest as _, Sha256};

/// A stream of numbers (`splitmix64`).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of a seed for one purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        Self(number(seed, &[purpose]))
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The number of these words under a seed.
pub(crate) fn number(seed: u64, words: &[&str]) -> u64 {
    let mut hash = Sha256::new().chain_update(seed.to_le_bytes());
    for word in words {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// What the ids of messages begin with whose payloads have some 600 KB.
pub(crate) const WIDE: char = 'w';

/// The payload of a message: its id, and text that follows from it; mostly short, now and then of 100 KB.
pub(crate) fn payload(seed: u64, id: &str) -> String {
    let drawn = number(seed, &["payload", id]);
    let words = match drawn {
        _ if id.starts_with(WIDE) => 36_000,
        drawn if drawn.is_multiple_of(199) => 6_000,
        drawn => drawn % 60,
    };
    (0..words).fold(id.to_owned(), |text, nth| text + &format!(" {:x}", drawn.rotate_left((nth % 64) as u32) ^ nth))
}

/// By what two payloads are compared.
pub(crate) fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_another_seed_something_else() {
        let draw = |seed, purpose| {
            let mut chance = Chance::new(seed, purpose);
            (0..8).map(|_| chance.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "work"), draw(1, "work"));
        assert_ne!(draw(1, "work"), draw(2, "work"));
        assert_ne!(draw(1, "work"), draw(1, "faults"));
    }

    #[test]
    fn a_payload_begins_with_its_id_and_follows_from_it() {
        assert!(payload(1, "a7").starts_with("a7"));
        assert_eq!(payload(1, "a7"), payload(1, "a7"));
        assert_ne!(digest(payload(1, "a7").as_bytes()), digest(payload(1, "a8").as_bytes()));
    }
}
