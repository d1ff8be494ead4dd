//! `Authorization: Bearer` with a JWT that an issuer has signed for this receiver.
//!
//! It proves who sends, and nothing of what is sent. Invariant: what a token says of itself (its algorithm, where its key
//! is) chooses among what the configuration allows, and never adds to it.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::jwks::{Jwks, Keys};
use super::{Incoming, Means, Refused, header};
use crate::capability::http::endpoint::Endpoint;
use crate::capability::http::target::Target;
use crate::egress::address::Reach;

/// What signs with a private key. Those with a shared one are no use here: the keys are public.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// What `jwt` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the issuer publishes its keys.
    pub jwks: Target,
    /// What that address may be.
    pub reach: Reach,
    /// `iss`.
    pub issuer: String,
    /// `aud`, or one of several there.
    pub audience: String,
    /// `sub` of the one that alone may send.
    pub subject: Option<String>,
    /// Out of [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
}

/// Settings with the keys that are at hand.
pub(super) struct Check {
    issuer: String,
    window: Duration,
    /// One for each algorithm.
    validations: Vec<Validation>,
    jwks: Arc<Jwks>,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
}

/// Why a token proves nothing.
enum Unproved {
    /// Newer keys may help.
    NoKey,
    Refused(Refused),
}

impl Check {
    pub(super) fn new(settings: &Settings, window: Duration, means: &Means<'_>) -> Self {
        let endpoint = Endpoint::new(settings.jwks.clone(), settings.reach, means.http);
        Self {
            issuer: settings.issuer.clone(),
            window,
            validations: settings.algorithms.iter().map(|algorithm| validation(settings, *algorithm)).collect(),
            jwks: Arc::new(Jwks::new(endpoint, means)),
        }
    }

    /// Who sends, if the token is good.
    pub(super) async fn check(&self, incoming: &Incoming<'_>) -> Result<String, Refused> {
        let token = header::authorization(incoming.headers, "bearer")?;
        let head = decode_header(token).map_err(|_| Refused::Malformed)?;
        let validation = self.validations.iter().find(|validation| validation.algorithms.contains(&head.alg));
        let validation = validation.ok_or(Refused::Wrong)?;
        let keys = self.jwks.keys(incoming.now_ms).await?;
        let claims = match claims(token, &head, &keys, validation) {
            Err(Unproved::NoKey) => {
                let newer = self.jwks.newer(Some(&keys), incoming.now_ms).await?.ok_or(Refused::Wrong)?;
                claims(token, &head, &newer, validation)
            }
            found => found,
        };
        let claims = claims.map_err(|unproved| match unproved {
            Unproved::NoKey => Refused::Wrong,
            Unproved::Refused(refused) => refused,
        })?;
        self.check_times(&claims, incoming.now_ms)?;
        Ok(claims.sub.unwrap_or_else(|| self.issuer.clone()))
    }

    fn check_times(&self, claims: &Claims, now_ms: u64) -> Result<(), Refused> {
        let now = Duration::from_millis(now_ms).as_secs_f64();
        let window = self.window.as_secs_f64();
        if claims.exp + window < now {
            return Err(Refused::Stale);
        }
        if claims.nbf.is_none_or(|nbf| nbf - window <= now) { Ok(()) } else { Err(Refused::Future) }
    }
}

/// Times are checked apart, against the time of the request.
fn validation(settings: &Settings, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.validate_exp = false;
    if let Some(subject) = &settings.subject {
        validation.sub = Some(subject.clone());
        validation.required_spec_claims.insert("sub".to_owned());
    }
    validation
}

fn claims(token: &str, head: &Header, keys: &Keys, validation: &Validation) -> Result<Claims, Unproved> {
    let id = head.kid.as_deref();
    let mut unproved = Unproved::NoKey;
    for key in keys.of(id, head.alg) {
        match decode::<Claims>(token, key, validation) {
            Ok(token) => return Ok(token.claims),
            // Without a name, the key may be one that is not here yet.
            Err(error) if *error.kind() == ErrorKind::InvalidSignature && id.is_none() => {}
            Err(error) => unproved = Unproved::Refused(refused(&error)),
        }
    }
    Err(unproved)
}

fn refused(error: &Error) -> Refused {
    match error.kind() {
        ErrorKind::InvalidSignature
        | ErrorKind::InvalidIssuer
        | ErrorKind::InvalidAudience
        | ErrorKind::InvalidSubject
        | ErrorKind::InvalidAlgorithm
        | ErrorKind::MissingRequiredClaim(_) => Refused::Wrong,
        _ => Refused::Malformed,
    }
}
