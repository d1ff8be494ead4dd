//! Logs: fields, not prose, on standard error, so that standard output stays for data.
//!
//! `BULKHEAD_LOG` filters as `tracing-subscriber`'s `EnvFilter` reads it (`info` unless set). Does not own metrics: they
//! are in [`crate::metrics`]. What the service manager is told is in [`supervisor`], traces go out in [`otlp`].

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
    // Whoever reads the log may go away: a line that cannot be written is lost, and says so nowhere.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let builder = builder.with_writer(std::io::stderr);
    // A second start in one process (a test's) keeps the first.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Pretty => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
