//! Header fields that make a server see another end of a request, another place or a second request: what a plugin writes
//! of them is refused or left out, and the server hears none of it.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, Misdeed, Running, Upstream, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers, and keeps what it reads.
fn server() -> Upstream {
    Upstream::start(Misdeed::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()))
}

/// A connector with this plugin that may ask the server.
fn smuggler(plugin: &str, server: &Upstream) -> Bulkhead {
    let (plugin, url) = (guest(plugin), server.url());
    Bulkhead::new(&format!(
        "[connectors.smuggler]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 1 }}\nallow.publish = ['seen']\n\
         allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
        plugin.display()
    ))
}

/// The message is settled without a failure.
fn settled(host: &Bulkhead, message: &str) -> Running {
    let running = host.start();
    host.send("in", &[message]);
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &[]) == 1.0);
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    running
}

fn denied(metrics: &Metrics, reason: &str) -> f64 {
    metrics.value("bulkhead_denied_total", &[("connector", "smuggler"), ("effect", "http"), ("reason", reason)])
}

#[test]
fn fields_that_smuggle_are_refused_and_counted() {
    let server = server();
    let running = settled(&smuggler("vandal", &server), &format!("smuggle {}/", server.url()));
    let metrics = running.metrics();
    assert_eq!((denied(&metrics, "header"), denied(&metrics, "invalid")), (9.0, 8.0));
    assert_eq!((metrics.value("bulkhead_denied_total", &[]), metrics.limits("smuggler")), (17.0, Vec::new()));
    assert_eq!((server.connections(), server.heard()), (0, String::new()));
}

#[test]
fn what_the_host_says_itself_is_not_overruled() {
    let server = server();
    let running = settled(&smuggler("vandal", &server), &format!("overrule {}/", server.url()));
    assert_eq!(running.metrics().value("bulkhead_denied_total", &[]), 0.0);
    let heard = server.heard().to_ascii_lowercase();
    let place = server.url().replace("http://", "host: ");
    assert!(heard.contains(&place) && heard.contains("user-agent: bulkhead/"), "{heard}");
    // The port may be any number.
    let heard = heard.replace(&place, "");
    for word in ["smuggled", "77", "content-length", "content_length", "transfer-encoding"] {
        assert!(!heard.contains(word), "`{word}` in: {heard}");
    }
}

/// What `wasi:http` does not take reaches no gate, and is counted by nobody.
#[test]
fn fields_of_wasi_http_that_smuggle_are_not_taken() {
    let server = server();
    let host = smuggler("stream", &server);
    let running = settled(&host, &format!("smuggle {}/", server.url()));
    let _ = running.terminate().ok();
    let seen = String::from_utf8(host.ledger().messages("seen").remove(0).body).unwrap();
    assert_eq!(seen, "11 0 2", "not taken, refused, sent");
    let heard = server.heard().to_ascii_lowercase();
    assert_eq!((server.connections(), heard.matches("get / http/1.1\r\n").count()), (2, 2), "{heard}");
    assert!(!heard.contains("smuggled") && !heard.contains("transfer-encoding"), "{heard}");
}
