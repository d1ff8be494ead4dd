//! Whether every record is accounted for: what the shop had, against what the warehouse and the ledger say.

use serde::Deserialize;
use serde_json::Value;

use super::Outcome;

/// The connector that delivers to the warehouse.
pub(crate) const DELIVERER: &str = "deliver";

/// What the demo's server tells.
#[derive(Debug, Deserialize)]
pub(crate) struct Stats {
    /// The API's side.
    pub(crate) shop: Shop,
    /// The receiver's side.
    pub(crate) warehouse: Warehouse,
}

/// What the API has answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Shop {
    /// All requests.
    pub(crate) requests: u64,
    /// Answers with records.
    pub(crate) pages: u64,
    /// 304.
    pub(crate) not_modified: u64,
    /// 429.
    pub(crate) rate_limited: u64,
    /// 401.
    pub(crate) unauthorized: u64,
    /// Versions of orders that it has shown.
    pub(crate) versions: u64,
}

/// What the receiver has seen.
#[derive(Debug, Deserialize)]
pub(crate) struct Warehouse {
    /// All requests.
    pub(crate) requests: u64,
    /// Versions that must arrive, those included that must be rejected.
    pub(crate) expected: u64,
    /// Versions that must be rejected.
    pub(crate) expected_rejected: u64,
    /// Versions that it has taken.
    pub(crate) delivered: u64,
    /// Versions that it has rejected for ever.
    pub(crate) rejected: u64,
    /// Requests whose key it had taken before.
    pub(crate) duplicates: u64,
    /// 503 before anything was taken.
    pub(crate) busy: u64,
    /// 503 although it was taken.
    pub(crate) answers_lost: u64,
    /// Versions that arrived under two keys, or that do not exist.
    pub(crate) doubled: u64,
    /// Requests without key, token or a body that reads.
    pub(crate) malformed: u64,
    /// Some of those that have not arrived.
    pub(crate) missing: Vec<String>,
}

/// One thing that must hold.
pub(crate) struct Check {
    /// What it is, with the figures.
    pub(crate) says: String,
    /// Whether it does.
    pub(crate) holds: bool,
}

impl Stats {
    /// Whether everything that must arrive has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.warehouse.delivered + self.warehouse.rejected >= self.warehouse.expected
            && self.warehouse.missing.is_empty()
    }

    /// Some of what has not, for people.
    pub(crate) fn missing(&self) -> String {
        let open = self.warehouse.expected.saturating_sub(self.warehouse.delivered + self.warehouse.rejected);
        format!("{open} of {}, such as {}", self.warehouse.expected, self.warehouse.missing.join(", "))
    }
}

/// All that must hold.
pub(crate) fn checks(outcome: &Outcome) -> Vec<Check> {
    let warehouse = &outcome.stats.warehouse;
    let wanted = warehouse.expected - warehouse.expected_rejected;
    let (letters, strangers) = letters(&outcome.dead);
    let unsettled = unsettled(&outcome.queues);
    let check = |holds, says: String| Check { says, holds };
    let mut checks = vec![
        check(
            outcome.stats.shop.versions == warehouse.expected,
            format!(
                "everything was fetched: {} of {} versions of orders",
                outcome.stats.shop.versions, warehouse.expected
            ),
        ),
        check(
            warehouse.delivered == wanted && warehouse.missing.is_empty(),
            format!("nothing is lost: {} of {wanted} versions delivered", warehouse.delivered),
        ),
        check(
            warehouse.rejected == warehouse.expected_rejected,
            format!("{} of {} rejected, as expected", warehouse.rejected, warehouse.expected_rejected),
        ),
        check(
            letters == warehouse.expected_rejected && strangers == 0,
            format!("each rejected one is a dead letter: {letters}, and {strangers} of other connectors"),
        ),
        check(
            warehouse.doubled == 0,
            format!(
                "nothing arrived under two keys: {} did; {} repeats under their own key",
                warehouse.doubled, warehouse.duplicates
            ),
        ),
        check(
            warehouse.malformed == 0 && outcome.stats.shop.unauthorized == 0,
            "every request carried its credential and its key".to_owned(),
        ),
        check(unsettled == 0, format!("no queue holds anything unsettled: {unsettled} messages")),
    ];
    if let Some(cleanly) = outcome.stopped {
        checks.push(check(cleanly, "the host stopped cleanly on SIGTERM".to_owned()));
    }
    checks
}

/// Dead letters of the deliverer, and of any other connector.
fn letters(dead: &Value) -> (u64, u64) {
    let letters = dead.as_array().map(Vec::as_slice).unwrap_or_default();
    let expected = letters.iter().filter(|letter| letter["connector"] == DELIVERER).count() as u64;
    (expected, letters.len() as u64 - expected)
}

/// Messages of the two queues that a connector still has to settle. Inboxes hold ticks, and one may always be waiting.
fn unsettled(queues: &Value) -> u64 {
    let queues = queues.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let named = queues.filter(|queue| !queue["queue"].as_str().unwrap_or_default().starts_with('@'));
    named
        .filter_map(|queue| queue["subscriptions"].as_array())
        .flatten()
        .filter_map(|one| one["backlog"].as_u64())
        .sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::figures::Figures;
    use super::*;

    /// Four versions, one of which is rejected: all as it should be.
    fn sound() -> Outcome {
        let shop = json!({
            "requests": 9, "pages": 3, "not_modified": 1, "rate_limited": 1, "unauthorized": 0, "versions": 4
        });
        let warehouse = json!({
            "requests": 7, "expected": 4, "expected_rejected": 1, "delivered": 3, "rejected": 1, "duplicates": 1,
            "busy": 1, "answers_lost": 1, "doubled": 0, "malformed": 0, "missing": []
        });
        Outcome {
            figures: Figures::default(),
            stats: serde_json::from_value(json!({ "shop": shop, "warehouse": warehouse }))
                .expect("all fields are there"),
            queues: json!([
                { "queue": "shipments", "subscriptions": [{ "connector": DELIVERER, "backlog": 0 }] },
                { "queue": "@poll-orders", "subscriptions": [{ "connector": "poll-orders", "backlog": 1 }] }
            ]),
            dead: json!([{ "connector": DELIVERER }]),
            took: Duration::ZERO,
            stopped: Some(true),
        }
    }

    /// What does not hold when this is changed.
    fn broken(change: impl FnOnce(&mut Outcome)) -> Vec<String> {
        let mut outcome = sound();
        change(&mut outcome);
        checks(&outcome).into_iter().filter(|check| !check.holds).map(|check| check.says).collect()
    }

    #[test]
    fn all_holds_when_every_record_is_accounted_for() {
        assert_eq!(broken(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_lost_record_fails() {
        let lost = broken(|outcome| {
            outcome.stats.warehouse.delivered = 2;
            outcome.stats.warehouse.missing = vec!["order 7".to_owned()];
        });
        assert_eq!(lost, ["nothing is lost: 2 of 3 versions delivered"]);
    }

    /// One came twice under two keys, so that the numbers alone look well.
    #[test]
    fn a_record_that_is_missing_fails_also_where_the_number_is_right() {
        let missing = broken(|outcome| outcome.stats.warehouse.missing = vec!["order 7".to_owned()]);
        assert_eq!(missing, ["nothing is lost: 3 of 3 versions delivered"]);
    }

    #[test]
    fn a_record_that_was_never_fetched_fails() {
        let unfetched = broken(|outcome| outcome.stats.shop.versions = 3);
        assert_eq!(unfetched, ["everything was fetched: 3 of 4 versions of orders"]);
    }

    #[test]
    fn a_doubled_record_fails() {
        let doubled = broken(|outcome| outcome.stats.warehouse.doubled = 1);
        assert_eq!(doubled, ["nothing arrived under two keys: 1 did; 1 repeats under their own key"]);
    }

    #[test]
    fn a_record_that_is_dead_and_should_not_be_fails() {
        let wrongly = broken(|outcome| outcome.dead = json!([{ "connector": DELIVERER }, { "connector": DELIVERER }]));
        assert_eq!(wrongly, ["each rejected one is a dead letter: 2, and 0 of other connectors"]);
        let elsewhere =
            broken(|outcome| outcome.dead = json!([{ "connector": DELIVERER }, { "connector": "to-shipment" }]));
        assert_eq!(elsewhere, ["each rejected one is a dead letter: 1, and 1 of other connectors"]);
        let none = broken(|outcome| outcome.dead = json!([]));
        assert_eq!(none, ["each rejected one is a dead letter: 0, and 0 of other connectors"]);
    }

    #[test]
    fn a_record_that_nobody_settled_fails() {
        let unsettled = broken(|outcome| outcome.queues[0]["subscriptions"][0]["backlog"] = json!(2));
        assert_eq!(unsettled, ["no queue holds anything unsettled: 2 messages"]);
    }

    #[test]
    fn a_host_that_did_not_stop_cleanly_fails() {
        assert_eq!(broken(|outcome| outcome.stopped = Some(false)), ["the host stopped cleanly on SIGTERM"]);
    }
}
