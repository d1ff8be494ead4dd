//! `bulkhead audit verify`: whether the audit record is as it was written.
//!
//! Reads the files beside a host that may be writing them; it neither locks nor repairs anything.

use std::process::ExitCode;

use super::Audit;
use super::main::Outcome;
use super::output::{counted, print};
use crate::audit::{Fault, Verified, verify};
use crate::config::Config;

/// Walks the record and prints what it found.
///
/// # Errors
/// The record cannot be read.
pub fn run(config: &Config, command: &Audit, as_json: bool) -> Outcome {
    let Audit::Verify = command;
    let found = verify(&config.host.data_dir)?;
    let code = if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    print(&if as_json { json(&found).to_string() } else { text(&found) })?;
    Ok(code)
}

fn json(found: &Result<Verified, Fault>) -> serde_json::Value {
    match found {
        Ok(verified) => serde_json::json!({ "ok": true, "record": verified }),
        Err(fault) => serde_json::json!({ "ok": false, "fault": fault }),
    }
}

fn text(found: &Result<Verified, Fault>) -> String {
    let verified = match found {
        Ok(verified) if verified.records == 0 => return "ok: nothing is recorded yet".to_owned(),
        Ok(verified) => verified,
        Err(Fault { file, line, message }) => return format!("changed: {}:{line}: {message}", file.display()),
    };
    let Verified { first, last, from, to, hash, torn_bytes, .. } = verified;
    let records = usize::try_from(verified.records).unwrap_or(usize::MAX);
    let mut text = format!("ok: {}, {first} to {last}, from {from} to {to}", counted(records, "record"));
    if *first > 1 {
        text.push_str("\nnote: older records were removed when the files were rotated");
    }
    if *torn_bytes > 0 {
        text.push_str("\nnote: the last line was cut short by a crash, or is being written: the next start removes it");
    }
    text + &format!("\nlast hash {hash}: kept elsewhere, it shows later whether the end was cut off")
}
