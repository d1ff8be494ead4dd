//! The web page: fixed files that hold no data, served to whoever names the listener by one of its names.
//!
//! Owns which files there are and what a browser is told to forbid them; everything that they show comes from
//! [`super::api`] with the token. Invariant: no file is read, and no address outside of the table is answered.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::problem;

/// Bytes of a hash that tell one version of a file from another.
const TAG_BYTES: usize = 16;
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// Nothing but files and answers of this listener; no markup out of a text; in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// What every file is sent with. A browser asks each time whether its copy is the present one: an upgrade shows at once.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// One file of the page.
struct File {
    /// Below `/ui/`.
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

/// A file of the folder `files`, with its type.
macro_rules! file {
    ($kind:expr, $name:literal) => {
        File { name: $name, kind: $kind, bytes: include_bytes!(concat!("files/", $name)) }
    };
}

const INDEX: File = file!(HTML, "index.html");

const FILES: &[File] = &[
    file!(ICON, "icon.svg"),
    file!(CSS, "base.css"),
    file!(CSS, "parts.css"),
    file!(SCRIPT, "main.js"),
    file!(SCRIPT, "api.js"),
    file!(SCRIPT, "chart.js"),
    file!(SCRIPT, "dialog.js"),
    file!(SCRIPT, "dom.js"),
    file!(SCRIPT, "filter.js"),
    file!(SCRIPT, "format.js"),
    file!(SCRIPT, "frame.js"),
    file!(SCRIPT, "graph.js"),
    file!(SCRIPT, "keys.js"),
    file!(SCRIPT, "layout.js"),
    file!(SCRIPT, "letters.js"),
    file!(SCRIPT, "live.js"),
    file!(SCRIPT, "log.js"),
    file!(SCRIPT, "parts.js"),
    file!(SCRIPT, "router.js"),
    file!(SCRIPT, "search.js"),
    file!(SCRIPT, "session.js"),
    file!(SCRIPT, "signin.js"),
    file!(SCRIPT, "trouble.js"),
    file!(SCRIPT, "pages/activity.js"),
    file!(SCRIPT, "pages/connector.js"),
    file!(SCRIPT, "pages/dead.js"),
    file!(SCRIPT, "pages/deliveries.js"),
    file!(SCRIPT, "pages/letter.js"),
    file!(SCRIPT, "pages/message.js"),
    file!(SCRIPT, "pages/overview.js"),
    file!(SCRIPT, "pages/queue.js"),
    file!(SCRIPT, "pages/queues.js"),
    file!(SCRIPT, "pages/schedules.js"),
];

/// The tag of every file, in the order of `FILES`, and the page's own last.
static TAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| FILES.iter().chain([&INDEX]).map(|file| tag(file.bytes)).collect());

/// Paths of what is served without a token.
#[must_use]
pub fn paths() -> Vec<String> {
    std::iter::once("/".to_owned()).chain(FILES.iter().map(|file| format!("/ui/{}", file.name))).collect()
}

/// Whether a path is the page's: open to whoever may name this listener.
#[must_use]
pub fn is_open(path: &str) -> bool {
    path == "/" || path.strip_prefix("/ui/").is_some_and(|name| FILES.iter().any(|file| file.name == name))
}

/// The page at `/`, its files below `/ui/`.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/ui/{*name}", get(one))
}

async fn index(headers: HeaderMap) -> Response {
    INDEX.answer(&TAGS[FILES.len()], &headers)
}

async fn one(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let found = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name);
    match found {
        Some((file, tag)) => file.answer(tag, &headers),
        None => problem::not_found().await.into_response(),
    }
}

impl File {
    fn answer(&self, tag: &str, asked: &HeaderMap) -> Response {
        let kind = [(header::CONTENT_TYPE, self.kind), (header::ETAG, tag)];
        let known = asked.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
        if known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag) {
            return (StatusCode::NOT_MODIFIED, HEADERS, kind).into_response();
        }
        (HEADERS, kind, self.bytes).into_response()
    }
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(bytes)[..TAG_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn names(folder: &Path, below: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                names(&path, below, found);
            } else if let Ok(name) = path.strip_prefix(below) {
                found.push(name.display().to_string());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/ui/files");
        let mut found = Vec::new();
        names(&folder, &folder, &mut found);
        let mut served: Vec<String> = FILES.iter().chain([&INDEX]).map(|file| file.name.to_owned()).collect();
        found.sort();
        served.sort();
        assert_eq!(found, served);
    }
}
