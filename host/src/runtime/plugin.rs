//! A plugin that is ready to run: linked, with its connector's grants.
//!
//! Finds out which interfaces a component exports (any subset) and makes sandboxes of it. What happens in one is
//! [`super::sandbox`]'s. Invariant: a component is linked once, however many connectors it has; a plugin that
//! was checked has been started once, and the types of all its exports fit.

use std::sync::Arc;

use wasmtime::component::InstancePre;

use super::compile::{Compiled, LoadError};
use super::engine::Engine;
use super::failure::Failure;
use super::permit::Permit;
use super::sandbox::Sandbox;
use crate::bindings::exports::bulkhead::connector::{about, batch_consumer, consumer, scheduled, webhook};
use crate::capability::{Grants, Session};

/// The package of connector state, as in `wasi:keyvalue/store@0.2.0-draft`.
const STATE: &str = "wasi:keyvalue/";

/// A component that is linked: what connectors with the same plugin share. Cheap to clone.
#[derive(Clone)]
pub struct Linked(Arc<Link>);

struct Link {
    engine: Engine,
    instance: InstancePre<Session>,
    exports: Exports,
    imports: Vec<String>,
}

/// A plugin with its connector's grants. Cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    linked: Linked,
    grants: Arc<Grants>,
}

/// The interfaces that a component exports.
pub(super) struct Exports {
    pub(super) consumer: Option<consumer::GuestIndices>,
    pub(super) batch_consumer: Option<batch_consumer::GuestIndices>,
    pub(super) scheduled: Option<scheduled::GuestIndices>,
    pub(super) webhook: Option<webhook::GuestIndices>,
    pub(super) about: Option<about::GuestIndices>,
}

/// An interface that the host calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// Messages one by one.
    Consumer,
    /// Messages many at once.
    BatchConsumer,
    /// Ticks.
    Scheduled,
    /// HTTP requests.
    Webhook,
    /// What the plugin says about itself.
    About,
}

impl std::fmt::Debug for Linked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Linked")
    }
}

impl Linked {
    /// Links a component without starting it.
    ///
    /// # Errors
    /// When it asks for something that is not offered; the text says what to change.
    pub fn new(engine: &Engine, compiled: &Compiled) -> Result<Self, LoadError> {
        let component = compiled.component();
        let instance = super::offer::link(engine, component)?;
        let exports = Exports::of(&instance);
        let imports = super::offer::imports(engine, component);
        Ok(Self(Arc::new(Link { engine: engine.clone(), instance, exports, imports })))
    }

    /// Whether it exports an interface.
    #[must_use]
    pub fn exports(&self, export: Export) -> bool {
        self.0.exports.has(export)
    }

    /// Whether it may keep state: it imports `wasi:keyvalue`.
    #[must_use]
    pub fn may_keep_state(&self) -> bool {
        self.0.imports.iter().any(|name| name.starts_with(STATE))
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Plugin").field(self.0.grants.connector()).finish()
    }
}

impl Plugin {
    /// Gives a linked component a connector's grants.
    #[must_use]
    pub fn new(linked: Linked, grants: Arc<Grants>) -> Self {
        Self(Arc::new(Inner { linked, grants }))
    }

    /// Links a component for a connector and checks it.
    ///
    /// # Errors
    /// When it does not link, or see [`Plugin::check`].
    pub async fn load(engine: &Engine, compiled: &Compiled, grants: Arc<Grants>) -> Result<Self, LoadError> {
        let plugin = Self::new(Linked::new(engine, compiled)?, grants);
        plugin.check().await?;
        Ok(plugin)
    }

    /// Starts it once, so that what cannot work is known before anything depends on it. Must run on [`Engine::guests`].
    ///
    /// # Errors
    /// When it exports nothing that the host calls, does not start, or has other types than the host.
    pub async fn check(&self) -> Result<(), LoadError> {
        if !self.indices().has_entry() {
            return Err(LoadError::NoExport);
        }
        let mut sandbox = self.open().await.map_err(|failure| LoadError::Start(failure.reason().to_owned()))?;
        sandbox.check().map_err(|error| LoadError::Misfit(format!("{error:#}")))
    }

    /// What a sandbox of it may come to use.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.0.grants.limits().memory_bytes
    }

    /// Whether it is called once for all messages of a run; a component that exports both interfaces is.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.exports(Export::BatchConsumer)
    }

    /// Whether it exports an interface.
    #[must_use]
    pub fn exports(&self, export: Export) -> bool {
        self.0.linked.exports(export)
    }

    /// A fresh sandbox. Must run on [`Engine::guests`], as all its calls.
    ///
    /// # Errors
    /// When the guest's own start fails or is over a limit; costs an attempt of what should have run.
    pub async fn sandbox(&self, _permit: &Permit) -> Result<Sandbox, Failure> {
        self.open().await
    }

    pub(super) async fn open(&self) -> Result<Sandbox, Failure> {
        Sandbox::start(self.clone()).await
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.linked.0.engine
    }

    /// What its connector may do.
    #[must_use]
    pub fn grants(&self) -> &Arc<Grants> {
        &self.0.grants
    }

    pub(super) fn instance(&self) -> &InstancePre<Session> {
        &self.0.linked.0.instance
    }

    pub(super) fn indices(&self) -> &Exports {
        &self.0.linked.0.exports
    }
}

impl Exports {
    fn of(instance: &InstancePre<Session>) -> Self {
        Self {
            consumer: consumer::GuestIndices::new(instance).ok(),
            batch_consumer: batch_consumer::GuestIndices::new(instance).ok(),
            scheduled: scheduled::GuestIndices::new(instance).ok(),
            webhook: webhook::GuestIndices::new(instance).ok(),
            about: about::GuestIndices::new(instance).ok(),
        }
    }

    fn has(&self, export: Export) -> bool {
        match export {
            Export::Consumer => self.consumer.is_some(),
            Export::BatchConsumer => self.batch_consumer.is_some(),
            Export::Scheduled => self.scheduled.is_some(),
            Export::Webhook => self.webhook.is_some(),
            Export::About => self.about.is_some(),
        }
    }

    fn has_entry(&self) -> bool {
        [Export::Consumer, Export::BatchConsumer, Export::Scheduled, Export::Webhook].iter().any(|it| self.has(*it))
    }
}
