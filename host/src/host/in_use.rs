//! What the host runs with, for whoever shows it.
//!
//! A look at one configuration, which does not change under whoever looks. It shows names, hashes and rights, and no value
//! of a secret: a configuration has none.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::gate;
use super::reload::Present;
use crate::config::{Config, Connector};

/// A configuration that is in use. Cheap to clone.
#[derive(Clone)]
pub struct InUse(Arc<Present>);

impl InUse {
    pub(super) fn new(present: Arc<Present>) -> Self {
        Self(present)
    }

    /// What was configured.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.0.config()
    }

    /// The hash of a connector's plugin, in hexadecimal, where it was loaded.
    #[must_use]
    pub fn plugin_sha256(&self, connector: &str) -> Option<&str> {
        Some(self.0.plugins.hash_of(connector)).filter(|hash| !hash.is_empty())
    }

    /// What a connector may do, one permission a line, in plain words.
    #[must_use]
    pub fn rights(&self, connector: &Connector) -> Vec<String> {
        gate::permissions(Handle::current(), connector)
    }
}
