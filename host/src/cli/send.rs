//! `bulkhead send`: messages from the command line into a queue, on disk before it returns.

use std::io::{BufRead, Read};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::main::Failed;
use super::output::print;
use super::target::Target;
use super::{Body, Send};
use crate::admin::api::Incoming;
use crate::config::{Config, closest};
use crate::message::Header;

/// Messages of one piece of the input.
const PIECE_MESSAGES: usize = 4_096;
/// Bytes of one piece of the input: the reader is ahead of the disk by a few of them.
const PIECE_BYTES: usize = 4 << 20;
/// Pieces on their way to the disk at once.
const PIECES_AT_ONCE: usize = 3;

/// Sends what the arguments say.
///
/// # Errors
/// The queue is unknown or full, the input cannot be read, or the disk is full. What was accepted before stays accepted.
pub async fn run(config: &Config, arguments: Send, as_json: bool) -> Result<(), Failed> {
    let queue = arguments.queue.as_str();
    if !config.queues.contains_key(queue) {
        let known: Vec<&str> = config.queues.keys().map(AsRef::as_ref).collect();
        let suggestion = closest(queue, known).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
        let text = format!("no connector in the configuration names queue `{queue}`{suggestion}");
        return Err(Failed::Unusable(anyhow::Error::msg(text)));
    }
    let target = Target::find(config)?;
    let sent = if arguments.lines {
        send_lines(&target, &arguments, std::io::stdin().lock()).await
    } else {
        send_body(&target, &arguments).await
    };
    target.close();
    let ids = sent?;
    let text = if as_json {
        (serde_json::json!({ "ids": ids })).to_string()
    } else if arguments.lines {
        format!("{} messages accepted", ids.len())
    } else {
        ids.join("\n")
    };
    Ok(print(&text)?)
}

async fn send_body(target: &Target, arguments: &Send) -> anyhow::Result<Vec<String>> {
    let body = match &arguments.body {
        Some(Body::Text(text)) => text.clone().into_bytes(),
        Some(Body::File(path)) => crate::plugin_store::read(path)?,
        Some(Body::Stdin) | None => read_all(std::io::stdin().lock())?,
    };
    let message = Incoming { id: arguments.id.clone(), ..incoming(arguments, body) };
    target.send(arguments.queue.as_str(), vec![message]).await
}

fn read_all(mut input: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let most = crate::limit::MESSAGE_BYTES_MAX + 1;
    input.by_ref().take(most).read_to_end(&mut body).context("cannot read standard input")?;
    ensure!((body.len() as u64) < most, "the body is larger than any message may be");
    Ok(body)
}

/// Reads ahead while earlier pieces are on their way to the disk.
async fn send_lines(target: &Target, arguments: &Send, mut input: impl BufRead) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut on_their_way = FuturesOrdered::new();
    loop {
        let piece = read_piece(&mut input, arguments)?;
        if piece.is_empty() {
            break;
        }
        on_their_way.push_back(target.send(arguments.queue.as_str(), piece));
        while on_their_way.len() >= PIECES_AT_ONCE {
            ids.extend(on_their_way.next().await.transpose()?.unwrap_or_default());
        }
    }
    while let Some(accepted) = on_their_way.next().await {
        ids.extend(accepted?);
    }
    Ok(ids)
}

fn read_piece(input: &mut impl BufRead, arguments: &Send) -> anyhow::Result<Vec<Incoming>> {
    let mut piece = Vec::new();
    let mut bytes = 0;
    while piece.len() < PIECE_MESSAGES && bytes < PIECE_BYTES {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line).context("cannot read standard input")?;
        if read == 0 {
            break;
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        if line.ends_with(b"\r") {
            line.pop();
        }
        if !line.is_empty() {
            bytes += line.len();
            piece.push(incoming(arguments, line));
        }
    }
    Ok(piece)
}

fn incoming(arguments: &Send, body: Vec<u8>) -> Incoming {
    let headers: Vec<Header> = arguments.headers.clone();
    Incoming { key: arguments.key.clone(), headers, ..Incoming::from_bytes(body) }
}
