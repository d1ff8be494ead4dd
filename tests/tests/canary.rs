//! Values that can be recognised go everywhere a secret goes, and are looked for in everything that comes out.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use bulkhead_tests::{
    Answer, Authority, Bulkhead, Certified, Collector, Fixture, Flaw, Request, Running, TlsServer, guest,
};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

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
/// The same for credentials with a private key. The last two have a secret for a key that is none.
const KEYED: [(&str, &str); 4] = [
    ("mtls", "auth = { mtls = { cert = 'client.pem', key = 'client' } }"),
    (
        "statement",
        "auth = { oauth2 = { token_url = 'URL/token', client_id = 'me', assertion = { key = 'robot', algorithm = 'ES256', issuer = 'robot@example.com' } } }",
    ),
    ("unfit-mtls", "auth = { mtls = { cert = 'client.pem', key = 'file' } }"),
    (
        "unfit-statement",
        "auth = { oauth2 = { token_url = 'URL/token', client_id = 'me', assertion = { key = 'env', issuer = 'robot@example.com' } } }",
    ),
];
/// What receivers do, each repeating what they got: all goes well, not now, never, look elsewhere.
const MANNERS: [u16; 4] = [200, 503, 422, 302];

fn canary(of: &str) -> String {
    format!("{CANARY}-{of}-{}", "x".repeat(20))
}

/// Private keys, of a client and of a robot.
struct Keys {
    authority: Authority,
    client: Certified,
    robot: Certified,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let authority = Authority::new();
    let (client, robot) = (authority.issue(Flaw::None), authority.issue(Flaw::None));
    Keys { authority, client, robot }
});
static FORMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let keys = [&KEYS.client.key, &KEYS.robot.key].into_iter().flat_map(|pem| key_forms(pem));
    text_forms().into_iter().map(String::into_bytes).chain(keys).collect()
});

/// For all of them at once.
static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| AhoCorasick::new(&*FORMS).unwrap());

/// Every form in which a value might come out.
fn text_forms() -> Vec<String> {
    let hex = HEXLOWER.encode(CANARY.as_bytes());
    // `cnry/9+z` in base64, beginning at each of the three places of a group.
    let base64 = ["Y25yeS85K3", "NucnkvOSt6", "jbnJ5LzkreiI"].map(|text| text[..9].to_owned());
    let plain = [CANARY.to_owned(), "cnry%2F9%2Bz".to_owned(), "cnry%2f9%2bz".to_owned(), "cnry\\/9+z".to_owned()];
    plain.into_iter().chain([hex.clone(), hex.to_uppercase()]).chain(base64).collect()
}

/// Every form of a key: the lines that hold a part of its number, and the number itself. The last line is public.
fn key_forms(pem: &str) -> Vec<Vec<u8>> {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(lines.concat().as_bytes()).unwrap();
    let at = der.windows(2).position(|head| head == [0x04, 0x20]).unwrap() + 2;
    let number = der[at..at + 32].to_vec();
    let hex = HEXLOWER.encode(&number);
    let texts = lines[..2].iter().map(|line| line.as_bytes().to_vec());
    texts.chain([hex.to_uppercase().into_bytes(), hex.into_bytes(), number]).collect()
}

#[track_caller]
fn check_clean(what: &str, bytes: &[u8]) {
    if let Some(found) = SEARCH.find(bytes) {
        let around = &bytes[found.start().saturating_sub(200)..(found.end() + 60).min(bytes.len())];
        let form = String::from_utf8_lossy(&FORMS[found.pattern().as_usize()]);
        panic!("{what} holds {form}: {}", String::from_utf8_lossy(around));
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

/// Where requests of a way go.
fn base(way: &str, fixture: &Fixture, server: &TlsServer) -> String {
    if way.contains("mtls") { server.url("") } else { fixture.url() }
}

fn toml(fixture: &Fixture, server: &TlsServer, collector: &Collector) -> String {
    let (courier, hostile) = (guest("courier"), guest("hostile"));
    let grant = |(way, says): &(&str, &str)| {
        let (url, says) = (base(way, fixture, server), says.replace("URL", &fixture.url()));
        format!("{{ url = '{url}/{way}/*', methods = ['POST'], private = true, {says} }},\n")
    };
    format!(
        r#"
        [host.tls]
        ca_file = "roots.pem"

        [host.otlp]
        url  = "{}"
        auth = {{ bearer = "env" }}

        [secrets]
        client = {{ env = "CLIENT" }}
        robot  = {{ file = "robot.key" }}
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
        collector.url(),
        courier.display(),
        WAYS.iter().chain(&KEYED).map(grant).collect::<String>(),
        hostile.display(),
    )
}

/// A word under a veil, for a plugin that looks for it and shall not have it by that.
fn veiled(word: &[u8]) -> String {
    HEXLOWER.encode(&word.iter().map(|byte| byte ^ 0x55).collect::<Vec<u8>>())
}

/// Each hunts for every form of every secret in the plugin's memory when its answer is there.
fn errands(fixture: &Fixture, server: &TlsServer) -> Vec<String> {
    let hunt: Vec<String> = FORMS.iter().map(|form| veiled(form)).collect();
    let mut errands = Vec::new();
    for (way, _) in WAYS {
        for status in MANNERS {
            let url = format!("{}/{way}/{status}", fixture.url());
            let check = status >= 400;
            errands.push(match way {
                "placed" => json!({
                    "method": "POST", "url": format!("{url}?key=[sealed]"), "place": ["sealed", "env", "file"], "check": check,
                    "headers": [["x-key", "[env]"], ["content-type", "text/plain"]], "body": "[file]", "hunt": hunt,
                }),
                _ => json!({ "method": "POST", "url": url, "body": "hello", "check": check, "hunt": hunt }),
            });
        }
    }
    for (way, _) in KEYED {
        let url = format!("{}/{way}/200", base(way, fixture, server));
        errands.push(json!({ "method": "POST", "url": url, "body": "hello", "hunt": hunt }));
    }
    // One that has to find something: what the plugin has sent itself.
    let url = format!("{}/bearer/200", fixture.url());
    errands.push(json!({ "method": "POST", "url": url, "body": "hello", "hunt": [veiled(b"hello")] }));
    errands.iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_is_found_nowhere() {
    let fixture = Fixture::start(repeat);
    let server = TlsServer::for_clients_of(&KEYS.authority, &KEYS.authority.issue(Flaw::None));
    let collector = Collector::start();
    let bulkhead = Bulkhead::new(&toml(&fixture, &server, &collector)).variable("CLIENT", &KEYS.client.key);
    let bulkhead = bulkhead.variable("CANARY", &canary("env")).variable("BULKHEAD_LOG", LOG);
    let (file, key) = (bulkhead.path("canary"), bulkhead.path("robot.key"));
    write_secret(&file, &canary("file"));
    write_secret(&key, &KEYS.robot.key);
    std::fs::write(bulkhead.path("roots.pem"), KEYS.authority.pem()).unwrap();
    std::fs::write(bulkhead.path("client.pem"), &KEYS.client.cert).unwrap();
    let set = bulkhead.run_with(&["secrets", "set", "sealed"], canary("first").as_bytes()).ok();
    let running = bulkhead.start();
    let put = json!({ "value": canary("sealed") }).to_string();
    let answers = [
        running.api("PUT", "secrets/sealed", &put),
        running.api("PUT", "secrets/sealed", &put.replace("value", "valve")),
        running.api("GET", "secrets", ""),
    ];
    let errands = errands(&fixture, &server);
    bulkhead.send("in", &errands);
    bulkhead.send("odd", &["trap a", "panic b", "recurse", "no such verb", "print 100"]);
    // What has no key that is one waits for it, at no attempt.
    let settled = (errands.len() + 5 - 2) as f64;
    running.wait_until("all messages settled", PATIENCE, |metrics| {
        let of = |outcome| metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]);
        of("done") + of("dead") >= settled
    });
    ["unfit-mtls", "unfit-statement"].iter().for_each(|way| {
        running.wait_for_log(&format!("/{way}/200: held back"), PATIENCE);
    });
    check_process(&bulkhead);
    let dead = running.api("GET", "dead", "");
    check_clean("the metrics", format!("{:?}", running.metrics()).as_bytes());
    let scrubbed = running.metrics().value("bulkhead_scrubbed_total", &[("connector", "courier")]);
    for answer in answers.iter().chain([&dead, &running.api("GET", "queues", "")]) {
        check_clean("an answer of the API", answer.body.as_bytes());
    }
    check_letters(&bulkhead, &running);
    std::fs::remove_file(&file).unwrap();
    bulkhead.send("in", &errands[4..8]);
    let labels = [("effect", "secret"), ("reason", "missing")];
    running.wait_until("a missed secret", PATIENCE, |metrics| metrics.value("bulkhead_denied_total", &labels) > 0.0);
    let ended = running.terminate().ok();
    check_clean("the log", ended.errors().as_bytes());
    assert!(ended.log.iter().any(|line| line.contains(r#""level":"TRACE""#)), "the log shows everything");
    check_clean("`secrets set`", (set.output + &set.log.join("\n")).as_bytes());
    write_secret(&file, &canary("file"));
    check_verbs(&bulkhead);
    [file, key].iter().for_each(|file| std::fs::remove_file(file).unwrap());
    check_audit(&bulkhead);
    check_files(&bulkhead.path(""));
    assert!(scrubbed >= 20.0, "{scrubbed} answers were scrubbed");
    check_it_was_used(&fixture);
    check_spans(&collector);
    assert_eq!(server.requests(), ["POST /mtls/200 HTTP/1.1"]);
}

fn write_secret(file: &Path, value: &str) {
    std::fs::write(file, value).unwrap();
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
    let environment = shown("environ");
    check_clean("the environment", &environment);
    // Where anything is shown, it is what the process was started with.
    let still = |name: &[u8]| environment.windows(name.len()).any(|part| part == name);
    assert!(environment.is_empty() || still(b"BULKHEAD_LOG=trace"), "{}", String::from_utf8_lossy(&environment));
    check_clean("the arguments", &shown("cmdline"));
    let limits = String::from_utf8(shown("limits")).unwrap();
    let dumps = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(dumps.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
}

/// Each dead letter, as a host that runs shows it.
fn check_letters(bulkhead: &Bulkhead, running: &Running) {
    let letters = bulkhead.dead();
    assert!(letters.len() >= WAYS.len(), "{} dead letters", letters.len());
    for letter in letters {
        let id = letter["id"].as_str().unwrap();
        let answer = running.api("GET", &format!("dead/{id}"), "");
        assert!(answer.status == 200 && answer.body.contains("history"), "{answer:?}");
        check_clean("a dead letter of the API", answer.body.as_bytes());
        let shown = bulkhead.run(&["dead", "show", id]).ok();
        check_clean("`dead show`", (shown.output + &shown.log.join("\n")).as_bytes());
    }
}

/// Of all the plugins that looked for something in their memory, one has found it: what it had put there.
fn check_hunt(letters: &[Value]) {
    let reasons = letters.iter().filter_map(|letter| letter["reason"].as_str());
    assert_eq!(reasons.filter(|reason| reason.contains("the sandbox has a hole")).count(), 1);
}

/// All that an operator can ask for afterwards.
fn check_verbs(bulkhead: &Bulkhead) {
    let plugin = guest("courier").display().to_string();
    let letters = bulkhead.dead();
    check_hunt(&letters);
    assert!(letters.len() >= WAYS.len(), "{} dead letters", letters.len());
    let shown = letters.iter().map(|letter| bulkhead.run(&["dead", "show", letter["id"].as_str().unwrap()]));
    let verbs: [&[&str]; 5] = [&["check"], &["inspect", &plugin], &["queues"], &["dead", "list"], &["secrets", "list"]];
    for finished in verbs.map(|verb| bulkhead.run(verb)).into_iter().chain(shown) {
        let finished = finished.ok();
        check_clean("a verb", (finished.output + &finished.log.join("\n")).as_bytes());
    }
}

/// What a collector was told, which it was shown a secret for.
fn check_spans(collector: &Collector) {
    for request in collector.requests() {
        assert_eq!(request.header("authorization"), Some(&*format!("Bearer {}", canary("env"))));
        check_clean("a span", &request.body);
    }
    let spans = collector.spans();
    let of = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert!(of("POST") >= WAYS.len() * MANNERS.len() && of("attempt") > of("process in"), "{} spans", spans.len());
    assert!(spans.iter().any(|span| span.error.as_deref().is_some_and(|why| !why.is_empty())));
}

/// Otherwise there would have been nothing to find.
fn check_it_was_used(fixture: &Fixture) {
    let requests = fixture.requests();
    for (way, _) in WAYS.iter().filter(|(way, _)| *way != "hmac") {
        let mut of_way = requests.iter().filter(|request| request.uri.starts_with(&format!("/{way}/")));
        let text = |request: &Request| format!("{} {:?} {:?}", request.uri, request.headers, request.body);
        assert!(of_way.any(|request| text_forms().iter().any(|form| text(request).contains(form))), "{way}");
    }
    let body = |request: &Request| String::from_utf8_lossy(&request.body).into_owned();
    assert!(requests.iter().any(|request| body(request).contains("assertion=eyJ")), "a statement");
    assert!(requests.iter().any(|request| request.uri == "/statement/200"), "a token for it");
}
