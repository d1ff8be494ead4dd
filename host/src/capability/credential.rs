//! Credentials that the gate attaches to requests; a plugin never sees them.

/// `auth` of an http grant; the strings in `secret` positions are names in `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer VALUE`.
    Bearer {
        /// Name of the secret.
        secret: String,
    },
    /// `Authorization: Basic base64(user:VALUE)`.
    Basic {
        /// The user's name, in the clear.
        user: String,
        /// Name of the secret that is the password.
        secret: String,
    },
    /// A header of any name.
    Header {
        /// The header's name.
        name: String,
        /// Stands before the value, as in `Token `.
        prefix: String,
        /// Name of the secret.
        secret: String,
    },
    /// A query parameter.
    Query {
        /// The parameter's name.
        name: String,
        /// Name of the secret.
        secret: String,
    },
}
