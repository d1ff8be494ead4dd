//! Write Bulkhead connectors in Rust.
//!
//! A connector is a type that implements [`Consumer`], [`BatchConsumer`], [`Scheduled`] or [`Webhook`], and one
//! [`export!`] that says which. Everything else is plain functions: [`config::load`], [`state::get`], [`http::get`],
//! [`queue::publish`], the log macros. Errors become a [`Failure`] by `?`, each mapped to *try again* or *never*.
//!
//! ```
//! use bulkhead_sdk::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Config {
//!     /// Owner and name, as in `acme/shop`.
//!     repo: String,
//! }
//!
//! #[derive(Deserialize, Serialize)]
//! struct Issue {
//!     id: u64,
//!     updated_at: String,
//! }
//!
//! /// Polls a repository's issues and publishes each change.
//! struct Issues;
//!
//! impl Scheduled for Issues {
//!     fn run(_tick: Tick) -> Result<(), Failure> {
//!         let config: Config = config::load()?;
//!         let since: Option<String> = state::get("since")?;
//!         let issues: Vec<Issue> = http::get(format!("https://api.github.com/repos/{}/issues", config.repo))
//!             .query("since", since.unwrap_or_default()).send()?.json()?;
//!         for issue in &issues { queue::publish("issues", Draft::json(issue)?.key(&issue.id))?; }
//!         state::set("since", &newest(&issues))
//!     }
//! }
//! export!(Issues: Scheduled, config = Config, wants = [r#"publish = ["issues"]"#]);
//!
//! fn newest(issues: &[Issue]) -> Option<&str> {
//!     issues.iter().map(|issue| issue.updated_at.as_str()).max()
//! }
//! # fn main() {}
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` and a `Cargo.toml` that says:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]   # the second lets `cargo test` run natively
//!
//! [dependencies]
//! bulkhead-sdk = "0.1"
//! schemars = "1"
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! In unit tests the host is [`testing::Host`].

pub mod about;
#[cfg(target_arch = "wasm32")]
mod adapter;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
pub mod config;
mod connector;
mod failure;
mod host;
pub mod http;
pub mod log;
mod message;
pub mod metrics;
pub mod prelude;
pub mod queue;
pub mod secrets;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod trace;
pub mod webhook;

/// Exports a connector from the plugin: `export!(Type: Trait, …, option = …)`.
///
/// The traits are `Consumer`, `BatchConsumer`, `Scheduled` and `Webhook`; the component exports these interfaces, and
/// `about`, and no others. Everything in `about` has a default that an option replaces:
///
/// | option | default |
/// | --- | --- |
/// | a doc comment before the type, or `summary = "…"` | `description` of `Cargo.toml` |
/// | `name = "…"` | the crate's name |
/// | `config = Type` | no schema; the type must implement `schemars::JsonSchema` |
/// | `wants = ["…", …]` | nothing; the grants that it needs, as the operator would write them in `allow` |
///
/// The version is always the crate's.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Config {
///     queue: String,
/// }
///
/// struct Copies;
///
/// impl Consumer for Copies {
///     fn handle(message: Message) -> Result<(), Failure> {
///         queue::publish(&config::load::<Config>()?.queue, message.into())?;
///         Ok(())
///     }
/// }
///
/// impl Scheduled for Copies {
///     fn run(tick: Tick) -> Result<(), Failure> {
///         info!("alive at {}", tick.planned_at_ms);
///         Ok(())
///     }
/// }
///
/// export!(
///     /// Copies every message to another queue.
///     Copies: Consumer, Scheduled,
///     config = Config,
///     wants = [r#"publish = ["QUEUE"]"#],
/// );
/// # fn main() {}
/// ```
pub use bulkhead_sdk_macros::export;
pub use connector::{BatchConsumer, Consumer, Scheduled, Tick, Webhook};
pub use failure::{Failure, OrFail};
pub use message::{Draft, Header, Message};

/// What the expansion of [`export!`] needs; no part of the interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::adapter::{Adapter, Describe};
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings;
}
