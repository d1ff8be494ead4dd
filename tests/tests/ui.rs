//! The web page in a real browser: looked at, used, attacked by what messages say, and left by its host.
//!
//! `tests/browser` holds what somebody does there; a headless Chromium does it, asked by Node.js. Without them it is
//! skipped, as loudly as the examples in other languages are. What came of it is judged here.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bulkhead_host::admin::ui;
use bulkhead_tests::{Answer, Bulkhead, Fixture, Running, exchange, guest, has_program};
use serde_json::{Value, json};
use tempfile::TempDir;

const UNTESTED: &str = "the web page is not tested in a browser";
/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a browser loads before it shows the first page, answers of the API included.
const FIRST_LOAD_BYTES_MAX: u64 = 300 << 10;
/// Ids and bodies of what dies in `deliver` at its first attempt.
const ORDERS: [(&str, &str); 5] =
    [("once", "once"), ("edit", "broken"), ("a-1", "alike 1"), ("a-2", "alike 2"), ("a-3", "alike 3")];
/// With the letters in `evil`.
const DEAD: f64 = ORDERS.len() as f64 + 2.0;
/// Would say so if it were read as markup.
const MARKUP: &str = "<img src=x onerror=pwned=1><script>pwned=1</script>";

/// Answers 422 to everything that it has not seen before, and for ever to what is broken.
fn server() -> Fixture {
    let seen = Mutex::new(HashSet::new());
    Fixture::start(move |request| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = !seen.insert(request.body.clone()) || request.body.starts_with(b"mended");
        if is_known && !request.body.starts_with(b"broken") { Answer::status(200) } else { Answer::status(422) }
    })
}

fn host(server: &Fixture, data: &TempDir) -> Bulkhead {
    let (url, hostile) = (server.url(), guest("hostile"));
    let toml = format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'orders'\nbrake = 0\nretry = {{ attempts = 1 }}\n\
         config = {{ url = '{url}/' }}\nallow.http = [{{ url = '{url}/', methods = ['POST'], private = true }}]\n\
         [connectors.evil]\nplugin = '{}'\nconsume = 'texts'\nbrake = 0\nretry = {{ attempts = 1 }}\n\
         [connectors.tell]\nplugin = 'builtin:log'\nconsume = 'texts'\n\
         [connectors.parked]\nplugin = 'builtin:log'\nconsume = 'parked'\n\
         [connectors.hourly]\nplugin = '{}'\nschedule = {{ every = '1h' }}\n",
        hostile.display(),
        hostile.display()
    );
    Bulkhead::on(data.path().join("data"), "history = 'all'", &toml)
}

fn send(running: &Running, queue: &str, message: &Value) {
    let sent = running.api("POST", &format!("queues/{queue}/messages"), &message.to_string());
    assert_eq!(sent.status, 200, "{}", sent.body);
}

/// Letters in two connectors, and messages that lie in a queue; most of them with texts that attack who shows them.
fn fill(running: &Running) {
    assert_eq!(running.api("POST", "connectors/parked/pause", "").status, 204);
    for (id, body) in ORDERS {
        send(running, "orders", &json!({ "id": id, "body": body }));
    }
    let long = "x".repeat(10_000);
    let headers = json!([["x-evil", MARKUP], ["x-link", "javascript:pwned=1"], ["x-way", "\u{202e}live\u{202c}"]]);
    for body in [format!("reject {MARKUP} \u{202e}gpj.exe {long}"), format!("reject javascript:pwned=1 {MARKUP}")] {
        let id = format!("{MARKUP}'\"&amp;{}", body.len());
        send(running, "texts", &json!({ "id": id, "key": MARKUP, "headers": headers, "body": body }));
    }
    let markup = json!({ "name": MARKUP, "__proto__": { "x": long } }).to_string();
    for body in [json!({ "body": markup }), json!({ "body_base64": "3q2+7wAB//4=" }), json!({ "body": "" })] {
        let mut message = json!({ "headers": headers, "key": MARKUP });
        message.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        send(running, "parked", &message);
    }
    running.wait_until("dead letters", PATIENCE, |metrics| {
        ["deliver", "evil"]
            .map(|name| metrics.value("bulkhead_dead_letters", &[("connector", name)]))
            .iter()
            .sum::<f64>()
            >= DEAD
    });
}

/// The browser, and what it says.
struct Visitor {
    child: Child,
    asked: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Visitor {
    fn start(running: &Running, token: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/page.mjs");
        let mut node = Command::new("node");
        node.arg(script).arg(format!("http://{}", running.admin())).arg(token);
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asked, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asked, said }
    }

    /// What it needs next; nothing where it has come to its end.
    fn needs(&mut self) -> Value {
        let mut line = String::new();
        let _ = self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_default()
    }

    fn go_on(&mut self) {
        writeln!(self.asked, "done").unwrap();
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the server has been sent this body after the first attempts at all.
fn wait_for(server: &Fixture, body: &Value) {
    let wanted = body.as_str().unwrap().as_bytes();
    loop {
        let requests = server.requests();
        if requests.iter().skip(ORDERS.len()).any(|request| request.body == wanted) {
            return;
        }
        server.wait_for(requests.len() + 1, PATIENCE);
    }
}

#[test]
fn an_operator_sees_mends_and_changes_a_host_on_its_page() {
    if !has_program("node", UNTESTED) || !has_program("chromium", UNTESTED) {
        return;
    }
    let (server, data) = (server(), tempfile::tempdir().unwrap());
    let bulkhead = host(&server, &data);
    let running = bulkhead.start();
    fill(&running);
    let printed = bulkhead.run(&["ui"]).ok().output;
    let token = printed.trim().strip_prefix(&format!("http://{}/#token=", running.admin())).unwrap().to_owned();
    let mut visitor = Visitor::start(&running, &token);
    let mut running = Some(running);
    let bytes = loop {
        let need = visitor.needs();
        match need["what"].as_str() {
            Some("delivered") => need["bodies"].as_array().unwrap().iter().for_each(|body| wait_for(&server, body)),
            Some("send") => send(running.as_ref().unwrap(), "orders", &json!({ "id": "sent-alive", "body": "mended" })),
            Some("kill") => running.take().unwrap().kill9(),
            Some("done") => break need["bytes"].as_u64().unwrap(),
            _ => panic!("the browser did not come to its end: {:?}", visitor.child.wait()),
        }
        visitor.go_on();
    };
    assert!(bytes <= FIRST_LOAD_BYTES_MAX, "the first page takes {bytes} bytes");
    let actions: Vec<Value> = bulkhead.audit().into_iter().filter(|event| event["kind"] == "action").collect();
    let subjects: Vec<&str> = actions.iter().filter_map(|event| event["subject"].as_str()).collect();
    let expected =
        ["pause", "dead retry", "dead retry", "dead retry", "dead drop", "pause", "resume", "schedules fire"];
    assert_eq!(subjects, expected, "{actions:#?}");
    assert_eq!(bulkhead.ledger().dead().len(), 0, "all letters were dealt with");
}

/// They hold no data: who has no token may load them, from wherever a link to them stands. Nothing else is open.
#[test]
fn the_files_of_the_page_are_open_and_strict() {
    let bulkhead = Bulkhead::new("");
    let running = bulkhead.start();
    let address = running.admin();
    let ask = |method: &str, path: &str, headers: &str| {
        exchange(address, &format!("{method} {path} HTTP/1.0\r\n{headers}\r\n")).unwrap()
    };
    let own = format!("Host: {address}\r\n");
    let mut bytes = 0;
    for path in ui::paths() {
        let reply = ask("GET", &path, &format!("{own}Sec-Fetch-Site: cross-site\r\n"));
        assert_eq!(reply.status, 200, "{path}");
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"), "{path}");
        assert_eq!(reply.header("cache-control").as_deref(), Some("no-cache"), "{path}");
        let tag = reply.header("etag").unwrap();
        let again = ask("GET", &path, &format!("{own}If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        assert_eq!(ask("GET", &path, "Host: evil.example\r\n").status, 421, "{path}");
        assert_eq!(ask("POST", &path, &format!("{own}Content-Length: 0\r\n")).status, 401, "{path}");
        bytes += reply.body.len() as u64;
    }
    assert!(bytes <= FIRST_LOAD_BYTES_MAX, "{bytes} bytes");
    for path in ["/ui/", "/ui/mod.rs", "/ui/../mod.rs", "/ui/%2e%2e/mod.rs", "/index.html"] {
        assert_eq!(ask("GET", path, &own).status, 401, "{path}");
    }
}
