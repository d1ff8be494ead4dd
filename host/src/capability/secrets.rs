//! Secrets by name: a handle where a grant has a place for the secret, its value only through `reveal` with `allow.secrets`.
//!
//! What is not granted and what is not there look the same to a plugin. Credentials of requests do not pass here: the
//! gate attaches them by itself (`auth` of an http grant). A placeholder means nothing but in a request to a grant that
//! names the secret in `placeholders`.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::Session;
use crate::audit::{Kind, Refused};
use crate::bindings::SecretHandle;
use crate::bindings::bulkhead::connector::reveal;
use crate::bindings::bulkhead::connector::secrets::{Host, HostSecret, SecretError};
use crate::mask::Secret;
use crate::metrics::Effect;
use crate::secret_store::SecretStore;
use crate::settlement::attempt::Effect as Done;

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

    /// The value of a secret that may be placed or seen.
    fn held(&self, name: &str) -> Result<Secret, Gone> {
        let is_granted = self.seen.iter().chain(&self.placed).any(|granted| granted == name);
        if is_granted { self.store.get(name).map_err(Gone::Missing) } else { Err(Gone::NotGranted) }
    }

    pub(super) fn permissions(&self) -> impl Iterator<Item = String> {
        self.seen.iter().map(|name| format!("may see the value of the secret `{name}`"))
    }

    /// The value of one that may be seen.
    fn shown(&self, name: &str) -> Result<Secret, Gone> {
        if self.seen.iter().any(|granted| granted == name) { self.held(name) } else { Err(Gone::NotGranted) }
    }
}

/// Why there is no value for a plugin.
enum Gone {
    NotGranted,
    /// What is wrong with it.
    Missing(String),
}

impl Session {
    fn unavailable(&mut self, name: &str, gone: &Gone) -> SecretError {
        let connector = &self.grants.subject.name;
        let key = format!("connectors.{connector}.allow.secrets");
        match gone {
            Gone::NotGranted => {
                let text = format!(
                    "the plugin asks for a secret: give it a place with `placeholders` of an http grant, or add it to `{key}` if the plugin may see it"
                );
                self.refuse(Effect::Secret, "not_granted", &key, &text);
            }
            Gone::Missing(problem) => {
                let (text, subject) = (format!("the secret `{name}` has no value: {problem}"), Effect::Secret.label());
                self.grants.services.metrics.denied(connector, Effect::Secret, "missing");
                let refused =
                    Refused { kind: Kind::Unusable, connector, subject, reason: "missing", key: &key, text: &text };
                self.grants.services.audit.refused(&refused);
            }
        }
        SecretError::Unavailable(format!("secret `{name}` is not available: `{key}` would grant it"))
    }
}

impl Host for Session {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<SecretHandle>, SecretError>> {
        if let Err(gone) = self.grants.secrets.held(&name) {
            return Ok(Err(self.unavailable(&name, &gone)));
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
        let value = match self.grants.secrets.shown(&name) {
            Ok(value) => value,
            Err(gone) => return Ok(Err(self.unavailable(&name, &gone))),
        };
        let (connector, services) = (&self.grants.subject.name, &self.grants.services);
        services.audit.secret_used(connector, &name, &format!("connectors.{connector}.allow.secrets"));
        self.recorder.add(Done::Secret { name });
        Ok(Ok(value.expose().to_vec()))
    }
}
