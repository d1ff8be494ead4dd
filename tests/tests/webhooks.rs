//! Webhooks that are stored first: what is accepted, what is a repeat, and what each sender is told.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Reply, Running, SmallDisk, guest, post};
use serde_json::{Value, json};

use crate::signatures::hmac_sha256;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A webhook that stores in `orders`, whose senders show a token.
fn intake(keys: &str) -> Bulkhead {
    let verify = "{ scheme = 'bearer', secret = 'token', id = { header = 'x-event' } }";
    let webhook = format!("webhook = {{ path = '/hooks/{{shop}}', verify = {verify}, publish = 'orders', {keys} }}");
    with_token(&format!("[connectors.intake]\n{webhook}\n"))
}

/// A webhook whose plugin gets what is stored.
fn handled(keys: &str) -> Bulkhead {
    let webhook = "webhook = { path = '/in', verify = 'none' }";
    with_token(&format!("[connectors.it]\nplugin = '{}'\n{webhook}\n{keys}\n", guest("hook").display()))
}

fn with_token(toml: &str) -> Bulkhead {
    Bulkhead::new(&format!("[secrets]\ntoken = {{ env = 'HOOK_TOKEN' }}\n{toml}")).variable("HOOK_TOKEN", "open-sesame")
}

fn send(host: &Bulkhead, path: &str, event: &str, body: &str) -> Reply {
    post(host.webhooks(), path, &[("Authorization", "Bearer open-sesame"), ("X-Event", event)], body)
}

fn counted(running: &Running, connector: &str, status: &str) -> f64 {
    running.metrics().value("bulkhead_webhooks_total", &[("connector", connector), ("status", status)])
}

#[test]
fn a_request_lies_in_its_queue_when_it_is_answered() {
    let host = intake("");
    let running = host.start();
    let headers = [
        ("Authorization", "Bearer open-sesame"),
        ("Cookie", "a=b"),
        ("X-Event", "evt_1"),
        ("Content-Type", "text/plain"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("Bulkhead-Verified-By", "somebody else"),
    ];
    let reply = post(host.webhooks(), "/hooks/north%20west?a=1&b=2", &headers, "one\ntwo");
    assert_eq!((reply.status, reply.body.as_str()), (202, ""), "{}", reply.head);
    running.kill9();
    let messages = host.ledger().messages("orders");
    assert_eq!((messages.len(), messages[0].id.as_str(), messages[0].body.as_slice()), (1, "evt_1", &b"one\ntwo"[..]));
    let headers: HashSet<(String, String)> = host.ledger().headers("orders").remove(0).into_iter().collect();
    let expected = [
        ("bulkhead-method", "POST"),
        ("bulkhead-path", "/hooks/north%20west"),
        ("bulkhead-query", "a=1&b=2"),
        ("bulkhead-parameter-shop", "north west"),
        ("bulkhead-remote-address", "127.0.0.1"),
        ("bulkhead-verified-by", "bearer"),
        ("content-type", "text/plain"),
        ("host", &host.webhooks().to_string()),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-event", "evt_1"),
    ];
    let expected: HashSet<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(headers, expected);
}

/// Whoever has caught a request can send it again under ids that others will have, and those must be taken all the same.
#[test]
fn a_request_that_is_sent_again_under_another_id_takes_that_id_from_nobody() {
    let verify = "{ scheme = 'hmac', header = 'x-sign', secret = 'token', id = { header = 'x-event' } }";
    let host = with_token(&format!(
        "[connectors.intake]\nwebhook = {{ path = '/in', verify = {verify}, publish = 'orders' }}\n"
    ));
    let running = host.start();
    let send = |event: &str, body: &str| {
        let signature = hmac_sha256("open-sesame", body.as_bytes());
        post(host.webhooks(), "/in", &[("X-Sign", &signature), ("X-Event", event)], body).status
    };
    for (event, body) in [("1", "a"), ("2", "a"), ("2", "b"), ("2", "c"), ("3", "c"), ("3", "a")] {
        assert_eq!(send(event, body), 202, "{event} {body}");
    }
    let _ = running.terminate().ok();
    let stored = host.ledger().messages("orders");
    let stored: Vec<_> = stored.iter().map(|message| (message.id.as_str(), message.body.as_slice())).collect();
    assert_eq!(stored, [("1", &b"a"[..]), ("2", &b"b"[..]), ("3", &b"c"[..])]);
}

/// Its inbox remembers the events, and nothing ever lies there.
#[test]
fn a_webhook_that_stores_elsewhere_has_no_line_among_the_queues() {
    let host = intake("");
    let names = |queues: &Value| -> Vec<String> {
        queues.as_array().unwrap().iter().map(|queue| queue["queue"].as_str().unwrap().to_owned()).collect()
    };
    let running = host.start();
    assert_eq!(send(&host, "/hooks/a", "evt_1", "x").status, 202);
    assert_eq!(names(&running.api("GET", "queues", "").json()), ["orders"]);
    let _ = running.terminate().ok();
    assert_eq!(names(&host.queues()), ["orders"]);
    let text = host.run(&["queues"]).ok().output;
    assert!(text.contains("orders") && !text.contains('@'), "{text}");
    let host = handled("");
    let _ = host.run_until_idle();
    assert_eq!(names(&host.queues()), ["@it"]);
}

#[test]
fn the_same_event_is_one_message_however_often_and_whenever_it_comes() {
    let host = intake("");
    let running = host.start();
    let first: Vec<u16> = thread::scope(|scope| {
        let senders: Vec<_> = (0..100).map(|_| scope.spawn(|| send(&host, "/hooks/a", "evt_1", "x").status)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert_eq!(first, vec![202; 100]);
    assert_eq!(counted(&running, "intake", "202"), 100.0);
    assert_eq!(running.metrics().value("bulkhead_duplicates_total", &[("queue", "@intake")]), 99.0);
    running.kill9();
    let running = host.start();
    assert_eq!(send(&host, "/hooks/a", "evt_1", "x").status, 202);
    assert_eq!(send(&host, "/hooks/a", "evt_2", "x").status, 202);
    running.kill9();
    let ids: Vec<String> = host.ledger().messages("orders").into_iter().map(|message| message.id).collect();
    assert_eq!(ids, ["evt_1", "evt_2"]);
}

#[test]
fn a_cloud_event_is_known_by_its_source_and_id() {
    let host = Bulkhead::new(
        "[connectors.intake]\nwebhook = { path = '/in', verify = 'none', publish = 'events', accepted_status = 204 }\n",
    );
    let running = host.start();
    let binary = |source| {
        let headers = [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", source), ("ce-type", "paid")];
        post(host.webhooks(), "/in", &headers, "{}").status
    };
    let structured = json!({"specversion": "1.0", "id": "7", "source": "/a", "type": "paid", "data": 1}).to_string();
    let kind = [("content-type", "application/cloudevents+json")];
    assert_eq!([binary("/a"), binary("/b"), binary("/a")], [204; 3]);
    assert_eq!(post(host.webhooks(), "/in", &kind, &structured).status, 204);
    assert_eq!(post(host.webhooks(), "/in", &kind, &structured.replace("/a", "/c")).status, 204);
    running.kill9();
    let ids: Vec<String> = host.ledger().messages("events").into_iter().map(|message| message.id).collect();
    assert_eq!(ids, ["7", "7", "7"]);
    let headers = host.ledger().headers("events").remove(2);
    assert!(headers.contains(&("ce-source".to_owned(), "/c".to_owned())), "{headers:?}");
}

#[test]
fn a_plugin_gets_what_was_stored_with_retries_and_dead_letters() {
    let host = handled("retry = { attempts = 2, first = '1ms' }\nallow.publish = ['out']");
    let running = host.start();
    for body in ["publish one", "retry 1", "reject", "trap"] {
        assert_eq!(post(host.webhooks(), "/in", &[], body).status, 202);
    }
    let ended = |metrics: &bulkhead_tests::Metrics, outcome| {
        metrics.value("bulkhead_deliveries_total", &[("connector", "it"), ("outcome", outcome)])
    };
    running.wait_until("ends", PATIENCE, |metrics| ended(metrics, "done") + ended(metrics, "dead") == 4.0);
    let _ = running.terminate().ok();
    let bodies: Vec<Vec<u8>> = host.ledger().messages("out").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"one"]);
    let mut attempts: Vec<(Vec<u8>, i64)> =
        host.ledger().dead().into_iter().map(|letter| (letter.body, i64::from(letter.attempts))).collect();
    attempts.sort();
    assert_eq!(attempts, [(b"reject".to_vec(), 1), (b"retry 1".to_vec(), 2), (b"trap".to_vec(), 2)]);
    assert_eq!(host.dead()[0]["queue"], "@it");
}

/// An unknown path, a wrong method and a webhook of a connector that is not enabled look the same.
#[test]
fn who_has_no_webhook_learns_nothing() {
    let off = "[connectors.off]\nenabled = false\nwebhook = { path = '/off', verify = 'none', publish = 'orders' }\n";
    let on = "[connectors.on]\nwebhook = { path = '/on', verify = 'none', publish = 'orders' }\n";
    let host = Bulkhead::new(&format!("{off}{on}"));
    let running = host.start();
    let line = |head: &str| {
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let reply = bulkhead_tests::exchange(host.webhooks(), &request).unwrap();
        let date = |line: &&str| !line.to_lowercase().starts_with("date:");
        (reply.status, reply.head.lines().filter(date).collect::<Vec<_>>().join("\n"), reply.body)
    };
    let unknown = line("POST /nowhere");
    assert_eq!(unknown.0, 404);
    for head in ["GET /on", "POST /off", "POST /on/", "POST //on", "POST /%6fn", "POST /./on", "DELETE /nowhere"] {
        assert_eq!(line(head), unknown, "{head}");
    }
    assert_eq!(line("POST /on").0, 202);
    assert_eq!(counted(&running, "", "404"), 8.0);
}

#[test]
fn who_does_not_prove_who_it_is_is_refused_and_seen() {
    let host = intake("");
    let running = host.start();
    for headers in [&[][..], &[("Authorization", "Bearer wrong")], &[("Authorization", "open-sesame")]] {
        let reply = post(host.webhooks(), "/hooks/a", headers, "x");
        assert_eq!((reply.status, reply.body.as_str()), (401, ""));
    }
    assert_eq!(counted(&running, "intake", "401"), 3.0);
    let line = running.wait_for_log("connectors.intake.webhook.verify", PATIENCE);
    assert!(line.contains("WARN") && !line.contains("wrong\""), "{line}");
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("orders").len(), 0);
    let audited = host.audit().into_iter().any(|event| event["subject"] == "webhook" && event["connector"] == "intake");
    assert!(audited);
}

#[test]
fn more_than_the_rate_is_told_when_to_come_back() {
    let host = intake("rate = '2/h'");
    let running = host.start();
    let wrong = post(host.webhooks(), "/hooks/a", &[("Authorization", "Bearer wrong")], "x");
    let replies: Vec<Reply> = (0..3).map(|n| send(&host, "/hooks/a", &n.to_string(), "x")).collect();
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    // Who is not let in takes nothing from those who are.
    assert_eq!((wrong.status, statuses), (401, vec![202, 202, 429]));
    let wait: u64 = replies[2].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    drop(running);
}

#[test]
fn a_full_queue_and_a_full_disk_answer_503_and_accept_nothing_by_half() {
    let host = intake("");
    host.configure(
        &(std::fs::read_to_string(host.path("bulkhead.toml")).unwrap() + "[queues.orders]\nmax_bytes = '2KiB'\n"),
    );
    let running = host.start();
    let body = "x".repeat(1200);
    let statuses: Vec<u16> = (0..3).map(|n| send(&host, "/hooks/a", &n.to_string(), &body).status).collect();
    assert_eq!(statuses[..1], [202]);
    assert_eq!(statuses[2], 503);
    let accepted = statuses.iter().filter(|status| **status == 202).count();
    let full = send(&host, "/hooks/a", "again", &body);
    assert_eq!((full.status, full.header("retry-after").as_deref()), (503, Some("1")));
    running.kill9();
    assert_eq!(host.ledger().messages("orders").len(), accepted);
}

#[test]
fn a_full_disk_takes_nothing_until_there_is_room() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    let disk = std::sync::Arc::new(disk);
    let toml = "[connectors.intake]\nwebhook = { path = '/in', verify = 'none', publish = 'orders' }\n";
    let host = Bulkhead::on_disk(&disk, "min_free = '1MiB'", toml);
    let running = host.start();
    assert_eq!(post(host.webhooks(), "/in", &[], "before").status, 202);
    disk.fill();
    running.wait_for_log("the disk is nearly full", PATIENCE);
    let full = post(host.webhooks(), "/in", &[], "meanwhile");
    assert_eq!((full.status, full.header("retry-after").as_deref()), (503, Some("1")));
    disk.make_room();
    running.wait_for_log("the disk has room again", PATIENCE);
    assert_eq!(post(host.webhooks(), "/in", &[], "after").status, 202);
    running.kill9();
    let bodies: Vec<Vec<u8>> = host.ledger().messages("orders").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_browser_may_send_from_the_pages_that_are_named() {
    let host = intake("cors = { origins = ['https://shop.example'], headers = ['authorization'] }");
    let running = host.start();
    let ask = |origin: &str| {
        let head = format!("OPTIONS /hooks/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: {origin}\r\n");
        let request = format!("{head}Access-Control-Request-Method: POST\r\n\r\n");
        bulkhead_tests::exchange(host.webhooks(), &request).unwrap()
    };
    let (own, foreign) = (ask("https://shop.example"), ask("https://evil.example"));
    assert_eq!((own.status, own.header("access-control-allow-methods").as_deref()), (204, Some("POST")));
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (404, None));
    let headers = [("Authorization", "Bearer open-sesame"), ("Origin", "https://shop.example"), ("X-Event", "evt_1")];
    let reply = post(host.webhooks(), "/hooks/a", &headers, "x");
    let allowed = reply.header("access-control-allow-origin");
    assert_eq!((reply.status, allowed.as_deref()), (202, Some("https://shop.example")));
    drop(running);
}

#[test]
fn a_trusted_proxy_says_where_a_request_comes_from() {
    let toml = "[connectors.it]\nwebhook = { path = '/in', verify = 'none', publish = 'orders' }\n";
    let sender = |host_keys: &str| {
        let host = Bulkhead::new("");
        let host = Bulkhead::on(host.data(), host_keys, toml);
        let running = host.start();
        post(host.webhooks(), "/in", &[("X-Forwarded-For", "203.0.113.9, 198.51.100.7")], "x");
        running.kill9();
        let headers = host.ledger().headers("orders").remove(0);
        headers.into_iter().find(|(name, _)| name == "bulkhead-remote-address").unwrap().1
    };
    assert_eq!(sender(""), "127.0.0.1");
    assert_eq!(sender("trusted_proxies = ['127.0.0.0/8']"), "198.51.100.7");
}

/// What is accepted before the signal is answered and on disk; what comes after it is not let in.
#[test]
fn a_stop_answers_what_it_has_taken() {
    let host = intake("");
    let running = host.start();
    let accepted: Vec<bool> = thread::scope(|scope| {
        let address = host.webhooks();
        let headers = [("Authorization", "Bearer open-sesame")];
        let senders: Vec<_> = (0..40)
            .map(|n| scope.spawn(move || bulkhead_tests::try_post(address, "/hooks/a", &headers, &n.to_string())))
            .collect();
        let _ = running.terminate().ok();
        senders.into_iter().map(|sender| sender.join().unwrap().is_ok_and(|reply| reply.status == 202)).collect()
    });
    let stored = host.ledger().messages("orders").len();
    assert!(accepted.iter().filter(|accepted| **accepted).count() <= stored, "{accepted:?} {stored}");
}

#[test]
fn who_may_send_is_among_what_a_connector_may_do() {
    let host = intake("methods = ['POST', 'PUT']");
    let explained = host.run(&["check", "--explain", "intake"]).ok().output;
    let line = "takes POST, PUT requests at /hooks/{shop} from senders that `bearer` verifies with `token`, and stores them in `orders`";
    assert!(explained.contains(line), "{explained}");
    let _ = host.start().terminate().ok();
    let recorded = host.audit().into_iter().any(|event| event["permissions"][0] == line);
    assert!(recorded);
}

#[test]
fn a_plugin_that_takes_no_requests_is_refused() {
    let host = Bulkhead::new("[connectors.it]\nplugin = 'builtin:log'\nwebhook = { path = '/a', verify = 'none' }\n");
    let found = host.run(&["check"]).ended_with(2).output;
    assert!(found.contains("connectors.it.plugin") && found.contains("it does not export `webhook`"), "{found}");
}

#[test]
fn a_request_is_told_from_a_tick_by_the_host_alone() {
    let host = handled("");
    let running = host.start();
    let tick = json!({"schedule": "default", "planned_at_ms": 1, "input": null}).to_string();
    assert_eq!(post(host.webhooks(), "/in", &[], &tick).status, 202);
    running.wait_until("death", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("connector", "it"), ("outcome", "dead")]) == 1.0
    });
    let _ = running.terminate().ok();
    let reason = host.dead()[0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.starts_with("no such verb"), "{reason}");
    let _: Value = host.queues();
}
