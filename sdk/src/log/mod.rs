//! Log lines by the `log` macros (and by `tracing`'s with the feature of that name).
//!
//! [`export!`](crate::export) installs them before the first call. Lines carry the connector and the delivery without
//! the author's doing; they are bounded by `limits.log`. What is printed to stdout or stderr becomes a log line too.

#[cfg(all(feature = "tracing", target_arch = "wasm32"))]
mod tracing;

pub use log::{Level, LevelFilter, debug, error, info, log, set_max_level, trace, warn};

/// Sends what the macros write to the host. Called before every call of the host; only the first has an effect.
#[cfg(target_arch = "wasm32")]
pub(crate) fn install() {
    use std::sync::Once;
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if log::set_logger(&HostLog).is_ok() {
            set_max_level(LevelFilter::Debug);
        }
        #[cfg(feature = "tracing")]
        tracing::install();
    });
}

#[cfg(target_arch = "wasm32")]
struct HostLog;

#[cfg(target_arch = "wasm32")]
impl log::Log for HostLog {
    fn enabled(&self, _metadata: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        match record.args().as_str() {
            Some(text) => crate::host::log(record.level(), record.target(), text),
            None => crate::host::log(record.level(), record.target(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}
