//! Who is let in to the admin listener: every route there is, asked as a stranger, as a page of another site, and with a
//! body that a form could send; that whoever is not let in has changed nothing, learns why, and is in the log and in the
//! record.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bulkhead_host::admin::api::ROUTES;
use bulkhead_tests::{Bulkhead, Reply, Running, exchange, guest};
use serde_json::{Value, json};

/// Something is there for every route that changes something; it would be another one afterwards.
fn toml() -> String {
    let plugin = guest("hostile").display().to_string();
    format!(
        "[connectors.it]\nplugin = '{plugin}'\nconsume = 'in'\nschedule = {{ every = '365d' }}\nenabled = false\n
        [connectors.other]\nplugin = '{plugin}'\nconsume = 'dying'\n"
    )
}

/// Every route with names of what is there in its places, and the ones beside the API.
fn routes() -> Vec<(&'static str, String)> {
    let places = [("{name}/messages", "in/messages"), ("{name}", "it"), ("{connector}", "it"), ("{id}", "1")];
    let real = |path: &str| places.iter().fold(path.to_owned(), |path, (place, name)| path.replace(place, name));
    let api = ROUTES.iter().map(|(method, path)| (*method, format!("/api/v1{}", real(path))));
    api.chain([("GET", "/metrics".to_owned())]).collect()
}

/// A body that the route would do something with.
fn body_of(path: &str) -> &'static str {
    match path.rsplit('/').next() {
        Some("messages") => r#"{"body":"from nobody"}"#,
        Some("it") if path.contains("secrets") => r#"{"value":"a secret of nobody"}"#,
        _ => "{}",
    }
}

struct Host {
    bulkhead: Bulkhead,
    running: Running,
}

impl Host {
    fn start(metrics_open: bool) -> Self {
        let bulkhead = Bulkhead::new(&toml());
        let file = bulkhead.path("bulkhead.toml");
        let toml = fs::read_to_string(&file).expect("the TOML is there");
        let closed = toml.replace("metrics_open = true", &format!("metrics_open = {metrics_open}"));
        fs::write(file, closed).expect("the TOML can be written");
        let running = bulkhead.start();
        Self { bulkhead, running }
    }

    /// The same with a message that waits, one that has died, and a secret.
    fn with_something_to_lose() -> Self {
        let host = Self::start(false);
        let mut events = host.running.events("kinds=delivery").expect("there is a seat");
        for (path, body) in
            [("queues/in/messages", r#"{"body":"waits"}"#), ("queues/dying/messages", r#"{"body":"reject never"}"#)]
        {
            assert_eq!(host.running.api("POST", path, body).status, 200, "{path}");
        }
        assert_eq!(host.running.api("PUT", "secrets/it", r#"{"value":"kept"}"#).status, 204);
        assert_eq!(events.next_event().expect("a delivery dies").data["outcome"], "dead");
        host
    }

    /// Everything that a route could change.
    fn standing(&self) -> Vec<Value> {
        let ask = |path: &str| self.running.api("GET", path, "").json();
        let mut all: Vec<Value> = ["dead", "secrets", "schedules"].iter().map(|path| ask(path)).collect();
        let held = ask("connectors").as_array().into_iter().flatten().map(|it| it["held"].clone()).collect();
        let mut queues = ask("queues");
        // Only the age of what waits moves on.
        for queue in queues.as_array_mut().into_iter().flatten() {
            for subscription in queue["subscriptions"].as_array_mut().into_iter().flatten() {
                subscription["oldest_seconds"].take();
            }
        }
        all.extend([Value::Array(held), queues]);
        all
    }

    fn token(&self) -> String {
        let token = fs::read_to_string(self.bulkhead.data().join("admin.token")).expect("the host has made it");
        format!("Authorization: Bearer {}\r\n", token.trim())
    }

    /// The status of a request with these headers.
    fn ask(&self, method: &str, path: &str, headers: &str) -> u16 {
        self.send(method, path, headers, "").status
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let address = self.running.admin();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.0\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}");
        exchange(address, &request).expect("the host answers")
    }

    /// Stops; nobody was let in for this reason as often as the record says, and the log says it without the count.
    fn check_record(self, reason: &str, key: &str, count: u64) {
        let log = self.running.terminate().ok().errors();
        let is_refusal = |event: &Value| event["kind"] == "refusal" && event["subject"] == "admin";
        let refusals: Vec<Value> = self.bulkhead.audit().into_iter().filter(is_refusal).collect();
        let counted: u64 = refusals.iter().filter_map(|event| event["count"].as_u64()).sum();
        assert_eq!(counted, count, "{refusals:?}");
        for event in &refusals {
            let told = ["reason", "key", "connector"].map(|part| event[part].as_str().unwrap_or_default());
            assert_eq!(told, [reason, key, ""], "{event}");
            assert!(!event.to_string().contains("evil"), "{event}");
        }
        let line = format!(r#""effect":"admin","reason":"{reason}","key":"{key}""#);
        assert!(log.contains(&line) && !log.contains("evil"), "{log}");
        // A loop of strangers fills neither.
        assert!(refusals.len() as u64 <= count.min(20), "{} records", refusals.len());
    }

    /// Every route answers this to a request with these headers.
    fn check(&self, headers: &str, status: u16) {
        for (method, path) in routes() {
            assert_eq!(self.ask(method, &path, headers), status, "{method} {path} with {headers:?}");
        }
    }
}

#[test]
fn nobody_is_let_in_without_the_token() {
    let host = Host::start(false);
    host.check("", 401);
    host.check("Authorization: Bearer \r\n", 401);
    host.check("Authorization: Bearer wrong\r\n", 401);
    host.check(&host.token().replace("Bearer", "Basic"), 401);
    host.check(&host.token().replace("\r\n", "x\r\n"), 401);
    host.check_record("token", "", 5 * routes().len() as u64);
}

/// Each would do something if it were let in: that it is not is an answer for programs and people, and nothing else.
#[test]
fn whoever_is_refused_learns_why_and_has_changed_nothing() {
    let host = Host::with_something_to_lose();
    let (before, token, json) = (host.standing(), host.token(), "Content-Type: application/json\r\n");
    let attempts = [
        (json.to_owned(), 401),
        (format!("{json}Authorization: Bearer wrong\r\n"), 401),
        (format!("{json}{token}Origin: https://evil.example\r\n"), 403),
        (format!("{json}{token}Sec-Fetch-Site: cross-site\r\n"), 403),
        (format!("{json}{token}Host: evil.example\r\n"), 421),
        (format!("{token}Content-Type: text/plain\r\n"), 415),
    ];
    for (method, path) in routes() {
        // A body alone has a type.
        let has_body = matches!(method, "POST" | "PUT");
        for (headers, status) in attempts.iter().filter(|(_, status)| *status != 415 || has_body) {
            let reply = host.send(method, &path, headers, if has_body { body_of(&path) } else { "" });
            assert_eq!(reply.status, *status, "{method} {path} {headers}{}", reply.body);
            let kind = reply.header("content-type");
            assert_eq!(kind.as_deref(), Some("application/problem+json"), "{method} {path} {headers}");
            let problem = reply.json();
            assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")), "{problem}");
            assert!(["title", "detail"].iter().all(|name| problem[*name].as_str().is_some_and(|it| it.len() > 5)));
        }
    }
    assert_eq!(host.standing(), before);
    let actions = host.running.api("GET", "audit?kind=action", "").json();
    assert_eq!(actions["records"].as_array().map(Vec::len), Some(1), "the secret that was there before: {actions}");
}

#[test]
fn the_token_has_256_bits_and_is_its_owners_alone() {
    let file = |host: &Host| host.bulkhead.data().join("admin.token");
    let [one, other] = [Host::start(false), Host::start(false)];
    let mode = fs::metadata(file(&one)).expect("the host has made it").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = |host: &Host| fs::read_to_string(file(host)).expect("the token is text").trim().to_owned();
    let bits = data_encoding::BASE64URL_NOPAD.decode(text(&one).as_bytes()).map(|bytes| bytes.len() * 8);
    assert_eq!(bits, Ok(256), "{}", text(&one).len());
    assert_ne!(text(&one), text(&other));
}

#[test]
fn health_alone_is_open_and_metrics_where_the_configuration_says_so() {
    let closed = Host::start(false);
    let status = |host: &Host| ["/healthz", "/readyz", "/metrics"].map(|path| host.ask("GET", path, ""));
    assert_eq!(status(&closed), [200, 200, 401]);
    assert_eq!(status(&Host::start(true)), [200, 200, 200]);
    assert_eq!(closed.ask("GET", "/metrics", &closed.token()), 200);
    // What is not there looks like what is.
    assert_eq!(closed.ask("GET", "/api/v1/nothing", ""), 401);
    assert_eq!(closed.ask("GET", "/api/v1/nothing", &closed.token()), 404);
}

/// DNS rebinding: a page's own name leads to this machine.
#[test]
fn another_host_name_is_misdirected_even_with_the_token() {
    let host = Host::start(false);
    for name in ["Host: evil.example\r\n", "Host: 127.0.0.1.evil.example\r\n", "Host: \r\n"] {
        host.check(&format!("{name}{}", host.token()), 421);
        assert_eq!(host.ask("GET", "/healthz", name), 421);
    }
    host.check_record("host", "host.admin_hosts", 3 * (routes().len() as u64 + 1));
}

#[test]
fn pages_of_other_sites_are_refused_even_with_the_token() {
    let host = Host::start(true);
    let port = host.running.admin().port();
    let origins = [
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Origin: http://127.0.0.1:{}\r\n", port - 1),
        "Sec-Fetch-Site: cross-site\r\n".to_owned(),
        "Sec-Fetch-Site: same-site\r\n".to_owned(),
    ];
    for origin in &origins {
        for (method, path) in routes().into_iter().filter(|(_, path)| path != "/metrics") {
            assert_eq!(host.ask(method, &path, &format!("{origin}{}", host.token())), 403, "{method} {path} {origin}");
        }
    }
    let asked = origins.len() * routes().iter().filter(|(_, path)| path != "/metrics").count();
    let own = format!("Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n{}", host.token());
    assert_eq!(host.ask("GET", "/api/v1/queues", &own), 200);
    host.check_record("origin", "", asked as u64);
}

/// A browser that asks whether a page of another site may send something hears of no permission.
#[test]
fn no_answer_gives_a_page_of_another_site_permission() {
    let host = Host::start(true);
    let address = host.running.admin();
    let page = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    for headers in [String::new(), page.to_owned(), host.token(), format!("{page}{}", host.token())] {
        for (method, path) in routes() {
            // Its answer would go on.
            let path = if path.ends_with("/events") { path + "?kinds=none" } else { path };
            for method in ["OPTIONS", method] {
                let request =
                    format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: 0\r\n\r\n");
                let reply = exchange(address, &request).expect("the host answers");
                assert!(!reply.head.to_ascii_lowercase().contains("access-control-"), "{request}{}", reply.head);
                assert!(method != "OPTIONS" || reply.status >= 400, "{request}{}", reply.head);
            }
        }
    }
}

/// What a form of another site can send without asking first.
#[test]
fn a_body_that_is_not_json_is_refused_even_with_the_token() {
    let host = Host::start(false);
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        for (method, path) in routes().into_iter().filter(|(method, _)| matches!(*method, "POST" | "PUT")) {
            assert_eq!(host.ask(method, &path, &format!("{kind}{}", host.token())), 415, "{method} {path} {kind}");
        }
    }
    let bodies = routes().iter().filter(|(method, _)| matches!(*method, "POST" | "PUT")).count();
    host.check_record("content_type", "", 4 * bodies as u64);
}

/// Two parties that read two values, or one that is no text, may each find another one.
#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let host = Host::start(false);
    let (token, own) = (host.token(), host.running.admin());
    for twice in [format!("Host: {own}\r\nHost: evil.example\r\n"), format!("Host: {own}\r\nHost: {own}\r\n")] {
        assert_eq!(host.ask("GET", "/api/v1/status", &format!("{twice}{token}")), 421, "{twice}");
        assert_eq!(host.ask("GET", "/healthz", &twice), 421, "{twice}");
    }
    for origin in [
        format!("Origin: http://{own}\r\nOrigin: https://evil.example\r\n"),
        "Origin: http://\u{e4}.example\r\n".to_owned(),
        "Origin: \r\n".to_owned(),
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
        "Sec-Fetch-Site: n\u{f6}ne\r\n".to_owned(),
    ] {
        assert_eq!(host.ask("GET", "/api/v1/status", &format!("{token}{origin}")), 403, "{origin}");
    }
    assert_eq!(host.ask("GET", "/api/v1/status", &format!("{token}Origin: http://{own}\r\n")), 200);
}

#[test]
fn no_copy_of_an_answer_stays_and_no_other_site_gets_it() {
    let host = Host::start(false);
    let token = host.token();
    for (path, headers) in [("/api/v1/status", &*token), ("/metrics", &*token), ("/api/v1/status", ""), ("/none", "")] {
        let reply = host.send("GET", path, headers, "");
        let said = ["x-content-type-options", "cache-control", "cross-origin-resource-policy"];
        let said = said.map(|name| reply.header(name).unwrap_or_default());
        assert_eq!(said, ["nosniff", "no-store", "same-origin"], "{path} {}", reply.status);
    }
    assert_eq!(host.send("GET", "/", "", "").header("cache-control").as_deref(), Some("no-cache"));
}
