//! Whether every secret of a configuration has a value.

use crate::config::{Loaded, Problem};
use crate::secret_store::{Environment, SecretStore, Source};

/// When it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before anything has started.
    Start,
    /// While a host runs.
    Reload,
}

/// Secrets that are configured and have no value.
#[must_use]
pub fn missing_secrets(loaded: &Loaded, environment: &Environment, moment: Moment) -> Vec<Problem> {
    let sources = &loaded.config.secrets;
    let missing = SecretStore::open(sources, environment).err().unwrap_or_default();
    let problem = |(name, what): (String, String)| {
        let help = match (moment, sources.get(&name)) {
            (Moment::Reload, Some(Source::Env(_))) => {
                "variables are taken out of the environment when the host starts: restart it, or name a `file`"
            }
            // Most say what to run.
            _ if what.contains("run `") => "",
            (_, Some(Source::Sealed)) if what.contains("cannot read the key") => {
                "copy your `sealed.key` back, or set BULKHEAD_KEY_FILE"
            }
            _ => "put the value there, or name another source",
        };
        loaded.problem(&format!("secrets.{name}"), what, help)
    };
    missing.into_iter().map(problem).collect()
}
