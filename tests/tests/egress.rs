//! The way out as the configuration describes it: what holds connectors back, whom requests trust, which way they leave.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_tests::{Answer, Authority, Bulkhead, Fixture, Flaw, Handshake, TlsServer, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connector that does what its messages say, one attempt each, with these grants.
fn connector(name: &str, extra: &str, grants: &str) -> String {
    let plugin = guest("hostile");
    format!(
        "[connectors.{name}]\nplugin = '{}'\nconsume = {{ queue = '{name}', batch = 1 }}\nbrake = 0\n\
         retry = {{ attempts = 1, first = '1ms' }}\n{extra}\nallow.http = [{grants}]\n",
        plugin.display()
    )
}

fn grant(url: &str, extra: &str) -> String {
    format!("{{ url = '{url}/*', methods = ['GET'], private = true, {extra} }}")
}

/// The reasons of all dead letters.
fn reasons(host: &Bulkhead) -> Vec<String> {
    host.dead().iter().map(|letter| letter["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_open_breaker_holds_deliveries_until_a_probe_is_answered() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    let server = Fixture::start(move |_| Answer::status(if up.load(Ordering::Relaxed) { 200 } else { 503 }));
    let grants = grant(&server.url(), "breaker = { failures = 3, open = '1s' }");
    let toml = connector("caller", "", &grants).replace("attempts = 1,", "attempts = 4,");
    let host = Bulkhead::new(&toml);
    host.send("caller", &vec![format!("get {}/x", server.url()); 20]);
    let running = host.start();
    let held = [("connector", "caller"), ("reason", "breaker")];
    running.wait_until("hold", PATIENCE, |metrics| metrics.value("bulkhead_held", &held) == 1.0);
    let pattern = format!("{}/*", server.url());
    let labels = [("connector", "caller"), ("host", pattern.as_str())];
    assert_eq!(running.metrics().value("bulkhead_breaker_open", &labels), 1.0);
    // A probe each second, where 20 messages with 4 attempts each would have been tried 80 times by now.
    server.wait_for(5, PATIENCE);
    assert!(server.requests().len() < 20);
    is_up.store(true, Ordering::Relaxed);
    let done = [("connector", "caller"), ("outcome", "done")];
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 20.0);
    assert_eq!(running.metrics().value("bulkhead_held", &held), 0.0);
    assert_eq!(running.metrics().value("bulkhead_breaker_open", &labels), 0.0);
    let _ = running.terminate().ok();
    assert_eq!(reasons(&host), Vec::<String>::new());
}

/// One call asks a server until its breaker opens, then another one, and then the first again under its other grant.
#[test]
fn a_breaker_closes_one_server_to_one_connector_under_all_of_its_grants() {
    let (down, up) = (Fixture::answering([Answer::status(500)]), Fixture::answering([Answer::status(200)]));
    let breaker = "breaker = { failures = 2, open = '1h' }";
    let (x, y) = (format!("{}/x", down.url()), format!("{}/y", down.url()));
    let grants = [grant(&x, breaker), grant(&y, breaker), grant(&up.url(), breaker)].join(", ");
    let neighbour = connector("neighbour", "", &grant(&x, breaker));
    let host = Bulkhead::new(&(connector("caller", "", &grants) + &neighbour));
    let running = host.start();
    host.send("caller", &[format!("put - 0 0 {x}/1 {x}/2 {}/3 {y}/4", up.url())]);
    let held = |connector| [("connector", connector), ("reason", "breaker")];
    running.wait_until("hold", PATIENCE, |metrics| metrics.value("bulkhead_held", &held("caller")) == 1.0);
    let refused = [("connector", "caller"), ("effect", "http"), ("reason", "breaker")];
    running.wait_until("refusal", PATIENCE, |metrics| metrics.value("bulkhead_denied_total", &refused) == 1.0);
    // What it is to the neighbour, the neighbour finds out itself.
    host.send("neighbour", &[format!("get {x}/5")]);
    let dead = [("connector", "neighbour"), ("outcome", "dead")];
    running.wait_until("answer", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &dead) == 1.0);
    assert_eq!(running.metrics().value("bulkhead_held", &held("neighbour")), 0.0);
    let _ = running.terminate().ok();
    let asked = |server: &Fixture| server.requests().into_iter().map(|request| request.uri).collect::<Vec<_>>();
    assert_eq!((asked(&down), asked(&up)), (vec!["/x/1".into(), "/x/2".into(), "/x/5".into()], vec!["/3".into()]));
}

#[test]
fn waiting_for_a_rate_costs_no_attempt() {
    let server = Fixture::answering([Answer::status(200)]);
    let toml = connector("caller", "limits = { wall = '2s' }", &grant(&server.url(), "rate = '1/s'"));
    let host = Bulkhead::new(&toml.replace("batch = 1", "batch = 1, concurrency = 4"));
    let running = host.start();
    host.send("caller", &vec![format!("get {}/x", server.url()); 5]);
    let done = [("connector", "caller"), ("outcome", "done")];
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 5.0);
    // No call lasts as long as the last of them had to wait.
    let held = [("connector", "caller"), ("effect", "http"), ("reason", "rate")];
    assert!(running.metrics().value("bulkhead_denied_total", &held) > 0.0);
    let _ = running.terminate().ok();
    assert_eq!(reasons(&host), Vec::<String>::new());
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_retry_after_puts_off_the_deliveries_of_every_connector_at_no_attempt() {
    let server = Fixture::answering([Answer::status(429).with("retry-after", "3600")]);
    let one = connector("one", "", &grant(&server.url(), "")).replace("attempts = 1,", "attempts = 2,");
    let host = Bulkhead::new(&(one + &connector("two", "", &grant(&server.url(), ""))));
    let line = format!("get {}/x", server.url());
    host.send("one", &[&line]);
    let running = host.start();
    let put_off = |connector: &'static str, count: f64| {
        let labels = [("connector", connector), ("outcome", "retry")];
        running.wait_until("retry", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &labels) == count);
    };
    put_off("one", 1.0);
    host.send("two", &[&line; 5]);
    put_off("two", 5.0);
    let held = [("connector", "two"), ("effect", "http"), ("reason", "retry_after")];
    assert_eq!(running.metrics().value("bulkhead_denied_total", &held), 5.0);
    let _ = running.terminate().ok();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(reasons(&host), Vec::<String>::new());
}

/// A host that trusts `authority`, with one connector for these servers, after it has asked each of them once.
fn ask(authority: &Authority, servers: &[&TlsServer], extra: &str) -> Bulkhead {
    let grants: Vec<String> = servers.iter().map(|server| grant(&server.url(""), extra)).collect();
    let host = Bulkhead::new("");
    fs::write(host.path("roots.pem"), authority.pem()).expect("the folder can be written");
    host.configure(&format!("[host.tls]\nca_file = 'roots.pem'\n{}", connector("caller", "", &grants.join(", "))));
    for server in servers {
        host.send("caller", &[format!("get {}", server.url("/x"))]);
    }
    let _ = host.run_until_idle();
    host
}

#[test]
fn extra_roots_are_trusted_and_bad_certificates_are_refused() {
    let authority = Authority::new();
    let good = TlsServer::start(&authority.issue(Flaw::None));
    let flaws = [
        (Flaw::Expired, "its certificate has expired"),
        (Flaw::OtherName, "its certificate is for another name"),
        (Flaw::SelfSigned, "host.tls.ca_file"),
    ];
    let bad = flaws.map(|(flaw, _)| TlsServer::start(&authority.issue(flaw)));
    let other = TlsServer::start(&Authority::new().issue(Flaw::None));
    let host = ask(&authority, &[&good, &bad[0], &bad[1], &bad[2], &other], "");
    assert_eq!(good.requests(), ["GET /x HTTP/1.1"]);
    assert!(bad.iter().chain([&other]).all(|server| server.requests().is_empty()));
    let reasons = reasons(&host);
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    for because in flaws.map(|(_, because)| because) {
        assert!(reasons.iter().any(|reason| reason.contains(because)), "{because} in {reasons:?}");
    }
}

#[test]
fn without_extra_roots_an_authority_of_ones_own_is_not_trusted() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.issue(Flaw::None));
    let host = ask(&Authority::new(), &[&server], "");
    assert_eq!(reasons(&host).len(), 1);
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_grant_shows_its_client_certificate_and_no_other_does() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = TlsServer::for_clients_of(&clients, &authority.issue(Flaw::None));
    let (client, stranger) = (clients.issue(Flaw::None), Authority::new().issue(Flaw::None));
    let host = Bulkhead::new("");
    for (file, text) in [
        ("roots.pem", authority.pem()),
        ("client.pem", client.cert),
        ("client.key", client.key),
        ("stranger.pem", stranger.cert),
        ("stranger.key", stranger.key),
    ] {
        fs::write(host.path(file), text).expect("the folder can be written");
        fs::set_permissions(host.path(file), fs::Permissions::from_mode(0o600)).expect("the file is ours");
    }
    let mtls = |name: &str| format!("auth = {{ mtls = {{ cert = '{name}.pem', key = '{name}' }} }}");
    let toml = "[host.tls]\nca_file = 'roots.pem'\n[secrets]\nclient = { file = 'client.key' }\n\
                stranger = { file = 'stranger.key' }\n"
        .to_owned()
        + &connector("known", "", &grant(&server.url(""), &mtls("client")))
        + &connector("stranger", "", &grant(&server.url(""), &mtls("stranger")))
        + &connector("nobody", "", &grant(&server.url(""), ""))
        // A connection on which the certificate was shown is not for what the other grant asks.
        + &connector("both", "", &[grant(&server.url("/with"), &mtls("client")), grant(&server.url("/without"), "")].join(", "));
    host.configure(&toml);
    for name in ["known", "stranger", "nobody"] {
        host.send(name, &[format!("get {}", server.url(&format!("/{name}")))]);
    }
    host.send("both", &["/with/x", "/without/x"].map(|path| format!("get {}", server.url(path))));
    let _ = host.run_until_idle();
    let mut answered = server.requests();
    answered.sort();
    assert_eq!(answered, ["GET /known HTTP/1.1", "GET /with/x HTTP/1.1"]);
    let mut refused: Vec<_> = host.dead().iter().map(|letter| letter["connector"].clone()).collect();
    refused.sort_by_key(ToString::to_string);
    assert_eq!(refused, ["both", "nobody", "stranger"]);
}

#[test]
fn connections_are_kept_within_a_connector_and_not_shared_between_two() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.issue(Flaw::None));
    let host = Bulkhead::new("");
    fs::write(host.path("roots.pem"), authority.pem()).expect("the folder can be written");
    let grants = grant(&server.url(""), "");
    let toml = connector("one", "", &grants) + &connector("two", "", &grants);
    host.configure(&format!("[host.tls]\nca_file = 'roots.pem'\n{toml}"));
    for name in ["one", "two"] {
        host.send(name, &vec![format!("get {}", server.url("/x")); 10]);
    }
    let _ = host.run_until_idle();
    assert_eq!(server.requests().len(), 20);
    assert_eq!(server.connections(), 2);
}

/// Each begins with a session of its own, which it alone goes on with; and it asks for the name in the URL, which is not
/// where the name has led it.
#[test]
fn a_tls_session_is_resumed_by_the_connector_that_began_it_and_by_no_other() {
    let authority = Authority::new();
    let server = TlsServer::closing(&authority.issue(Flaw::None));
    let host = Bulkhead::new("");
    fs::write(host.path("roots.pem"), authority.pem()).expect("the folder can be written");
    let grants = grant(&server.url(""), "");
    let toml = connector("one", "", &grants) + &connector("two", "", &grants);
    host.configure(&format!("[host.tls]\nca_file = 'roots.pem'\n{toml}"));
    let running = host.start();
    // One after the other, so that the second would find what the first has left.
    for name in ["one", "two"] {
        host.send(name, &vec![format!("get {}", server.url("/x")); 3]);
        let done = [("connector", name), ("outcome", "done")];
        running.wait_until(name, PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 3.0);
    }
    let handshakes = server.handshakes();
    let is_named = |handshake: &Handshake| handshake.name.as_deref() == Some("localhost");
    let begun = handshakes.iter().filter(|handshake| !handshake.is_resumed).count();
    assert!(handshakes.iter().all(is_named) && (handshakes.len(), begun) == (6, 2), "{handshakes:?}");
}

#[test]
fn a_connection_that_one_grant_may_open_is_not_there_for_another() {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url().replace("127.0.0.1", "localhost");
    let grants = format!(
        "{{ url = '{url}/private/*', methods = ['GET'], private = true }}, {{ url = '{url}/public/*', methods = ['GET'] }}"
    );
    let host = Bulkhead::new(&connector("caller", "", &grants));
    host.send("caller", &["/private/1", "/public/x", "/private/2"].map(|path| format!("get {url}{path}")));
    let _ = host.run_until_idle();
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!(asked, ["/private/1", "/private/2"]);
    assert!(reasons(&host)[0].contains("connectors.caller.allow.http[1].private"), "{:?}", reasons(&host));
}

#[test]
fn an_address_of_ipv6_is_reached_where_it_is_spelled_out() {
    let server = Fixture::start_at("[::1]:0".parse().expect("an address and a port"), |_| Answer::status(200));
    let host = Bulkhead::new(
        &(connector("one", "", &grant(&server.url(), ""))
            + &connector("two", "", &format!("{{ url = '{}/*', methods = ['GET'] }}", server.url()))),
    );
    host.send("one", &[format!("get {}/x", server.url())]);
    host.send("two", &[format!("get {}/y", server.url())]);
    let _ = host.run_until_idle();
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!(asked, ["/x"]);
    assert!(reasons(&host)[0].contains("private network or this machine"), "{:?}", reasons(&host));
}

#[test]
fn http_2_is_spoken_where_the_server_does() {
    let authority = Authority::new();
    let server = TlsServer::http2(&authority.issue(Flaw::None));
    let host = ask(&authority, &[&server, &server, &server], "");
    assert_eq!(reasons(&host), Vec::<String>::new());
    assert_eq!(server.requests(), ["GET /x HTTP/2.0"; 3]);
    assert_eq!(server.connections(), 1);
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let (proxy, server) = (Fixture::answering([Answer::status(200)]), Fixture::answering([Answer::status(200)]));
    let mut host = Bulkhead::new(&connector("caller", "", &grant(&server.url(), "")));
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        host = host.variable(name, &proxy.url());
    }
    host.send("caller", &[format!("get {}/x", server.url())]);
    let _ = host.run_until_idle();
    assert_eq!((server.requests().len(), proxy.requests().len()), (1, 0));
}

#[test]
fn the_proxy_of_the_configuration_is_the_way_to_public_places_alone() {
    let (proxy, server) = (Fixture::answering([Answer::status(200)]), Fixture::answering([Answer::status(200)]));
    let public = "{ url = 'http://*', any = true, methods = ['GET'] }";
    let grants = format!("{}, {public}", grant(&server.url(), ""));
    let toml = format!("[host.proxy]\nurl = '{}'\n{}", proxy.url(), connector("caller", "", &grants));
    let host = Bulkhead::new(&toml);
    let private = format!("get {}/private", server.url());
    // The name does not exist here, which is the proxy's business; what is known to be private never gets there.
    let lines = ["get http://public.test/x", &private, "get http://10.0.0.1/x", "get http://localhost/x"];
    host.send("caller", &lines);
    let _ = host.run_until_idle();
    let asked: Vec<String> = proxy.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!(asked, ["http://public.test/x"]);
    assert_eq!(server.requests().len(), 1);
    let reasons = reasons(&host);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason.contains("private network or this machine")), "{reasons:?}");
}

#[test]
fn a_client_certificate_is_for_https() {
    let host = Bulkhead::new("");
    fs::write(host.path("client.pem"), Authority::new().issue(Flaw::None).cert).expect("the folder can be written");
    let mtls = "auth = { mtls = { cert = 'client.pem', key = 'key' } }";
    let grants = grant("http://localhost:80", mtls);
    host.configure(&format!("[secrets]\nkey = {{ env = 'KEY' }}\n{}", connector("caller", "", &grants)));
    let checked = host.run(&["check", "--json"]).ended_with(2).json();
    assert_eq!(checked["problems"][0]["key"], "connectors.caller.allow.http[0].url", "{checked}");
}

/// `check` names these keys, and nothing starts.
fn check_refused(toml: &str, keys: &[&str]) {
    let checked = Bulkhead::new(toml).run(&["check", "--json"]).ended_with(2).json();
    let found: Vec<_> = checked["problems"].as_array().into_iter().flatten().map(|it| it["key"].clone()).collect();
    assert_eq!(found, keys, "{checked}");
}

#[test]
fn bad_settings_of_the_way_out_are_problems_of_the_configuration() {
    let toml = "[host.tls]\nca_file = 'missing.pem'\n[host.proxy]\nurl = 'socks5://user@proxy'\n\
                [secrets]\nkey = { env = 'KEY' }\n";
    let grants = "{ url = 'https://a.example/*', methods = ['GET'], rate = '10', breaker = { failures = 0 }, \
                  auth = { mtls = { cert = 'none.pem', key = 'key' } } }";
    let toml = toml.to_owned() + &connector("caller", "", grants);
    let http = "connectors.caller.allow.http[0]";
    check_refused(
        &toml,
        &[
            "host.tls.ca_file",
            "host.proxy.url",
            &format!("{http}.rate"),
            &format!("{http}.breaker.failures"),
            &format!("{http}.auth.mtls.cert"),
        ],
    );
}

#[test]
fn a_password_for_the_proxy_is_refused_and_repeated_nowhere() {
    let toml = "[host.proxy]\nurl = 'http://user:canary@proxy.example:3128'\n";
    let host = Bulkhead::new(toml);
    for arguments in [&["check"][..], &["check", "--json"], &["run"]] {
        let finished = host.run(arguments).ended_with(2);
        let shown = finished.output.clone() + &finished.errors();
        assert!(shown.contains("host.proxy.url") && shown.contains("leave out user and password"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn what_opens_much_must_be_written_out() {
    let entries = [
        ("url = 'https://a.example/*', private = true", Some("private")),
        ("url = 'https://*.a.example:443/*', private = true", Some("private")),
        ("url = 'https://*:443/*', any = true, private = true", Some("private")),
        ("url = 'https://a.example:443/*', private = true", None),
        ("url = 'https://10.0.0.5/*', private = true", Some("url")),
        ("url = 'https://[fd00::5]:443/*', private = true", None),
        ("url = 'https://*'", Some("url")),
        ("url = 'https://*', any = true", None),
        ("url = 'https://a.example/x*'", Some("url")),
    ];
    let grants: Vec<String> = entries.iter().map(|(entry, _)| format!("{{ {entry}, methods = ['GET'] }}")).collect();
    let key = |(nth, (_, key)): (usize, &(&str, Option<&str>))| {
        key.map(|key| format!("connectors.caller.allow.http[{nth}].{key}"))
    };
    let expected: Vec<String> = entries.iter().enumerate().filter_map(key).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check_refused(&connector("caller", "", &grants.join(", ")), &expected);
}
