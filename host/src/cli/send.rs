//! `bulkhead send`: messages from the command line into a queue, on disk before it returns.
//!
//! Invariant: an error says what was accepted all the same, so that nobody has to guess what to send again.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::lines::{self, Piece};
use super::main::Failed;
use super::output::{counted, print};
use super::target::Target;
use super::{Body, Send};
use crate::admin::api::{Incoming, malformed};
use crate::config::{Config, closest};
use crate::limit::MESSAGE_BYTES_MAX;
use crate::message::{self, Header};
use crate::plugin_store::{self, ReadError};

/// Sends what the arguments say.
///
/// # Errors
/// The queue is unknown or full, the input cannot be read, or the disk is full. What was accepted before stays accepted.
pub async fn run(config: &Config, arguments: Send, as_json: bool) -> Result<(), Failed> {
    let queue = arguments.queue.as_str();
    let Some(policy) = config.queues.get(queue) else {
        let known: Vec<&str> = config.queues.keys().map(AsRef::as_ref).collect();
        let suggestion = closest(queue, known).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
        let text = format!("no connector in the configuration names queue `{queue}`{suggestion}");
        return Err(Failed::Unusable(anyhow::Error::msg(text)));
    };
    // They are the same for every message; an id that is not given is made, and well-formed.
    message::check(arguments.id.as_deref().unwrap_or("made"), arguments.key.as_deref(), &arguments.headers)
        .map_err(|what| anyhow::Error::from(malformed(format!("the message is not accepted: {what}"))))?;
    let target = Target::find(config)?;
    let sent = if arguments.lines {
        send_lines(&target, &arguments, policy.message_bytes).await
    } else {
        send_body(&target, &arguments).await.map_err(Failed::from)
    };
    target.close();
    let ids = sent?;
    let text = if as_json {
        (serde_json::json!({ "ids": ids })).to_string()
    } else if arguments.lines {
        format!("{} accepted", counted(ids.len(), "message"))
    } else {
        ids.join("\n")
    };
    Ok(print(&text)?)
}

async fn send_body(target: &Target, arguments: &Send) -> anyhow::Result<Vec<String>> {
    let body = read_body(arguments.body.as_ref().unwrap_or(&Body::Stdin))?;
    let message = Incoming { id: arguments.id.clone(), ..incoming(arguments, body) };
    target.send(arguments.queue.as_str(), vec![message]).await
}

/// The bytes of a body from where the argument says; no more than any message may have.
pub(super) fn read_body(body: &Body) -> anyhow::Result<Vec<u8>> {
    match body {
        Body::Text(text) => Ok(text.clone().into_bytes()),
        Body::File(path) => read_file(path),
        Body::Stdin => read_all(std::io::stdin().lock()),
    }
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let refuse = |error: ReadError| match error {
        // Its own text speaks of plugins.
        ReadError::TooLarge { path, .. } => format!("`{}` is larger than any message may be", path.display()),
        error => format!("cannot read the body: {error}"),
    };
    Ok(plugin_store::read(path, MESSAGE_BYTES_MAX).map_err(|error| malformed(refuse(error)))?)
}

fn read_all(input: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    input.take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut body).context("cannot read standard input")?;
    if body.len() as u64 > MESSAGE_BYTES_MAX {
        return Err(malformed("standard input holds more than any message may".to_owned()).into());
    }
    Ok(body)
}

/// Reads ahead while earlier pieces are on their way to the disk.
async fn send_lines(target: &Target, arguments: &Send, bytes_max: u64) -> Result<Vec<String>, Failed> {
    let mut pieces = lines::read(bytes_max)?;
    let mut ids = Vec::new();
    let mut failed = None;
    let mut on_their_way = FuturesOrdered::new();
    while failed.is_none() {
        tokio::select! {
            biased;
            Some(accepted) = on_their_way.next(), if !on_their_way.is_empty() => match accepted {
                Ok(accepted) => ids.extend(accepted),
                Err(error) => failed = Some(error),
            },
            piece = pieces.recv(), if on_their_way.len() < target.pieces_at_once() => match piece {
                Some(Ok(piece)) => on_their_way.push_back(send_piece(target, arguments, piece)),
                Some(Err(error)) => failed = Some(error),
                None => break,
            },
        }
    }
    // Pieces behind one that was refused are on their way already: they count, and the first error is the one to tell.
    while let Some(accepted) = on_their_way.next().await {
        match accepted {
            Ok(accepted) => ids.extend(accepted),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => Ok(ids),
        Some(error) if ids.is_empty() => Err(error.into()),
        Some(error) => {
            let accepted = counted(ids.len(), "message");
            let were = if ids.len() == 1 { "was" } else { "were" };
            Err(Failed::Broken(error.context(format!("{accepted} {were} accepted, not all"))))
        }
    }
}

async fn send_piece(target: &Target, arguments: &Send, piece: Piece) -> anyhow::Result<Vec<String>> {
    let Piece { lines, first, last } = piece;
    let messages = lines.into_iter().map(|line| incoming(arguments, line)).collect();
    let sent = target.send(arguments.queue.as_str(), messages).await;
    sent.with_context(|| format!("lines {first} to {last} were not accepted"))
}

fn incoming(arguments: &Send, body: Vec<u8>) -> Incoming {
    let headers: Vec<Header> = arguments.headers.clone();
    Incoming { key: arguments.key.clone(), headers, ..Incoming::from_bytes(body) }
}
