//! Asks the admin listener of the host that runs on the same data directory.
//!
//! For the command line only: connectors never pass here. Speaks plain HTTP to an address from the configuration, with
//! the bearer token of the data directory.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::mask::Secret;

/// A host that runs answers within this time; a large `send` is on disk by then too.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A backup of a large ledger on a slow disk.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
const BROKEN_OFF: &str = "the running host broke off its answer";
/// For what may compile plugins and wait for runs to end.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(600);

/// The admin listener of a running host.
#[derive(Debug)]
pub struct OwnAdmin {
    client: Client,
    address: SocketAddr,
    token: Secret,
}

impl OwnAdmin {
    /// A client for the listener at `address`.
    ///
    /// # Errors
    /// The client cannot be made.
    #[expect(clippy::disallowed_methods, reason = "asks the host's own listener, at an address from the configuration")]
    pub fn new(address: SocketAddr, token: Secret) -> anyhow::Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { client, address, token })
    }

    /// `GET`.
    ///
    /// # Errors
    /// No answer, or one that is not a success.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, None).await
    }

    /// `POST` of a JSON document.
    ///
    /// # Errors
    /// No answer, or one that is not a success.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
        self.ask(Method::POST, path, Some(("application/json", body))).await
    }

    /// `POST` of what may compile plugins and wait for runs to end.
    ///
    /// # Errors
    /// No answer, or one that is not a success.
    pub async fn post_patiently<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = ("application/json", b"{}".to_vec());
        self.answer(self.request(Method::POST, path, Some(body)).timeout(PATIENT_TIMEOUT)).await
    }

    /// `PUT` of a JSON document.
    ///
    /// # Errors
    /// No answer, or one that is not a success.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
        self.ask(Method::PUT, path, Some(("application/json", body))).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// No answer, or one that is not a success.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::DELETE, path, None).await
    }

    /// `POST` of JSON documents, one a line.
    ///
    /// # Errors
    /// No answer, or one that is not a success.
    pub async fn post_lines<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
        self.ask(Method::POST, path, Some(("application/x-ndjson", body))).await
    }

    /// `POST` without arguments, whose answer is bytes: `begin` is told how many, and `take` gets them as they come.
    ///
    /// # Errors
    /// No answer, one that is not a success or broke off, or `begin` or `take` fails.
    pub async fn download(
        &self,
        path: &str,
        begin: impl FnOnce(u64) -> anyhow::Result<()>,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let request = self.request(Method::POST, path, Some(("application/json", Vec::new())));
        let mut response = accepted(self.send(request.timeout(DOWNLOAD_TIMEOUT)).await?).await?;
        begin(response.content_length().unwrap_or(0))?;
        while let Some(chunk) = response.chunk().await.context(BROKEN_OFF)? {
            take(&chunk)?;
        }
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> anyhow::Result<T> {
        self.answer(self.request(method, path, body)).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = accepted(self.send(request).await?).await?;
        let bytes = response.bytes().await.context(BROKEN_OFF)?;
        let document: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(document).context("the running host's answer is not of this version")
    }

    fn request(&self, method: Method, path: &str, body: Option<(&str, Vec<u8>)>) -> RequestBuilder {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let token = String::from_utf8_lossy(self.token.expose()).into_owned();
        let request = self.client.request(method, url).bearer_auth(token);
        match body {
            Some((kind, body)) => request.header(reqwest::header::CONTENT_TYPE, kind).body(body),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        request.send().await.with_context(|| {
            let address = self.address;
            format!("a process works on the data directory, but no host answers on {address}: it may be starting or stopping, or have another `host.admin`")
        })
    }
}

/// The answer, if it is a success.
async fn accepted(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = response.bytes().await.context(BROKEN_OFF)?;
    if status == StatusCode::UNAUTHORIZED {
        let detail = "the running host does not take the token in its data directory: start it again if `admin.token` was replaced";
        return Err(Refused { detail: detail.to_owned(), document: Value::Null }.into());
    }
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let detail = document["detail"].as_str().map(str::to_owned);
    let detail = detail.unwrap_or_else(|| format!("the running host answered {status}"));
    if status.is_client_error() { Err(Refused { detail, document }.into()) } else { Err(anyhow::Error::msg(detail)) }
}

/// The running host refused what it was asked, and changed nothing.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    detail: String,
    /// The whole answer; nothing where it was none.
    pub document: Value,
}
