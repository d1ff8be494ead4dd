//! What the world outside sees of a crash: at most one delivery with outside effects comes again for each worker.

use std::collections::HashMap;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGES: usize = 300;
const WORKERS: usize = 3;
const CRASHES: usize = 8;

#[test]
fn a_crash_repeats_at_most_one_request_of_each_worker_under_its_key() {
    let receiver = Fixture::start(|_| Answer::status(200));
    let url = receiver.url();
    let host = Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\n
        consume = {{ queue = 'in', batch = 32, concurrency = {WORKERS} }}\n
        config = {{ method = 'POST', url = '{url}/' }}\n
        allow.http = [{{ url = '{url}/', methods = ['POST'], private = true, idempotency = true }}]\n"
    ));
    host.send("in", &(0..MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>());
    for crash in 1..=CRASHES {
        let running = host.start();
        // In the middle of a run: its first requests are out.
        receiver.wait_for(crash * MESSAGES / (CRASHES + 2), PATIENCE);
        running.kill9();
    }
    let _ = host.run_until_idle();

    let mut arrived: HashMap<String, Vec<String>> = HashMap::new();
    for request in receiver.requests() {
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        arrived.entry(body).or_default().push(request.header("idempotency-key").unwrap().to_owned());
    }
    assert_eq!(arrived.len(), MESSAGES, "every message has arrived");
    assert!(host.ledger().messages("in").is_empty() && host.ledger().dead().is_empty());
    let repeats: usize = arrived.values().map(|keys| keys.len() - 1).sum();
    assert!(repeats <= CRASHES * WORKERS, "{repeats} repeats after {CRASHES} crashes of {WORKERS} workers");
    assert!(arrived.values().all(|keys| keys.iter().all(|key| *key == keys[0])), "a repeat has the key of the first");
}
