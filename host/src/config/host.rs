//! `[host]` and `[secrets]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::otlp::otlp;
use super::problem::Report;
use super::quantity::show_size;
use super::view::View;
use super::{Config, Host, RUNS_PER_CORE, credential, machine, mask};
use crate::egress::proxy::{self, Proxy};
use crate::egress::trust::Roots;
use crate::limit::CompileLimits;
use crate::listener::tls::{Certificate, Files};
use crate::secret_store::Source;
use crate::settlement::attempt::Keep;
use crate::trigger::webhook::proxies::Proxies;

/// Where the system does not say how much memory there is.
const MEMORY_BYTES_UNKNOWN: u64 = 2 << 30;

/// What the listener falls back to when its address is wrong: nothing is started then.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Reads `[host]`; `secrets` are the names in `[secrets]`.
pub(super) fn host(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Host {
    let (roots, proxy) = (roots(view, report), proxy(view, secrets, report));
    Host {
        data_dir: view.path("data_dir", report).unwrap_or_default(),
        listen: view.text("listen").and_then(|text| text.parse().ok()).unwrap_or(NO_ADDRESS),
        trusted_proxies: trusted_proxies(view, report),
        certificate: certificate(view, report),
        admin: admin(view, report),
        admin_hosts: view.texts("admin_hosts").into_iter().map(|(text, _)| text.to_owned()).collect(),
        metrics_open: view.boolean("metrics_open"),
        grace: view.duration("grace"),
        runs: runs(view),
        memory: view.size_if("memory").unwrap_or_else(memory_by_machine),
        min_free: view.size_if("min_free"),
        history: history(view),
        compile: compile(&view.child_or_empty("compile")),
        roots,
        proxy,
        otlp: otlp(view, secrets, report),
        masks: mask::masks(&view.child_or_empty("mask"), report),
    }
}

/// `host.runs`.
pub(super) fn runs(view: &View<'_>) -> usize {
    view.integer_if("runs").unwrap_or_else(runs_by_cores)
}

fn trusted_proxies(view: &View<'_>, report: &mut Report<'_>) -> Proxies {
    let mut trusted = Vec::new();
    for (index, (text, node)) in view.texts("trusted_proxies").into_iter().enumerate() {
        match Proxies::parse(text) {
            Ok(network) => trusted.push(network),
            Err(help) => {
                let path = format!("{}[{index}]", view.path_of("trusted_proxies"));
                report.problem(node.place, &path, "not an address or a network", help);
            }
        }
    }
    Proxies::new(trusted)
}

fn certificate(view: &View<'_>, report: &mut Report<'_>) -> Option<Certificate> {
    let tls = view.child("tls")?;
    let (cert, key) = match (tls.path("cert", report), tls.path("key", report)) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return None,
        (Some(_), None) => {
            report.problem(tls.place, &tls.path_of("key"), "missing", "a certificate needs its private key: add `key`");
            return None;
        }
        (None, Some(_)) => {
            report.problem(
                tls.place,
                &tls.path_of("cert"),
                "missing",
                "a private key needs its certificate: add `cert`",
            );
            return None;
        }
    };
    let loaded = Certificate::load(Files { cert, key });
    let help = "name two PEM files: the certificate (and those that lead to its root), and its private key";
    loaded.map_err(|message| report.problem(tls.place_of("cert"), &tls.path_of("cert"), message, help)).ok()
}

fn history(view: &View<'_>) -> Keep {
    match (view.child("history"), view.text("history")) {
        (Some(table), _) => Keep::Sample(table.number("sample")),
        (None, Some("all")) => Keep::All,
        (None, _) => Keep::Failures,
    }
}

fn compile(view: &View<'_>) -> CompileLimits {
    CompileLimits { memory_bytes: view.size("memory"), time: view.duration("time"), size_bytes: view.size("size") }
}

/// The API takes secrets and a token, in the clear: nobody on the way may see them.
fn admin(view: &View<'_>, report: &mut Report<'_>) -> SocketAddr {
    let address: SocketAddr = view.text("admin").and_then(|text| text.parse().ok()).unwrap_or(NO_ADDRESS);
    if !address.ip().is_loopback() {
        let help = "the API has no TLS of its own: use 127.0.0.1 or [::1], and let a proxy with TLS on this machine pass requests on";
        report.problem(view.place_of("admin"), &view.path_of("admin"), "not an address of this machine alone", help);
    }
    address
}

fn roots(view: &View<'_>, report: &mut Report<'_>) -> Roots {
    let tls = view.child_or_empty("tls");
    let Some(path) = tls.path("ca_file", report) else { return Roots::default() };
    Roots::load(&path).unwrap_or_else(|message| {
        let help = "name a PEM file with the certificates of your own authorities";
        report.problem(tls.place_of("ca_file"), &tls.path_of("ca_file"), message, help);
        Roots::default()
    })
}

fn proxy(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Proxy> {
    let table = view.child("proxy")?;
    let credential = table.child("auth").and_then(|auth| proxy_credential(&auth.child("basic")?, secrets, report));
    match Proxy::parse(table.text("url")?) {
        Ok(proxy) => Some(proxy.with_credential(credential)),
        Err(help) => {
            report.problem(table.place_of("url"), &table.path_of("url"), "not a proxy", help);
            None
        }
    }
}

fn proxy_credential(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<proxy::Credential> {
    let (user, password) = credential::user_and_password(view, secrets, report)?;
    Some(proxy::Credential { user, password })
}

pub(super) fn secrets(root: &View<'_>, report: &mut Report<'_>) -> BTreeMap<String, Source> {
    let entries = root.named("secrets").into_iter();
    entries.filter_map(|(name, view)| Some((name.to_owned(), source(&view, report)?))).collect()
}

fn source(view: &View<'_>, report: &mut Report<'_>) -> Option<Source> {
    if view.has("sealed") {
        if !view.boolean("sealed") {
            let help = "write `sealed = true`, or name another source";
            report.problem(view.place_of("sealed"), &view.path_of("sealed"), "a secret needs a source", help);
        }
        return Some(Source::Sealed);
    }
    match view.text("env") {
        Some(variable) => Some(Source::Env(variable.to_owned())),
        None => view.path("file", report).map(Source::File),
    }
}

/// A port is taken once; the listener for webhooks is opened where a connector has one.
pub(super) fn check_listeners(view: &View<'_>, config: &Config, report: &mut Report<'_>) {
    let (listen, admin) = (config.host.listen, config.host.admin);
    let is_opened = view.has("listen") || config.connectors.iter().any(|connector| connector.webhook.is_some());
    let covers = |ip: IpAddr, other: IpAddr| ip == other || (ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4()));
    let meet = covers(listen.ip(), admin.ip()) || covers(admin.ip(), listen.ip());
    if !is_opened || listen.port() != admin.port() || listen.port() == 0 || !meet {
        return;
    }
    let (key, other) = if view.has("listen") { ("listen", "admin") } else { ("admin", "listen") };
    let is_default = if view.has(other) { "" } else { ", which is the default" };
    let message = format!("the port {} is that of `host.{other}` too{is_default}", listen.port());
    let label = format!("`host.{other}`");
    let at = view.path_of(key);
    if view.has(other) {
        report.clash(
            (view.place_of(key), &at),
            message,
            "give each listener a port of its own",
            (view.place_of(other), &label),
        );
    } else {
        report.problem(view.place_of(key), &at, message, "give each listener a port of its own");
    }
}

/// Runs wait where their limits do not fit together; that is most likely not meant.
pub(super) fn check_memory(view: &View<'_>, config: &Config, report: &mut Report<'_>) {
    let (place, path) = (view.place_of("memory"), view.path_of("memory"));
    let (memory, at_most) = (config.host.memory, config.memory_at_most());
    if at_most > memory {
        let message = format!(
            "the runs that may be under way at once may use {}, and all together get {}: some will wait",
            show_size(at_most),
            show_size(memory)
        );
        report.warning(
            place,
            &path,
            message,
            "lower `limits.memory`, `consume.concurrency` or `host.runs`, or raise it",
        );
    }
    if machine::memory_bytes().is_some_and(|machine| memory > machine) {
        report.warning(place, &path, "more than this machine or its control group has", "lower it");
    }
}

fn memory_by_machine() -> u64 {
    let machine = machine::memory_bytes().unwrap_or(MEMORY_BYTES_UNKNOWN);
    // Down to whole mebibytes, so that it can be read.
    (machine / 4 * 3) >> 20 << 20
}

fn runs_by_cores() -> usize {
    RUNS_PER_CORE * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
