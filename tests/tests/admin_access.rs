//! Who is let in to the admin listener: every route there is, asked as a stranger, as a page of another site, and with a
//! body that a form could send.

use std::fs;

use bulkhead_host::admin::api::ROUTES;
use bulkhead_tests::{Bulkhead, Running, exchange};

/// Every route with names in its places, and the open ones beside them.
fn routes() -> Vec<(&'static str, String)> {
    let api = ROUTES.iter().map(|(method, path)| (*method, format!("/api/v1{}", path.replace(['{', '}'], ""))));
    api.chain([("GET", "/metrics".to_owned())]).collect()
}

struct Host {
    bulkhead: Bulkhead,
    running: Running,
}

impl Host {
    fn start(metrics_open: bool) -> Self {
        let bulkhead = Bulkhead::new("");
        let file = bulkhead.path("bulkhead.toml");
        let toml = fs::read_to_string(&file).expect("the TOML is there");
        let closed = toml.replace("metrics_open = true", &format!("metrics_open = {metrics_open}"));
        fs::write(file, closed).expect("the TOML can be written");
        let running = bulkhead.start();
        Self { bulkhead, running }
    }

    fn token(&self) -> String {
        let token = fs::read_to_string(self.bulkhead.data().join("admin.token")).expect("the host has made it");
        format!("Authorization: Bearer {}\r\n", token.trim())
    }

    /// The status of a request with these headers.
    fn ask(&self, method: &str, path: &str, headers: &str) -> u16 {
        let address = self.running.admin();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let request = format!("{method} {path} HTTP/1.0\r\n{host}{headers}Content-Length: 0\r\n\r\n");
        exchange(address, &request).expect("the host answers").status
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
    for origin in origins {
        for (method, path) in routes().into_iter().filter(|(_, path)| path != "/metrics") {
            assert_eq!(host.ask(method, &path, &format!("{origin}{}", host.token())), 403, "{method} {path} {origin}");
        }
    }
    let own = format!("Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n{}", host.token());
    assert_eq!(host.ask("GET", "/api/v1/queues", &own), 200);
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
}
