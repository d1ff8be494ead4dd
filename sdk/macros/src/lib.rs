//! Macros of `bulkhead-sdk`. Use them through that crate, which documents them.

mod export;

use proc_macro::TokenStream;

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
#[proc_macro]
pub fn export(input: TokenStream) -> TokenStream {
    syn::parse_macro_input!(input as export::Export).expand().into()
}
