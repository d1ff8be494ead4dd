//! The connector's own state: small values that outlive a sandbox, as JSON under a key.
//!
//! A write is staged: it commits together with the delivery that is being handled, or not at all. A read sees the call's
//! own writes. If another run changed a key meanwhile, the host runs the delivery again, so a value is never silently
//! overwritten. A connector reaches no state but its own.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, host};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The value under `key`, or `None`.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().state("since", "2026-01-01").install();
/// let since: Option<String> = state::get("since")?;
/// assert_eq!(since.as_deref(), Some("2026-01-01"));
/// assert_eq!(state::get::<u64>("count")?, None);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A rejection when the value is not JSON of that shape, a retry when it cannot be read.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Failure> {
    get_bytes(key)?.map(|bytes| parse(key, &bytes)).transpose()
}

/// Writes `value` under `key`.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().install();
/// state::set("count", &3)?;
/// assert_eq!(state::get("count")?, Some(3));
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A rejection when the key or the value is too large, a retry when the host has no room for it.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Failure> {
    set_bytes(key, &serde_json::to_vec(value)?)
}

/// Removes `key`, if it is there.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().state("count", 3).install();
/// state::delete("count")?;
/// assert_eq!(state::get::<u64>("count")?, None);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A retry when the host could not do it.
pub fn delete(key: &str) -> Result<(), Failure> {
    host::state_delete(key).map_err(|error| unavailable(key, &error))
}

/// Every key, in no particular order. With this a run depends on every key: use it sparingly.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().state("a", 1).install();
/// assert_eq!(state::keys()?, ["a"]);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A retry when they cannot be read.
pub fn keys() -> Result<Vec<String>, Failure> {
    host::state_keys().map_err(|error| Failure::retry(format!("state: {error}")))
}

/// Replaces the value under `key` by what `change` makes of it, as one step; answers the new value.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().state("seen", vec!["a"]).install();
/// let seen: Vec<String> = state::update("seen", |seen: Option<Vec<String>>| {
///     let mut seen = seen.unwrap_or_default();
///     seen.push("b".into());
///     seen
/// })?;
/// assert_eq!(seen, ["a", "b"]);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// As [`get`] and [`set`].
pub fn update<T: Serialize + DeserializeOwned>(key: &str, change: impl Fn(Option<T>) -> T) -> Result<T, Failure> {
    check_key(key)?;
    let mut changed = None;
    host::state_swap(key, &mut |current| {
        let value = change(current.map(|bytes| parse(key, &bytes)).transpose()?);
        let bytes = serde_json::to_vec(&value)?;
        check_value(key, &bytes)?;
        changed = Some(value);
        Ok(bytes)
    })?;
    changed.ok_or_else(|| Failure::retry(format!("state `{key}`: not changed")))
}

/// Adds `delta` to the whole number under `key` (0 if there is none) as one step; answers the sum.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().install();
/// state::increment("runs", 1)?;
/// assert_eq!(state::increment("runs", 2)?, 3);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A retry when the value is not a whole number or the host could not do it.
pub fn increment(key: &str, delta: i64) -> Result<i64, Failure> {
    check_key(key)?;
    host::state_increment(key, delta).map_err(|error| unavailable(key, &error))
}

/// The bytes under `key`, for values that are not JSON.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().install();
/// state::set_bytes("etag", b"\"33a64\"")?;
/// assert_eq!(state::get_bytes("etag")?.as_deref(), Some(b"\"33a64\"".as_slice()));
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A retry when it cannot be read.
pub fn get_bytes(key: &str) -> Result<Option<Vec<u8>>, Failure> {
    host::state_get(key).map_err(|error| unavailable(key, &error))
}

/// Writes bytes under `key`, for values that are not JSON.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().install();
/// assert!(state::set_bytes(&"k".repeat(600), b"").is_err());
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// A rejection when the key or the value is too large, a retry when the host has no room for it.
pub fn set_bytes(key: &str, value: &[u8]) -> Result<(), Failure> {
    check_key(key)?;
    check_value(key, value)?;
    host::state_set(key, value).map_err(|error| unavailable(key, &error))
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::reject(format!("state `{key}`: {error}")))
}

fn check_key(key: &str) -> Result<(), Failure> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Failure::reject(format!("a state key of {} bytes: at most {KEY_BYTES_MAX}", key.len())));
    }
    Ok(())
}

fn check_value(key: &str, value: &[u8]) -> Result<(), Failure> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Failure::reject(format!("state `{key}`: {} bytes, at most {VALUE_BYTES_MAX}", value.len())));
    }
    Ok(())
}

fn unavailable(key: &str, error: &str) -> Failure {
    Failure::retry(format!("state `{key}`: {error}"))
}
