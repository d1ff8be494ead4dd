//! The connector's `config` table from the operator's TOML, as a type.

use serde::de::DeserializeOwned;

use crate::{Failure, host};

/// The key under which the host keeps the whole table, as JSON.
const WHOLE_TABLE: &str = "$";

/// The whole `config` table. It does not change while a sandbox lives; a missing table is an empty one.
///
/// ```
/// use bulkhead_sdk::prelude::*;
/// use bulkhead_sdk::testing::Host;
///
/// #[derive(serde::Deserialize)]
/// struct Config { repo: String }
///
/// let _host = Host::new().config(serde_json::json!({"repo": "acme/shop"})).install();
/// let config: Config = config::load()?;
/// assert_eq!(config.repo, "acme/shop");
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A rejection that names the key, when the table is not of that shape.
pub fn load<T: DeserializeOwned>() -> Result<T, Failure> {
    let table = host::config(WHOLE_TABLE).map_err(|error| Failure::retry(format!("config: {error}")))?;
    serde_json::from_str(table.as_deref().unwrap_or("{}")).map_err(|error| Failure::reject(format!("config: {error}")))
}
