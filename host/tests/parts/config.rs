//! The configuration at its boundary: what becomes of what is written. What is printed lies in `config_cases`.

#![allow(clippy::disallowed_methods, reason = "BLESS is for whoever runs the tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bulkhead_host::capability::credential::Auth;
use bulkhead_host::cli::check;
use bulkhead_host::cli::diagnostic::Colours;
use bulkhead_host::config::{self, Connector, Consume, Loaded, Plugin, Problem, Reuse, Severity};
use bulkhead_host::delivery::retry::{Jitter, Policy};
use bulkhead_host::egress::address::Reach;
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{From, Ordering, QueuePolicy};
use bulkhead_host::limit::Limits;
use bulkhead_host::secret_store::Source;
use bulkhead_host::trigger::schedule::When;
use bulkhead_host::trigger::webhook::verify::event_id::{Place, Pointer};
use bulkhead_host::trigger::webhook::verify::signature::Encoding;
use bulkhead_host::trigger::webhook::verify::template::Template;
use bulkhead_host::trigger::webhook::verify::{Scheme, Settings, hmac, jwt};
use http::HeaderName;
use proptest::prelude::*;

/// A configuration of one file, without an environment.
pub(crate) fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bulkhead.toml");
    fs::write(&file, text).unwrap();
    config::load(&[file], &|_| None)
}

/// A host must start again on the day after.
#[test]
fn a_schedule_whose_end_has_come_is_a_warning() {
    let text = "[connectors.a]\nplugin = 'a.wasm'\nschedule = { cron = '0 9 * * *', end = 2001-02-03T04:05:06Z }\n";
    let warnings = load_text(text).unwrap().warnings;
    let found: Vec<_> = warnings.iter().map(|it| (it.severity, it.column, it.message.as_str())).collect();
    assert_eq!(found, [(Severity::Warning, 40, "this time has come: the schedule fires no more")]);
}

#[test]
fn the_reference_in_docs_is_written_from_the_keys() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference-config.md");
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, config::reference()).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == config::reference(), "run the tests with BLESS=1 to write docs/reference-config.md again");
}

#[test]
fn problems_are_json_for_tools() {
    let printed = check::json(&check::outcome(load_text("hosst = 1"), |_| Vec::new()));
    let mut printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    printed["problems"][0]["file"] = "bulkhead.toml".into();
    let problem = serde_json::json!({
        "severity": "error", "file": "bulkhead.toml", "line": 1, "column": 1, "key": "hosst", "message": "unknown key",
        "help": "did you mean `host`? allowed: host, secrets, queues, connectors, routes",
    });
    assert_eq!(printed, serde_json::json!({ "ok": false, "problems": [problem] }));
}

#[test]
fn warnings_are_shown_beside_problems() {
    let text = "[queues.lonely]\n[connectors.a]\nplugin = \"builtin:log\"\nconsume = \"q\"\nbrake = -1\n";
    let outcome = check::outcome(load_text(text), |_| Vec::new());
    let severities: Vec<Severity> = outcome.problems.iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Warning], "{}", check::text(&outcome, Colours::Off));
    assert!(check::text(&outcome, Colours::Off).ends_with("1 problem, 1 warning\n"));
}

#[test]
fn a_plugin_that_does_not_load_is_shown_where_it_is_named() {
    let loaded = load_text("[connectors.a]\nplugin = \"a.wasm\"\nconsume = \"q\"\n").unwrap();
    let problem = loaded.problem("connectors.a.plugin", "cannot be read", "");
    assert_eq!((problem.line, problem.column), (2, 10));
    let problem = loaded.problem("connectors.a.limits.memory", "too small", "");
    assert_eq!(problem.line, 1, "the nearest table that is written");
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn only_connector(text: &str) -> Connector {
    load_text(text).unwrap().config.connectors.remove(0)
}

#[test]
fn the_defaults_in_the_list_are_those_of_the_parts() {
    let connector = only_connector("[connectors.a]\nplugin = \"builtin:log\"\nconsume = \"q\"\n[queues.q]\n");
    assert_eq!((connector.retry, connector.limits), (Policy::default(), Limits::default()));
    assert_eq!((connector.enabled, connector.brake, connector.reuse), (true, 20, Reuse::Never));
    assert_eq!(connector.dead_retention, Duration::from_secs(30 * 86_400));
    assert_eq!(connector.dead_max_bytes, 1 << 30);
    let consume = Consume {
        queue: name("q"),
        from: From::Oldest,
        batch: 32,
        batch_wait: Duration::ZERO,
        concurrency: 1,
        pending_max: 100_000,
    };
    assert_eq!(connector.consume, Some(consume));
    let config = load_text("[queues.q]").unwrap().config;
    assert_eq!(config.queues.get("q"), Some(&QueuePolicy::default()));
    assert_eq!((config.host.admin, config.host.grace), ("127.0.0.1:9100".parse().unwrap(), Duration::from_secs(30)));
}

#[test]
fn what_is_written_arrives() {
    let connector = only_connector(
        r#"
        [secrets]
        token = { env = "TOKEN" }
        [connectors.a]
        plugin   = "builtin:jq"
        enabled  = false
        was      = "b"
        brake    = 0
        reuse    = "always"
        consume  = { queue = "q", from = "latest", batch = 7, batch_wait = "50ms", concurrency = 2, pending_max = 9 }
        schedule = { every = "90s", input = { page = 1 } }
        config   = { text = "x", list = [1, 2.5, true] }
        retry    = { attempts = 3, first = "2s", factor = 1.5, max = "1h", jitter = "none" }
        limits   = { memory = "32MiB", cpu = "1s", requests_at_once = 2 }
        allow.publish = ["out", "out"]
        allow.secrets = ["token"]
        allow.http = [{ url = "https://a.example.com/*", methods = ["GET"], timeout = "3s", max_response = "1KiB", auth = { header = { name = "X-Key", prefix = "Key ", secret = "token" } } }]
        "#,
    );
    assert_eq!(connector.plugin, Some(Plugin::Builtin("jq".into())));
    assert_eq!((connector.enabled, connector.was, connector.brake), (false, Some(name("b")), 0));
    assert_eq!(connector.reuse, Reuse::Always);
    let consume = connector.consume.unwrap();
    assert_eq!((consume.from, consume.batch, consume.batch_wait), (From::Latest, 7, Duration::from_millis(50)));
    assert_eq!((consume.concurrency, consume.pending_max), (2, 9));
    assert_eq!(connector.schedules[0].when, When::Every(Duration::from_secs(90)));
    assert_eq!(connector.schedules[0].input.as_deref(), Some(r#"{"page":1}"#));
    let config = serde_json::json!({ "text": "x", "list": [1, 2.5, true] });
    assert_eq!(serde_json::Value::Object(connector.config), config);
    let [first, max] = [2, 3_600].map(Duration::from_secs);
    assert_eq!(
        connector.retry,
        Policy { attempts: 3, first, factor: 1.5, max, jitter: Jitter::None, ..Policy::default() }
    );
    let limits =
        Limits { memory_bytes: 32 << 20, cpu: Duration::from_secs(1), requests_at_once: 2, ..Limits::default() };
    assert_eq!(connector.limits, limits);
    assert_eq!((connector.allow.publish, connector.allow.secrets), (vec![name("out")], vec!["token".to_owned()]));
    let grant = &connector.allow.http[0];
    assert_eq!((grant.key.as_str(), grant.timeout), ("connectors.a.allow.http[0]", Some(Duration::from_secs(3))));
    assert_eq!((grant.max_request, grant.max_response), (None, Some(1_024)));
    let auth = Auth::Header { name: "X-Key".into(), prefix: "Key ".into(), secret: "token".into() };
    assert_eq!(grant.auth, Some(auth));
}

/// What becomes of a `verify`; the secrets `new` and `old` are there.
fn verify(verify: &str) -> Settings {
    let text = format!(
        "secrets = {{ new = {{ env = \"N\" }}, old = {{ env = \"O\" }} }}\n[connectors.a]\nplugin = \"builtin:log\"\nwebhook = {{ path = \"/a\", verify = {verify}, publish = \"q\" }}\n"
    );
    only_connector(&text).webhook.unwrap().verify
}

#[test]
fn ways_to_verify_arrive() {
    let standard = verify(r#"{ scheme = "standard-webhooks", secrets = ["new", "old"], window = "90s" }"#);
    let secrets = vec!["new".to_owned(), "old".to_owned()];
    let window = Duration::from_secs(90);
    assert_eq!(standard, Settings { scheme: Scheme::StandardWebhooks, secrets, window, id: None });
    assert_eq!(verify("\"none\"").scheme, Scheme::Open);
    let github = verify(r#"{ scheme = "github", secret = "new", id = { pointer = "/a/0" } }"#);
    assert_eq!((github.scheme, github.window), (Scheme::GitHub, Duration::from_secs(300)));
    assert_eq!(github.id, Some(Place::Pointer(Pointer::parse("/a/0").unwrap())));
    let basic = verify(r#"{ scheme = "basic", secret = "old", user = "shop" }"#);
    assert_eq!((basic.scheme, basic.secrets), (Scheme::Basic(Some("shop".to_owned())), vec!["old".to_owned()]));
    let own = verify(
        r#"{ scheme = "hmac", secret = "new", header = "X-S", prefix = "v1=", encoding = "base64", algorithm = "sha1", signed = "{id}.{timestamp}.{body}", timestamp = "X-T", id = { header = "X-Id" } }"#,
    );
    let header = HeaderName::from_static;
    let expected = hmac::Settings {
        other_header: None,
        header: header("x-s"),
        prefix: "v1=".to_owned(),
        encoding: Encoding::Base64,
        algorithm: hmac::Algorithm::Sha1,
        signed: Template::parse("{id}.{timestamp}.{body}").unwrap(),
        timestamp: Some(header("x-t")),
        id: Some(header("x-id")),
    };
    assert_eq!(own.scheme, Scheme::Hmac(Box::new(expected)));
    let Scheme::Jwt(jwt) =
        verify(r#"{ scheme = "jwt", jwks = "https://i.example/k", issuer = "i", audience = "a" }"#).scheme
    else {
        panic!("it is a jwt");
    };
    let usual = ["RS256", "ES256", "EdDSA"].map(|name| jwt::ALGORITHMS.iter().find(|(it, _)| *it == name).unwrap().1);
    assert_eq!((jwt.reach, jwt.algorithms, jwt.subject), (Reach::Public, usual.to_vec(), None));
}

#[test]
fn a_queue_takes_what_its_smallest_reader_takes() {
    let connector = |name, message| {
        format!(
            "[connectors.{name}]\nplugin = \"builtin:log\"\nconsume = \"q\"\nlimits.message = \"{message}\"\nallow.publish = [\"out\"]\n"
        )
    };
    let text = connector("a", "4MiB") + &connector("b", "2MiB") + "[queues.q]\nordering = \"key\"\ndedup = \"1h\"\n";
    let queues = load_text(&text).unwrap().config.queues;
    let dedup = Some(Duration::from_secs(3_600));
    let policy = QueuePolicy { ordering: Ordering::Key, dedup, message_bytes: 2 << 20, ..QueuePolicy::default() };
    assert_eq!(queues.get("q"), Some(&policy));
    assert_eq!(queues.get("out"), Some(&QueuePolicy::default()));
}

#[test]
fn paths_begin_at_the_file_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["base/bulkhead.toml", "site/overlay.toml"].map(|file| folder.path().join(file));
    let base =
        "[connectors.a]\nplugin = \"a.wasm\"\nconsume = \"q\"\n[connectors.b]\nplugin = \"b.wasm\"\nconsume = \"q\"";
    let overlay = "[secrets]\nkey = { file = \"key\" }\n[connectors.b]\nplugin = \"/opt/b.wasm\"";
    for (file, text) in files.iter().zip([base, overlay]) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let config = config::load(&files, &|_| None).unwrap().config;
    assert_eq!(config.host.data_dir, folder.path().join("base/data"));
    assert_eq!(config.secrets["key"], Source::File(folder.path().join("site/key")));
    assert_eq!(config.connectors[0].plugin, Some(Plugin::Path(folder.path().join("base/a.wasm"))));
    assert_eq!(config.connectors[1].plugin, Some(Plugin::Path("/opt/b.wasm".into())));
}

#[test]
fn files_that_are_none_are_problems_without_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["missing.toml", "binary.toml", "."].map(|file| folder.path().join(file));
    fs::write(&files[1], b"a = \"\xff\"").unwrap();
    let problems = config::load(&files, &|_| None).unwrap_err();
    let messages: Vec<&str> = problems.iter().map(|it| it.message.split(':').next().unwrap()).collect();
    assert_eq!(messages, ["cannot be read", "is not UTF-8", "cannot be read"]);
    assert!(problems.iter().all(|problem| problem.line == 0));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert!(load_text("\u{feff}[host]\nruns = 1\n").is_ok());
}

#[test]
fn deep_nesting_is_a_problem_and_no_crash() {
    for text in [format!("a{} = 1", ".a".repeat(100_000)), format!("a = {}", "[".repeat(100_000))] {
        assert!(load_text(&text).is_err());
    }
}

/// Pieces of a configuration, so that arbitrary text gets past the parser often.
fn fragment() -> impl Strategy<Value = String> {
    let key = "(host|secrets|queues|connectors|a|plugin|consume|schedule|retry|limits|allow|http|auth|bearer|url|every|cron|env|config)";
    let value = r#"(1|-1|1e999|9223372036854775808|true|"builtin:jq"|"\$\{X\}"|"\$\$\{"|"5m"|\[\]|"ghp_C4n4ryC4n4ry0123"|'https://u:C4n4ry@h/x\?k=C4n4ry'|"C4n4ry|\[1\]|\[\{a=1\}\]|\{\}|1979-05-27)"#;
    let patterns = [
        format!("\\[{key}(\\.{key}){{0,3}}\\]\n"),
        format!("{key}(\\.{key}){{0,4}} = {value}\n"),
        format!("{key} = \\[\\{{ {key} = {value}, {key}\\.{key} = {value} \\}}\\]\n"),
    ]
    .map(|pattern| proptest::string::string_regex(&pattern).unwrap());
    let [header, pair, list] = patterns;
    prop_oneof![header, pair, list]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        crate::properties::config::check(text.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_are_explained(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::properties::config::check(&bytes);
    }

    #[test]
    fn arbitrary_tables_never_panic(fragments in proptest::collection::vec(fragment(), 0..12)) {
        crate::properties::config::check(fragments.concat().as_bytes());
    }
}
