//! The host's side in a native build: the [`crate::testing::Host`] that the test of this thread installed.

use std::time::SystemTime;

use super::Change;
use crate::http::{ErrorKind, Request, Response};
use crate::testing::with_installed;
use crate::trace::Value;
use crate::{Draft, Failure};

#[allow(clippy::disallowed_methods, reason = "a test that asks for the time gets the machine's")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn config(key: &str) -> Result<Option<String>, String> {
    Ok(with_installed(|host| host.config_text(key)))
}

pub(crate) fn publish(queue: &str, drafts: Vec<Draft>) -> Result<Vec<String>, crate::queue::Error> {
    with_installed(|host| host.stage(queue, drafts))
}

pub(crate) fn send(request: Request) -> Result<Response, ErrorKind> {
    with_installed(|host| host.answer(request))
}

pub(crate) fn send_all(requests: Vec<Request>) -> Vec<Result<Response, ErrorKind>> {
    requests.into_iter().map(send).collect()
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, String> {
    Ok(with_installed(|host| host.entry(key)))
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), String> {
    with_installed(|host| host.write(key, Some(value.to_vec())));
    Ok(())
}

pub(crate) fn state_delete(key: &str) -> Result<(), String> {
    with_installed(|host| host.write(key, None));
    Ok(())
}

pub(crate) fn state_keys() -> Result<Vec<String>, String> {
    Ok(with_installed(|host| host.keys()))
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, String> {
    let current = match state_get(key)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| "not a whole number".to_owned())?,
        None => 0,
    };
    let sum = i64::checked_add(current, delta).ok_or("the sum is too large")?;
    state_set(key, sum.to_string().as_bytes())?;
    Ok(sum)
}

pub(crate) fn state_swap(key: &str, change: Change) -> Result<(), Failure> {
    let value = change(with_installed(|host| host.entry(key)))?;
    with_installed(|host| host.write(key, Some(value)));
    Ok(())
}

/// A secret of the test's host.
#[derive(Debug)]
pub(crate) struct SecretHandle {
    name: String,
    value: String,
}

impl SecretHandle {
    pub(crate) fn placeholder(&self) -> String {
        format!("bulkhead-placeholder-{}", self.name)
    }

    pub(crate) fn reveal(&self) -> Result<Vec<u8>, crate::secrets::Error> {
        Ok(self.value.clone().into_bytes())
    }
}

pub(crate) fn secret(name: &str) -> Result<SecretHandle, crate::secrets::Error> {
    let value = with_installed(|host| host.secret_value(name));
    let value = value.ok_or_else(|| crate::secrets::Error(format!("secret `{name}` is unavailable")))?;
    Ok(SecretHandle { name: name.to_owned(), value })
}

pub(crate) fn count(name: &str, value: u64, labels: &[(&str, &str)]) {
    record("count", name, value.to_string(), labels);
}

pub(crate) fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) {
    record("gauge", name, value.to_string(), labels);
}

pub(crate) fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    record("observe", name, value.to_string(), labels);
}

pub(crate) fn set_attribute(key: &str, value: Value) {
    with_installed(|host| host.note_trace(format!("{key}={value}")));
}

pub(crate) fn add_event(name: &str, attributes: Vec<(&str, Value)>) {
    let attributes: Vec<_> = attributes.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    with_installed(|host| host.note_trace(format!("{name}{{{}}}", attributes.join(","))));
}

fn record(kind: &str, name: &str, value: String, labels: &[(&str, &str)]) {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    with_installed(|host| host.record(format!("{kind} {name}{{{}}} {value}", labels.join(","))));
}
