//! The one engine of the process: compiler settings, the pool of sandboxes, the epoch ticker, the guests' threads.
//!
//! Every knob that bounds a guest is set here by name; defaults of the library are for trusted guests. Invariant: guests
//! run on threads of their own, never on those of sockets, timers or the ledger.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::context::TokioContext;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

use super::epoch::{Ticker, Ticking};
use super::thread;
use crate::capability::{self, Session};

const MIB: usize = 1 << 20;
/// Memory of an idle pool slot that stays resident: a plugin's working set, so that a fresh sandbox does not page-fault.
const KEEP_RESIDENT: usize = 4 * MIB;
/// The same for tables.
const TABLE_KEEP_RESIDENT: usize = MIB;
/// Python's main table has some ten thousand entries; this bounds a table's share of a slot to 800 KB.
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances of a component: a Python component links some twenty shared libraries.
const CORE_INSTANCES_MAX: u32 = 128;
/// Memories of a component: one for each plugin that was composed into it.
const MEMORIES_MAX: u32 = 8;
/// Tables of a component.
const TABLES_MAX: u32 = 64;
/// Bookkeeping of one component's instances in the host.
const INSTANCE_BYTES_MAX: usize = 2 * MIB;
/// Stack of a guest.
const WASM_STACK_BYTES: usize = MIB;
/// Stack that a call runs on: the guest's own and what host functions need.
const ASYNC_STACK_BYTES: usize = 2 * MIB;
/// A thread that polls a guest which computes does nothing else meanwhile: with more of them the system lets a neighbour's
/// call in at once, where on a shared thread each of its steps would wait for a slice of the other to end.
const GUEST_THREADS_PER_CORE: usize = 4;
/// Polls after which a thread of guests looks for work that came from other threads. A guest that computes is polled for a
/// millisecond at a time, so that what waits behind it waits for as many of them.
const GUEST_QUEUE_INTERVAL: u32 = 2;
/// Slots beside the permits: inspecting and loading take none.
const SPARE_SLOTS: u32 = 4;

/// Proposals that no supported toolchain needs, each with state or syntax that would have to be bounded.
const FEATURES_OFF: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::GC)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES);

/// What the engine is made for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Sandboxes at once (`host.runs`).
    pub runs: usize,
    /// Sandboxes that connectors with `reuse = "always"` keep between their runs.
    pub kept: usize,
    /// The largest `limits.memory` of the configuration.
    pub memory_bytes_max: u64,
    /// Whether the processor is made believe, by what counts instructions. Then code is the same whatever the real one
    /// knows, and there is no pool of sandboxes, for whose memories some 4 GiB of address space each are reserved.
    pub is_emulated: bool,
}

impl Default for Settings {
    /// For looking at plugins without running connectors.
    fn default() -> Self {
        Self { runs: 1, kept: 0, memory_bytes_max: crate::limit::Limits::default().memory_bytes, is_emulated: false }
    }
}

/// The engine. Cheap to clone; its threads end with the last clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    settings: Settings,
    linker: Linker<Session>,
    ticker: Ticker,
    guests: Option<Runtime>,
    /// The runtime that the engine was started in, if any.
    timers: Option<Handle>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Engine")
    }
}

impl Engine {
    /// Starts the engine with its threads.
    ///
    /// # Errors
    /// When the machine does not allow what the pool needs (address space), or no thread can be started.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        let engine = wasmtime::Engine::new(&config(settings)?).map_err(|error| {
            anyhow!(
                "the sandbox engine cannot start (fewer `host.runs` or a smaller `limits.memory` need less): {error:#}"
            )
        })?;
        let mut linker = Linker::new(&engine);
        capability::link(&mut linker)
            .map_err(|error| anyhow!("the interfaces for plugins cannot be linked: {error:#}"))?;
        let ticker = Ticker::start(engine).context("no thread for the epoch ticker")?;
        let guests = Builder::new_multi_thread()
            .worker_threads(cores() * GUEST_THREADS_PER_CORE)
            .thread_name("bulkhead-guest")
            .on_thread_start(thread::stand_back)
            .global_queue_interval(GUEST_QUEUE_INTERVAL)
            .enable_time()
            .build()
            .context("no threads for guests")?;
        Ok(Self(Arc::new(Inner { settings, linker, ticker, guests: Some(guests), timers: Handle::try_current().ok() })))
    }

    /// Starts a task that calls guests. Its timers are those of the runtime that the engine was started in: a runtime looks
    /// at its timers every 61 polls, and beside guests that compute a poll lasts for a millisecond.
    pub fn spawn_into<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) -> AbortHandle {
        let timers = self.0.timers.as_ref().unwrap_or_else(|| self.guests());
        tasks.spawn_on(TokioContext::new(task, timers.clone()), self.guests())
    }

    /// What its pool was made for.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.0.settings
    }

    /// Where every task that calls a guest must run; see [`Engine::spawn_into`] for those that last.
    ///
    /// # Panics
    /// Never: the runtime lives as long as the engine.
    #[must_use]
    pub fn guests(&self) -> &Handle {
        self.0.guests.as_ref().expect("it is taken only when the engine is dropped").handle()
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        self.0.linker.engine()
    }

    pub(super) fn linker(&self) -> &Linker<Session> {
        &self.0.linker
    }

    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.0.ticker.ticking()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // May happen on a thread of a runtime, where waiting for another one is not allowed.
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn config(settings: Settings) -> anyhow::Result<Config> {
    let mut config = compiling();
    if settings.is_emulated {
        let plain = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        config.target(&plain).map_err(|error| anyhow!("no code for {plain}: {error:#}"))?;
    } else {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)?));
    }
    Ok(config)
}

/// All that code depends on: what was compiled with it runs in every engine of this binary, whatever its pool.
pub(super) fn compiling() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_features(FEATURES_OFF, false)
        .shared_memory(false)
        .relaxed_simd_deterministic(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES);
    config
}

fn pool(settings: Settings) -> anyhow::Result<PoolingAllocationConfig> {
    let slots =
        u32::try_from(settings.runs + settings.kept).context("too many `host.runs`")?.saturating_add(SPARE_SLOTS);
    let memory_bytes = usize::try_from(settings.memory_bytes_max).context("`limits.memory` is too large")?;
    let warm = u32::try_from(cores()).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(slots.saturating_mul(MEMORIES_MAX))
        .total_tables(slots.saturating_mul(TABLES_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(1)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(memory_bytes)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .max_unused_warm_slots(warm)
        .pagemap_scan(Enabled::Auto);
    Ok(pool)
}
