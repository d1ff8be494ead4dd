//! `bulkhead reload` and `bulkhead check --against`: the running host reads its configuration again, or says what that
//! would change.
//!
//! The host reads the files that it was started with. Only what it answers is shown.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::main::{Failed, Outcome, complain, complain_of};
use super::output::{plain, print};
use super::unusable;
use crate::config::{Config, Problem};
use crate::egress::own_admin::{OwnAdmin, Refused};
use crate::host::Change;
use crate::ledger::Ledger;
use crate::secret_store::token;

/// Has the host read its configuration again.
///
/// # Errors
/// No host answers, or it cannot do it.
pub async fn run(config: &Config, as_json: bool) -> Outcome {
    told("reload", config, config.host.admin, as_json).await
}

/// Says what a reload would change in the host at `address`.
///
/// # Errors
/// No host answers, or it cannot say.
pub async fn check(config: &Config, address: SocketAddr, as_json: bool) -> Outcome {
    told("check", config, address, as_json).await
}

async fn told(verb: &str, config: &Config, address: SocketAddr, as_json: bool) -> Outcome {
    let token = token::load(&config.host.data_dir)
        .context("no host has run here, start one with `bulkhead run`")
        .map_err(Failed::Broken)?;
    let asked: anyhow::Result<Change> = OwnAdmin::new(address, token)?.post_patiently(verb).await;
    match asked {
        Ok(change) => {
            let would = if verb == "check" { "would change" } else { "changed" };
            print(&if as_json { serde_json::to_string(&change).context("it is JSON")? } else { text(&change, would) })?;
            complain_of(&change.warnings);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.is::<Refused>() => refused(error, as_json),
        Err(error) => Err(Failed::Broken(unanswered(error, config))),
    }
}

/// Nobody has answered, or the host could not do it.
fn unanswered(error: anyhow::Error, config: &Config) -> anyhow::Error {
    unanswered_but(error, config, "`bulkhead run` reads the configuration when it starts")
}

/// The error, unless no host runs: then that, and what is to be done about it.
pub(super) fn unanswered_but(error: anyhow::Error, config: &Config, help: &str) -> anyhow::Error {
    let data_dir = &config.host.data_dir;
    if Ledger::lock(data_dir).is_err() {
        return error;
    }
    anyhow::anyhow!("no host runs on {}: {help}", data_dir.display())
}

/// Everything that is wrong with a configuration that the host has refused.
fn refused(error: anyhow::Error, as_json: bool) -> Outcome {
    let document = error.downcast_ref::<Refused>().map(|refused| refused.document["problems"].clone());
    let problems: Vec<Problem> =
        document.and_then(|problems| serde_json::from_value(problems).ok()).unwrap_or_default();
    if problems.is_empty() {
        return Err(error.into());
    }
    if as_json {
        print(&json!({ "ok": false, "problems": problems }).to_string())?;
    } else {
        complain_of(&problems);
        complain(&format!("error: {error:#}\n"));
    }
    Ok(unusable())
}

fn text(change: &Change, would: &str) -> String {
    if change.is_empty() {
        return format!("nothing {would}");
    }
    plain(&change.lines().join("\n"))
}
