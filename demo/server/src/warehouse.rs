//! The warehouse: takes shipments, is busy now and then, and rejects some for ever.
//!
//! It behaves by the order's number and the count of tries, not by chance, so that each demo meets the same trouble. It
//! takes each `Idempotency-Key` once; that is what makes "at least once" outside come to "once".

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::order::{self, Status, Version};

/// One try in this many is answered 503.
const BUSY_EACH: u64 = 10;
/// One first try in this many is taken, and its answer lost: the sender cannot know, and comes again.
const LOST_EACH: u64 = 30;
/// Busy for the same shipment at most this often.
const BUSY_MAX: u32 = 3;

/// The body of `POST /shipments`.
#[derive(Debug, Deserialize)]
pub(crate) struct Shipment {
    order: String,
    status: String,
    currency: String,
    total_cents: u64,
}

/// What the warehouse makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Taken now.
    Taken(Version),
    /// Taken now, but the answer will not say so.
    AnswerLost(Version),
    /// This key was taken before.
    Known,
    /// Come again, perhaps no sooner than a second from now.
    Busy { after: bool },
    /// Never.
    Rejected,
    /// Not a request that a sender in its senses would make.
    Malformed,
    /// No token.
    Unauthorized,
}

impl Verdict {
    /// The answer's status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Taken(_) => StatusCode::CREATED,
            Self::Known => StatusCode::OK,
            Self::Busy { .. } | Self::AnswerLost(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
        }
    }
}

/// What has happened in the warehouse.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stock {
    requests: u32,
    expected: usize,
    expected_rejected: usize,
    delivered: usize,
    rejected: usize,
    duplicates: u32,
    busy: u32,
    answers_lost: u32,
    /// Deliveries that were taken under two keys, or that should not exist: always 0 when the sender does its work.
    doubled: u32,
    /// Requests without a key, a token or a body that reads.
    malformed: u32,
    missing: Vec<String>,
}

/// The warehouse.
#[derive(Debug)]
pub(crate) struct Warehouse(Mutex<Book>);

#[derive(Debug)]
struct Book {
    open: HashSet<Version>,
    expected: usize,
    expected_rejected: usize,
    taken: HashMap<Version, String>,
    keys: HashSet<String>,
    tries: HashMap<Version, u32>,
    rejected: HashSet<Version>,
    requests: u32,
    duplicates: u32,
    busy: u32,
    answers_lost: u32,
    doubled: u32,
    malformed: u32,
}

impl Warehouse {
    /// A warehouse that waits for every version of `orders` orders.
    pub(crate) fn open(orders: u32) -> Self {
        let open: HashSet<Version> = order::every_version(orders).collect();
        Self(Mutex::new(Book {
            expected: open.len(),
            expected_rejected: open.iter().filter(|version| order::is_foreign(version.number)).count(),
            open,
            taken: HashMap::new(),
            keys: HashSet::new(),
            tries: HashMap::new(),
            rejected: HashSet::new(),
            requests: 0,
            duplicates: 0,
            busy: 0,
            answers_lost: 0,
            doubled: 0,
            malformed: 0,
        }))
    }

    /// `POST /shipments`.
    pub(crate) fn receive(&self, authorized: bool, key: Option<&str>, body: &[u8]) -> Verdict {
        let mut book = self.lock();
        book.requests += 1;
        if !authorized {
            book.malformed += 1;
            return Verdict::Unauthorized;
        }
        match (key, Shipment::read(body)) {
            (Some(key), Some((version, shipment))) => book.judge(key, version, &shipment),
            _ => {
                book.malformed += 1;
                Verdict::Malformed
            }
        }
    }

    /// What has happened so far.
    pub(crate) fn stock(&self) -> Stock {
        let book = self.lock();
        let mut missing: Vec<Version> = book.open.iter().copied().collect();
        missing.sort_unstable();
        Stock {
            requests: book.requests,
            expected: book.expected,
            expected_rejected: book.expected_rejected,
            delivered: book.taken.len(),
            rejected: book.rejected.len(),
            duplicates: book.duplicates,
            busy: book.busy,
            answers_lost: book.answers_lost,
            doubled: book.doubled,
            malformed: book.malformed,
            missing: missing
                .iter()
                .take(10)
                .map(|version| format!("{} {}", order::id(version.number), version.status.word()))
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shipment {
    fn read(body: &[u8]) -> Option<(Version, Self)> {
        let shipment: Self = serde_json::from_slice(body).ok()?;
        let version = Version { number: order::number(&shipment.order)?, status: Status::from_word(&shipment.status)? };
        (shipment.total_cents > 0).then_some((version, shipment))
    }
}

impl Book {
    fn judge(&mut self, key: &str, version: Version, shipment: &Shipment) -> Verdict {
        if shipment.currency != "EUR" {
            self.open.remove(&version);
            self.rejected.insert(version);
            return Verdict::Rejected;
        }
        if self.keys.contains(key) {
            self.duplicates += 1;
            return Verdict::Known;
        }
        let tries = self.tries.entry(version).or_insert(0);
        *tries += 1;
        let lot = lot_of(version, *tries);
        if lot.is_multiple_of(BUSY_EACH) && *tries <= BUSY_MAX {
            self.busy += 1;
            return Verdict::Busy { after: lot.is_multiple_of(2 * BUSY_EACH) };
        }
        let is_first = *tries == 1;
        self.take(key, version);
        if is_first && lot % LOST_EACH == 1 {
            self.answers_lost += 1;
            return Verdict::AnswerLost(version);
        }
        Verdict::Taken(version)
    }

    fn take(&mut self, key: &str, version: Version) {
        let was_open = self.open.remove(&version);
        let was_new = self.taken.insert(version, key.to_owned()).is_none();
        self.keys.insert(key.to_owned());
        if !was_open || !was_new {
            self.doubled += 1;
        }
    }
}

fn lot_of(version: Version, tries: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (version, tries).hash(&mut hasher);
    hasher.finish() >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(warehouse: &Warehouse, number: u32, key: &str) -> Verdict {
        let currency = if order::is_foreign(number) { "XXX" } else { "EUR" };
        let body = serde_json::json!({ "order": order::id(number), "status": "paid", "currency": currency, "total_cents": 100 });
        warehouse.receive(true, Some(key), body.to_string().as_bytes())
    }

    #[test]
    fn about_one_try_in_ten_is_answered_503_and_never_for_ever() {
        let warehouse = Warehouse::open(1_000);
        for number in 1..=1_000 {
            let tries =
                (0..10).take_while(|_| matches!(send(&warehouse, number, &number.to_string()), Verdict::Busy { .. }));
            assert!(tries.count() <= BUSY_MAX as usize);
        }
        let stock = warehouse.stock();
        assert!((50..200).contains(&stock.busy), "{stock:?}");
        assert_eq!((stock.rejected, stock.doubled, stock.malformed), (40, 0, 0));
    }

    #[test]
    fn a_key_is_taken_once_and_a_second_key_for_the_same_shipment_is_noticed() {
        let warehouse = Warehouse::open(9);
        let number = (1..=9).find(|number| matches!(send(&warehouse, *number, "a"), Verdict::Taken(_))).unwrap();
        assert_eq!(send(&warehouse, number, "a"), Verdict::Known);
        while matches!(send(&warehouse, number, "b"), Verdict::Busy { .. }) {}
        let stock = warehouse.stock();
        assert_eq!((stock.duplicates, stock.doubled), (1, 1));
    }
}
