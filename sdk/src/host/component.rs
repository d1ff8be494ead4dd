//! The host's side in a plugin: the component's imports.
//!
//! Converts between the SDK's types and the generated ones by moving; the connector's one bucket is opened once a sandbox.

use std::cell::OnceCell;
use std::time::{Duration, SystemTime};

use super::Change;
use crate::bindings::imports::bulkhead::connector::{http as gate, metrics, queue, reveal, secrets, trace};
use crate::bindings::imports::wasi::config::store as config_store;
use crate::bindings::imports::wasi::keyvalue::{atomics, store};
use crate::bindings::imports::wasi::logging::logging;
use crate::http::{ErrorKind, Request, Response};
use crate::message::milliseconds;
use crate::trace::Value;
use crate::{Draft, Failure};

/// How often a swap is tried again after somebody else was quicker.
const SWAPS_MAX: u32 = 16;

#[allow(clippy::disallowed_methods, reason = "in a component the clock is the host's")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn config(key: &str) -> Result<Option<String>, String> {
    config_store::get(key).map_err(|error| match error {
        config_store::Error::Upstream(text) | config_store::Error::Io(text) => text,
    })
}

pub(crate) fn publish(queue: &str, drafts: Vec<Draft>) -> Result<Vec<String>, crate::queue::Error> {
    let drafts: Vec<_> = drafts.into_iter().map(sent_draft).collect();
    queue::publish(queue, &drafts).map_err(|error| match error {
        queue::PublishError::Denied(text) => crate::queue::Error::Denied(text),
        queue::PublishError::Invalid(text) => crate::queue::Error::Invalid(text),
        queue::PublishError::Full(text) => crate::queue::Error::Full(text),
    })
}

pub(crate) fn send(request: Request) -> Result<Response, ErrorKind> {
    received(gate::send(&sent_request(request)))
}

pub(crate) fn send_all(requests: Vec<Request>) -> Vec<Result<Response, ErrorKind>> {
    let requests: Vec<_> = requests.into_iter().map(sent_request).collect();
    gate::send_all(&requests).into_iter().map(received).collect()
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, String> {
    with_bucket(|bucket| bucket.get(key))
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), String> {
    with_bucket(|bucket| bucket.set(key, value))
}

pub(crate) fn state_delete(key: &str) -> Result<(), String> {
    with_bucket(|bucket| bucket.delete(key))
}

pub(crate) fn state_keys() -> Result<Vec<String>, String> {
    with_bucket(|bucket| {
        let mut page = bucket.list_keys(None)?;
        let mut keys = page.keys;
        while let Some(cursor) = page.cursor {
            page = bucket.list_keys(Some(&cursor))?;
            keys.append(&mut page.keys);
        }
        Ok(keys)
    })
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, String> {
    with_bucket(|bucket| atomics::increment(bucket, key, delta))
}

pub(crate) fn state_swap(key: &str, change: Change) -> Result<(), Failure> {
    let unavailable = |error: String| Failure::retry(format!("state `{key}`: {error}"));
    let mut swap = with_bucket(|bucket| atomics::Cas::new(bucket, key)).map_err(unavailable)?;
    for _ in 0..SWAPS_MAX {
        let current = swap.current().map_err(|error| unavailable(store_error(error)))?;
        let value = change(current)?;
        match atomics::swap(swap, &value) {
            Ok(()) => return Ok(()),
            Err(atomics::CasError::CasFailed(newer)) => swap = newer,
            Err(atomics::CasError::StoreError(error)) => return Err(unavailable(store_error(error))),
        }
    }
    Err(unavailable("changed by others again and again".to_owned()))
}

/// A secret that the host holds.
#[derive(Debug)]
pub(crate) struct SecretHandle(secrets::Secret);

impl SecretHandle {
    pub(crate) fn placeholder(&self) -> String {
        self.0.placeholder()
    }

    pub(crate) fn reveal(&self) -> Result<Vec<u8>, crate::secrets::Error> {
        reveal::reveal(&self.0).map_err(|secrets::SecretError::Unavailable(text)| crate::secrets::Error(text))
    }
}

pub(crate) fn secret(name: &str) -> Result<SecretHandle, crate::secrets::Error> {
    secrets::get(name).map(SecretHandle).map_err(|secrets::SecretError::Unavailable(text)| crate::secrets::Error(text))
}

pub(crate) fn count(name: &str, value: u64, labels: &[(&str, &str)]) {
    metrics::count(name, value, &owned(labels));
}

pub(crate) fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) {
    metrics::gauge(name, value, &owned(labels));
}

pub(crate) fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    metrics::observe(name, value, &owned(labels));
}

pub(crate) fn set_attribute(key: &str, value: Value) {
    trace::set_attribute(key, &said(value));
}

pub(crate) fn add_event(name: &str, attributes: Vec<(&str, Value)>) {
    let attributes: Vec<_> = attributes.into_iter().map(|(key, value)| (key.to_owned(), said(value))).collect();
    trace::add_event(name, &attributes);
}

fn said(value: Value) -> trace::Value {
    match value {
        Value::Text(text) => trace::Value::Text(text),
        Value::Integer(number) => trace::Value::Integer(number),
        Value::Number(number) => trace::Value::Number(number),
        Value::Boolean(is) => trace::Value::Boolean(is),
    }
}

pub(crate) fn log(level: log::Level, context: &str, message: &str) {
    let level = match level {
        log::Level::Trace => logging::Level::Trace,
        log::Level::Debug => logging::Level::Debug,
        log::Level::Info => logging::Level::Info,
        log::Level::Warn => logging::Level::Warn,
        log::Level::Error => logging::Level::Error,
    };
    logging::log(level, context, message);
}

fn with_bucket<T>(work: impl FnOnce(&store::Bucket) -> Result<T, store::Error>) -> Result<T, String> {
    thread_local! {
        static BUCKET: OnceCell<store::Bucket> = const { OnceCell::new() };
    }
    BUCKET.with(|cell| {
        if cell.get().is_none() {
            let _ = cell.set(store::open("default").map_err(store_error)?);
        }
        let bucket = cell.get().expect("the bucket was opened just now");
        work(bucket).map_err(store_error)
    })
}

fn store_error(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no such store".to_owned(),
        store::Error::AccessDenied => "access denied".to_owned(),
        store::Error::Other(text) => text,
    }
}

fn sent_draft(draft: Draft) -> queue::Draft {
    queue::Draft {
        id: draft.id,
        cause: draft.cause,
        key: draft.key,
        headers: draft.headers,
        body: draft.body,
        delay_ms: draft.delay_ms,
        expires_ms: draft.expires_ms,
    }
}

fn sent_request(request: Request) -> gate::Request {
    gate::Request {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: request.body,
        timeout_ms: request.timeout.map(milliseconds),
    }
}

fn received(answer: Result<gate::Response, gate::HttpError>) -> Result<Response, ErrorKind> {
    match answer {
        Ok(answer) => {
            let mut response = Response::new(answer.status);
            response.headers = answer.headers;
            response.body = answer.body;
            Ok(response)
        }
        Err(gate::HttpError::Denied(text)) => Err(ErrorKind::Denied(text)),
        Err(gate::HttpError::Invalid(text)) => Err(ErrorKind::Invalid(text)),
        Err(gate::HttpError::Held(delay_ms)) => Err(ErrorKind::Held(Duration::from_millis(delay_ms))),
        Err(gate::HttpError::Unreachable(text)) => Err(ErrorKind::Unreachable(text)),
        Err(gate::HttpError::Interrupted(text)) => Err(ErrorKind::Interrupted(text)),
        Err(gate::HttpError::TooLarge(text)) => Err(ErrorKind::TooLarge(text)),
    }
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
