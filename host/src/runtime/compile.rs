//! From a plugin's bytes to a component that can be linked.
//!
//! Compiling takes from a tenth of a second (Rust) to five (Python), so what was compiled is kept, under the plugin's hash
//! and the engine's, and loaded again only with a valid MAC: precompiled code is run as it is. Owns no files: they are the
//! plugin store's. Invariant: compiling writes nothing; what is to be kept is kept by [`keep`], once it is accepted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::engine::{self, Engine};
use crate::limit::{CompileLimits, Limit};
use crate::plugin_store::compiler::{self, CompileError, Compiler};
use crate::plugin_store::{CacheKey, PluginStore, ReadError};

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
    /// Truncated, malformed, or made for another engine: the compiler does not tell these apart but in its own words.
    #[error(
        "the component is broken or cut short (build or copy it again), or needs a proposal that is off here (build it for `wasm32-wasip2`): {0}"
    )]
    Broken(String),
    /// Sound, and more than a sandbox has room for.
    #[error(
        "the component needs more than a sandbox has, which is one memory for each core module, 8 in all, of up to `limits.memory`, 64 tables of 100,000 elements and 128 core instances (build it with less, or compose it of fewer parts): {0}"
    )]
    Beyond(String),
    /// No code comes out of it: too slow, too hungry, or the compiler fails on it.
    #[error("the component is not compiled: {0}")]
    Compile(CompileError),
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
        self.key().map(|_| Limit::Compile)
    }

    /// The key that moves it.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Read(ReadError::TooLarge { .. }) => Some("host.compile.size"),
            Self::Compile(CompileError::Time(_)) => Some("host.compile.time"),
            Self::Compile(CompileError::Memory(_)) => Some("host.compile.memory"),
            _ => None,
        }
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

/// Who made a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// It came with the host, and is compiled by it.
    Host,
    /// Anybody: it is compiled in a process of its own, within these bounds.
    Anybody(CompileLimits),
}

/// By what a plugin is known: of its bytes, in hexadecimal.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Compiles a plugin, or takes what was compiled before from the store. Blocks: not for a thread of a runtime.
///
/// # Errors
/// When the bytes are no component, or take too much to compile.
pub fn compile(
    engine: &Engine,
    store: Option<&PluginStore>,
    maker: Maker,
    bytes: &[u8],
) -> Result<Compiled, LoadError> {
    check_kind(bytes)?;
    let sha256 = hash(bytes);
    let size = bytes.len() as u64;
    if let Some(component) = store.and_then(|store| cached(engine, store, &key(engine, &sha256))) {
        return Ok(Compiled { component, sha256, size, is_cached: true });
    }
    let component = match maker {
        Maker::Host => Component::new(engine.wasmtime(), bytes).map_err(broken)?,
        Maker::Anybody(limits) => compile_apart(engine, limits, bytes)?,
    };
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
    CacheKey { sha256: sha256.to_owned(), engine: engine_hash(engine.wasmtime()) }
}

fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    let Some(version) = bytes.strip_prefix(MAGIC) else { return Err(LoadError::NotWasm) };
    if version.starts_with(&CORE_VERSION) { Err(LoadError::CoreModule) } else { Ok(()) }
}

/// Changes with the engine's version and with every setting that changes code.
fn engine_hash(engine: &wasmtime::Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
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
    // SAFETY: `code` is what this host's own binary has made of a component: either read just now from the process that
    // it started for that, or from the store, which has checked its MAC, made with a key that only this host's user can
    // read, over these very bytes and the hash of this engine.
    unsafe { Component::deserialize(engine.wasmtime(), code) }
}

/// In a process of its own, which ends with its bounds.
fn compile_apart(engine: &Engine, limits: CompileLimits, bytes: &[u8]) -> Result<Component, LoadError> {
    let code = Compiler::new(limits).compile(bytes).map_err(|error| match error {
        CompileError::Broken(text) => LoadError::Broken(text),
        error => LoadError::Compile(error),
    })?;
    // It has been compiled just now, apart from the pool, which knows what a sandbox has.
    load_code(engine, &code).map_err(|error| LoadError::Beyond(format!("{error:#}")))
}

/// What the host's binary does as that process: a component in, code out.
#[must_use]
pub fn serve() -> ExitCode {
    compiler::serve(|bytes| {
        let engine = wasmtime::Engine::new(&engine::compiling());
        let code = engine.and_then(|engine| engine.precompile_component(bytes));
        code.map_err(|error| format!("{error:#}"))
    })
}

fn broken(error: wasmtime::Error) -> LoadError {
    LoadError::Broken(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use wasmtime::Config;

    use super::*;

    #[test]
    fn the_hash_of_an_engine_is_another_one_with_other_code_and_the_same_otherwise() {
        let hash = |change: fn(&mut Config)| {
            let mut config = engine::compiling();
            change(&mut config);
            engine_hash(&wasmtime::Engine::new(&config).expect("an engine"))
        };
        let plain = hash(|_| {});
        let other: fn(&mut Config) = |config| {
            config.epoch_interruption(false);
        };
        assert_eq!((hash(|_| {}) == plain, hash(other) == plain), (true, false));
        // What compiles and what runs are of one kind: a difference would compile at every start.
        let running = Engine::start(engine::Settings::default()).expect("an engine");
        assert_eq!(engine_hash(running.wasmtime()), plain);
    }
}
