//! A host in memory, for unit tests of connectors with plain `cargo test`.
//!
//! It keeps what a connector publishes, writes and sends in this thread, grants everything and limits nothing: what the
//! real host refuses is tested with the real host. Only in native builds.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::about::schema_of;
use crate::http::{ErrorKind, Request, Response};
use crate::{Draft, queue};

type Responder = Rc<dyn Fn(&Request) -> Result<Response, ErrorKind>>;

thread_local! {
    static INSTALLED: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// The host of a test: set it up, [`install`](Self::install) it, run the connector, look at what it did.
///
/// ```
/// use bulkhead_sdk::prelude::*;
/// use bulkhead_sdk::testing::Host;
///
/// struct Copy;
/// impl Consumer for Copy {
///     fn handle(message: Message) -> Result<(), Failure> {
///         queue::publish("copies", message.into())?;
///         Ok(())
///     }
/// }
///
/// let host = Host::new().install();
/// Copy::handle(Message { body: b"a".to_vec(), ..Message::default() })?;
/// assert_eq!(host.published("copies"), [Draft::new("a")]);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Default)]
pub struct Host(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    config: Option<Value>,
    state: BTreeMap<String, Vec<u8>>,
    secrets: HashMap<String, String>,
    full: Vec<String>,
    published: Vec<(String, Draft)>,
    requests: Vec<Request>,
    metrics: Vec<String>,
    trace: Vec<String>,
    responder: Option<Responder>,
}

/// An installed [`Host`], until it is dropped. It derefs to the host, to look at what the connector did.
///
/// ```
/// use bulkhead_sdk::testing::Host;
///
/// let host = Host::new().install();
/// assert!(host.requests().is_empty());
/// ```
pub struct Installed(Host);

impl std::ops::Deref for Installed {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        INSTALLED.with(|installed| installed.borrow_mut().take());
    }
}

impl Host {
    /// A host with nothing in it, which answers every request with 404.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// let _host = Host::new().install();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The connector's `config` table.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// let _host = Host::new().config(serde_json::json!({"repo": "acme/shop"})).install();
    /// ```
    ///
    /// # Panics
    /// When the table has no JSON form.
    #[must_use]
    pub fn config(self, table: impl Serialize) -> Self {
        let table = serde_json::to_value(table).expect("a test's config has a JSON form");
        self.0.borrow_mut().config = Some(table);
        self
    }

    /// A value of the connector's state.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// let _host = Host::new().state("since", "2026-01-01").install();
    /// ```
    ///
    /// # Panics
    /// When the value has no JSON form.
    #[must_use]
    pub fn state(self, key: &str, value: impl Serialize) -> Self {
        let bytes = serde_json::to_vec(&value).expect("a test's state has a JSON form");
        self.0.borrow_mut().state.insert(key.to_owned(), bytes);
        self
    }

    /// A secret that is granted.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// let _host = Host::new().secret("token", "s3cret").install();
    /// ```
    #[must_use]
    pub fn secret(self, name: &str, value: &str) -> Self {
        self.0.borrow_mut().secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A queue that is at its bound.
    ///
    /// ```
    /// # use bulkhead_sdk::{prelude::*, testing::Host};
    /// let _host = Host::new().full("orders").install();
    /// assert!(matches!(queue::publish("orders", Draft::new("x")), Err(queue::Error::Full(_))));
    /// ```
    #[must_use]
    pub fn full(self, queue: &str) -> Self {
        self.0.borrow_mut().full.push(queue.to_owned());
        self
    }

    /// What answers the connector's HTTP requests.
    ///
    /// ```
    /// # use bulkhead_sdk::{prelude::*, testing::Host};
    /// let _host = Host::new().respond(|request| match request.url() {
    ///     "https://a.example/" => Ok(http::Response::new(200)),
    ///     _ => Err(http::ErrorKind::Denied("add it to allow.http".into())),
    /// }).install();
    /// assert_eq!(http::get("https://a.example/").send()?.status(), 200);
    /// # Ok::<(), Failure>(())
    /// ```
    #[must_use]
    pub fn respond(self, responder: impl Fn(&Request) -> Result<Response, ErrorKind> + 'static) -> Self {
        self.0.borrow_mut().responder = Some(Rc::new(responder));
        self
    }

    /// Makes it the host of this thread until the answer is dropped.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// let _host = Host::new().install();
    /// ```
    #[must_use]
    pub fn install(self) -> Installed {
        INSTALLED.with(|installed| installed.borrow_mut().replace(self.clone()));
        Installed(self)
    }

    /// What the connector published to `queue`, in order.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// assert!(Host::new().install().published("orders").is_empty());
    /// ```
    #[must_use]
    pub fn published(&self, queue: &str) -> Vec<Draft> {
        let inner = self.0.borrow();
        inner.published.iter().filter(|(name, _)| name == queue).map(|(_, draft)| draft.clone()).collect()
    }

    /// What the connector sent, in order.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// assert!(Host::new().install().requests().is_empty());
    /// ```
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().requests.clone()
    }

    /// The connector's state under `key`, as the test's own type.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// assert_eq!(Host::new().install().value::<u64>("count"), None);
    /// ```
    ///
    /// # Panics
    /// When the value is not of that shape.
    #[must_use]
    pub fn value<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.entry(key)
            .map(|bytes| serde_json::from_slice(&bytes).expect("the state has the shape that the test asks for"))
    }

    /// What the connector counted and measured, a line each.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// assert!(Host::new().install().metrics().is_empty());
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Vec<String> {
        self.0.borrow().metrics.clone()
    }

    /// What the connector added to its trace, a line each.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::Host;
    /// assert!(Host::new().install().trace().is_empty());
    /// ```
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.0.borrow().trace.clone()
    }

    pub(crate) fn config_text(&self, key: &str) -> Option<String> {
        let inner = self.0.borrow();
        let table = inner.config.as_ref()?;
        if key == "$" { Some(table.to_string()) } else { table.get(key).map(bare_text) }
    }

    pub(crate) fn stage(&self, queue: &str, drafts: Vec<Draft>) -> Result<Vec<String>, queue::Error> {
        let mut inner = self.0.borrow_mut();
        if inner.full.iter().any(|full| full == queue) {
            return Err(queue::Error::Full(format!("queue `{queue}` is full")));
        }
        let first = inner.published.len();
        let ids = drafts
            .iter()
            .enumerate()
            .map(|(ordinal, draft)| draft.id.clone().unwrap_or_else(|| format!("id-{}", first + ordinal)));
        let ids = ids.collect();
        inner.published.extend(drafts.into_iter().map(|draft| (queue.to_owned(), draft)));
        Ok(ids)
    }

    pub(crate) fn answer(&self, request: Request) -> Result<Response, ErrorKind> {
        let responder = self.0.borrow().responder.clone();
        self.0.borrow_mut().requests.push(request.clone());
        responder.map_or_else(|| Ok(Response::new(404)), |respond| respond(&request))
    }

    pub(crate) fn entry(&self, key: &str) -> Option<Vec<u8>> {
        self.0.borrow().state.get(key).cloned()
    }

    pub(crate) fn write(&self, key: &str, value: Option<Vec<u8>>) {
        let state = &mut self.0.borrow_mut().state;
        match value {
            Some(value) => state.insert(key.to_owned(), value),
            None => state.remove(key),
        };
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.borrow().state.keys().cloned().collect()
    }

    pub(crate) fn secret_value(&self, name: &str) -> Option<String> {
        self.0.borrow().secrets.get(name).cloned()
    }

    pub(crate) fn note_trace(&self, line: String) {
        self.0.borrow_mut().trace.push(line);
    }

    pub(crate) fn record(&self, line: String) {
        self.0.borrow_mut().metrics.push(line);
    }
}

/// Fails unless the JSON Schema of a config type is the one checked in at `path`; with `UPDATE_SCHEMA=1` in the
/// environment it writes the file instead.
///
/// ```
/// # std::fs::write(std::env::temp_dir().join("bulkhead-doc.schema.json"), bulkhead_sdk::about::schema_of::<Config>() + "\n").unwrap();
/// #[derive(schemars::JsonSchema)]
/// struct Config { repo: String }
///
/// # let path = std::env::temp_dir().join("bulkhead-doc.schema.json");
/// bulkhead_sdk::testing::check_schema::<Config>(&path);
/// ```
///
/// # Panics
/// When they differ, or the file cannot be read or written.
#[allow(clippy::disallowed_methods, reason = "a test runner takes no arguments of ours")]
pub fn check_schema<T: JsonSchema>(path: impl AsRef<Path>) {
    let path = path.as_ref();
    let current = schema_of::<T>() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        return std::fs::write(path, current).expect("the schema can be written");
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        known == current,
        "{} is not the schema of the config type: run the test with UPDATE_SCHEMA=1",
        path.display()
    );
}

/// The host of this thread.
///
/// # Panics
/// When the test installed none.
pub(crate) fn with_installed<T>(work: impl FnOnce(&Host) -> T) -> T {
    let host = INSTALLED.with(|installed| installed.borrow().clone());
    let host = host.expect("outside a host: in a test, install a `bulkhead_sdk::testing::Host` first");
    work(&host)
}

/// A value as the host gives it under its own key: text bare, the rest as JSON.
fn bare_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
