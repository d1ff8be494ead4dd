//! Values that can be recognised go everywhere a secret goes, and are looked for in everything that comes out.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, guest};
use serde_json::json;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Begins every secret of this test, and nothing else.
const CANARY: &str = "cnry/9+z";
/// Everything, but for the compiler: it says a gigabyte about a plugin and knows no secret.
const LOG: &str = "trace,cranelift_codegen=info,cranelift_frontend=info,regalloc2=info,wasmtime=info,wasmtime_internal_cranelift=info,wasmtime_environ=info,wasmtime_internal_core=info";
/// In which ways credentials are attached, and what a grant says for it.
const WAYS: [(&str, &str); 8] = [
    ("bearer", "auth = { bearer = 'sealed' }"),
    ("basic", "auth = { basic = { user = 'me', password = 'file' } }"),
    ("header", "auth = { header = { name = 'X-Key', secret = 'env' } }"),
    ("query", "auth = { query = { name = 'key', secret = 'env' } }"),
    ("hmac", "auth = { hmac = { header = 'X-Sign', secret = 'sealed' } }"),
    (
        "aws",
        "auth = { aws_sigv4 = { access_key = 'file', secret_key = 'env', session_token = 'sealed', region = 'r', service = 's3' } }",
    ),
    (
        "oauth2",
        "auth = { oauth2 = { token_url = 'URL/token', client_id = 'me', client_secret = 'env', refresh_token = 'file' } }",
    ),
    (
        "placed",
        "placeholders = [{ secret = 'sealed', in = 'query' }, { secret = 'env', in = 'header' }, { secret = 'file', in = 'body' }]",
    ),
];
/// What receivers do, each repeating what they got: all goes well, not now, never, look elsewhere.
const MANNERS: [u16; 4] = [200, 503, 422, 302];

fn canary(of: &str) -> String {
    format!("{CANARY}-{of}-{}", "x".repeat(20))
}

/// Every form in which a value might come out.
fn forms() -> Vec<String> {
    let hex = CANARY.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    // `cnry/9+z` in base64, beginning at each of the three places of a group.
    let base64 = ["Y25yeS85K3", "NucnkvOSt6", "jbnJ5LzkreiI"].map(|text| text[..9].to_owned());
    let plain = [CANARY.to_owned(), "cnry%2F9%2Bz".to_owned(), "cnry%2f9%2bz".to_owned(), "cnry\\/9+z".to_owned()];
    plain.into_iter().chain([hex.clone(), hex.to_uppercase()]).chain(base64).collect()
}

#[track_caller]
fn check_clean(what: &str, bytes: &[u8]) {
    for form in forms() {
        let found = bytes.windows(form.len()).position(|window| window == form.as_bytes());
        let around = |at: usize| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())]).into_owned()
        };
        assert!(found.is_none(), "{what} holds {form}: {}", found.map(around).unwrap_or_default());
    }
}

fn check_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_files(&path);
        } else {
            check_clean(&path.display().to_string(), &std::fs::read(&path).unwrap());
        }
    }
}

/// Repeats everything that it got, in headers and body.
fn repeat(request: &Request) -> Answer {
    if request.uri == "/token" {
        let refresh = canary("rotated");
        return Answer::json(&json!({ "access_token": canary("access"), "expires_in": 0, "refresh_token": refresh }));
    }
    let status = request.uri.split(['/', '?']).nth(2).and_then(|status| status.parse().ok()).unwrap_or(200);
    let mut body = format!("{} {}\n", request.method, request.uri);
    for (name, value) in &request.headers {
        let _ = writeln!(body, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    body.push_str(&String::from_utf8_lossy(&request.body));
    let echo = request.header("authorization").or(request.header("x-key")).unwrap_or_default().to_owned();
    Answer::status(status).with("x-echo", &echo).with("location", &request.uri).body(body)
}

fn toml(fixture: &Fixture) -> String {
    let (courier, hostile, url) = (guest("courier"), guest("hostile"), fixture.url());
    let grant = |(way, says): &(&str, &str)| {
        format!("{{ url = '{url}/{way}/*', methods = ['POST'], private = true, {} }},\n", says.replace("URL", &url))
    };
    format!(
        r#"
        [secrets]
        env    = {{ env = "CANARY" }}
        file   = {{ file = "canary" }}
        sealed = {{ sealed = true }}

        [connectors.courier]
        plugin  = "{}"
        consume = "in"
        brake   = 0
        retry   = {{ attempts = 2, first = "1ms" }}
        allow.publish = ["seen"]
        allow.http = [{}]

        [connectors.hostile]
        plugin  = "{}"
        consume = "odd"
        retry   = {{ attempts = 1 }}
        limits  = {{ log = "1KiB" }}
        allow.secrets = ["env"]
        "#,
        courier.display(),
        WAYS.iter().map(grant).collect::<String>(),
        hostile.display(),
    )
}

fn errands(fixture: &Fixture) -> Vec<String> {
    let mut errands = Vec::new();
    for (way, _) in WAYS {
        for status in MANNERS {
            let url = format!("{}/{way}/{status}", fixture.url());
            let check = status >= 400;
            errands.push(match way {
                "placed" => json!({
                    "method": "POST", "url": format!("{url}?key=[sealed]"), "place": ["sealed", "env", "file"], "check": check,
                    "headers": [["x-key", "[env]"], ["content-type", "text/plain"]], "body": "[file]",
                }),
                _ => json!({ "method": "POST", "url": url, "body": "hello", "check": check }),
            });
        }
    }
    errands.iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_is_found_nowhere() {
    let fixture = Fixture::start(repeat);
    let bulkhead = Bulkhead::new(&toml(&fixture)).variable("CANARY", &canary("env")).variable("BULKHEAD_LOG", LOG);
    let file = bulkhead.path("canary");
    write_secret(&file);
    let set = bulkhead.run_with(&["secrets", "set", "sealed"], canary("first").as_bytes()).ok();
    let running = bulkhead.start();
    let put = json!({ "value": canary("sealed") }).to_string();
    let answers = [
        running.api("PUT", "secrets/sealed", &put),
        running.api("PUT", "secrets/sealed", &put.replace("value", "valve")),
        running.api("GET", "secrets", ""),
    ];
    let errands = errands(&fixture);
    bulkhead.send("in", &errands);
    bulkhead.send("odd", &["trap a", "panic b", "recurse", "no such verb", "print 100"]);
    let settled = (errands.len() + 5) as f64;
    running.wait_until("all messages settled", PATIENCE, |metrics| {
        let of = |outcome| metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]);
        of("done") + of("dead") >= settled
    });
    check_process(&bulkhead);
    let dead = running.api("GET", "dead", "");
    check_clean("the metrics", format!("{:?}", running.metrics()).as_bytes());
    let scrubbed = running.metrics().value("bulkhead_scrubbed_total", &[("connector", "courier")]);
    for answer in answers.iter().chain([&dead, &running.api("GET", "queues", "")]) {
        check_clean("an answer of the API", answer.body.as_bytes());
    }
    std::fs::remove_file(&file).unwrap();
    bulkhead.send("in", &errands[4..8]);
    let labels = [("effect", "secret"), ("reason", "missing")];
    running.wait_until("a missed secret", PATIENCE, |metrics| metrics.value("bulkhead_denied_total", &labels) > 0.0);
    let ended = running.terminate().ok();
    check_clean("the log", ended.errors().as_bytes());
    assert!(ended.log.iter().any(|line| line.contains(r#""level":"TRACE""#)), "the log shows everything");
    check_clean("`secrets set`", (set.output + &set.log.join("\n")).as_bytes());
    write_secret(&file);
    check_verbs(&bulkhead);
    std::fs::remove_file(file).unwrap();
    check_audit(&bulkhead);
    check_files(&bulkhead.path(""));
    assert!(scrubbed >= 20.0, "{scrubbed} answers were scrubbed");
    check_it_was_used(&fixture);
}

fn write_secret(file: &Path) {
    std::fs::write(file, canary("file")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Records of every kind that a plugin, a person or a secret has a hand in are among the files that are searched.
fn check_audit(bulkhead: &Bulkhead) {
    let files = std::fs::read_dir(bulkhead.path("data/audit")).unwrap();
    let text: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    for kind in ["start", "grants", "refusal", "limit", "secret", "unusable", "action", "stop"] {
        assert!(text.contains(&format!(r#""kind":"{kind}""#)), "{kind}: {text}");
    }
}

/// What the system shows of the process, to others of the same user.
fn check_process(bulkhead: &Bulkhead) {
    let process = std::fs::read_to_string(bulkhead.path("data/lock")).unwrap();
    let shown = |name: &str| match std::fs::read(format!("/proc/{}/{name}", process.trim())) {
        // As closed to whoever runs this test as to everybody else but root.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Vec::new(),
        read => read.unwrap(),
    };
    check_clean("the environment", &shown("environ"));
    check_clean("the arguments", &shown("cmdline"));
    let limits = String::from_utf8(shown("limits")).unwrap();
    let dumps = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(dumps.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
}

/// All that an operator can ask for afterwards.
fn check_verbs(bulkhead: &Bulkhead) {
    let plugin = guest("courier").display().to_string();
    let letters = bulkhead.dead();
    assert!(letters.len() >= WAYS.len(), "{} dead letters", letters.len());
    let shown = letters.iter().map(|letter| bulkhead.run(&["dead", "show", letter["id"].as_str().unwrap()]));
    let verbs: [&[&str]; 5] = [&["check"], &["inspect", &plugin], &["queues"], &["dead", "list"], &["secrets", "list"]];
    for finished in verbs.map(|verb| bulkhead.run(verb)).into_iter().chain(shown) {
        let finished = finished.ok();
        check_clean("a verb", (finished.output + &finished.log.join("\n")).as_bytes());
    }
}

/// Otherwise there would have been nothing to find.
fn check_it_was_used(fixture: &Fixture) {
    let requests = fixture.requests();
    for (way, _) in WAYS.iter().filter(|(way, _)| *way != "hmac") {
        let mut of_way = requests.iter().filter(|request| request.uri.starts_with(&format!("/{way}/")));
        let text = |request: &Request| format!("{} {:?} {:?}", request.uri, request.headers, request.body);
        assert!(of_way.any(|request| forms().iter().any(|form| text(request).contains(form))), "{way}");
    }
}
