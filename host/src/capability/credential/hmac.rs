//! A keyed signature over the request, in a header: how webhooks and many smaller APIs authenticate their sender.
//!
//! What of the request is signed is the template's to say. Invariant: what is signed is what is sent, byte for byte.

mod template;

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use http::header::HeaderName;
use sha2::{Sha256, Sha512};

use super::{Draft, Unfit, place};
use crate::mask::Secret;

pub use template::{NAMES, Template, Unreadable};

/// `hmac` of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The header that carries the signature.
    pub header: String,
    /// Stands before the signature, as in `sha256=`.
    pub prefix: String,
    /// What is signed.
    pub signed: Template,
    /// The header that carries the time of signing, where that is signed.
    pub timestamp: Option<String>,
    /// The hash.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// Name of the secret that is the key.
    pub secret: String,
}

/// The hash under the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lower-case hexadecimal.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl Settings {
    /// Signs a request that is ready otherwise; `now` is in seconds since the Unix epoch.
    pub(super) fn sign(&self, key: &Secret, draft: &mut Draft<'_>, now: i64) -> Result<(), Unfit> {
        let timestamp = now.to_string();
        if let Some(header) = &self.timestamp {
            place(draft.headers, name(header)?, &[timestamp.as_bytes()])?;
        }
        let tag = match self.algorithm {
            Algorithm::Sha256 => self.tag::<Hmac<Sha256>>(key, draft, &timestamp)?,
            Algorithm::Sha512 => self.tag::<Hmac<Sha512>>(key, draft, &timestamp)?,
        };
        let text = match self.encoding {
            Encoding::Hex => HEXLOWER.encode(&tag),
            Encoding::Base64 => BASE64.encode(&tag),
        };
        place(draft.headers, name(&self.header)?, &[self.prefix.as_bytes(), text.as_bytes()])
    }

    fn tag<Hash: Mac + KeyInit>(&self, key: &Secret, draft: &Draft<'_>, timestamp: &str) -> Result<Vec<u8>, Unfit> {
        let mut mac = <Hash as KeyInit>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
        self.signed.each(draft, timestamp, |bytes| mac.update(bytes)).ok_or(Unfit)?;
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

fn name(header: &str) -> Result<HeaderName, Unfit> {
    HeaderName::from_bytes(header.as_bytes()).map_err(|_| Unfit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use http::header::HeaderMap;
    use url::Url;

    use super::*;
    use crate::capability::credential::sigv4::Payload;

    /// RFC 4231, test case 2.
    #[test]
    fn the_published_vectors_come_out() {
        let sha512 = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        for (algorithm, encoding, expected) in [
            (Algorithm::Sha256, Encoding::Hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (Algorithm::Sha256, Encoding::Base64, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="),
            (Algorithm::Sha512, Encoding::Hex, sha512),
        ] {
            let (header, prefix) = ("X-Signature".to_owned(), "v1=".to_owned());
            let (signed, timestamp, secret) = (Template::default(), None, String::new());
            let settings = Settings { header, prefix, signed, timestamp, algorithm, encoding, secret };
            let mut headers = HeaderMap::new();
            headers.insert("x-signature", "mine".parse().unwrap());
            let (mut url, body) = (Url::parse("https://a.example/").unwrap(), b"what do ya want for nothing?");
            let (headers_of, body) = (&mut headers, Payload::Known(body));
            let mut draft = Draft { method: &Method::POST, headers: headers_of, url: &mut url, body };
            settings.sign(&Secret::new(b"Jefe".to_vec()), &mut draft, 0).unwrap();
            assert_eq!(headers["x-signature"], format!("v1={expected}").as_str());
        }
    }
}
