//! Webhooks and the vendors' own libraries: these sign, send and judge, and the host agrees with every one of them.
//!
//! `tests/vendors` holds the senders. They are not installed by cargo: without them this is skipped, as loudly as the
//! examples in other languages are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use bulkhead_tests::{Bulkhead, Stored, has, has_program};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const UNTESTED: &str = "webhooks are not tested with the vendors' libraries";
/// Vendors by their path and queue, how the host is told of them, and as what it knows them.
const VENDORS: [(&str, &str, &str); 10] = [
    ("stripe", "scheme = 'stripe'", "stripe"),
    ("standard", "scheme = 'standard-webhooks'", "standard-webhooks"),
    ("svix", "scheme = 'standard-webhooks'", "standard-webhooks"),
    ("github", "scheme = 'github'", "github"),
    ("twilio", "scheme = 'twilio'", "twilio"),
    ("slack", "scheme = 'slack'", "slack"),
    ("shopify", "scheme = 'shopify'", "shopify"),
    ("gitlab", "scheme = 'gitlab'", "gitlab"),
    ("cloudevents", "scheme = 'bearer'", "bearer"),
    (
        "jwt",
        "scheme = 'jwt', private = true, issuer = 'https://issuer.example/', audience = 'https://hooks.example/jwt', \
         subject = 'sender@example.com', algorithms = ['RS256', 'ES256', 'EdDSA'], id = { header = 'x-job' }",
        "sender@example.com",
    ),
];

/// The senders, started.
struct Senders {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What they say of themselves.
#[derive(Deserialize)]
struct Introduction {
    jwks: String,
    /// Of each vendor, the one that is used now and the one before.
    secrets: BTreeMap<String, [String; 2]>,
}

/// What they say of one request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    vendor: String,
    name: String,
    /// Whether a host has to take it.
    is_good: bool,
    /// Whether the vendor's own library would.
    is_taken: Option<bool>,
    /// The event's id, where it has one.
    id: Option<String>,
    /// SHA-256 of its body.
    digest: String,
    status: u16,
    /// Under which id it was stored.
    message: Option<String>,
    answer: String,
}

/// Where `.ci/run` installs the packages.
fn installed() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().join("tools/vendors")
}

impl Senders {
    fn start() -> (Self, Introduction) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendors/send.mjs");
        let mut node = Command::new("node");
        node.arg(script).current_dir(installed()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("the senders begin").unwrap();
        (Self { child, lines }, serde_json::from_str(&first).unwrap())
    }

    /// All that they send to a host, and what it answered.
    fn send_to(mut self, host: &Bulkhead) -> Vec<Said> {
        writeln!(self.child.stdin.as_mut().unwrap(), "http://{}", host.webhooks()).unwrap();
        let said = self.lines.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert!(self.child.wait().unwrap().success(), "the senders come to their end");
        said
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        // They may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host that knows all of them.
fn host(introduction: &Introduction) -> Bulkhead {
    let variable = |vendor: &str, age: usize| format!("{}_{age}", vendor.to_uppercase());
    let mut secrets = "[secrets]\n".to_owned();
    let mut connectors = String::new();
    for (vendor, keys, _) in VENDORS {
        let more = match introduction.secrets.get(vendor) {
            Some(_) => format!("secrets = ['{vendor}-0', '{vendor}-1']"),
            None => format!("jwks = '{}'", introduction.jwks),
        };
        connectors += &format!(
            "[connectors.{vendor}]\nwebhook = {{ path = '/{vendor}', publish = '{vendor}', verify = {{ {keys}, {more} }} }}\n"
        );
    }
    for vendor in introduction.secrets.keys() {
        for age in 0..2 {
            secrets += &format!("{vendor}-{age} = {{ env = '{}' }}\n", variable(vendor, age));
        }
    }
    let mut host = Bulkhead::new(&format!("{secrets}{connectors}"));
    for (vendor, values) in &introduction.secrets {
        for (age, value) in values.iter().enumerate() {
            host = host.variable(&variable(vendor, age), value);
        }
    }
    host
}

impl Said {
    /// What the host has to answer.
    fn expected_status(&self) -> u16 {
        match (self.is_good, self.name.as_str()) {
            (false, _) => 401,
            (true, "question") => 200,
            (true, _) => 202,
        }
    }

    /// Whether host, sender and the vendor's library are of one mind.
    fn is_agreed(&self) -> bool {
        let is_judged = self.is_taken.is_none_or(|taken| taken == self.is_good);
        let is_named = self.status != 202 || self.id.is_none() || self.id == self.message;
        self.status == self.expected_status() && is_judged && is_named
    }
}

/// Everything that was taken once, and nothing else, lies in the vendor's queue as it was sent.
fn check_stored(host: &Bulkhead, vendor: &str, by: &str, said: &[Said]) {
    let ledger = host.ledger();
    let taken = said.iter().filter(|it| it.vendor == vendor && it.status == 202 && !it.name.ends_with("repeat"));
    let sent: Vec<(String, String)> = taken.map(|it| (it.message.clone().unwrap(), it.digest.clone())).collect();
    let digest = |stored: Stored| (stored.id, HEXLOWER.encode(&Sha256::digest(&stored.body)));
    let stored: Vec<(String, String)> = ledger.messages(vendor).into_iter().map(digest).collect();
    assert_eq!(stored, sent, "{vendor}");
    let verified_by = ("bulkhead-verified-by".to_owned(), by.to_owned());
    assert!(ledger.headers(vendor).iter().all(|headers| headers.contains(&verified_by)), "{vendor}");
}

#[test]
fn the_host_agrees_with_the_libraries_of_those_who_send() {
    let is_there = fs::exists(installed().join("node_modules")).unwrap();
    let missing = "the packages of tests/vendors are not in target/tools/vendors (see .ci/run)";
    if !has_program("node", UNTESTED) || !has(is_there, missing, UNTESTED) {
        return;
    }
    let (senders, introduction) = Senders::start();
    let host = host(&introduction);
    let running = host.start();
    let said = senders.send_to(&host);
    let _ = running.terminate().ok();
    let disagreed: Vec<&Said> = said.iter().filter(|said| !said.is_agreed()).collect();
    assert!(disagreed.is_empty(), "{disagreed:#?}");
    let question = said.iter().find(|said| said.name == "question").unwrap();
    assert_eq!(question.answer, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    for (vendor, _, by) in VENDORS {
        check_stored(&host, vendor, by, &said);
    }
    let count = |vendor: &str| said.iter().filter(|said| said.vendor == vendor).count();
    let counts = VENDORS.map(|(vendor, ..)| count(vendor));
    assert_eq!(counts, [9, 9, 9, 29, 12, 10, 9, 6, 9, 32], "none was left out");
}
