//! A signed statement of who asks (RFC 7523), which a token endpoint exchanges for an access token.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Unfit;
use crate::id;
use crate::mask::Secret;

/// `assertion` of `oauth2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the secret that is the private key, in PEM.
    pub key: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// `kid`, where the receiver knows several keys.
    pub key_id: Option<String>,
    /// `iss`.
    pub issuer: String,
    /// `sub`, where the token is to be somebody else's.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: String,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
}

/// How a statement is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
}

impl Settings {
    /// The statement; `now` is in seconds since the Unix epoch, `key` is PEM.
    pub(crate) fn statement(&self, key: &Secret, scope: &str, now: i64) -> Result<Secret, Unfit> {
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&self.header()), encode(&self.claims(scope, now)));
        let signature = self.sign(key, signed.as_bytes())?;
        Ok(Secret::new(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)).into_bytes()))
    }

    fn header(&self) -> Value {
        let algorithm = match self.algorithm {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
        };
        let mut header = json!({ "alg": algorithm, "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = key_id.clone().into();
        }
        header
    }

    fn claims(&self, scope: &str, now: i64) -> Value {
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let mut claims = Map::new();
        claims.insert("iss".into(), self.issuer.clone().into());
        claims.insert("sub".into(), self.subject.as_ref().unwrap_or(&self.issuer).clone().into());
        claims.insert("aud".into(), self.audience.clone().into());
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), now.saturating_add(lifetime).into());
        claims.insert("jti".into(), id::random().into());
        if !scope.is_empty() {
            // Some endpoints read it here, others among the parameters.
            claims.insert("scope".into(), scope.into());
        }
        Value::Object(claims)
    }

    fn sign(&self, key: &Secret, text: &[u8]) -> Result<Vec<u8>, Unfit> {
        let key = PrivateKeyDer::from_pem_slice(key.expose()).map(Zeroizing::new).map_err(|_| Unfit)?;
        let random = SystemRandom::new();
        match self.algorithm {
            Algorithm::Rs256 => {
                let pair = match &*key {
                    PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
                    key => RsaKeyPair::from_pkcs8(key.secret_der()),
                };
                let pair = pair.map_err(|_| Unfit)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map_err(|_| Unfit)?;
                Ok(signature)
            }
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der());
                let signature = pair.map_err(|_| Unfit)?.sign(&random, text).map_err(|_| Unfit)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{self, KeyPair, UnparsedPublicKey};

    fn pem(der: &[u8]) -> Secret {
        let text = data_encoding::BASE64.encode(der);
        Secret::new(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n").into_bytes())
    }

    fn settings(algorithm: Algorithm) -> Settings {
        Settings {
            key: "key".into(),
            algorithm,
            key_id: Some("k1".into()),
            issuer: "me".into(),
            subject: None,
            audience: "https://auth.example/token".into(),
            lifetime: Duration::from_secs(300),
        }
    }

    fn check(algorithm: Algorithm, key: &Secret, verify: impl Fn(&[u8], &[u8]) -> bool) {
        let statement = settings(algorithm).statement(key, "read write", 1_000).unwrap();
        let text = std::str::from_utf8(statement.expose()).unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        assert!(verify(signed.as_bytes(), &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()));
        let parts: Vec<Value> = signed
            .split('.')
            .map(|part| serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap())
            .collect();
        assert_eq!((parts[0]["kid"].as_str(), parts[1]["exp"].as_i64()), (Some("k1"), Some(1_300)));
        assert_eq!((parts[1]["iss"].as_str(), parts[1]["scope"].as_str()), (Some("me"), Some("read write")));
    }

    #[test]
    fn what_is_signed_is_verified_by_the_public_key() {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, rsa.public_key().as_ref().to_vec());
        let verify = |text: &[u8], tag: &[u8]| public.verify(text, tag).is_ok();
        check(Algorithm::Rs256, &pem(AsDer::as_der(&rsa).unwrap().as_ref()), verify);
        let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, ecdsa.public_key().as_ref().to_vec());
        let verify = |text: &[u8], tag: &[u8]| public.verify(text, tag).is_ok();
        check(Algorithm::Es256, &pem(ecdsa.to_pkcs8v1().unwrap().as_ref()), verify);
    }

    #[test]
    fn a_key_of_another_kind_does_not_fit() {
        let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = pem(ecdsa.to_pkcs8v1().unwrap().as_ref());
        assert_eq!(settings(Algorithm::Rs256).statement(&key, "", 0), Err(Unfit));
        assert_eq!(settings(Algorithm::Es256).statement(&Secret::new(b"no key".to_vec()), "", 0), Err(Unfit));
    }
}
