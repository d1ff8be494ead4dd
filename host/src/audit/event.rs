//! One entry of the record, as it is written.
//!
//! Names and texts only: never a secret's value, a query or a body. Invariant: what an event says of itself is complete
//! without the events beside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounded;
use super::fold::{Folded, Subject};
use crate::id::Name;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuditKind")]
pub enum Kind {
    /// A host started with a configuration.
    Start,
    /// The configuration was read again: `done` or `refused`.
    Reload,
    /// It stopped, and could say so.
    Stop,
    /// What a connector may do, from now on.
    Grants,
    /// The gate refused an effect.
    Refusal,
    /// A limit bit.
    Limit,
    /// A request carried a secret.
    Secret,
    /// A credential could not be used: requests wait until somebody mends it.
    Unusable,
    /// A person, or a program with the token, changed something.
    Action,
    /// Another file was begun, and older ones may have been removed for it.
    Rotation,
    /// The end of the record was cut short by a crash.
    Repair,
    /// Events that could not be written.
    Lost,
}

/// An event; empty fields are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When it was recorded, as RFC 3339.
    pub at: String,
    /// What kind it is.
    pub kind: Kind,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// The effect, the limit, the secret's name or the action.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// A fixed word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The TOML key that has to do with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Of a plugin, or of the configuration: where it was read from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Of the bytes that were read there, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// What a connector may do, one permission each, none of them cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Of a reload: what it changed, one thing each, or what is wrong with the configuration; none of them cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Of a rotation: the number of the oldest record that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// How many times it happened.
    pub count: u64,
    /// Of what is folded, the first of these times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl Event {
    /// An event that happens now.
    #[must_use]
    pub fn new(kind: Kind, subject: &str, text: &str) -> Self {
        Self {
            at: now(),
            kind,
            connector: None,
            subject: bounded(subject),
            reason: String::new(),
            key: String::new(),
            text: bounded(text),
            sources: Vec::new(),
            sha256: String::new(),
            permissions: Vec::new(),
            changes: Vec::new(),
            oldest: None,
            count: 1,
            since: None,
        }
    }

    /// Something that a person, or a program with the token, has changed.
    #[must_use]
    pub fn action(what: &str, text: &str) -> Self {
        Self::new(Kind::Action, what, text)
    }

    /// The same with a connector's name.
    #[must_use]
    pub fn of(mut self, connector: &str) -> Self {
        self.connector = Some(bounded(connector));
        self
    }

    /// A host that could not go on.
    #[must_use]
    pub fn failed(error: &anyhow::Error) -> Self {
        let event = Self::new(Kind::Stop, "", &format!("{error:#}"));
        Self { reason: "failed".to_owned(), ..event }
    }

    pub(super) fn refused(of: &Subject<'_>, text: &str) -> Self {
        let Subject { kind, connector, subject, reason, key } = *of;
        let connector = connector.map(|name| name.as_str().to_owned());
        Self { connector, reason: reason.to_owned(), key: key.to_owned(), ..Self::new(kind, subject, text) }
    }

    /// A secret was used, by a connector or by the host itself; `key` is where that is configured.
    #[must_use]
    pub fn secret_used(connector: Option<&Name>, secret: &str, key: &str) -> Self {
        let connector = connector.map(|name| name.as_str().to_owned());
        let event = Self::new(Kind::Secret, secret, "");
        Self { connector, reason: "used".to_owned(), key: key.to_owned(), ..event }
    }

    /// What repeated after the event that was recorded at once.
    pub(super) fn folded(folded: Folded) -> Self {
        let event = if folded.kind == Kind::Secret {
            // As they were folded: by its name, with the grant as the text.
            Self::secret_used(folded.connector.as_ref(), &folded.key, &folded.text)
        } else {
            Self::refused(&folded.subject(), &folded.text)
        };
        Self { count: folded.count, since: Some(folded.first), ..event }
    }
}

/// The present time as it is written.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
