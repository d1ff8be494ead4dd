//! Plugins that an operator has accepted: nothing else runs, whoever changes the file; and what they may do can be read.

use std::fs;

use bulkhead_tests::{Bulkhead, guest};
use data_encoding::BASE64;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use serde_json::{Value, json};

const TOML: &str =
    "[connectors.echo]\nplugin = 'echo.wasm'\nconsume = 'in'\nconfig = { publish = 'out' }\nallow.publish = ['out']\n";

/// A folder in which the guest `hostile` is the plugin.
fn host() -> Bulkhead {
    let host = Bulkhead::new(TOML);
    install(&host, "hostile");
    host
}

fn install(host: &Bulkhead, name: &str) {
    fs::copy(guest(name), host.path("echo.wasm")).unwrap();
}

/// The same plugin in other bytes: a section that means nothing.
fn touch(host: &Bulkhead) {
    let mut bytes = fs::read(host.path("echo.wasm")).unwrap();
    bytes.extend([0, 2, 1, b'x']);
    fs::write(host.path("echo.wasm"), bytes).unwrap();
}

/// Refused by `run` and by `check`, with these words at the plugin's key; nothing is written.
fn check_refused(host: &Bulkhead, says: &[&str]) {
    for verb in ["run", "check"] {
        let refused = host.run(&[verb]).ended_with(2);
        let text = refused.errors() + &refused.output;
        for part in ["bulkhead.toml:7:10: connectors.echo.plugin", "bulkhead.lock"].iter().chain(says) {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert!(!host.data().exists());
    }
}

fn lock(host: &Bulkhead) -> String {
    fs::read_to_string(host.path("bulkhead.lock")).unwrap()
}

#[test]
fn without_a_lock_file_nothing_is_compared_and_check_says_so() {
    let host = host();
    let checked = host.run(&["check"]).ok().output;
    assert!(checked.contains("note: no bulkhead.lock: plugins are not compared"), "{checked}");
    let _ = host.run(&["lock"]).ok();
    let checked = host.run(&["check", "--json"]).ok().json();
    assert_eq!(checked["notes"], Value::Null);
}

#[test]
fn built_in_plugins_need_no_entry() {
    let host = Bulkhead::new("[connectors.log]\nplugin = 'builtin:log'\nconsume = 'in'\n");
    assert_eq!(host.run(&["check", "--json"]).ok().json()["notes"], Value::Null);
    let _ = host.run(&["lock"]).ok();
    let _ = host.run(&["check"]).ok();
    assert!(!lock(&host).contains("log]"));
}

#[test]
fn what_was_accepted_is_written_down() {
    let host = host();
    let locked = host.run(&["lock", "--json"]).ok().json();
    assert_eq!(locked, json!({ "added": ["echo"], "changed": [], "removed": [] }));
    let sha256 = host.run(&["inspect", "echo.wasm", "--json"]).ok().json()["sha256"].clone();
    let text = lock(&host);
    for part in ["[connectors.echo]", sha256.as_str().unwrap(), "wasi:keyvalue/store@", "may publish to `out`"] {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    let _ = host.run(&["check"]).ok();
}

#[test]
fn other_bytes_are_refused_until_they_are_locked() {
    let host = host();
    let _ = host.run(&["lock"]).ok();
    touch(&host);
    check_refused(&host, &["the plugin is not the one that `bulkhead.lock` names", "`bulkhead lock` takes it over"]);
    let locked = host.run(&["lock", "--json"]).ok().json();
    assert_eq!(locked["changed"], json!(["echo"]));
    let _ = host.run(&["check"]).ok();
}

/// From a guest that only echoes to one that asks for more of the host.
#[test]
fn an_upgrade_that_needs_more_is_refused_with_the_difference_until_it_is_accepted() {
    let host = Bulkhead::new(TOML);
    install(&host, "batch");
    let _ = host.run(&["lock"]).ok();
    let before = lock(&host);
    install(&host, "hostile");
    let says = ["it needs more than before: import `", "bulkhead:connector/http@", "`bulkhead lock --accept echo`"];
    check_refused(&host, &says);
    let refused = host.run(&["lock"]).ended_with(2);
    assert!(refused.errors().contains("bulkhead:connector/http@"), "{}", refused.errors());
    assert_eq!(lock(&host), before, "nothing is written");
    let _ = host.run(&["lock", "--accept", "echo"]).ok();
    let _ = host.run(&["check"]).ok();
    // What needs less is no more than a change.
    install(&host, "batch");
    let _ = host.run(&["lock"]).ok();
}

/// The same bytes but for the text in which it says what it wants.
#[test]
fn an_upgrade_that_only_wants_more_is_refused_too() {
    let host = Bulkhead::new(TOML);
    install(&host, "echo");
    let _ = host.run(&["lock"]).ok();
    let before = lock(&host);
    let (wanted, wants) = (br#"publish = ["QUEUE"]"#, br#"secrets = ["TOKEN"]"#);
    let mut bytes = fs::read(host.path("echo.wasm")).unwrap();
    let at = bytes.windows(wanted.len()).position(|part| part == wanted).unwrap();
    bytes[at..at + wants.len()].copy_from_slice(wants);
    fs::write(host.path("echo.wasm"), bytes).unwrap();
    let says = ["it needs more than before: wants `secrets = [", "TOKEN", "`bulkhead lock --accept echo`"];
    check_refused(&host, &says);
    let refused = host.run(&["lock"]).ended_with(2).errors();
    assert!(refused.contains("wants `secrets") && !refused.contains("import `"), "{refused}");
    assert_eq!(lock(&host), before, "nothing is written");
    let _ = host.run(&["lock", "--accept", "echo"]).ok();
    let _ = host.run(&["check"]).ok();
}

#[test]
fn accepting_one_upgrade_leaves_the_other_refused() {
    let connector = |name: &str| format!("[connectors.{name}]\nplugin = 'echo.wasm'\nconsume = 'in'\n");
    let host = Bulkhead::new(&(connector("one") + &connector("two")));
    install(&host, "batch");
    let _ = host.run(&["lock"]).ok();
    let before = lock(&host);
    install(&host, "hostile");
    let refused = host.run(&["lock", "--accept", "one"]).ended_with(2).errors();
    assert!(refused.contains("connectors.two.plugin") && !refused.contains("connectors.one.plugin"), "{refused}");
    assert_eq!(lock(&host), before, "nothing is written");
    let checked = host.run(&["check"]).ended_with(2).output;
    assert!(checked.contains("connectors.one.plugin") && checked.contains("connectors.two.plugin"), "{checked}");
    let _ = host.run(&["lock", "--accept", "one", "--accept", "two"]).ok();
    let _ = host.run(&["check"]).ok();
}

#[test]
fn a_plugin_that_is_missing_from_the_file_is_refused() {
    let host = host();
    fs::write(host.path("bulkhead.lock"), "").unwrap();
    check_refused(&host, &["the plugin is not in `bulkhead.lock`"]);
    let _ = host.run(&["lock"]).ok();
    host.configure("[connectors.other]\nplugin = 'echo.wasm'\nconsume = 'in'\n");
    let _ = host.run(&["check"]).ended_with(2);
    let locked = host.run(&["lock", "--json"]).ok().json();
    assert_eq!(locked, json!({ "added": ["other"], "changed": [], "removed": ["echo"] }));
}

#[test]
fn a_lock_file_that_cannot_be_read_is_refused() {
    let host = host();
    fs::write(host.path("bulkhead.lock"), "[connectors.echo]\nsha = 1\n").unwrap();
    for verb in ["run", "check", "lock"] {
        let refused = host.run(&[verb]).ended_with(2);
        let text = refused.errors() + &refused.output;
        assert!(text.contains("bulkhead.lock: not a lock file"), "{text}");
    }
}

#[test]
fn only_a_plugin_from_a_file_can_be_accepted() {
    let refused = host().run(&["lock", "--accept", "other"]).ended_with(2);
    assert!(refused.errors().contains("no connector `other` has a plugin from a file"), "{}", refused.errors());
}

/// The empty component, and what minisign says about it.
const KEY: &str = "RWT3Bex7dyRCPgCe3yBdjKRZRlgEsE9yHgV/ctJiQ0SjcVmnihQvR5kO";
const SIGNATURE: &str = "untrusted comment: signature\nRUT3Bex7dyRCPs/H2czpe/+08LR4h2SmdddNgGbHa3FNcmmshWJWqlH351mjBHlI1PuBnYqbhYy65IDLvk+lAjbCFEH0LvLcEQE=\ntrusted comment: of the empty component\nu82VR9wecbra4ZyM387vNVAtIwwA3WW15wl8VLKnyJ00MokRLyomNNbfBhw8760lYhrrm5I8siyqVtDPtY7eDw==\n";
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

/// With this plugin and this signature beside it, `check` and `run` say this.
fn check_signed(plugin: &[u8], signature: Option<&str>, key: &str, says: &str) {
    let toml = format!("[connectors.x]\nplugin = {{ path = 'x.wasm', key = '{key}' }}\nconsume = 'in'\n");
    let host = Bulkhead::new(&toml);
    fs::write(host.path("x.wasm"), plugin).unwrap();
    signature.into_iter().for_each(|text| fs::write(host.path("x.wasm.minisig"), text).unwrap());
    for verb in ["check", "run"] {
        let refused = host.run(&[verb]).ended_with(2);
        let text = refused.output.clone() + &refused.errors();
        assert!(text.contains("connectors.x.plugin") && text.contains(says), "{verb}: {text}");
        assert!(!host.data().exists(), "{verb} has started nothing");
    }
}

/// A key and a plugin's signature by it, as minisign writes them: of its older kind, over the bytes themselves.
fn sign(plugin: &[u8]) -> (String, String) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let (kind, id, comment) = (b"Ed".as_slice(), [7; 8].as_slice(), "trusted");
    let signature = pair.sign(plugin).unwrap();
    let global = pair.sign(&[&signature, comment.as_bytes()].concat()).unwrap();
    let first = BASE64.encode(&[kind, id, &signature].concat());
    let text = format!("untrusted comment: x\n{first}\ntrusted comment: {comment}\n{}\n", BASE64.encode(&global));
    (BASE64.encode(&[kind, id, pair.public_key_raw()].concat()), text)
}

#[test]
fn a_signed_plugin_runs_as_long_as_it_is_the_signed_one() {
    let bytes = fs::read(guest("hostile")).unwrap();
    let (key, signature) = sign(&bytes);
    let host = Bulkhead::new(&format!(
        "[connectors.x]\nplugin = {{ path = 'echo.wasm', key = '{key}' }}\nconsume = 'in'\nallow.publish = ['out']\n"
    ));
    install(&host, "hostile");
    fs::write(host.path("echo.wasm.minisig"), signature).unwrap();
    let _ = host.run(&["check"]).ok();
    host.send("in", &["publish out"]);
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().messages("out").len(), 1);
    touch(&host);
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("does not fit the plugin and the key"), "{refused}");
}

#[test]
fn a_signature_has_to_fit_the_bytes_and_the_key() {
    // It is the right one: what is wrong with this plugin is something else.
    check_signed(EMPTY, Some(SIGNATURE), KEY, "exports no interface that the host calls");
    check_signed(&[EMPTY, &[0, 2, 1, b'x']].concat(), Some(SIGNATURE), KEY, "does not fit the plugin and the key");
    check_signed(EMPTY, None, KEY, "its signature is not there to be checked");
    check_signed(EMPTY, Some("nonsense"), KEY, "does not fit the plugin and the key");
    check_signed(EMPTY, Some(SIGNATURE), "RWQ=", "`key` is not a public key of minisign");
    let other = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    check_signed(EMPTY, Some(SIGNATURE), other, "does not fit the plugin and the key");
}

#[test]
fn what_a_connector_may_do_is_said_in_plain_words() {
    let host = Bulkhead::new(
        "[secrets]\ngithub_token = { env = 'T' }\n\n[connectors.issues]\nplugin = 'none.wasm'\nconsume = 'in'\nallow.publish = ['issues']\nallow.secrets = ['github_token']\nallow.http = [{ url = 'https://api.github.com/repos/acme/shop/*', methods = ['GET', 'POST'], auth = { bearer = 'github_token' } }, { url = 'https://b.example/*', methods = ['GET'], auth = { oauth2 = { token_url = 'https://id.example/token', client_id = 'me', client_secret = 'github_token' } } }, { url = 'https://c.example/*', methods = ['POST'], auth = { hmac = { header = 'x-sign', secret = 'github_token' } } }, { url = 'http://10.0.0.5:8080/x', methods = ['PUT'], private = true }, { url = 'https://nothing.example', methods = [] }, { url = 'https://slow.example/*', methods = ['POST'], rate = '10/s', timeout = '5s', max_request = '1KiB', max_response = '2KiB', idempotency = true, breaker = { failures = 3, open = '30s' } }]\n[connectors.idle]\nplugin = 'none.wasm'\nconsume = 'in'\n",
    );
    let may = |connector: &str| -> Value { host.run(&["check", "--explain", connector, "--json"]).ok().json() };
    let permissions = json!([
        "may GET, POST https://api.github.com/repos/acme/shop/*, with the credential `github_token` attached",
        "may GET https://b.example/*, with a token attached that the host gets from https://id.example/token for `github_token`",
        "may POST https://c.example/*, signed with `github_token` over `{body}`",
        "may PUT http://10.0.0.5:8080/x, also at a private address",
        "may POST https://slow.example/*, at most 10 in 1s, each within 5s, with bodies of at most 1024 bytes, taking answers of at most 2048 bytes, with an idempotency key where the method is unsafe, none for 30s after 3 failures in a row",
        "may publish to `issues`",
        "may see the value of the secret `github_token`",
    ]);
    assert_eq!(may("issues"), json!({ "connector": "issues", "may": permissions }));
    let explained = host.run(&["check", "--explain", "idle"]).ok().output;
    assert!(explained.contains("connector `idle`:\n  may do nothing\n"), "{explained}");
    let refused = host.run(&["check", "--explain", "issue"]).ended_with(2);
    assert!(refused.errors().contains("did you mean `issues`?"), "{}", refused.errors());
}
