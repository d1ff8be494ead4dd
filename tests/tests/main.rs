//! Every test at the boundary, in one program: it is linked once, the guests are looked after once, and what waits in one
//! place leaves the cores to another. `cargo test --workspace --test boundary NAME::` runs those of one file.
#![allow(clippy::unwrap_used)]

mod admin_access;
mod admin_api;
mod api_document;
mod audit;
mod back_pressure;
mod backups;
mod batches;
mod build_script;
mod builtins;
mod canary;
mod clock_steps;
mod compiling;
mod conflicts;
mod correlation;
mod credentials;
mod cron;
mod dead_letters;
mod dead_verbs;
mod deliveries;
mod disk;
mod doctor;
mod documentation;
mod drafts;
mod durability;
mod egress;
mod fairness;
mod faults;
mod firing;
mod first_contact;
mod floods;
mod flows;
mod held_bodies;
mod history;
mod hostile_guests;
mod http_poll;
mod huge_texts;
mod instructions;
mod issuers;
mod kills;
mod languages;
mod layers;
mod limits;
mod listener_floods;
mod masking;
mod memory_budget;
mod migrations;
mod names;
mod names_for_tools;
mod notices;
mod oauth2;
mod operator;
mod ordering;
mod otlp;
mod outboxes;
mod outside;
mod pacing;
mod packaging;
mod places;
mod planning;
mod plugins;
mod prereleases;
mod proxied;
mod reboots;
mod reload;
mod reload_edges;
mod renaming;
mod repeats;
mod retention;
mod retries;
mod reuse;
mod routing;
mod sagas;
mod schedules;
mod sealed_secrets;
mod signatures;
mod smuggling;
mod startup;
mod stopping;
mod streaming;
mod subscribing;
mod supervising;
mod suspects;
mod swaps;
mod targets;
mod token_endpoints;
mod top;
mod traces;
mod trespassing;
mod trust;
mod ui;
mod unrun;
mod upstream;
mod vendors;
mod webhook_answers;
mod webhook_senders;
mod webhooks;

/// A file that is not named above would be no test.
#[test]
fn every_file_is_among_them() {
    let own = include_str!("main.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(name == "main.rs" || own.contains(&format!("\nmod {module};\n")), "`mod {module};` is missing");
    }
}
