//! Sealed secrets over the API: their names can be read, their values only written.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Problem;
use super::query::{Asked, Nothing};
use crate::admin::Admin;
use crate::audit::Event;
use crate::config::is_secret_name;
use crate::mask::Secret;
use crate::secret_store::sealed::SealedStore;

/// What `PUT secrets/{name}` takes: `value` is text, `value_base64` is bytes; one of them.
#[derive(Serialize, Deserialize, JsonSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct NewValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl std::fmt::Debug for NewValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("<secret>")
    }
}

impl NewValue {
    /// For sending.
    #[must_use]
    pub fn of(value: &Secret) -> Self {
        Self { value: None, value_base64: Some(data_encoding::BASE64.encode(value.expose())) }
    }

    /// As it is sent.
    ///
    /// # Errors
    /// Never, for text.
    pub fn to_json(&self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::new(serde_json::to_vec(self)?))
    }

    fn secret(&self) -> Result<Secret, &'static str> {
        match (&self.value, &self.value_base64) {
            (Some(text), None) => Ok(Secret::new(text.as_bytes().to_vec())),
            (None, Some(encoded)) => match data_encoding::BASE64.decode(encoded.as_bytes()) {
                Ok(value) => Ok(Secret::new(value)),
                Err(_) => Err("`value_base64` is not base64"),
            },
            (Some(_), Some(_)) | (None, None) => Err("give `value` or `value_base64`"),
        }
    }
}

pub(super) async fn list(State(admin): State<Admin>, Asked(_): Asked<Nothing>) -> Result<Json<Vec<String>>, Problem> {
    Ok(Json(with(&admin, |store| store.names()).await?))
}

/// What does not parse is not repeated: it may be the value.
pub(super) async fn set(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let bad = |what: &str| Problem::new(StatusCode::BAD_REQUEST, what);
    if !is_secret_name(&name) {
        return Err(bad("not the name of a secret: use 1 to 63 of A-Z, a-z, 0-9, `_` and `-`"));
    }
    let value: NewValue =
        serde_json::from_slice(&body).map_err(|_| bad("send a JSON object with `value` or `value_base64`"))?;
    let secret = value.secret().map_err(bad)?;
    if secret.expose().is_empty() {
        return Err(bad("the value is empty"));
    }
    let of = name.clone();
    with(&admin, move |store| store.set(&of, &secret)).await?;
    admin.audit.note(Event::action("secrets set", &name));
    tracing::info!(secret = name, "a secret was sealed");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let of = name.clone();
    if !is_secret_name(&name) || !with(&admin, move |store| store.remove(&of)).await? {
        let detail = "no secret of this name is sealed: `GET secrets` lists those that are";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    admin.audit.note(Event::action("secrets rm", &name));
    tracing::info!(secret = name, "a sealed secret was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// The store waits for the disk.
async fn with<T: Send + 'static>(
    admin: &Admin,
    work: impl FnOnce(&Arc<SealedStore>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let store = admin.sealed.clone();
    tokio::task::spawn_blocking(move || work(&store)).await?
}
