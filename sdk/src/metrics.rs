//! A connector's own figures, exported as `bulkhead_plugin_NAME{connector, …}`.
//!
//! Names and labels are bounded in number and length by the host; past a bound they are dropped and counted.

use crate::host;

/// Adds to a counter.
///
/// ```
/// # use bulkhead_sdk::{metrics, testing::Host};
/// # let host = Host::new().install();
/// metrics::count("orders_total", 1, &[("country", "de")]);
/// assert_eq!(host.metrics(), ["count orders_total{country=de} 1"]);
/// ```
pub fn count(name: &str, value: u64, labels: &[(&str, &str)]) {
    host::count(name, value, labels);
}

/// Sets a gauge.
///
/// ```
/// # use bulkhead_sdk::{metrics, testing::Host};
/// # let host = Host::new().install();
/// metrics::gauge("open_orders", 3.0, &[]);
/// assert_eq!(host.metrics(), ["gauge open_orders{} 3"]);
/// ```
pub fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) {
    host::gauge(name, value, labels);
}

/// Records one observation of a histogram; name the unit in `name`.
///
/// ```
/// # use bulkhead_sdk::{metrics, testing::Host};
/// # let host = Host::new().install();
/// metrics::observe("parse_seconds", 0.5, &[]);
/// assert_eq!(host.metrics(), ["observe parse_seconds{} 0.5"]);
/// ```
pub fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    host::observe(name, value, labels);
}
