//! HTTP through the host's gate: whole bodies, one call a request.
//!
//! The grant in `allow.http` decides what may be reached and attaches the credential; a connector never holds a token.
//! Redirects are not followed. [`Response::json`], [`Response::text`] and [`Response::bytes`] look at the status first, so
//! that `?` alone does what a connector should: see [`Error`]. For streams use `wasi:http/outgoing-handler`.

mod error;
mod request;
mod response;
mod retry_after;
mod target;
mod verdict;

pub use error::{Error, ErrorKind};
pub use request::Request;
pub use response::Response;
pub use retry_after::retry_after;
pub use target::{encode, join};
pub use verdict::{Verdict, verdict};

use crate::host;

/// A GET request.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().respond(|_| Ok(http::Response::new(200).with_body(r#"["a"]"#))).install();
/// let names: Vec<String> = http::get("https://api.example.com/names").query("page", 1).send()?.json()?;
/// assert_eq!(names, ["a"]);
/// # Ok::<(), Failure>(())
/// ```
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// A POST request.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let host = Host::new().respond(|_| Ok(http::Response::new(201))).install();
/// http::post("https://api.example.com/orders").json(&serde_json::json!({"id": 7})).send()?.check()?;
/// assert_eq!(host.requests()[0].body_bytes(), br#"{"id":7}"#);
/// # Ok::<(), Failure>(())
/// ```
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}

/// A PUT request.
///
/// ```
/// # use bulkhead_sdk::prelude::*;
/// assert_eq!(http::put("https://api.example.com/orders/7").method(), "PUT");
/// ```
pub fn put(url: impl Into<String>) -> Request {
    Request::new("PUT", url)
}

/// A PATCH request.
///
/// ```
/// # use bulkhead_sdk::prelude::*;
/// assert_eq!(http::patch("https://api.example.com/orders/7").method(), "PATCH");
/// ```
pub fn patch(url: impl Into<String>) -> Request {
    Request::new("PATCH", url)
}

/// A DELETE request.
///
/// ```
/// # use bulkhead_sdk::prelude::*;
/// assert_eq!(http::delete("https://api.example.com/orders/7").method(), "DELETE");
/// ```
pub fn delete(url: impl Into<String>) -> Request {
    Request::new("DELETE", url)
}

/// A request with any method.
///
/// ```
/// # use bulkhead_sdk::prelude::*;
/// assert_eq!(http::request("HEAD", "https://api.example.com/").method(), "HEAD");
/// ```
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request::new(method, url)
}

/// Sends many requests at once, as far as the connector's limit of concurrent requests allows; answers in the same order.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().respond(|request| Ok(http::Response::new(200).with_body(request.url()))).install();
/// let urls = ["https://api.example.com/a", "https://api.example.com/b"];
/// for (url, answer) in urls.into_iter().zip(http::send_all(urls.map(http::get))) {
///     assert_eq!(answer?.text()?, url);
/// }
/// # Ok::<(), Failure>(())
/// ```
pub fn send_all(requests: impl IntoIterator<Item = Request>) -> Vec<Result<Response, Error>> {
    let requests: Vec<Request> = requests.into_iter().collect();
    let labels: Vec<String> = requests.iter().map(Request::label).collect();
    let mut sendable = Vec::with_capacity(requests.len());
    let mut broken = Vec::with_capacity(requests.len());
    for request in requests {
        match request.checked() {
            Ok(request) => {
                broken.push(None);
                sendable.push(request);
            }
            Err(error) => broken.push(Some(error)),
        }
    }
    let mut answers = host::send_all(sendable).into_iter();
    let missing = || Err(ErrorKind::Interrupted("no answer".to_owned()));
    broken
        .into_iter()
        .zip(labels)
        .map(|(broken, label)| match broken {
            Some(error) => Err(error),
            None => answers
                .next()
                .unwrap_or_else(missing)
                .map_err(|kind| Error::new(&label, kind))
                .map(|answer| answer.of(label)),
        })
        .collect()
}
