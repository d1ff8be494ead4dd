//! No header that a plugin may set frames or routes the request.

use bulkhead_host::capability::http::header::{Owner, admit, owner};

const FRAMING: [&str; 9] =
    ["content-length", "transfer-encoding", "connection", "host", "te", "trailer", "upgrade", "expect", "keep-alive"];

/// What is let through of these is the plugin's, and one line of plain bytes.
pub fn check<'a>(given: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let Ok(headers) = admit(given) else { return };
    for (name, value) in &headers {
        assert_eq!(owner(name.as_str()), Owner::Plugin, "{name}");
        let plain = name.as_str().to_lowercase().replace('_', "-");
        assert!(!FRAMING.contains(&plain.as_str()) && !plain.starts_with("proxy-"), "{plain}");
        assert!(value.as_bytes().iter().all(|byte| *byte == b'\t' || *byte >= 0x20 && *byte != 0x7f), "{value:?}");
    }
}
