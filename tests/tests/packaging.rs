//! What is handed out beside the program: manual pages, completions, the unit of the service, the container, rules for
//! alerts. Each is held against what the program is, as far as no other machine is needed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use bulkhead_tests::{Bulkhead, has, has_program};
use serde_json::Value;
use toml::Table;

use crate::names_for_tools::METRICS;

/// Metrics that no test of the names makes happen, beside those of [`METRICS`].
const RARE: [&str; 2] = ["bulkhead_unrouted_total{queue}", "bulkhead_webhooks_total{connector,status}"];
/// What Prometheus adds.
const OF_PROMETHEUS: [&str; 3] = ["instance", "job", "le"];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The verbs that `--help` lists.
fn verbs(host: &Bulkhead) -> BTreeSet<String> {
    let help = host.run(&["--help"]).ok().output;
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap().to_owned();
    let words = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    words.filter(|word| !word.is_empty() && *word != "help").map(str::to_owned).collect()
}

#[test]
fn every_verb_has_a_manual_page_and_is_completed() {
    let host = Bulkhead::new("");
    let _ = host.run(&["generate", "made"]).ok();
    let verbs = verbs(&host);
    assert!(verbs.contains("run") && verbs.contains("backup") && !verbs.contains("generate"), "{verbs:?}");
    let made = |file: &str| fs::read_to_string(host.path("made").join(file)).unwrap();
    let page = made("man/bulkhead.1");
    assert!(page.contains(".TH BULKHEAD") && page.contains("bulkhead\\-run(1)"), "{page}");
    for verb in &verbs {
        let page = made(&format!("man/bulkhead-{verb}.1"));
        assert!(page.contains(&format!("bulkhead\\-{verb}")), "{page}");
    }
    assert!(made("man/bulkhead-dead-retry.1").contains("\\-\\-edit\\-body"));
    for file in ["bulkhead.bash", "_bulkhead", "bulkhead.fish"] {
        let script = made(&format!("completions/{file}"));
        assert!(verbs.iter().all(|verb| script.contains(verb.as_str())), "{file}");
        assert!(!script.contains("compile-plugin"), "{file} has what is hidden");
    }
    let bash = Command::new("bash").arg("-n").arg(host.path("made/completions/bulkhead.bash")).status();
    assert!(bash.is_ok_and(|status| status.success()));
}

/// The names that the host has, with their labels; a histogram has three.
fn known_metrics() -> BTreeMap<String, Vec<&'static str>> {
    let source = read("host/src/metrics/families.rs");
    for name in RARE {
        let name = name.trim_start_matches("bulkhead_").split("_total").next().unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name} is not registered");
    }
    let all = METRICS.iter().chain(&RARE).filter(|name| !name.starts_with("bulkhead_plugin_"));
    let named = all.flat_map(|metric| {
        let (name, labels) = metric.strip_suffix('}').unwrap().split_once('{').unwrap();
        let is_histogram = name.ends_with("_settlements") || (name.ends_with("_seconds") && !name.contains("oldest"));
        let endings: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        endings.iter().map(move |ending| (format!("{name}{ending}"), labels.split(',').collect()))
    });
    named.collect()
}

/// Words of an expression: letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_').filter(|word| !word.is_empty())
}

/// Names of metrics exist, and so do the labels that are compared or grouped by.
fn check_expressions(file: &str, expressions: &[String]) {
    let known = known_metrics();
    assert!(!expressions.is_empty(), "{file} has none");
    for expression in expressions {
        let mut labels = OF_PROMETHEUS.to_vec();
        for word in words(expression).filter(|word| word.starts_with("bulkhead_")) {
            let of = known.get(word).unwrap_or_else(|| panic!("{file}: there is no metric {word} in {expression}"));
            labels.extend(of);
        }
        let grouped = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
        let braces = expression.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let compared = braces.flat_map(|inside| inside.split("\",")).filter_map(|part| part.split(['=', '!']).next());
        for label in grouped.flat_map(words).chain(compared.flat_map(words)) {
            assert!(labels.contains(&label), "{file}: nothing has the label {label} in {expression}");
        }
    }
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let of_panels: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    check_expressions("deploy/grafana-dashboard.json", &of_panels);
    // What is not shown there is not looked at by anybody.
    let shown = of_panels.join(" ");
    let unseen = known_metrics()
        .into_keys()
        .find(|name| !name.ends_with("_sum") && !name.ends_with("_count") && !shown.contains(name.as_str()));
    assert_eq!(unseen, None);
    let alerts = read("deploy/alerts.yml").replace("expr: >\n         ", "expr:").replace("\n          / ", " / ");
    let of_alerts: Vec<String> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("expr:")).map(str::to_owned).collect();
    assert_eq!(of_alerts.len(), alerts.matches("- alert:").count());
    check_expressions("deploy/alerts.yml", &of_alerts);
}

#[test]
fn the_alerts_are_what_prometheus_takes() {
    if !has_program("promtool", "the rules for alerts are not checked") {
        return;
    }
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yml");
    let checked = Command::new("promtool").args(["check", "rules"]).arg(rules).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// With the program where it lies here, and a user that every machine has.
#[test]
fn the_unit_of_the_service_is_one_and_leaves_little_open() {
    let unit = read("deploy/bulkhead.service");
    for line in ["Type=notify", "RestartPreventExitStatus=2", "ProtectSystem=strict", "NoNewPrivileges=yes"] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    let can_judge = Command::new("systemd-analyze").args(["security", "--help"]).output();
    let can_judge = can_judge.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("--offline"));
    if !has(can_judge, "`systemd-analyze` is not there, or cannot judge a file", "the unit is not checked") {
        return;
    }
    let host = Bulkhead::new("");
    let unit = unit.replace("/usr/local/bin/bulkhead", "/bin/true").replace("=bulkhead\n", "=nobody\n");
    let unit = unit.replace("Group=nobody", "Group=root").replace("man:bulkhead(1)", "https://bulkhead.invalid");
    let path = host.path("bulkhead.service");
    fs::write(&path, unit).unwrap();
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=20", "--no-pager"]] {
        let judged = Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap();
        let said = [judged.stdout, judged.stderr].concat();
        assert!(judged.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

/// What cannot be built here is at least built from what is there.
#[test]
fn the_container_is_built_with_the_rust_and_the_folders_of_the_workspace() {
    let (file, ignored) = (read("Dockerfile"), read(".dockerignore"));
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let workspace = &manifest["workspace"];
    let rust = workspace["package"]["rust-version"].as_str().unwrap();
    assert!(file.contains(&format!("FROM docker.io/library/rust:{rust}-")), "Rust {rust}");
    assert!(file.contains("\nUSER 65532:65532\n") && file.contains("--profile dist"));
    assert!(manifest["profile"].get("dist").is_some());
    for member in workspace["members"].as_array().unwrap() {
        let folder = member.as_str().unwrap().split('/').next().unwrap();
        assert!(ignored.lines().any(|line| line == format!("!{folder}")), "{folder} is not among what is copied");
    }
}
