//! What a browser loads of the web page before it shows anything: every file, with its headers, uncompressed.

use bulkhead_host::admin::ui;
use bulkhead_tests::{Bulkhead, exchange};

/// Kibibytes of one first load.
pub(crate) fn first_load_kib() -> anyhow::Result<f64> {
    let bulkhead = Bulkhead::new("");
    let running = bulkhead.start();
    let address = running.admin();
    let mut bytes = 0;
    for path in ui::paths() {
        let reply = exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))?;
        anyhow::ensure!(reply.status == 200, "{path}: {}", reply.status);
        bytes += reply.head.len() + reply.body.len();
    }
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand bytes")]
    Ok(bytes as f64 / 1024.0)
}
