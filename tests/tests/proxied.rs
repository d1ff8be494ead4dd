//! The proxy of the configuration, over TLS: it gives a tunnel and sees nothing of what passes, not even who asks as whom.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use bulkhead_tests::{Answer, Authority, Bulkhead, Fixture, Flaw, TunnelProxy, guest};
use serde_json::{Value, json};

/// A name that leads nowhere from here: where it leads is the proxy's business.
const NAME: &str = "public.test";
const CREDENTIAL: &str = "canary-credential";

/// The password for the proxy.
const PASSWORD: &str = "canary-of-the-proxy";
/// `bulkhead:canary-of-the-proxy` in base64.
const SHOWN: &str = "YnVsa2hlYWQ6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==";
/// Keys of a proxy that wants to know who asks.
const KNOWN: &str = "auth = { basic = { user = 'bulkhead', password = 'password' } }";

/// A host that trusts `authority` and leaves by `proxy`, after it was asked for these URLs.
fn ask(proxy: &TunnelProxy, authority: &Authority, urls: &[&str]) -> Bulkhead {
    let host = leaving_by(proxy.url(), authority, "");
    host.send("in", &urls.iter().map(|url| format!("get {url}")).collect::<Vec<_>>());
    let _ = host.run_until_idle();
    host
}

/// The same before it is asked, with further keys for its proxy.
fn leaving_by(proxy: impl Display, authority: &Authority, keys: &str) -> Bulkhead {
    let caller = format!(
        "plugin = '{}'\nallow.http = [\n\
         {{ url = 'https://{NAME}/*', methods = ['GET'], auth = {{ bearer = 'token' }} }},\n\
         {{ url = 'https://*', any = true, methods = ['GET'] }}]\n",
        guest("hostile").display()
    );
    host(&format!("[host.proxy]\nurl = '{proxy}'\n{keys}\n"), authority, &caller)
}

/// A host with this proxy and this caller.
fn host(proxy: &str, authority: &Authority, caller: &str) -> Bulkhead {
    let host = Bulkhead::new("").variable("TOKEN", CREDENTIAL).variable("PASSWORD", PASSWORD);
    fs::write(host.path("roots.pem"), authority.pem()).unwrap();
    host.configure(&format!(
        "[host.tls]\nca_file = 'roots.pem'\n{proxy}[secrets]\ntoken = {{ env = 'TOKEN' }}\n\
         password = {{ env = 'PASSWORD' }}\n\
         [connectors.caller]\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\nretry = {{ attempts = 1 }}\n{caller}"
    ));
    host
}

fn reasons(host: &Bulkhead) -> Vec<String> {
    host.dead().iter().map(|letter| letter["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_tunnel_shows_the_proxy_neither_the_request_nor_its_credential() {
    let authority = Authority::new();
    let server = Fixture::start_tls(&authority.issue_for(NAME, Flaw::None), |_| Answer::status(200));
    let proxy = TunnelProxy::start(server.address());
    let host = ask(&proxy, &authority, &[&format!("https://{NAME}/secret-path")]);
    assert_eq!(reasons(&host), Vec::<String>::new());
    let request = server.requests().remove(0);
    assert_eq!((&*request.uri, request.header("authorization")), ("/secret-path", Some("Bearer canary-credential")));
    let head = proxy.heads().remove(0).to_ascii_lowercase();
    assert!(head.starts_with("connect public.test:443 http/1.1\r\n"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    // It sees the name, in the handshake too, and nothing behind it.
    assert!(proxy.has_seen(NAME) && !proxy.has_seen("secret-path") && !proxy.has_seen(CREDENTIAL));
}

#[test]
fn a_proxy_that_wants_to_know_who_asks_is_shown_it_and_nobody_else_is() {
    let authority = Authority::new();
    let server = Fixture::start_tls(&authority.issue_for(NAME, Flaw::None), |_| Answer::status(200));
    let proxy = TunnelProxy::start(server.address());
    let host = leaving_by(proxy.url(), &authority, KNOWN);
    host.send("in", &[format!("get https://{NAME}/x")]);
    let log = host.run_until_idle().errors();
    assert_eq!(reasons(&host), Vec::<String>::new());
    let head = proxy.heads().remove(0);
    assert!(head.to_ascii_lowercase().contains("\r\nproxy-authorization: basic ") && head.contains(SHOWN), "{head}");
    let request = server.requests().remove(0);
    assert_eq!(request.header("proxy-authorization"), None);
    let explained = host.run(&["check", "--explain", "caller"]).ok();
    let way = format!("requests to public places pass {}, which is shown the user `bulkhead`", proxy.url());
    assert!(explained.output.contains(&way), "{}", explained.output);
    for text in [&*log, &explained.output, &explained.errors(), &host.run(&["audit", "verify"]).ok().output] {
        assert!(!text.contains(PASSWORD) && !text.contains(SHOWN), "{text}");
    }
    check_used(&host);
    let data = host.data();
    assert!(holds(&data, "caller") && !holds(&data, PASSWORD) && !holds(&data, SHOWN));
}

/// The record says that the connector's requests carried the password, and nothing of its value.
fn check_used(host: &Bulkhead) {
    let used: Vec<Value> = host.audit().into_iter().filter(|event| event["subject"] == "password").collect();
    assert_eq!(used.len(), 1, "{used:?}");
    let told = ["kind", "connector", "reason", "key"].map(|part| used[0][part].as_str().unwrap_or_default());
    assert_eq!(told, ["secret", "caller", "used", "host.proxy.auth"]);
}

/// What is not encrypted is answered by the proxy, which knows the password and may repeat it.
#[test]
fn a_proxy_that_repeats_the_password_in_an_answer_shows_it_to_no_plugin() {
    let proxy = Fixture::start(|request| {
        let shown = request.header("proxy-authorization").unwrap_or_default();
        Answer::status(407).with("x-shown", shown).body(format!("{shown} or {PASSWORD}"))
    });
    let keys = format!("[host.proxy]\nurl = '{}'\n{KNOWN}\n", proxy.url());
    let courier = format!(
        "plugin = '{}'\nallow.publish = ['seen']\nallow.http = [{{ url = 'http://{NAME}/*', methods = ['GET'] }}]\n",
        guest("courier").display()
    );
    let host = host(&keys, &Authority::new(), &courier);
    host.send("in", &[json!({ "method": "GET", "url": format!("http://{NAME}/x") }).to_string()]);
    let log = host.run_until_idle().errors();
    assert_eq!(reasons(&host), Vec::<String>::new());
    let request = proxy.requests().remove(0);
    assert_eq!(request.header("proxy-authorization"), Some(&*format!("Basic {SHOWN}")));
    let seen: Value = serde_json::from_slice(&host.ledger().messages("seen")[0].body).unwrap();
    let blotted = format!("Basic {}", "*".repeat(SHOWN.len()));
    assert_eq!(seen["body"], format!("{blotted} or {}", "*".repeat(PASSWORD.len())));
    assert!(seen["headers"].as_array().unwrap().contains(&json!(["x-shown", blotted])), "{seen}");
    assert!(log.contains("repeated a credential") && !log.contains(PASSWORD) && !log.contains(SHOWN), "{log}");
    check_used(&host);
}

/// Whether any file of a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds(&path, text),
        false => fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()),
    })
}

#[test]
fn a_password_in_the_address_of_a_proxy_is_refused_and_not_repeated() {
    let toml = format!("[host.proxy]\nurl = 'http://bulkhead:{PASSWORD}@127.0.0.1:3128'\n");
    let refused = Bulkhead::new(&toml).run(&["check"]).ended_with(2);
    let text = refused.output.clone() + &refused.errors();
    assert!(text.contains("host.proxy.url") && text.contains("auth = { basic = {"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn a_password_for_a_proxy_is_an_entry_of_the_secrets() {
    let auth = format!("auth = {{ basic = {{ user = 'bulkhead', password = '{PASSWORD}' }} }}");
    let toml = format!("[host.proxy]\nurl = 'http://127.0.0.1:3128'\n{auth}\n");
    let refused = Bulkhead::new(&toml).run(&["check"]).ended_with(2);
    assert!(refused.output.contains("host.proxy.auth.basic.password: not in `[secrets]`"), "{}", refused.output);
}

/// One that answers in the place of the server it was asked for.
#[test]
fn a_proxy_that_shows_a_certificate_of_its_own_gets_nothing() {
    let intruder = Fixture::start_tls(&Authority::new().issue_for(NAME, Flaw::None), |_| Answer::status(200));
    let proxy = TunnelProxy::start(intruder.address());
    let reasons = reasons(&ask(&proxy, &Authority::new(), &[&format!("https://{NAME}/x")]));
    assert!(reasons.len() == 1 && reasons[0].contains("host.tls.ca_file"), "{reasons:?}");
    assert_eq!((proxy.heads().len(), intruder.requests().len()), (1, 0));
    assert!(!proxy.has_seen(CREDENTIAL));
}

/// Nor one whose certificate is good, for another name.
#[test]
fn a_tunnel_to_another_server_is_not_used() {
    let authority = Authority::new();
    let other = Fixture::start_tls(&authority.issue_for("other.test", Flaw::None), |_| Answer::status(200));
    let proxy = TunnelProxy::start(other.address());
    let reasons = reasons(&ask(&proxy, &authority, &[&format!("https://{NAME}/x")]));
    assert!(reasons.len() == 1 && reasons[0].contains("its certificate is for another name"), "{reasons:?}");
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn a_proxy_is_asked_for_no_tunnel_to_a_forbidden_place() {
    let authority = Authority::new();
    let server = Fixture::start_tls(&authority.issue(Flaw::None), |_| Answer::status(200));
    let proxy = TunnelProxy::start(server.address());
    let own = format!("https://localhost:{}/", server.address().port());
    let urls = [
        &*own,
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/",
        "https://127.0.0.1:8443/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00:ec2::254]/",
        "https://0.0.0.0/",
    ];
    let reasons = reasons(&ask(&proxy, &authority, &urls));
    assert_eq!(reasons.len(), urls.len(), "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason.contains("may not reach")), "{reasons:?}");
    assert_eq!((proxy.heads(), server.requests().len()), (Vec::new(), 0));
}
