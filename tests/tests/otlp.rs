//! Traces as a collector gets them: over webhooks, ticks, queues, attempts and requests, read by a reader of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_tests::{
    Answer, Bulkhead, Collector, Finished, Fixture, Metrics, Posted, Running, Span, exchange, guest, post,
};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STEP: &str = "00f067aa0ba902b7";

/// A trace of a sender.
fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{STEP}-{flags}")
}

fn otlp(collector: &Collector, more: &str) -> String {
    format!("[host.otlp]\nurl = '{}'\n{more}\n", collector.url())
}

/// What comes in over a webhook is passed on through `mid` to a server.
fn chain(server: &Fixture) -> String {
    let url = server.url();
    format!(
        "[connectors.hook]\nwebhook = {{ path = '/in/{{shop}}', verify = 'none', publish = 'in' }}\n
        [connectors.map]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = {{ program = '.', publish = 'mid' }}\n
        allow.publish = ['mid']\n
        [connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'mid'\n
        retry = {{ attempts = 3, first = '1ms' }}\nconfig = {{ url = '{url}/to?key=cnry', body = '.' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    )
}

/// The spans of what ran until nothing was left.
fn ran(toml: &str, work: impl FnOnce(&Bulkhead)) -> (Finished, Bulkhead) {
    let host = Bulkhead::new(toml);
    work(&host);
    let finished = host.run_until_idle();
    (finished, host)
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(named.len(), 1, "spans called `{name}` in {:#?}", names(spans));
    named[0]
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Each span's name below that of the one before it, by which it stands in a trace.
fn tree(spans: &[Span]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "ids of spans are their own");
    let path = |span: &Span| {
        let mut names = vec![span.name.clone()];
        let mut before = span.parent.as_deref();
        while let Some(parent) = before.and_then(|id| by_id.get(id)) {
            assert_eq!(parent.trace, span.trace, "a step before is of the same trace");
            names.push(parent.name.clone());
            before = parent.parent.as_deref();
        }
        names.reverse();
        names.join(" > ")
    };
    let mut paths: Vec<String> = spans.iter().map(path).collect();
    paths.sort();
    paths
}

#[test]
fn a_request_is_one_trace_through_queues_attempts_and_requests() {
    let (collector, server) = (Collector::start(), Fixture::answering([Answer::status(503), Answer::status(200)]));
    let more = "headers = { x-tenant = 'acme' }\nresource = { 'deployment.environment.name' = 'test' }";
    let host = Bulkhead::new(&(chain(&server) + &otlp(&collector, more)));
    let running = host.start();
    let headers = [("traceparent", &*parent("01")), ("tracestate", "acme=1,other=2")];
    assert_eq!(post(host.webhooks(), "/in/7?token=cnry", &headers, "{\"a\":\"cnry\"}").status, 202);
    server.wait_for(2, PATIENCE);
    running.wait_until("both are settled", PATIENCE, |metrics| done(metrics) == 2.0);
    check_exemplars(&running);
    let ended = running.terminate().ok();
    let spans = collector.spans();
    let mapped = "POST /in/{shop} > publish in > process in";
    let delivered = format!("{mapped} > attempt > publish mid > process mid");
    assert_eq!(
        tree(&spans),
        [
            "POST /in/{shop}".to_owned(),
            "POST /in/{shop} > publish in".to_owned(),
            mapped.to_owned(),
            format!("{mapped} > attempt"),
            format!("{mapped} > attempt > publish mid"),
            delivered.clone(),
            format!("{delivered} > attempt"),
            format!("{delivered} > attempt"),
            format!("{delivered} > attempt > POST"),
            format!("{delivered} > attempt > POST"),
        ]
    );
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    check_steps(&spans, &server);
    let request = &collector.requests()[0];
    assert_eq!((&*request.uri, request.header("x-tenant")), ("/v1/traces", Some("acme")));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let all = format!("{spans:?}");
    assert!(!all.contains("cnry"), "no query, header or body: {all}");
    assert!(!ended.errors().contains("traces cannot"), "{}", ended.errors());
}

fn done(metrics: &Metrics) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("outcome", "done")])
}

/// What stands in the spans of the chain.
fn check_steps(spans: &[Span], server: &Fixture) {
    let root = only(spans, "POST /in/{shop}");
    assert_eq!((root.kind, root.parent.as_deref(), &*root.state), ("server", Some(STEP), "acme=1,other=2"));
    let said =
        (root.text("http.request.method"), root.text("http.route"), &root.attributes["http.response.status_code"]);
    assert_eq!(said, ("POST", "/in/{shop}", &json!(202)));
    for (kind, value) in [("service.name", "bulkhead"), ("deployment.environment.name", "test")] {
        assert_eq!(root.resource[kind], value);
    }
    assert!(["service.version", "service.instance.id"].iter().all(|key| root.resource.contains_key(*key)));
    for (queue, by) in [("in", "hook"), ("mid", "map")] {
        let (published, processed) =
            (only(spans, &format!("publish {queue}")), only(spans, &format!("process {queue}")));
        assert_eq!((published.kind, processed.kind), ("producer", "consumer"));
        assert_eq!((published.text("bulkhead.connector"), &*published.state), (by, "acme=1,other=2"));
        assert_eq!(processed.links, [(published.trace.clone(), published.id.clone())], "linked across the queue");
        for (span, kind) in [(published, "send"), (processed, "process")] {
            let said = ["messaging.system", "messaging.operation.type", "messaging.destination.name"];
            assert_eq!(said.map(|key| span.text(key)), ["bulkhead", kind, queue]);
        }
        assert_eq!(published.text("messaging.message.id"), processed.text("messaging.message.id"));
        assert_eq!((&*processed.state, processed.text("bulkhead.outcome")), ("acme=1,other=2", "done"));
    }
    let attempts: Vec<_> =
        spans.iter().filter(|it| it.name == "attempt" && it.text("bulkhead.connector") == "deliver").collect();
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|it| (&it.attributes["bulkhead.attempt"], it.text("bulkhead.outcome"), it.text("error.type")))
        .collect();
    assert_eq!(outcomes, [(&json!(1), "retry", "retry"), (&json!(2), "done", "")]);
    assert!(attempts[0].error.as_deref().is_some_and(|why| why.contains("503")) && attempts[1].error.is_none());
    let requests: Vec<_> = spans.iter().filter(|it| it.name == "POST").collect();
    for (span, (request, status)) in requests.iter().zip(server.requests().iter().zip([503, 200])) {
        assert_eq!(request.header("traceparent"), Some(&*format!("00-{}-{}-01", span.trace, span.id)));
        assert_eq!(request.header("tracestate"), Some("acme=1,other=2"));
        assert_eq!((span.kind, &span.attributes["http.response.status_code"]), ("client", &json!(status)));
        assert_eq!(span.text("bulkhead.http.grant"), format!("{}/*", server.url()));
        let at = (span.text("server.address"), &span.attributes["server.port"]);
        assert_eq!(at, ("127.0.0.1", &json!(server.address().port())));
    }
    assert_eq!(requests.iter().map(|span| span.text("error.type")).collect::<Vec<_>>(), ["503", ""]);
}

/// Who asks for OpenMetrics gets traces as examples; others a text without them.
fn check_exemplars(running: &Running) {
    let scrape = |accept: &str| {
        let head = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{accept}\r\n", running.admin());
        exchange(running.admin(), &head).unwrap().body
    };
    let (all, plain) = (scrape("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"), scrape(""));
    for name in ["attempt", "delivery"] {
        let example =
            |line: &&str| line.starts_with(&format!("bulkhead_{name}_seconds_bucket")) && line.contains(TRACE);
        assert!(all.lines().any(|line| example(&line) && line.contains(" # {trace_id=\"")), "{name}: {all}");
    }
    assert!(!plain.contains(TRACE), "{plain}");
}

#[test]
fn a_tick_begins_a_trace_and_a_failure_says_why() {
    let collector = Collector::start();
    let plugin = guest("hostile");
    let toml = format!(
        "[connectors.clock]\nplugin = '{}'\nretry = {{ attempts = 1 }}\n
        schedule = {{ every = '1h', input = 'trap now' }}\n",
        plugin.display()
    );
    let (_, _) = ran(&(toml + &otlp(&collector, "")), |_| {});
    let spans = collector.spans();
    assert_eq!(
        tree(&spans),
        ["tick default", "tick default > process @clock", "tick default > process @clock > attempt"]
    );
    let (tick, delivery, attempt) = (&spans[0], only(&spans, "process @clock"), only(&spans, "attempt"));
    assert_eq!((tick.name.as_str(), tick.text("bulkhead.schedule")), ("tick default", "default"));
    assert_eq!(delivery.links, [(tick.trace.clone(), tick.id.clone())]);
    let said = [delivery.text("bulkhead.outcome"), attempt.text("bulkhead.outcome"), attempt.text("error.type")];
    assert_eq!(said, ["dead", "dead", "trap"]);
    assert!(attempt.error.as_deref().is_some_and(|why| why.contains("last words: now")), "{attempt:?}");
}

/// A message that nobody began a trace for, whose plugin publishes, and says more than is taken.
#[test]
fn what_a_plugin_says_is_bounded_and_nothing_where_traces_go_nowhere() {
    let collector = Collector::start();
    let toml = format!("[connectors.it]\nplugin = '{}'\nconsume = 'in'\n", guest("hostile").display());
    let host = Bulkhead::new(&(toml.clone() + &otlp(&collector, "")));
    let running = host.start();
    host.send("in", &["trace", "count key"]);
    running.wait_until("both are settled", PATIENCE, |metrics| done(metrics) == 2.0);
    let denied = |reason| running.metrics().value("bulkhead_denied_total", &[("effect", "trace"), ("reason", reason)]);
    assert_eq!([denied("invalid"), denied("too_many")], [5.0, 1.0 + 70.0 + 69.0]);
    let _ = running.terminate().ok();
    let spans = collector.spans();
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "attempt").collect();
    let attempt = attempts.iter().find(|span| span.attributes.contains_key("said")).unwrap();
    assert_eq!((attempt.text("said"), attempt.text("long").len()), ("again", 1024));
    assert_eq!((&attempt.attributes["key-0"], attempt.text("bulkhead.connector")), (&json!(0), "it"));
    // The host's own attributes have room beside the plugin's 32.
    let of_plugin = attempt.attributes.keys().filter(|key| !key.starts_with("bulkhead.")).count();
    assert_eq!((of_plugin, attempt.attributes_dropped), (32, 5 + 70));
    let (name, said) = &attempt.events[0];
    assert_eq!((name.as_str(), said.len(), &said["part"], &said["is_last"]), ("seen", 3, &json!(0.5), &json!(true)));
    assert_eq!((attempt.events.len(), attempt.events_dropped), (32, 1 + 69));
    assert!(attempts.iter().any(|span| span.attributes.get("bulkhead.state.writes") == Some(&json!(1))));
    assert!(spans.iter().filter(|span| span.name == "process in").all(|span| span.parent.is_none()), "{spans:#?}");
    let (finished, host) = ran(&toml, |host| drop(host.send("in", &["trace", "ok"])));
    assert!(host.dead().is_empty() && !finished.errors().contains("trace"), "{}", finished.errors());
}

/// Traces of messages that have none are recorded by their ids alone: the last 56 bits against the ratio.
#[test]
fn a_sample_is_decided_by_the_trace_alone() {
    const MESSAGES: usize = 300;
    let traces = |sample: f64| {
        let collector = Collector::start();
        let toml = "[connectors.one]\nplugin = 'builtin:log'\nconsume = 'in'\n
            [connectors.two]\nplugin = 'builtin:log'\nconsume = 'in'\n";
        let host = Bulkhead::new(&(toml.to_owned() + &otlp(&collector, &format!("sample = {sample:.1}"))));
        let running = host.start();
        // The same ids each time.
        let all = (0..MESSAGES).map(|nth| json!({ "id": format!("m{nth}"), "body": "x" }).to_string() + "\n");
        assert_eq!(host.post("in", &all.collect::<String>()), Posted::Accepted);
        running.wait_until("all are settled", PATIENCE, |metrics| done(metrics) == 2.0 * MESSAGES as f64);
        let _ = running.terminate().ok();
        let mut by_connector: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for span in collector.spans().into_iter().filter(|span| span.name == "process in") {
            by_connector.entry(span.text("bulkhead.connector").to_owned()).or_default().push(span.trace);
        }
        by_connector.values_mut().for_each(|traces| traces.sort());
        assert_eq!(by_connector.get("one"), by_connector.get("two"), "both connectors of a message decide alike");
        by_connector.remove("one").unwrap_or_default()
    };
    let all = traces(1.0);
    assert_eq!((all.len(), traces(0.0).len()), (MESSAGES, 0));
    let threshold = (1_u64 << 56) / 10 * 9;
    let is_taken = |trace: &&String| u64::from_str_radix(&trace[18..], 16).unwrap() >= threshold;
    let expected: Vec<String> = all.iter().filter(is_taken).cloned().collect();
    assert!((10..60).contains(&expected.len()), "{} of {MESSAGES}", expected.len());
    assert_eq!(traces(0.1), expected);
}

/// A sender's word counts, as long as it asks for little; and it is no way to be recorded always by a choice of ids.
#[test]
fn a_sender_may_ask_for_some_traces_and_not_for_all() {
    let (collector, server) = (Collector::start(), Fixture::answering([Answer::status(200)]));
    let host = Bulkhead::new(&(chain(&server) + &otlp(&collector, "sample = 0.0")));
    let running = host.start();
    let send = |header: &str| post(host.webhooks(), "/in/1", &[("traceparent", header)], "{}").status;
    // Not recorded by its sender; malformed; without one.
    for header in [parent("00"), "00-nonsense-01".to_owned(), format!("00-{}-{STEP}-01", "0".repeat(32)), String::new()]
    {
        assert_eq!(send(&header), 202, "{header}");
    }
    const ASKED: usize = 200;
    let began = std::time::Instant::now();
    let highest = "f".repeat(32);
    (0..ASKED).for_each(|_| assert_eq!(send(&format!("00-{highest}-{STEP}-01")), 202));
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    running.wait_until("all are settled", PATIENCE, |metrics| done(metrics) == 2.0 * (ASKED + 4) as f64);
    let _ = running.terminate().ok();
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == highest), "{:?}", names(&spans));
    let of = |name: &str| spans.iter().filter(|span| span.name == name).count();
    let recorded = of("POST /in/{shop}");
    assert!((1..=10 * (seconds + 1)).contains(&recorded) && recorded < ASKED, "{recorded} in {seconds} s");
    assert_eq!([of("process in"), of("process mid"), of("POST")], [recorded; 3]);
    // What is not recorded says so on its way, whatever came in.
    let flags = |flag: &str| {
        server.requests().iter().filter(|it| it.header("traceparent").is_some_and(|it| it.ends_with(flag))).count()
    };
    assert_eq!((flags("-01"), flags("-00")), (recorded, ASKED + 4 - recorded));
}

/// A plugin that gives its message a trace of its own, which is to be recorded.
#[test]
fn a_plugin_does_not_decide_what_is_recorded() {
    const OTHER: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let collector = Collector::start();
    let plugin = guest("hostile");
    let toml = format!("[connectors.it]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['out']\n", plugin.display());
    let (_, host) = ran(&(toml + &otlp(&collector, "sample = 0.0")), |host| {
        host.send("in", &["forge out"]);
        let header = format!("traceparent: {}", parent("01"));
        let _ = host.run(&["send", "in", "--body", "forge out", "--header", &header]).ok();
    });
    let headers = host.ledger().headers("out").concat();
    let flag = |flag: &str| ("traceparent".to_owned(), format!("00-{}-{}-{flag}", OTHER.0, OTHER.1));
    assert_eq!(headers, [flag("00"), flag("01")], "as recorded as the message that it was made from");
    let spans = collector.spans();
    let published = only(&spans, "publish out");
    assert_eq!(
        (published.trace.as_str(), published.links.clone()),
        (TRACE, vec![(OTHER.0.to_owned(), OTHER.1.to_owned())])
    );
}

/// Several messages in one call, of which one fails: a trace of its own that follows from each of theirs.
#[test]
fn a_batch_is_a_step_that_follows_from_each_of_its_messages() {
    let collector = Collector::start();
    let plugin = guest("batch");
    let toml = format!(
        "[connectors.it]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 10 }}\nallow.publish = ['out']\n",
        plugin.display()
    );
    let (_, host) = ran(&(toml + &otlp(&collector, "")), |host| {
        for (trace, body) in [("a", "ok"), ("b", "ok"), ("c", "bad")] {
            let header = format!("traceparent: 00-{}-{STEP}-01", trace.repeat(32));
            let _ = host.run(&["send", "in", "--body", body, "--header", &header]).ok();
        }
    });
    let spans = collector.spans();
    let call = only(&spans, "attempt");
    let deliveries: Vec<_> = spans.iter().filter(|span| span.name == "process in").collect();
    let mut ids: Vec<_> = deliveries.iter().map(|span| (span.trace.clone(), span.id.clone())).collect();
    let mut links = call.links.clone();
    ids.sort();
    links.sort();
    assert_eq!((links, &call.attributes["messaging.batch.message_count"]), (ids, &json!(3)));
    assert_eq!(
        (call.text("bulkhead.outcome"), &call.attributes["bulkhead.publishes.discarded"]),
        ("partly", &json!(1))
    );
    for delivery in &deliveries {
        assert_eq!(delivery.parent.as_deref(), Some(STEP));
        assert!(delivery.links.contains(&(call.trace.clone(), call.id.clone())), "{delivery:?}");
        let published = spans.iter().find(|span| span.name == "publish out" && span.trace == delivery.trace);
        let is_bad = delivery.trace.starts_with('c');
        assert_eq!((published.is_none(), delivery.text("bulkhead.outcome") == "dead"), (is_bad, is_bad));
        assert!(published.is_none_or(|published| published.parent.as_ref() == Some(&delivery.id)));
    }
    let mut kept: Vec<_> = host.ledger().headers("out").concat().into_iter().map(|(_, value)| value).collect();
    let mut published: Vec<_> = spans.iter().filter(|span| span.name == "publish out").collect();
    kept.sort();
    published.sort_by_key(|span| span.trace.clone());
    let expected: Vec<_> = published.iter().map(|span| format!("00-{}-{}-01", span.trace, span.id)).collect();
    assert_eq!(kept, expected, "each message says which step it is");
}

/// The collector goes and comes back: runs go on, the log says it once, and what waited is told.
#[test]
fn a_collector_that_is_down_costs_one_line_and_no_run() {
    let is_down = Arc::new(AtomicBool::new(true));
    let state = is_down.clone();
    let collector = Collector::answering(move |_| Answer::status(if state.load(Ordering::SeqCst) { 503 } else { 200 }));
    let host = Bulkhead::new(
        &("[connectors.it]\nplugin = 'builtin:log'\nconsume = 'in'\n".to_owned() + &otlp(&collector, "")),
    );
    let running = host.start();
    host.send("in", &["a", "b"]);
    running.wait_until("both are settled", PATIENCE, |metrics| done(metrics) == 2.0);
    collector.wait_for(2, PATIENCE);
    is_down.store(false, Ordering::SeqCst);
    running.wait_for_log("traces are exported again", PATIENCE);
    running.wait_until("all are there", PATIENCE, |metrics| {
        metrics.value("bulkhead_trace_spans_exported_total", &[]) == 4.0
    });
    assert_eq!(running.metrics().value("bulkhead_trace_spans_dropped_total", &[]), 0.0);
    let ended = running.terminate().ok();
    let lines = |text: &str| ended.log.iter().filter(|line| line.contains(text)).count();
    assert_eq!([lines("traces cannot be exported"), lines("traces are exported again")], [1, 1]);
}

/// Nobody listens at all: a stop does not wait for it, and what is refused for good is not sent twice.
#[test]
fn a_stop_does_not_wait_for_a_collector_that_is_gone() {
    let toml = "[connectors.it]\nplugin = 'builtin:log'\nconsume = 'in'\n";
    let gone = Collector::start().url();
    let host = Bulkhead::new(&format!("{toml}[host.otlp]\nurl = '{gone}'\n"));
    let running = host.start();
    host.send("in", &["a"]);
    running.wait_for_log("traces cannot be exported", PATIENCE);
    let _ = running.terminate().ok();
    let refusing = Collector::answering(|_| Answer::status(400));
    let (finished, _) = ran(&(toml.to_owned() + &otlp(&refusing, "")), |host| drop(host.send("in", &["a"])));
    assert_eq!(refusing.requests().len(), 1, "{}", finished.errors());
}

/// A collector's token is a secret by its name; a request that is answered by its connector has no queue in between.
#[test]
fn a_request_that_waits_is_one_trace_and_the_collector_is_shown_a_token() {
    let (collector, plugin) = (Collector::start(), guest("hook"));
    let toml = format!(
        "[secrets]\ntoken = {{ env = 'COLLECTOR_TOKEN' }}\n
        [connectors.it]\nplugin = '{}'\nwebhook = {{ path = '/it', verify = 'none', respond = 'connector' }}\n",
        plugin.display()
    );
    let host = Bulkhead::new(&(toml + &otlp(&collector, "auth = { bearer = 'token' }")));
    let host = host.variable("COLLECTOR_TOKEN", "s3cret-token");
    let running = host.start();
    let status = post(host.webhooks(), "/it", &[("traceparent", &*parent("01"))], "ok").status;
    let ended = running.terminate().ok();
    let spans = collector.spans();
    assert_eq!(tree(&spans), ["POST /it", "POST /it > process @it", "POST /it > process @it > attempt"]);
    assert_eq!(only(&spans, "POST /it").attributes["http.response.status_code"], json!(status));
    assert_eq!(collector.requests()[0].header("authorization"), Some("Bearer s3cret-token"));
    assert!(!ended.errors().contains("s3cret") && !format!("{spans:?}").contains("s3cret"));
    let used = |event: &Value| event["kind"] == "secret" && event["key"] == "host.otlp.auth";
    assert!(host.audit().iter().any(used), "{:?}", host.audit());
}

/// What systems say to each other may be what nobody else is to see, or nothing that a collector can read.
#[test]
fn a_collector_is_told_no_state_that_is_masked_or_malformed() {
    for (mask, said, told) in [
        ("", "acme=1,other=2", "acme=1,other=2"),
        ("", "Acme=1 \"or\" nothing", ""),
        ("[host.mask]\nheaders = ['tracestate']\n", "acme=cnry", ""),
    ] {
        let collector = Collector::start();
        let hook = "[connectors.hook]\nwebhook = { path = '/in', verify = 'none', publish = 'in' }\n";
        let host = Bulkhead::new(&format!("{hook}{mask}{}", otlp(&collector, "")));
        let running = host.start();
        let headers = [("traceparent", &*parent("01")), ("tracestate", said)];
        assert_eq!(post(host.webhooks(), "/in", &headers, "{}").status, 202);
        let _ = running.terminate().ok();
        let spans = collector.spans();
        assert!(!spans.is_empty() && spans.iter().all(|span| span.state == told), "{said:?}: {spans:#?}");
    }
}
