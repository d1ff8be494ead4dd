//! A backup over the API: made and found sound in the data directory, then sent, and nothing of it stays.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::Problem;
use crate::admin::Admin;
use crate::audit::Event;
use crate::backup::Staged;
use crate::ledger::NoRoom;

/// One at a time: each takes the disk of the data directory once more.
pub(super) async fn make(State(admin): State<Admin>) -> Result<Response, Problem> {
    admin.takes_work()?;
    let Ok(alone) = admin.backing_up.clone().try_lock_owned() else {
        return Err(Problem::new(StatusCode::CONFLICT, "another backup is being made: wait for its end"));
    };
    let ledger = admin.ledger.clone();
    // Whoever asked may go before it is made.
    let make = move || {
        let staged = Staged::make(&ledger);
        drop(alone);
        staged
    };
    let staged = tokio::task::spawn_blocking(make).await.map_err(anyhow::Error::from)?;
    let staged = staged.map_err(|error| match error.downcast_ref::<NoRoom>() {
        Some(no_room) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, no_room.to_string()),
        None => error.into(),
    })?;
    let bytes = staged.contents().bytes;
    admin.audit.note(Event::action("backup", &format!("{bytes} bytes")));
    tracing::info!(bytes, "a backup was made");
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"bulkhead.backup\"".to_owned()),
    ];
    Ok((headers, Body::from_stream(stream::unfold(staged, next))).into_response())
}

/// The file waits for the disk.
async fn next(mut staged: Staged) -> Option<(std::io::Result<Bytes>, Staged)> {
    let read = tokio::task::spawn_blocking(move || (staged.chunk().transpose(), staged)).await.ok()?;
    let (chunk, staged) = read;
    Some((chunk?, staged))
}
