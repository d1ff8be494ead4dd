//! What happens in the host, as it happens: server-sent events, for as long as the host runs and the reader stays.
//!
//! What is told, and to how many, is decided in [`crate::feed`]. Invariant: a reader that takes nothing holds nobody up:
//! what it was too slow for is lost to it alone, and it is told.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

use super::query::Asked;
use super::{Problem, malformed, number};
use crate::admin::{Admin, STOPPING_RETRY_SECONDS};
use crate::feed::{Filter, Kind, NoSeat, Reader};

/// A sign of life where nothing happens: what stands between closes a connection that is silent for a minute.
const SIGN_EVERY: Duration = Duration::from_secs(15);
/// Seconds after which another reader may have gone.
const TAKEN_RETRY_SECONDS: u64 = 5;
/// What comes first, so that a reader knows that from now on it misses nothing.
const FIRST: &str = ": what happens from now on\n\n";

/// `?kinds=delivery,held&connector=NAME`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Only these, with commas between them: `delivery`, `held`, `log`, `audit`, `reload`.
    kinds: Option<String>,
    /// Only what is about this connector.
    connector: Option<String>,
}

impl Wish {
    fn filter(self) -> Result<Filter, Problem> {
        let kinds = self.kinds.as_deref().map_or(Ok(Vec::new()), |kinds| kinds.split(',').map(kind).collect())?;
        Ok(Filter { kinds, connector: self.connector })
    }
}

fn kind(text: &str) -> Result<Kind, Problem> {
    let found = Kind::ALL.into_iter().find(|kind| kind.label() == text);
    found.ok_or_else(|| {
        let known = Kind::ALL.map(|kind| format!("`{}`", kind.label())).join(", ");
        malformed(format!("`kinds` are among {known}, with commas between them; `{text}` is none"))
    })
}

pub(super) async fn follow(State(admin): State<Admin>, Asked(wish): Asked<Wish>) -> Result<Response, Problem> {
    wish.connector.as_deref().map(|name| number(&admin, name)).transpose()?;
    let reader = admin.feed.follow(wish.filter()?).map_err(|no_seat| {
        let seconds = match no_seat {
            NoSeat::Taken => TAKEN_RETRY_SECONDS,
            NoSeat::Closed => STOPPING_RETRY_SECONDS,
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, no_seat.to_string()).retry_after(seconds)
    })?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    let frames = stream::unfold((reader, true), |(reader, is_first)| async move {
        let frame = if is_first { FIRST.to_owned() } else { next(&reader).await? };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(frame)), (reader, false)))
    });
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// The next event as it is sent, or a sign of life; nothing at the end.
async fn next(reader: &Reader) -> Option<String> {
    match timeout(SIGN_EVERY, reader.next()).await {
        Ok(told) => told.map(|told| format!("event: {}\ndata: {}\n\n", told.kind, told.json)),
        Err(_) => Some(":\n\n".to_owned()),
    }
}
