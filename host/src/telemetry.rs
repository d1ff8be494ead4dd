//! Logs: fields, not prose, on standard error, so that standard output stays for data.
//!
//! `BULKHEAD_LOG` filters as `tracing-subscriber`'s `EnvFilter` reads it (`info` unless set); a level alone is that of the
//! host's own lines, for the compiler of plugins says a hundred thousand. Does not own metrics: they are in
//! [`crate::metrics`]. What the service manager is told is in [`supervisor`], traces go out in [`otlp`].

pub mod otlp;
pub mod supervisor;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Pretty,
}

/// The environment variable with the log filter.
const FILTER_VARIABLE: &str = "BULKHEAD_LOG";

/// Starts logging for the process; a second call changes nothing.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = of_ours(&filter.to_string()).unwrap_or(filter);
    // Whoever reads the log may go away: a line that cannot be written is lost, and says so nowhere.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let builder = builder.with_writer(std::io::stderr);
    // A second start in one process (a test's) keeps the first.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Pretty => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

/// The filter that a level alone stands for, if it is one at which libraries say more than an operator asked for.
fn of_ours(level: &str) -> Option<EnvFilter> {
    let is_detailed = ["debug", "trace"].contains(&level);
    is_detailed.then(|| EnvFilter::new(format!("info,bulkhead={level},bulkhead_host={level}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_that_of_the_hosts_own_lines() {
        let filter = of_ours(&EnvFilter::new("debug").to_string()).map(|filter| filter.to_string());
        assert!(filter.is_some_and(|filter| filter.contains("bulkhead_host=debug") && filter.contains("info")));
        assert!(of_ours(&EnvFilter::new("bulkhead_host=debug").to_string()).is_none());
        assert!(of_ours(&EnvFilter::new("warn").to_string()).is_none());
    }
}
