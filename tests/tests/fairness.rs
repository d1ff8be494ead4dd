//! Connectors that share too few sandboxes.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const LARGE: usize = 50_000;

/// One sandbox for two connectors. What they have done lies in one queue, in the order in which it was done.
#[test]
fn a_connector_with_ten_messages_does_not_wait_for_one_with_fifty_thousand() {
    let connector = |name: &str| {
        let plugin = guest("steps");
        format!("[connectors.{name}]\nplugin = '{}'\nconsume = '{name}'\nallow.publish = ['out']\n", plugin.display())
    };
    let data = tempfile::tempdir().unwrap();
    let host = Bulkhead::on(data.path().join("data"), "runs = 1", &(connector("large") + &connector("small")));
    host.send("large", &vec!["large"; LARGE]);
    host.send("small", &["small"; 10]);
    let running = host.start();
    let small = [("connector", "small"), ("outcome", "done")];
    running.wait_until("small one", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &small) == 10.0);
    running.kill9();
    let done = host.ledger().messages("out");
    let last = done.iter().rposition(|message| message.body.starts_with(b"small")).unwrap();
    assert!(last < LARGE / 10, "{last} of {}", done.len());
}
