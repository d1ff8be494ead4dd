//! `bulkhead ui`: the address of the web page, with the token in the part that a browser keeps to itself.
//!
//! Opens nothing and asks nobody; where no host runs it says so beside the address. Invariant: what is behind `#` is never sent to a server, nor written into its log.

use anyhow::Context;
use serde_json::json;

use super::main::{Failed, complain};
use super::output::print;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::secret_store::token;

/// Prints the address.
///
/// # Errors
/// No host has run here yet, or standard output is broken.
pub fn run(config: &Config, as_json: bool) -> Result<(), Failed> {
    let token = token::load(&config.host.data_dir)
        .context("no host has run here, start one with `bulkhead run`")
        .map_err(Failed::Unusable)?;
    if Ledger::lock(&config.host.data_dir).is_ok() {
        complain("warning: nobody answers there now: start the host with `bulkhead run`\n");
    }
    let url = format!("http://{}/#token={}", config.host.admin, String::from_utf8_lossy(token.expose()));
    Ok(print(&if as_json { json!({ "url": url }).to_string() } else { url })?)
}
