//! Who may send to a webhook: signatures over the raw body, shared secrets, JWTs.
//!
//! It decides and says why; it answers nobody, stores nothing and logs no request. Invariants: the body is looked at as
//! it came, never as it would be written again; whatever a request holds, nothing panics; no secret, token or signature
//! is in what leaves this module.

mod credentials;
pub mod event_id;
mod header;
pub mod hmac;
mod jwks;
pub mod jwt;
mod key;
mod preset;
pub mod signature;
mod standard;
mod stripe;
pub mod template;
mod twilio;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::audit::Audit;
use crate::capability::http as gate;
use crate::id::Name;
use crate::secret_store::SecretStore;
use event_id::{Place, Pointer};
use key::{Ring, Use};

/// Secrets of one webhook: the old and the new one, and some room.
pub const SECRETS_MAX: usize = 8;

/// `verify` of a webhook, as checked by the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How senders prove who they are.
    pub scheme: Scheme,
    /// Names of secrets; any of them will do.
    pub secrets: Vec<String>,
    /// How far from the present a time may lie, in the past and in the future.
    pub window: Duration,
    /// Where the event's id is, if not where the scheme has it.
    pub id: Option<Place>,
}

/// How senders prove who they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// Not at all.
    Open,
    /// Standard Webhooks.
    StandardWebhooks,
    /// `X-Hub-Signature-256`.
    GitHub,
    /// `X-Gitlab-Token`.
    GitLab,
    /// `X-Shopify-Hmac-Sha256`, or `Shopify-Hmac-Sha256`.
    Shopify,
    /// `X-Slack-Signature`.
    Slack,
    /// `Stripe-Signature`.
    Stripe,
    /// `X-Twilio-Signature`.
    Twilio,
    /// A signature that the configuration describes.
    Hmac(Box<hmac::Settings>),
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Basic`; the user that alone may send, if any.
    Basic(Option<String>),
    /// `Authorization: Bearer` with a JWT.
    Jwt(Box<jwt::Settings>),
}

/// What a verifier is built with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// Whose webhook it is.
    pub connector: &'a Name,
    /// The TOML path of its `verify`.
    pub path: &'a str,
    /// Holds the secrets.
    pub secrets: &'a Arc<SecretStore>,
    /// Told what cannot be used.
    pub audit: &'a Audit,
    /// The way to an issuer's keys.
    pub http: &'a gate::Services,
}

/// A request as it came in.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Path and query as received.
    pub target: &'a str,
    /// Scheme and host as the sender addressed them, as in `https://hooks.example`.
    pub origin: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
    /// The present time, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What becomes of a request whose sender is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Accepted(Verified),
    /// It is answered at once with 200, and nothing is stored.
    Answer {
        /// `Content-Type` of the answer.
        content_type: &'static str,
        /// Its body.
        body: Vec<u8>,
    },
}

/// What is known of a request that is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Who has sent it: the scheme's name, or the subject of a token; `None` where nobody has looked.
    pub by: Option<String>,
    /// The sender's id of the event.
    pub event_id: Option<String>,
    /// A digest of the signature, where the id is not under it: another request with the same one is a repeat, whatever
    /// its id says.
    pub signature: Option<String>,
    /// Headers that prove the sender: whoever reads them could send as well.
    pub consumed_headers: Vec<HeaderName>,
    /// The same for parameters of the query.
    pub consumed_query: Vec<String>,
}

/// Why a request is not taken. Senders get one answer for all but [`Refused::Unavailable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is nothing that proves its sender.
    Missing,
    /// What there is does not.
    Wrong,
    /// It was signed too long ago.
    Stale,
    /// It was signed in the future.
    Future,
    /// What should prove its sender cannot be read, or stands there twice.
    Malformed,
    /// It holds more signatures or parameters than any sender has.
    TooMany,
    /// What it takes to decide cannot be had: the sender shall try again.
    Unavailable,
}

impl Refused {
    /// The fixed word in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::Malformed => "malformed",
            Self::TooMany => "too_many",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Settings at work: one for each webhook.
pub struct Verifier {
    check: Check,
    /// Who has sent it, where no request says so.
    by: Option<&'static str>,
    /// Where the id is; the first that has one counts.
    places: Vec<Place>,
    consumed_headers: Vec<HeaderName>,
    consumed_query: Vec<String>,
}

enum Check {
    Open,
    Hmac(hmac::Check),
    Slack(hmac::Check),
    Standard(standard::Check),
    Stripe(stripe::Check),
    Twilio(twilio::Check),
    GitLab(Ring),
    Bearer(Ring),
    Basic(Ring, Option<String>),
    Jwt(jwt::Check),
}

/// What a check has found.
#[derive(Default)]
struct Proof {
    signature: Option<Vec<u8>>,
    /// An id that is signed with the rest.
    id: Option<String>,
    by: Option<String>,
}

impl Verifier {
    /// Puts settings to work.
    #[must_use]
    pub fn new(settings: &Settings, means: &Means<'_>) -> Self {
        let places = match &settings.id {
            Some(place) => vec![place.clone()],
            None => usual_places(&settings.scheme),
        };
        let check = Check::new(settings, means);
        Self {
            by: by(&settings.scheme),
            places,
            consumed_headers: check.consumed_headers(),
            consumed_query: check.consumed_query(),
            check,
        }
    }

    /// What keeps its secrets from being used, for the operator; never with a value. To be asked at start.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.check.ring().map(Ring::faults).unwrap_or_default()
    }

    /// Decides on a request. To be called on egress's runtime.
    ///
    /// # Errors
    /// It is not taken.
    pub async fn check(&self, incoming: &Incoming<'_>) -> Result<Verdict, Refused> {
        let proof = self.check.prove(incoming).await?;
        if let Check::Slack(_) = self.check
            && let Some(challenge) = preset::challenge(incoming.body)?
        {
            return Ok(Verdict::Answer { content_type: "text/plain; charset=utf-8", body: challenge.into_bytes() });
        }
        let (event_id, is_signed) = self.event_id(incoming, proof.id)?;
        Ok(Verdict::Accepted(Verified {
            by: proof.by.or_else(|| self.by.map(str::to_owned)),
            event_id,
            signature: proof.signature.filter(|_| !is_signed).map(|signature| signature::digest(&signature)),
            consumed_headers: self.consumed_headers.clone(),
            consumed_query: self.consumed_query.clone(),
        }))
    }

    /// The event's id, and whether it lies under the signature.
    fn event_id(&self, incoming: &Incoming<'_>, proved: Option<String>) -> Result<(Option<String>, bool), Refused> {
        for place in &self.places {
            if let Some(id) = place.find(incoming)? {
                return Ok((Some(id), self.check.signs(place)));
            }
        }
        let is_signed = proved.is_some();
        Ok((proved, is_signed))
    }
}

/// Where a scheme has the id.
fn usual_places(scheme: &Scheme) -> Vec<Place> {
    let header = |name: &'static str| Place::Header(HeaderName::from_static(name));
    let pointer = |text: &str| Place::Pointer(Pointer::parse(text).expect("it is written out here"));
    match scheme {
        Scheme::GitHub => vec![header("x-github-delivery")],
        Scheme::GitLab => vec![header("idempotency-key")],
        // One for each event; the other one for each delivery of it. By the third Shopify's newer kind is to be known.
        Scheme::Shopify => {
            vec![header("x-shopify-event-id"), header("x-shopify-webhook-id"), header("shopify-webhook-id")]
        }
        Scheme::Slack => vec![pointer("/event_id")],
        Scheme::Stripe => vec![pointer("/id")],
        Scheme::Twilio => vec![header("i-twilio-idempotency-token")],
        // The standard's id comes with the signature.
        Scheme::StandardWebhooks
        | Scheme::Open
        | Scheme::Hmac(_)
        | Scheme::Bearer
        | Scheme::Basic(_)
        | Scheme::Jwt(_) => Vec::new(),
    }
}

impl Settings {
    /// Who may send, for people: names of secrets and no value.
    #[must_use]
    pub fn senders(&self) -> String {
        let Some(scheme) = by(&self.scheme) else { return "anybody".to_owned() };
        let names: Vec<String> = self.secrets.iter().map(|name| format!("`{name}`")).collect();
        let with = if names.is_empty() { String::new() } else { format!(" with {}", names.join(" or ")) };
        format!("senders that `{scheme}` verifies{with}")
    }
}

fn by(scheme: &Scheme) -> Option<&'static str> {
    Some(match scheme {
        Scheme::Open => return None,
        Scheme::StandardWebhooks => "standard-webhooks",
        Scheme::GitHub => "github",
        Scheme::GitLab => "gitlab",
        Scheme::Shopify => "shopify",
        Scheme::Slack => "slack",
        Scheme::Stripe => "stripe",
        Scheme::Twilio => "twilio",
        Scheme::Hmac(_) => "hmac",
        Scheme::Bearer => "bearer",
        Scheme::Basic(_) => "basic",
        Scheme::Jwt(_) => "jwt",
    })
}

impl Check {
    fn new(settings: &Settings, means: &Means<'_>) -> Self {
        let Settings { scheme, secrets, window, .. } = settings;
        let hmac = |settings| hmac::Check::new(settings, *window, secrets, means);
        let ring = || Ring::new(secrets, Use::Plain, means);
        match scheme {
            Scheme::Open => Self::Open,
            Scheme::StandardWebhooks => Self::Standard(standard::Check::new(*window, secrets, means)),
            Scheme::GitHub => Self::Hmac(hmac(preset::github())),
            Scheme::GitLab => Self::GitLab(ring()),
            Scheme::Shopify => Self::Hmac(hmac(preset::shopify())),
            Scheme::Slack => Self::Slack(hmac(preset::slack())),
            Scheme::Stripe => Self::Stripe(stripe::Check::new(*window, secrets, means)),
            Scheme::Twilio => Self::Twilio(twilio::Check::new(secrets, means)),
            Scheme::Hmac(settings) => Self::Hmac(hmac((**settings).clone())),
            Scheme::Bearer => Self::Bearer(ring()),
            Scheme::Basic(user) => Self::Basic(ring(), user.clone()),
            Scheme::Jwt(settings) => Self::Jwt(jwt::Check::new(settings, *window, means)),
        }
    }

    async fn prove(&self, incoming: &Incoming<'_>) -> Result<Proof, Refused> {
        let signed = |signature| Proof { signature: Some(signature), ..Proof::default() };
        let shown = |()| Proof::default();
        match self {
            Self::Open => Ok(Proof::default()),
            Self::Hmac(check) | Self::Slack(check) => check.check(incoming).map(signed),
            Self::Stripe(check) => check.check(incoming).map(signed),
            Self::Twilio(check) => check.check(incoming).map(signed),
            Self::Standard(check) => {
                let (signature, id) = check.check(incoming)?;
                Ok(Proof { id: Some(id), ..signed(signature) })
            }
            Self::GitLab(ring) => credentials::gitlab(ring, incoming).map(shown),
            Self::Bearer(ring) => credentials::bearer(ring, incoming).map(shown),
            Self::Basic(ring, user) => credentials::basic(ring, user.as_deref(), incoming).map(shown),
            Self::Jwt(check) => Ok(Proof { by: Some(check.check(incoming).await?), ..Proof::default() }),
        }
    }

    /// Whether what stands in a place is part of what is signed. Where nothing is signed, nobody asks.
    fn signs(&self, place: &Place) -> bool {
        match place {
            Place::Pointer(_) => true,
            Place::Header(_) => match self {
                Self::Hmac(check) | Self::Slack(check) => check.signs_id(),
                Self::Open
                | Self::Standard(_)
                | Self::Stripe(_)
                | Self::Twilio(_)
                | Self::GitLab(_)
                | Self::Bearer(_)
                | Self::Basic(..)
                | Self::Jwt(_) => false,
            },
        }
    }

    fn ring(&self) -> Option<&Ring> {
        match self {
            Self::Open | Self::Jwt(_) => None,
            Self::Hmac(check) | Self::Slack(check) => Some(check.ring()),
            Self::Standard(check) => Some(check.ring()),
            Self::Stripe(check) => Some(check.ring()),
            Self::Twilio(check) => Some(check.ring()),
            Self::GitLab(ring) | Self::Bearer(ring) | Self::Basic(ring, _) => Some(ring),
        }
    }

    fn consumed_headers(&self) -> Vec<HeaderName> {
        match self {
            Self::Open => Vec::new(),
            // GitHub sends the signature of an older kind as well, which is as good.
            Self::Hmac(check) if check.headers().any(|name| name == "x-hub-signature-256") => {
                check.headers().cloned().chain([HeaderName::from_static("x-hub-signature")]).collect()
            }
            Self::Hmac(check) | Self::Slack(check) => check.headers().cloned().collect(),
            Self::Standard(_) => standard::SIGNATURES.to_vec(),
            Self::Stripe(_) => vec![stripe::HEADER],
            Self::Twilio(_) => vec![twilio::HEADER],
            Self::GitLab(_) => vec![credentials::GITLAB],
            Self::Bearer(_) | Self::Basic(..) | Self::Jwt(_) => vec![http::header::AUTHORIZATION],
        }
    }

    fn consumed_query(&self) -> Vec<String> {
        match self {
            Self::Twilio(_) => vec![twilio::BODY_HASH.to_owned()],
            _ => Vec::new(),
        }
    }
}
