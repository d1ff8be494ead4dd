//! The shop's orders: what they hold, which of them change later, and which the warehouse will never take.
//!
//! Everything follows from an order's number, so that the demo knows beforehand what must arrive.

use serde_json::{Value, json};

/// Orders whose number divides by this are shipped once the warehouse knows them: a second version of the same record.
const SHIPPED_EACH: u32 = 10;
/// Orders whose number divides by this are in a currency that the warehouse does not know.
const FOREIGN_EACH: u32 = 25;
/// Between two changes in the shop's book, so that each has a time of its own.
const CHANGE_APART_MS: u64 = 250;

const CUSTOMERS: [(&str, &str); 6] =
    [("Ada", "GB"), ("Björn", "SE"), ("Chiara", "IT"), ("Dieter", "DE"), ("Élodie", "FR"), ("Fatou", "SN")];

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Status {
    /// The first version of the record.
    Paid,
    /// The second one.
    Shipped,
}

impl Status {
    /// As in the JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Shipped => "shipped",
        }
    }

    /// From the JSON.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Paid, Self::Shipped].into_iter().find(|status| status.word() == word)
    }
}

/// One version of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Version {
    /// The order's number, from 1.
    pub(crate) number: u32,
    /// Which version it is.
    pub(crate) status: Status,
}

impl Version {
    /// The version that follows once the warehouse has taken this one.
    pub(crate) fn next(self) -> Option<Self> {
        let changes =
            self.status == Status::Paid && self.number.is_multiple_of(SHIPPED_EACH) && !is_foreign(self.number);
        changes.then_some(Self { status: Status::Shipped, ..self })
    }

    /// The record, as the API shows it.
    pub(crate) fn record(self, updated_at: &str) -> Value {
        let number = self.number;
        let (name, country) = CUSTOMERS[number as usize % CUSTOMERS.len()];
        let items: Vec<Value> = (0..=number % 3)
            .map(|item| json!({ "sku": format!("SKU-{}", (number + item) % 40), "quantity": item + 1, "price_cents": 100 * (1 + (number + item) % 90) }))
            .collect();
        json!({
            "id": id(number),
            "status": self.status.word(),
            "currency": if is_foreign(number) { "XXX" } else { "EUR" },
            "customer": { "name": name, "country": country },
            "items": items,
            "updated_at": updated_at,
        })
    }
}

/// Whether the warehouse rejects this order for ever.
pub(crate) fn is_foreign(number: u32) -> bool {
    number.is_multiple_of(FOREIGN_EACH)
}

/// An order's id in the API.
pub(crate) fn id(number: u32) -> String {
    format!("order-{number:05}")
}

/// The number of an id.
pub(crate) fn number(id: &str) -> Option<u32> {
    id.strip_prefix("order-")?.parse().ok()
}

/// The time of the nth change in the shop's book; equal lengths, so that text compares as time.
pub(crate) fn time_of_change(change: usize) -> String {
    let ms = change as u64 * CHANGE_APART_MS;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("2026-03-02T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1_000)
}

/// Every version that will exist of `orders` orders, in no particular order.
pub(crate) fn every_version(orders: u32) -> impl Iterator<Item = Version> {
    (1..=orders)
        .map(|number| Version { number, status: Status::Paid })
        .flat_map(|first| [Some(first), first.next()])
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_number() {
        assert_eq!(number(&id(42)), Some(42));
        assert_eq!(number("order-"), None);
    }

    #[test]
    fn every_tenth_order_changes_unless_the_warehouse_rejects_it() {
        let versions: Vec<Version> = every_version(50).collect();
        assert_eq!(versions.len(), 50 + 4);
        assert!(is_foreign(50) && Version { number: 50, status: Status::Paid }.next().is_none());
    }

    #[test]
    fn times_of_changes_sort_as_text() {
        assert_eq!(time_of_change(14_405), "2026-03-02T01:00:01.250Z");
        assert!(time_of_change(9) < time_of_change(10));
    }
}
