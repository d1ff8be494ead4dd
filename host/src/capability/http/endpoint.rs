//! Places that the host itself asks: token endpoints, and where issuers publish their keys.
//!
//! They are reached as what a grant covers is: the address is judged, the way out is the same, no redirect is followed.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, HeaderValue};
use reqwest::{Request, Response};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Services;
use super::target::{Host, Target};
use crate::egress::Egress;
use crate::egress::address::Reach;
use crate::egress::client::{self, CONNECTIONS_IDLE, Client, Keys, Policy};
use crate::secret_store::SecretStore;

/// A document is there within this.
const GET_MAX: Duration = Duration::from_secs(10);

/// One such place.
pub struct Endpoint {
    target: Target,
    reach: Reach,
    secrets: Arc<SecretStore>,
    egress: Egress,
    client: Client,
}

impl Endpoint {
    /// A place of its own: it shares no connection with others.
    #[must_use]
    pub fn new(target: Target, reach: Reach, services: &Services) -> Self {
        let policy = Policy { reach, identity: None, connections_idle: CONNECTIONS_IDLE };
        let client = Client::new(&services.egress, policy);
        Self { target, reach, secrets: services.secrets.clone(), egress: services.egress.clone(), client }
    }

    /// Where it is.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Gets a document of at most `bytes_max` bytes. To be called on egress's runtime.
    ///
    /// # Errors
    /// What is in the way, for the operator; it repeats nothing of the answer.
    pub async fn get(&self, media_type: &'static str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let mut request = Request::new(Method::GET, self.target.url().clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(media_type));
        let asked = timeout(GET_MAX, async {
            let mut response = self.send(request).await?;
            if !response.status().is_success() {
                return Err(format!("it answered {}", response.status().as_u16()));
            }
            read(&mut response, bytes_max).await.map(|body| body.to_vec())
        });
        asked.await.map_err(|_| "it did not answer in time".to_owned())?
    }

    /// Sends a request under the rules of egress; an error is for the operator.
    pub(super) async fn send(&self, request: Request) -> Result<Response, String> {
        let judged = match self.target.host() {
            Host::Name(name) => self.client.judge_name(name).await,
            Host::Address(address) => self.egress.judge(self.reach, *address).map_err(client::Failure::Refused),
        };
        judged.map_err(|failure| failure.to_string())?;
        let proxy_password = self.client.proxy_password().map(|name| self.secrets.get(name)).transpose()?;
        let keys = Keys { private_key: None, proxy_password: proxy_password.as_ref() };
        let client = self.client.get(keys).map_err(|problem| problem.to_string())?;
        client.execute(request).await.map_err(|_| "it cannot be reached".to_owned())
    }
}

/// A body, and no more of it than `bytes_max`.
pub(super) async fn read(response: &mut Response, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|_| "its answer broke off".to_owned())? {
        if body.len() + chunk.len() > bytes_max {
            return Err("its answer is too large".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
