//! What an answer means for the delivery: the config's lists first, then the rules that every connector has.

use bulkhead_sdk::Failure;
use bulkhead_sdk::http::{Response, Verdict, verdict};

use crate::settings::{Config, Status};

/// Settles, retries (no sooner than `Retry-After`) or rejects.
pub(crate) fn of(config: &Config, response: Response) -> Result<(), Failure> {
    match decide(config, response.status()) {
        Verdict::Success => Ok(()),
        Verdict::Retry => Err(match response.retry_after() {
            Some(delay) => Failure::retry(reason(&response)).after(delay),
            None => Failure::retry(reason(&response)),
        }),
        Verdict::Reject => Err(Failure::reject(reason(&response))),
    }
}

/// A status that is listed beats its class; within either, `success`, `retry`, `reject` in this order.
fn decide(config: &Config, status: u16) -> Verdict {
    let lists =
        [(Verdict::Success, &config.success), (Verdict::Retry, &config.retry), (Verdict::Reject, &config.reject)];
    let named = |entry: &Status| matches!(entry, Status::One(one) if *one == status);
    let covered = |entry: &Status| matches!(entry, Status::Class(class) if class.contains(status));
    let find = |wanted: &dyn Fn(&Status) -> bool| {
        lists.iter().find(|(_, list)| list.iter().any(wanted)).map(|(verdict, _)| *verdict)
    };
    find(&named).or_else(|| find(&covered)).unwrap_or_else(|| verdict(status))
}

/// The status and the beginning of the body, for people.
fn reason(response: &Response) -> String {
    match response.clone().check() {
        Err(error) => error.to_string(),
        Ok(response) => format!("status {} is listed as a failure", response.status()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(lists: serde_json::Value, status: u16, expected: Verdict) {
        let mut table = serde_json::json!({"url": "https://a.example/"});
        for (name, list) in lists.as_object().unwrap() {
            table[name] = list.clone();
        }
        assert_eq!(decide(&serde_json::from_value(table).unwrap(), status), expected, "{status}");
    }

    #[test]
    fn without_lists_the_common_rules_hold() {
        check(serde_json::json!({}), 201, Verdict::Success);
        check(serde_json::json!({}), 503, Verdict::Retry);
        check(serde_json::json!({}), 422, Verdict::Reject);
    }

    #[test]
    fn listed_statuses_come_first() {
        check(serde_json::json!({"success": [409]}), 409, Verdict::Success);
        check(serde_json::json!({"reject": [503]}), 503, Verdict::Reject);
        check(serde_json::json!({"retry": [404]}), 404, Verdict::Retry);
    }

    #[test]
    fn a_status_beats_its_class() {
        let lists = serde_json::json!({"success": ["4xx"], "retry": [404]});
        check(lists.clone(), 404, Verdict::Retry);
        check(lists, 410, Verdict::Success);
    }

    #[test]
    fn retry_after_is_kept() {
        let config = serde_json::from_value(serde_json::json!({"url": "https://a.example/"})).unwrap();
        let answer = Response::new(429).with_header("retry-after", "3");
        assert!(
            matches!(of(&config, answer), Err(Failure::Retry { after: Some(delay), .. }) if delay == Duration::from_secs(3))
        );
    }
}
