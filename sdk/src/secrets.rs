//! Secrets by name. A connector holds handles; the value stays with the host unless `allow.secrets` grants it.

use std::fmt;

use crate::{Failure, host};

/// Not granted, or not there: the two look the same. As a [`Failure`], a rejection.
///
/// ```
/// use bulkhead_sdk::{Failure, secrets};
///
/// assert!(!Failure::from(secrets::Error("token is unavailable".into())).is_retry());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::reject(error.0)
    }
}

/// A secret that the host holds.
///
/// ```
/// use bulkhead_sdk::prelude::*;
/// use bulkhead_sdk::testing::Host;
///
/// let _host = Host::new().secret("token", "s3cret").install();
/// let secret = secrets::get("token")?;
/// assert_ne!(secret.placeholder(), "s3cret");
/// # Ok::<(), Failure>(())
/// ```
#[derive(Debug)]
pub struct Secret(pub(crate) host::SecretHandle);

impl Secret {
    /// Text to put into a request part that the grant's `placeholders` name; the gate replaces it with the value on the way out.
    ///
    /// ```
    /// # use bulkhead_sdk::{prelude::*, testing::Host};
    /// # let _host = Host::new().secret("token", "s3cret").install();
    /// let url = format!("https://api.example.com/bot{}/send", secrets::get("token")?.placeholder());
    /// # assert!(!url.contains("s3cret"));
    /// # Ok::<(), Failure>(())
    /// ```
    #[must_use]
    pub fn placeholder(&self) -> String {
        self.0.placeholder()
    }

    /// The value itself, for what the host cannot do on a connector's behalf. Needs `allow.secrets`; every use is audited.
    ///
    /// ```
    /// # use bulkhead_sdk::{prelude::*, testing::Host};
    /// # let _host = Host::new().secret("token", "s3cret").install();
    /// assert_eq!(secrets::get("token")?.reveal()?, b"s3cret");
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// When it is not granted.
    pub fn reveal(&self) -> Result<Vec<u8>, Error> {
        self.0.reveal()
    }
}

/// The handle of a secret.
///
/// ```
/// # use bulkhead_sdk::{prelude::*, testing::Host};
/// # let _host = Host::new().install();
/// assert!(secrets::get("nothing").is_err());
/// ```
///
/// # Errors
/// When it is not granted, or not there.
pub fn get(name: &str) -> Result<Secret, Error> {
    Ok(Secret(host::secret(name)?))
}
