//! What is kept between ticks, in one value of the connector's state.
//!
//! The newest value belongs to the URL of the config, the rest to the whole config: another way to read the same pages
//! must see them again. It is written only when it changed.

use std::collections::BTreeMap;

use bulkhead_sdk::{Failure, config, state};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::page::Position;
use crate::record::hash;
use crate::settings::Config;

/// The key of the connector's state.
const KEY: &str = "http-poll";

/// What is kept between ticks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// What `since` belongs to.
    pub(crate) url: String,
    /// Hash of the config that the rest belongs to.
    pub(crate) config: String,
    /// The newest value that a whole pass has seen.
    pub(crate) since: Option<Value>,
    /// Where a pass that took more than one tick goes on.
    pub(crate) resume: Option<Resume>,
    /// By page URL: what makes an unchanged page cost nothing.
    pub(crate) tags: BTreeMap<String, Tag>,
}

/// A pass that is not at its end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Resume {
    pub(crate) position: Position,
    /// The newest value so far.
    pub(crate) newest: Option<Value>,
}

/// A page that had an `ETag`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Tag {
    pub(crate) etag: String,
    /// The page after it: an answer of 304 does not say.
    pub(crate) next: Option<Position>,
}

impl Progress {
    /// What was kept for this config, or the start that it names.
    pub(crate) fn load(settings: &Config) -> Result<Self, Failure> {
        let kept: Self = state::get(KEY)?.unwrap_or_default();
        let config = hash(config::load::<Value>()?.to_string().as_bytes());
        let url = settings.url.clone();
        if kept.url != url {
            let since = settings.since.as_ref().and_then(|since| since.start.clone());
            return Ok(Self { url, config, since, ..Self::default() });
        }
        if kept.config != config {
            return Ok(Self { url, config, since: kept.since, ..Self::default() });
        }
        Ok(kept)
    }

    /// Keeps it, if it is not what was kept before.
    pub(crate) fn save(&self, before: &Self) -> Result<(), Failure> {
        if self == before { Ok(()) } else { state::set(KEY, self) }
    }
}
