//! From a plugin's bytes to a component that can be linked.
//!
//! Compiling takes from a tenth of a second (Rust) to five (Python), so what was compiled is kept, under the plugin's hash
//! and the engine's, and loaded again only with a valid MAC: precompiled code is run as it is. Owns no files: they are the
//! plugin store's. Invariant: compiling writes nothing; what is to be kept is kept by [`keep`], once it is accepted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::engine::Engine;
use crate::limit::Limit;
use crate::plugin_store::{CacheKey, PluginStore, ReadError};

/// A plugin that compiles longer than this is refused.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(60);
/// How every WebAssembly binary begins.
const MAGIC: &[u8; 4] = b"\0asm";
/// What follows in a core module.
const CORE_VERSION: [u8; 4] = [1, 0, 0, 0];

/// Why a plugin cannot be loaded. The text says what is wrong with it and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there or cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No WebAssembly at all.
    #[error("this is not a WebAssembly component: it does not begin as one")]
    NotWasm,
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component: build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Truncated or malformed.
    #[error("the component is broken or cut short (build or copy it again): {0}")]
    Broken(String),
    /// Takes too long to compile.
    #[error("the component takes more than {} s to compile", COMPILE_TIME_MAX.as_secs())]
    TooSlow,
    /// Imports something that is not offered.
    #[error("the component cannot be linked: {0}")]
    Unlinkable(String),
    /// The name is right, the types are not.
    #[error("an interface of the component has other types than the host's (build it against the same WIT): {0}")]
    Misfit(String),
    /// Nothing to call.
    #[error(
        "the component exports no interface that the host calls: `consumer`, `batch-consumer`, `scheduled` or `webhook` of `bulkhead:connector@0.1.0`"
    )]
    NoExport,
    /// It broke when it was started.
    #[error("the component does not start: {0}")]
    Start(String),
}

impl LoadError {
    /// The limit that bit, if one did.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        matches!(self, Self::TooSlow | Self::Read(ReadError::TooLarge { .. })).then_some(Limit::Compile)
    }
}

/// A compiled component. Cheap to clone.
#[derive(Clone)]
pub struct Compiled {
    component: Component,
    sha256: String,
    size: u64,
    is_cached: bool,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Compiled").field(&self.sha256).finish()
    }
}

impl Compiled {
    /// The plugin's hash, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Bytes of the plugin.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it came from the store, so that nothing had to be compiled.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.is_cached
    }

    pub(super) fn component(&self) -> &Component {
        &self.component
    }
}

/// Compiles a plugin, or takes what was compiled before from the store. Blocks: not for a thread of a runtime.
///
/// # Errors
/// When the bytes are no component, or take too long.
pub fn compile(engine: &Engine, store: Option<&PluginStore>, bytes: &[u8]) -> Result<Compiled, LoadError> {
    check_kind(bytes)?;
    let sha256 = HEXLOWER.encode(&Sha256::digest(bytes));
    let size = bytes.len() as u64;
    if let Some(component) = store.and_then(|store| cached(engine, store, &key(engine, &sha256))) {
        return Ok(Compiled { component, sha256, size, is_cached: true });
    }
    let component = compile_in_time(engine, bytes.to_vec())?;
    Ok(Compiled { component, sha256, size, is_cached: false })
}

/// Keeps what was compiled for the next start. A cache that cannot be written costs time then, nothing else.
pub fn keep(engine: &Engine, store: &PluginStore, compiled: &Compiled) {
    if compiled.is_cached {
        return;
    }
    let kept = compiled.component.serialize().map_err(|error| format!("{error:#}"));
    let kept =
        kept.and_then(|code| store.keep(&key(engine, &compiled.sha256), &code).map_err(|error| format!("{error:#}")));
    if let Err(error) = kept {
        let plugin = &compiled.sha256;
        tracing::warn!(plugin, "a compiled plugin is not kept, the next start compiles it again: {error}");
    }
}

fn key(engine: &Engine, sha256: &str) -> CacheKey {
    CacheKey { sha256: sha256.to_owned(), engine: engine_hash(engine) }
}

fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    let Some(version) = bytes.strip_prefix(MAGIC) else { return Err(LoadError::NotWasm) };
    if version.starts_with(&CORE_VERSION) { Err(LoadError::CoreModule) } else { Ok(()) }
}

/// Changes with the engine's version and with every setting that changes code.
fn engine_hash(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.wasmtime().precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn cached(engine: &Engine, store: &PluginStore, key: &CacheKey) -> Option<Component> {
    let code = store.cached(key)?;
    match load_code(engine, &code) {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(plugin = key.sha256, "a compiled plugin does not load and is compiled again: {error:#}");
            None
        }
    }
}

#[expect(unsafe_code, reason = "precompiled code can only be loaded unchecked")]
fn load_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is what `Component::serialize` gave this host: the store has just checked its MAC, made with a key
    // that only this host's user can read, over these very bytes and the hash of this engine.
    unsafe { Component::deserialize(engine.wasmtime(), code) }
}

/// On a thread of its own, since a compilation cannot be stopped: one that is too slow is left behind, and its plugin is
/// refused.
fn compile_in_time(engine: &Engine, bytes: Vec<u8>) -> Result<Component, LoadError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let wasmtime = engine.wasmtime().clone();
    let compile = move || {
        // Nobody waits any more when it took too long.
        let _ = sender.send(Component::new(&wasmtime, &bytes));
    };
    let spawned = thread::Builder::new().name("bulkhead-compile".to_owned()).spawn(compile);
    spawned.map_err(|error| LoadError::Broken(format!("no thread to compile it: {error}")))?;
    match receiver.recv_timeout(COMPILE_TIME_MAX) {
        Ok(compiled) => compiled.map_err(|error| LoadError::Broken(format!("{error:#}"))),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(LoadError::TooSlow),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(LoadError::Broken("the compiler failed on it".to_owned())),
    }
}
