//! Secrets by name: a handle where the operator granted the secret, its value only through `reveal` with the same grant.
//!
//! What is not granted and what is not there look the same to a plugin. Credentials of requests do not pass here: the
//! gate attaches them by itself (`auth` of an http grant). Placeholders are inert until a grant gives them a place.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::Resource;

use super::Session;
use crate::bindings::SecretHandle;
use crate::bindings::bulkhead::connector::reveal;
use crate::bindings::bulkhead::connector::secrets::{Host, HostSecret, SecretError};
use crate::mask::Secret;
use crate::metrics::Effect;

/// Reads a secret's present value, if it is there.
pub type Lookup = Arc<dyn Fn(&str) -> Option<Secret> + Send + Sync>;

/// `allow.secrets` of one connector.
#[derive(Default)]
pub struct Grant {
    names: Vec<String>,
    lookup: Option<Lookup>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Grant").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Grant {
    /// The secrets that a connector may see, and where their values are read.
    #[must_use]
    pub fn new(names: Vec<String>, lookup: Lookup) -> Self {
        Self { names, lookup: Some(lookup) }
    }

    fn value(&self, name: &str) -> Option<Secret> {
        let is_granted = self.names.iter().any(|granted| granted == name);
        self.lookup.as_ref().filter(|_| is_granted).and_then(|lookup| lookup(name))
    }
}

impl Session {
    fn unavailable(&mut self, name: &str) -> SecretError {
        let connector = &self.grants.subject.name;
        let key = format!("connectors.{connector}.allow.secrets");
        let text = format!("the plugin asks for a secret: add its name to `{key}` and to `[secrets]` if it may see it");
        self.refuse(Effect::Secret, "not_granted", &text);
        SecretError::Unavailable(format!("secret `{name}` is not available: `{key}` would grant it"))
    }
}

impl Host for Session {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<SecretHandle>, SecretError>> {
        if self.grants.secrets.value(&name).is_none() {
            return Ok(Err(self.unavailable(&name)));
        }
        Ok(Ok(self.table.push(SecretHandle { name })?))
    }
}

impl HostSecret for Session {
    fn placeholder(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<String> {
        Ok(format!("{{{{secret:{}}}}}", self.table.get(&secret)?.name))
    }

    fn drop(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

impl reveal::Host for Session {
    fn reveal(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<Result<Vec<u8>, SecretError>> {
        let name = self.table.get(&secret)?.name.clone();
        let Some(value) = self.grants.secrets.value(&name) else { return Ok(Err(self.unavailable(&name))) };
        tracing::info!(connector = %self.grants.subject.name, secret = name, "the plugin has seen a secret");
        Ok(Ok(value.expose().to_vec()))
    }
}
