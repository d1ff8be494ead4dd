//! `bulkhead check --explain CONNECTOR`: what a connector may do, in plain words.

use std::process::ExitCode;

use anyhow::anyhow;
use tokio::runtime::Handle;

use super::main::{Failed, Outcome};
use super::output::{plain, print};
use crate::config::{Loaded, closest};
use crate::egress::proxy::Proxy;
use crate::host;
use crate::id::Name;

/// Asks the gate, as it is built for the connector, and prints what it answers.
///
/// # Errors
/// There is no such connector.
pub async fn run(loaded: &Loaded, name: &Name, as_json: bool) -> Outcome {
    let connectors = &loaded.config.connectors;
    let Some(connector) = connectors.iter().find(|connector| connector.name == *name) else {
        let meant = closest(name.as_str(), connectors.iter().map(|connector| connector.name.as_str()));
        let meant = meant.map(|meant| format!(": did you mean `{meant}`?")).unwrap_or_default();
        return Err(Failed::Unusable(anyhow!("there is no connector `{name}`{meant}")));
    };
    let may = host::permissions(Handle::current(), connector);
    if as_json {
        print(&serde_json::json!({ "connector": connector.name.as_str(), "may": may }).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rest = if may.is_empty() { "may do nothing" } else { "nothing else" };
    let lines = may.iter().map(String::as_str).chain([rest]);
    let text: String = lines.map(|line| format!("\n  {line}")).collect();
    let own = "\nits own state, log lines and metrics reach nobody else and need no grant";
    let proxy = loaded.config.host.proxy.as_ref().map(way_out).unwrap_or_default();
    print(&plain(&format!("connector `{name}`:{text}{own}{proxy}")))?;
    Ok(ExitCode::SUCCESS)
}

/// What requests to public places pass, and what that is shown.
fn way_out(proxy: &Proxy) -> String {
    let shown = proxy.credential().map(|credential| {
        format!(", which is shown the user `{}` with the secret `{}`", credential.user, credential.password)
    });
    format!("\nrequests to public places pass {}{}", proxy.address(), shown.unwrap_or_default())
}
