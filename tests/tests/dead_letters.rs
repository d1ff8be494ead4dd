//! What a dead letter keeps: the message, and of every attempt the reason and the time.

use bulkhead_tests::{Answer, Bulkhead, Fixture};

/// RFC 3339 leaves out zeros at the end: with them, the order of the texts is that of the times.
fn time(at: &str) -> String {
    let at = at.strip_suffix('Z').unwrap();
    let (seconds, fraction) = at.split_once('.').unwrap_or((at, ""));
    format!("{seconds}.{fraction:0<3}")
}

#[test]
fn a_dead_letter_keeps_the_reason_and_the_time_of_every_attempt() {
    let statuses = [500, 503, 429, 502];
    let server = Fixture::answering(statuses.map(Answer::status));
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'in'\nconfig = {{ url = '{url}/' }}\n
        retry = {{ attempts = 4, first = '10ms', factor = 1.0, jitter = 'none' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    ));
    let ids = host.send("in", &["body"]);
    let _ = host.run_until_idle();
    let listed = host.dead();
    assert_eq!((listed.len(), &listed[0]["attempts"]), (1, &4.into()));
    let letter = host.run(&["dead", "show", listed[0]["id"].as_str().unwrap(), "--json"]).ok().json();
    assert_eq!((&letter["message_id"], &letter["body"]), (&ids[0].as_str().into(), &"body".into()));
    let history = letter["history"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let reasons: Vec<String> = history.iter().map(|attempt| text(&attempt["reason"])).collect();
    assert_eq!(reasons.len(), statuses.len());
    for (reason, status) in reasons.iter().zip(statuses) {
        assert!(reason.contains(&status.to_string()), "{status} in: {reason}");
    }
    assert_eq!(letter["reason"], reasons[3].as_str());
    // Between two of them lies the delay, from acceptance to death.
    let mut times = vec![time(&text(&letter["enqueued_at"]))];
    times.extend(history.iter().map(|attempt| time(&text(&attempt["at"]))));
    assert!(times.is_sorted() && times[1..].is_sorted_by(|a, b| a < b), "{times:?}");
    assert_eq!(times.last(), Some(&time(&text(&letter["died_at"]))));
}
