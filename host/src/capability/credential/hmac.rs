//! A keyed signature over the body, in a header: how webhooks and many smaller APIs authenticate their sender.

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{HeaderMap, HeaderName};
use sha2::{Sha256, Sha512};

use super::{Unfit, place};
use crate::mask::Secret;

/// `hmac` of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The header that carries the signature.
    pub header: String,
    /// Stands before the signature, as in `sha256=`.
    pub prefix: String,
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
    /// Signs `body` as it will be sent.
    pub(crate) fn sign(&self, key: &Secret, headers: &mut HeaderMap, body: &[u8]) -> Result<(), Unfit> {
        let name = HeaderName::from_bytes(self.header.as_bytes()).map_err(|_| Unfit)?;
        let tag = match self.algorithm {
            Algorithm::Sha256 => tag::<Hmac<Sha256>>(key, body),
            Algorithm::Sha512 => tag::<Hmac<Sha512>>(key, body),
        };
        let text = match self.encoding {
            Encoding::Hex => HEXLOWER.encode(&tag),
            Encoding::Base64 => BASE64.encode(&tag),
        };
        place(headers, name, &[self.prefix.as_bytes(), text.as_bytes()])
    }
}

fn tag<Hash: Mac + KeyInit>(key: &Secret, body: &[u8]) -> Vec<u8> {
    let mut mac = <Hash as KeyInit>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
            let settings = Settings { header, prefix, algorithm, encoding, secret: String::new() };
            let mut headers = HeaderMap::new();
            headers.insert("x-signature", "mine".parse().unwrap());
            settings.sign(&Secret::new(b"Jefe".to_vec()), &mut headers, b"what do ya want for nothing?").unwrap();
            assert_eq!(headers["x-signature"], format!("v1={expected}").as_str());
        }
    }
}
