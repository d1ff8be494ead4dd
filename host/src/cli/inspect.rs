//! `bulkhead inspect`: what a plugin exports, imports and asks for, without running it for anybody.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::main::{Failed, Outcome};
use super::output::{plain, print, table};
use super::{Inspect, unusable};
use crate::limit::CompileLimits;
use crate::plugin_store;
use crate::runtime::Engine;
use crate::runtime::compile::{Maker, compile};
use crate::runtime::engine::Settings;
use crate::runtime::inspect::{Inspection, inspect};

/// Looks at a plugin.
///
/// # Errors
/// It cannot be read or compiled.
pub async fn run(arguments: &Inspect, as_json: bool) -> Outcome {
    let (maker, bytes) = read(&arguments.plugin).map_err(Failed::Unusable)?;
    let engine = Engine::start(Settings::default())?;
    let compiled = compile(&engine, None, maker, &bytes)
        .map_err(|error| Failed::Unusable(anyhow!("{}: {error}", arguments.plugin)))?;
    let looking = engine.clone();
    let inspection = engine.guests().spawn(async move { inspect(&looking, &compiled).await });
    let inspection = inspection.await.context("looking at the plugin broke off")?;
    let text = if as_json {
        serde_json::to_string(&inspection).map_err(anyhow::Error::new)?
    } else {
        plain(&text(&inspection))
    };
    print(&text)?;
    Ok(if inspection.problem.is_some() { unusable() } else { ExitCode::SUCCESS })
}

fn read(plugin: &str) -> anyhow::Result<(Maker, Vec<u8>)> {
    match plugin.strip_prefix("builtin:") {
        Some(name) => {
            let known: Vec<_> = plugin_store::builtin_names().collect();
            let missing = || format!("there is no built-in plugin `{name}`: there are {}", known.join(", "));
            Ok((Maker::Host, plugin_store::builtin(name).with_context(missing)?.to_vec()))
        }
        None => {
            // It knows no configuration.
            let limits = CompileLimits::default();
            Ok((Maker::Anybody(limits), plugin_store::read(Path::new(plugin), limits.size_bytes)?))
        }
    }
}

fn text(inspection: &Inspection) -> String {
    let mut lines = Vec::new();
    let known = [("name", &inspection.name), ("version", &inspection.version), ("summary", &inspection.summary)];
    lines.extend(known.iter().filter_map(|(what, text)| Some(format!("{what:<8} {}", text.as_ref()?))));
    lines.push(format!("size     {} bytes", inspection.size));
    lines.push(format!("sha256   {}", inspection.sha256));
    lines.push(format!("exports  {}", inspection.exports.join(", ")));
    lines.extend(inspection.wants.iter().map(|want| format!("wants    {want}")));
    lines.push(String::new());
    let offered = |offered: &serde_json::Value| match offered.as_str() {
        Some("refused") => "linked, always refused".to_owned(),
        Some(word) => word.to_owned(),
        None => String::new(),
    };
    let row = |import: &crate::runtime::inspect::Import| {
        let word = serde_json::to_value(import.offered).unwrap_or_default();
        vec![import.name.clone(), offered(&word)]
    };
    let rows: Vec<_> = inspection.imports.iter().map(row).collect();
    lines.push(table(&["IMPORT", "OFFERED"], &rows));
    if let Some(schema) = &inspection.config_schema {
        lines.push(String::new());
        lines.push(format!("config   {}", serde_json::to_string_pretty(schema).unwrap_or_default()));
    }
    lines.extend(inspection.problem.iter().map(|problem| format!("\nproblem  {problem}")));
    lines.join("\n")
}
