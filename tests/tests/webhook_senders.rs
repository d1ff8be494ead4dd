//! Senders that mean harm, or cannot do better: each gets its status, and the host lives.

use std::time::Duration;

use bulkhead_tests::{Authority, Bulkhead, Flaw, Line, Running, post};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn intake(keys: &str) -> (Bulkhead, Running) {
    let toml = format!("[connectors.it]\nwebhook = {{ path = '/in', verify = 'none', publish = 'q', {keys} }}\n");
    let host = Bulkhead::new(&toml);
    let running = host.start();
    (host, running)
}

/// What a whole request is answered, byte by byte as it is.
fn raw(host: &Bulkhead, request: &str) -> String {
    let mut line = Line::open(host.webhooks());
    line.say(request.as_bytes());
    line.hear()
}

fn status(host: &Bulkhead, request: &str) -> u16 {
    let heard = raw(host, request);
    heard.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn stored(host: &Bulkhead, running: Running) -> Vec<Vec<u8>> {
    running.kill9();
    host.ledger().messages("q").into_iter().map(|message| message.body).collect()
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_not_read() {
    let (host, running) = intake("");
    let head = "POST /in HTTP/1.1\r\nHost: x\r\n";
    let framed = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "Content-Length: 4, 5\r\n\r\nabcde",
        "Content-Length: +4\r\n\r\nabcd",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 0x4\r\n\r\nabcd",
        "Transfer-Encoding: identity\r\n\r\nabcd",
        "Transfer-Encoding: chunked, identity\r\n\r\nabcd",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "Bad Name: a\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n",
        "Host: y\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        "X-Bare: a\nContent-Length: 0\r\n\r\n",
    ];
    for rest in framed {
        assert_eq!(status(&host, &format!("{head}{rest}")), 400, "{rest:?}");
    }
    assert_eq!(status(&host, "POST /in HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 400);
    assert_eq!(stored(&host, running), Vec::<Vec<u8>>::new());
}

/// Behind a chunked request nothing is read, whatever stands there.
#[test]
fn nothing_is_smuggled_behind_a_chunked_request() {
    let (host, running) = intake("");
    let second = "POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nsmuggled";
    let first = "POST /in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n";
    let heard = raw(&host, &format!("{first}5\r\nfirst\r\n0\r\n\r\n{second}"));
    assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
    assert!(!stored(&host, running).contains(&b"smuggled".to_vec()));
}

#[test]
fn every_size_has_its_bound_and_its_status() {
    let (host, running) = intake("max_body = '1KiB'");
    let body = "x".repeat(1025);
    assert_eq!(post(host.webhooks(), "/in", &[], &body).status, 413);
    let chunked =
        format!("POST /in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n");
    assert_eq!(status(&host, &chunked), 413);
    // Not a byte of it is waited for.
    assert_eq!(status(&host, "POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"), 413);
    let with =
        |extra: &str| format!("POST /in HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n{extra}\r\n");
    let many: String = (0..60).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(status(&host, &with(&many)), 431);
    assert_eq!(status(&host, &with(&(0..200).map(|n| format!("x-{n}: 1\r\n")).collect::<String>())), 431);
    assert_eq!(status(&host, &with(&format!("x-long: {}\r\n", "a".repeat(9 << 10)))), 431);
    assert_eq!(status(&host, &with(&format!("x-long: {}\r\n", "a".repeat(200 << 10)))), 431);
    let long = format!(
        "POST /in?{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "a".repeat(9 << 10)
    );
    assert_eq!(status(&host, &long), 414);
    assert_eq!(post(host.webhooks(), "/in", &[], &body[1..]).status, 202);
    assert_eq!(stored(&host, running).len(), 1);
}

#[test]
fn a_body_is_opaque() {
    let (host, running) = intake("");
    let bodies: [Vec<u8>; 3] = [vec![0xff, 0xfe, 0, 0x80], b"[".repeat(100_000), b"{\"a\": 1,}".to_vec()];
    for body in &bodies {
        let mut line = Line::open(host.webhooks());
        let head = format!(
            "POST /in HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        line.say(&[head.as_bytes(), body].concat());
        assert!(line.hear().starts_with("HTTP/1.1 202"));
    }
    assert_eq!(stored(&host, running), bodies);
}

#[test]
fn who_says_a_head_too_slowly_is_told_so_and_who_says_nothing_is_let_go() {
    let (host, running) = intake("");
    let mut slow = Line::open(host.webhooks());
    slow.say(b"POST /in HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    let silent = Line::open(host.webhooks());
    let mut idle = Line::open(host.webhooks());
    idle.say(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na");
    assert_eq!(idle.status(), 202);
    assert!(slow.hear().starts_with("HTTP/1.1 408 "));
    assert_eq!((silent.hear(), idle.hear()), (String::new(), String::new()));
    assert_eq!(stored(&host, running).len(), 1);
}

#[test]
fn who_says_a_body_too_slowly_is_told_so() {
    let (host, running) = intake("");
    let mut slow = Line::open(host.webhooks());
    slow.say(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    assert!(slow.hear().starts_with("HTTP/1.1 408 "));
    assert_eq!(running.metrics().value("bulkhead_webhooks_total", &[("connector", "it"), ("status", "408")]), 1.0);
    assert_eq!(stored(&host, running).len(), 0);
}

#[test]
fn two_thousand_idle_connections_keep_nobody_out() {
    let (host, running) = intake("");
    let before = running.threads_and_files();
    let idle: Vec<Line> = (0..2_000).map(|_| Line::open(host.webhooks())).collect();
    for n in 0..20 {
        assert_eq!(post(host.webhooks(), "/in", &[], &n.to_string()).status, 202);
    }
    assert_eq!(running.readyz(), 200);
    drop(idle);
    running.wait_until("connections to go", PATIENCE, |_| running.threads_and_files().1 <= before.1 + 10);
    assert_eq!(running.threads_and_files().0, before.0);
    assert_eq!(stored(&host, running).len(), 20);
}

/// Whatever is sent by whom: all bodies together have a bound, and who is within it is served.
#[test]
fn bodies_that_never_end_do_not_fill_the_memory() {
    let (host, running) = intake("max_body = '15MiB'");
    let before = running.memory_peak_bytes();
    let piece = vec![b'x'; 14 << 20];
    let mut lines: Vec<Line> = (0..24).map(|_| Line::open(host.webhooks())).collect();
    for line in &mut lines {
        line.say(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 15728640\r\n\r\n");
        line.say(&piece);
    }
    running.wait_until("refusal", PATIENCE, |metrics| {
        metrics.value("bulkhead_webhooks_total", &[("connector", "it"), ("status", "503")]) >= 1.0
    });
    assert_eq!(post(host.webhooks(), "/in", &[], "small").status, 202);
    let grown = running.memory_peak_bytes().saturating_sub(before);
    assert!(grown < 512 << 20, "the host has grown by {grown} bytes");
    drop(lines);
    assert_eq!(stored(&host, running), [b"small"]);
}

#[test]
fn http_2_is_spoken_too() {
    let (host, running) = intake("");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a sender of the test's own")]
    let statuses: Vec<u16> = runtime.block_on(async {
        let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
        let send = |n: u32| client.post(format!("http://{}/in", host.webhooks())).body(n.to_string()).send();
        let answers = futures_util::future::join_all((0..50).map(send)).await;
        answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect()
    });
    assert_eq!(statuses, vec![202; 50]);
    assert_eq!(stored(&host, running).len(), 50);
}

/// A new certificate is shown without a restart, and one that cannot be used is not.
#[test]
fn tls_shows_the_certificate_that_lies_there_now() {
    let authority = Authority::new();
    let host = Bulkhead::new("");
    let (cert, key) = (host.path("cert.pem"), host.path("key.pem"));
    let put = |name: &str| {
        let certified = authority.issue_for(name, Flaw::None);
        std::fs::write(&cert, certified.cert).unwrap();
        std::fs::write(&key, certified.key).unwrap();
        rustix::fs::chmod(&key, rustix::fs::Mode::RUSR).unwrap();
    };
    put("one.example");
    let toml = "[connectors.it]\nwebhook = { path = '/in', verify = 'none', publish = 'q' }\n";
    let tls = format!("tls = {{ cert = '{}', key = '{}' }}", cert.display(), key.display());
    let host = Bulkhead::on(host.data(), &tls, toml);
    let running = host.start();
    #[expect(clippy::disallowed_methods, reason = "a sender of the test's own")]
    let answers = |name: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
            let client = reqwest::Client::builder().add_root_certificate(root).no_proxy();
            let client = client.resolve(name, host.webhooks()).build().unwrap();
            let url = format!("https://{name}:{}/in", host.webhooks().port());
            client.post(url).body("x").send().await.map(|answer| answer.status().as_u16()).ok()
        })
    };
    assert_eq!((answers("one.example"), answers("two.example")), (Some(202), None));
    std::fs::remove_file(&key).unwrap();
    std::fs::write(&cert, "nonsense").unwrap();
    running.wait_until("look", PATIENCE, |_| {
        let still = answers("one.example") == Some(202);
        assert!(still, "what was there goes on");
        running.log().iter().any(|line| line.contains("the one before is shown"))
    });
    put("two.example");
    running.wait_until("certificate", PATIENCE, |_| answers("two.example") == Some(202));
    // In the clear nothing is said.
    assert!(!raw(&host, "POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").starts_with("HTTP/"));
    drop(running);
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let authority = Authority::new();
    let host = Bulkhead::new("");
    let certified = authority.issue_for("one.example", Flaw::None);
    let (cert, key) = (host.path("cert.pem"), host.path("key.pem"));
    std::fs::write(&cert, certified.cert).unwrap();
    std::fs::write(&key, certified.key).unwrap();
    rustix::fs::chmod(&key, rustix::fs::Mode::from_raw_mode(0o604)).unwrap();
    host.configure(&format!("[host]\ntls = {{ cert = '{}', key = '{}' }}\n", cert.display(), key.display()));
    let found = host.run(&["check"]).ended_with(2).output;
    assert!(found.contains("chmod 600") && found.contains("host.tls.cert"), "{found}");
}
