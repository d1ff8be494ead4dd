//! Reading the configuration again over the API, and what that would change.
//!
//! Invariant: a configuration that is refused is refused with everything that is wrong with it, and nothing has changed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Problem;
use crate::admin::{Admin, STOPPING_RETRY_SECONDS};
use crate::host::{Asker, Change, Unchanged};

impl From<Unchanged> for Problem {
    fn from(unchanged: Unchanged) -> Self {
        let detail = unchanged.to_string();
        match unchanged {
            Unchanged::Refused(problems) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with(problems),
            Unchanged::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(STOPPING_RETRY_SECONDS)
            }
        }
    }
}

pub(super) async fn reload(State(admin): State<Admin>) -> Result<Json<Change>, Problem> {
    admin.takes_work()?;
    Ok(Json(admin.reloader.reload(Asker::Api).await?))
}

pub(super) async fn check(State(admin): State<Admin>) -> Result<Json<Change>, Problem> {
    admin.takes_work()?;
    Ok(Json(admin.reloader.check().await?))
}
