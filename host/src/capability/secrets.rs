//! Secrets by name: a handle where a grant has a place for the secret, its value only through `reveal` with `allow.secrets`.
//!
//! What is not granted and what is not there look the same to a plugin. Credentials of requests do not pass here: the
//! gate attaches them by itself (`auth` of an http grant). A placeholder means nothing but in a request to a grant that
//! names the secret in `placeholders`.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::Session;
use crate::bindings::SecretHandle;
use crate::bindings::bulkhead::connector::reveal;
use crate::bindings::bulkhead::connector::secrets::{Host, HostSecret, SecretError};
use crate::mask::Secret;
use crate::metrics::Effect;
use crate::secret_store::SecretStore;

/// `allow.secrets` of one connector, and the secrets that its grants have a place for.
pub(super) struct Grant {
    /// May be seen.
    seen: Vec<String>,
    /// May be placed.
    placed: Vec<String>,
    store: Arc<SecretStore>,
}

impl Grant {
    pub(super) fn new(seen: Vec<String>, placed: Vec<String>, store: Arc<SecretStore>) -> Self {
        Self { seen, placed, store }
    }

    fn has(&self, name: &str) -> bool {
        let is_granted = self.seen.iter().chain(&self.placed).any(|granted| granted == name);
        is_granted && self.store.get(name).is_some()
    }

    pub(super) fn permissions(&self) -> impl Iterator<Item = String> {
        self.seen.iter().map(|name| format!("may see the value of the secret `{name}`"))
    }

    fn value(&self, name: &str) -> Option<Secret> {
        if self.seen.iter().any(|granted| granted == name) { self.store.get(name) } else { None }
    }
}

impl Session {
    fn unavailable(&mut self, name: &str) -> SecretError {
        let connector = &self.grants.subject.name;
        let key = format!("connectors.{connector}.allow.secrets");
        let text = format!(
            "the plugin asks for a secret: give it a place with `placeholders` of an http grant, or add it to `{key}` if the plugin may see it"
        );
        self.refuse(Effect::Secret, "not_granted", &key, &text);
        SecretError::Unavailable(format!("secret `{name}` is not available: `{key}` would grant it"))
    }
}

impl Host for Session {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<SecretHandle>, SecretError>> {
        if !self.grants.secrets.has(&name) {
            return Ok(Err(self.unavailable(&name)));
        }
        Ok(Ok(self.table.push(SecretHandle { name })?))
    }
}

impl HostSecret for Session {
    fn placeholder(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<String> {
        Ok(self.http.placeholder(&self.table.get(&secret)?.name))
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
        let (connector, services) = (&self.grants.subject.name, &self.grants.services);
        services.audit.secret_used(connector, &name, &format!("connectors.{connector}.allow.secrets"));
        Ok(Ok(value.expose().to_vec()))
    }
}
