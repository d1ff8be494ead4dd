//! What a plugin is, without a connector: its exports, its imports and whether they are offered, its own description.
//!
//! The description is asked for in a sandbox without any grant.

use std::sync::Arc;

use serde::Serialize;

use super::compile::Compiled;
use super::engine::Engine;
use super::offer::{self, Offered};
use super::plugin::{Linked, Plugin};
use super::sandbox::Description;
use crate::capability::{Grants, Services};
use crate::id::Name;

/// The connector that a plugin is while it is looked at.
const INSPECTED: &str = "inspect";
/// Interfaces that a connector may export.
const EXPORTS: &str = "bulkhead:connector/";

/// A schema of a large configuration has some ten kilobytes.
const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

/// What a plugin is; its JSON is what `bulkhead inspect --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// As the plugin calls itself.
    pub name: Option<String>,
    /// Semantic version of the plugin.
    pub version: Option<String>,
    /// One paragraph for a catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Interfaces that the host may call.
    pub exports: Vec<String>,
    /// Interfaces that it asks for.
    pub imports: Vec<Import>,
    /// Grants that it needs to be useful.
    pub wants: Vec<String>,
    /// JSON Schema of its `config`.
    pub config_schema: Option<serde_json::Value>,
    /// Bytes of the file.
    pub size: u64,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// Why it cannot run, or cannot describe itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One import of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// As in `wasi:io/streams@0.2.3`.
    pub name: String,
    /// Whether it is there.
    pub offered: Offered,
}

/// Looks at a plugin. Must run on [`Engine::guests`].
pub async fn inspect(engine: &Engine, compiled: &Compiled) -> Inspection {
    let component = compiled.component();
    let exports = component.component_type();
    let exports = exports.exports(engine.wasmtime()).map(|(name, _)| name.to_owned());
    // A component lists them in the order of its linker.
    let mut exports: Vec<String> = exports.filter(|name| name.starts_with(EXPORTS)).collect();
    exports.sort_unstable();
    let imports = offer::imports(engine, component).into_iter();
    let (description, problem) = match describe(engine, compiled).await {
        Ok(description) => (description, None),
        Err(problem) => (None, Some(problem)),
    };
    let description = description.unwrap_or_else(nothing);
    Inspection {
        name: Some(description.name).filter(|name| !name.is_empty()),
        version: Some(description.version).filter(|version| !version.is_empty()),
        summary: Some(description.summary).filter(|summary| !summary.is_empty()),
        exports,
        imports: imports.map(|name| Import { offered: offer::offered(&name), name }).collect(),
        wants: description.wants,
        config_schema: description.config_schema.as_deref().map(schema),
        size: compiled.size(),
        sha256: compiled.sha256().to_owned(),
        problem,
    }
}

async fn describe(engine: &Engine, compiled: &Compiled) -> Result<Option<Description>, String> {
    describe_linked(engine, Linked::new(engine, compiled).map_err(|error| error.to_string())?).await
}

/// The JSON Schema of the plugin's `config`, as it says it; `None` where it says nothing. Must run on
/// [`Engine::guests`].
///
/// # Errors
/// The plugin breaks over the question, or says too much.
pub async fn config_schema(engine: &Engine, linked: Linked) -> Result<Option<String>, String> {
    Ok(describe_linked(engine, linked).await?.and_then(|description| description.config_schema))
}

async fn describe_linked(engine: &Engine, linked: Linked) -> Result<Option<Description>, String> {
    let name = Name::parse(INSPECTED)?;
    let services = Services::idle(engine.guests().clone());
    let plugin = Plugin::new(linked, Arc::new(Grants::none(&services, name)));
    let mut sandbox = plugin.open().await.map_err(|failure| failure.reason().to_owned())?;
    let description = sandbox.describe().await.map_err(|failure| failure.reason().to_owned())?;
    match description.as_ref().map_or(0, size_bytes) {
        bytes if bytes > DESCRIPTION_BYTES_MAX => Err(format!("it says {bytes} bytes about itself")),
        _ => Ok(description),
    }
}

fn size_bytes(description: &Description) -> usize {
    let Description { name, version, summary, config_schema, wants } = description;
    let texts = [name, version, summary].into_iter().chain(config_schema).chain(wants);
    texts.map(String::len).sum()
}

fn nothing() -> Description {
    Description {
        name: String::new(),
        version: String::new(),
        summary: String::new(),
        config_schema: None,
        wants: Vec::new(),
    }
}

/// As JSON; text that is none stays text.
fn schema(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
