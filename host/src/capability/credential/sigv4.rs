//! AWS Signature Version 4, in the `Authorization` header, as AWS documents it.
//!
//! AWS's own crate signs; what is signed, and how each kind of service wants it, is decided here. The query is sent in its
//! canonical form, so that what is signed is what is sent. The published vectors are the test.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode};
use tracing::dispatcher::{Dispatch, with_default};
use url::{Url, form_urlencoded};

use super::{Draft, Unattached, Unfit, Values, place};
use crate::mask::Secret;

/// `aws_sigv4` of a grant; strings in the positions of keys are names in `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the secret that is the access key's id.
    pub access_key: String,
    /// Name of the secret that is the access key.
    pub secret_key: String,
    /// Name of the secret that is the session token, with temporary keys.
    pub session_token: Option<String>,
    /// As in `eu-central-1`.
    pub region: String,
    /// As in `s3` or `sqs`.
    pub service: String,
}

/// What is known of a body before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Known(&'a [u8]),
    /// Only where it is not signed.
    Unsigned,
}

impl<'a> Payload<'a> {
    /// The body, where it is known.
    pub(crate) fn known(self) -> Option<&'a [u8]> {
        match self {
            Self::Known(body) => Some(body),
            Self::Unsigned => None,
        }
    }
}

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// Where the signer believes the keys to come from; it is never sent.
const PROVIDER: &str = "bulkhead";

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

impl Settings {
    /// Whether the body stays out of the signature: S3 over TLS, which protects it by itself.
    #[must_use]
    pub fn is_body_unsigned(&self, url: &Url) -> bool {
        self.is_s3() && url.scheme() == "https"
    }

    fn is_s3(&self) -> bool {
        matches!(self.service.as_str(), "s3" | "s3express" | "s3-object-lambda" | "s3-outposts")
    }

    /// Signs with the present keys; answers them.
    pub(super) fn attach(&self, values: &Values<'_>, draft: &mut Draft<'_>) -> Result<Vec<Secret>, Unattached> {
        let (access_key, secret_key) = (values.get(&self.access_key)?, values.get(&self.secret_key)?);
        let session_token = self.session_token.as_ref().map(|name| values.get(name)).transpose()?;
        let keys = credentials(&access_key, &secret_key, session_token.as_ref())?;
        let payload = if self.is_body_unsigned(draft.url) { Payload::Unsigned } else { draft.body };
        self.sign(keys, draft, payload, values.now)?;
        Ok([access_key, secret_key].into_iter().chain(session_token).collect())
    }

    /// Signs a request that is ready otherwise; `now` is in seconds since the Unix epoch.
    fn sign(&self, keys: Credentials, draft: &mut Draft<'_>, payload: Payload<'_>, now: i64) -> Result<(), Unfit> {
        let (headers, url) = (&mut *draft.headers, &mut *draft.url);
        for owned in [AUTHORIZATION, DATE, TOKEN, CONTENT] {
            headers.remove(owned);
        }
        let query = canonical_query(url);
        url.set_query((!query.is_empty()).then_some(&query));
        let identity = keys.into();
        let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(now).map_err(|_| Unfit)?);
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(time)
            .settings(self.kind())
            .build()
            .map_err(|_| Unfit)?
            .into();
        let body = match payload {
            Payload::Known(body) => SignableBody::Bytes(body),
            Payload::Unsigned => SignableBody::UnsignedPayload,
        };
        let signed_url = self.signed_url(url);
        let request = SignableRequest::new(draft.method.as_str(), signed_url, signed_headers(headers)?, body);
        let request = request.map_err(|_| Unfit)?;
        // The signer traces what it is given, an id of a key and a token among it: nobody listens meanwhile.
        let signed = with_default(&Dispatch::none(), || sign(request, &parameters)).map_err(|_| Unfit)?;
        for (name, value) in signed.output().headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unfit)?;
            place(headers, name, &[value.as_bytes()])?;
        }
        Ok(())
    }

    /// S3 decodes the path before it checks the signature, and encodes it in its own way.
    fn signed_url(&self, url: &Url) -> String {
        let mut signed = url.clone();
        if self.is_s3() {
            let decoded = percent_decode_str(url.path()).collect::<Vec<u8>>();
            signed.set_path(&percent_encode(&decoded, RESERVED_IN_PATH).to_string());
        }
        signed.into()
    }

    /// S3 takes the path as it is sent, and a hash of the body in a header; the others take the path without empty
    /// segments, and encoded once more.
    fn kind(&self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        if self.is_s3() {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        settings
    }
}

/// The keys as the signer takes them, who overwrites them when they are dropped.
fn credentials(access_key: &Secret, secret_key: &Secret, session_token: Option<&Secret>) -> Result<Credentials, Unfit> {
    let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).map_err(|_| Unfit);
    let session_token = session_token.map(text).transpose()?;
    Ok(Credentials::new(text(access_key)?, text(secret_key)?, session_token, None, PROVIDER))
}

fn canonical_query(url: &Url) -> String {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let pairs = form_urlencoded::parse(url.query().unwrap_or_default().as_bytes());
    let mut pairs: Vec<(String, String)> = pairs.map(|(name, value)| (encode(&name), encode(&value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// What a proxy on the way may change stays out of the signature; `Host` comes from the URL.
fn signed_headers(headers: &HeaderMap) -> Result<std::vec::IntoIter<(&str, &str)>, Unfit> {
    let is_signed =
        |name: &str| name.starts_with("x-amz-") || matches!(name, "content-type" | "content-md5" | "date" | "range");
    let signed = headers.iter().filter(|(name, _)| is_signed(name.as_str()));
    let text =
        signed.map(|(name, value)| Ok((name.as_str(), std::str::from_utf8(value.as_bytes()).map_err(|_| Unfit)?)));
    Ok(text.collect::<Result<Vec<_>, Unfit>>()?.into_iter())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use http::header::HeaderValue;

    use super::*;

    struct Case<'a> {
        method: Method,
        url: &'a str,
        headers: &'a [(&'static str, &'a str)],
        body: &'a [u8],
        token: Option<&'a str>,
        expected: &'a str,
    }

    fn check(service: &str, keys: (&str, &str), now: i64, case: &Case<'_>) {
        let settings = Settings {
            access_key: "a".into(),
            secret_key: "b".into(),
            session_token: None,
            region: "us-east-1".into(),
            service: service.into(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in case.headers {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let mut url = Url::parse(case.url).unwrap();
        let keys = Credentials::new(keys.0, keys.1, case.token.map(str::to_owned), None, PROVIDER);
        let body = Payload::Known(case.body);
        let mut draft = Draft { method: &case.method, headers: &mut headers, url: &mut url, body };
        settings.sign(keys, &mut draft, body, now).unwrap();
        let value = headers[AUTHORIZATION].to_str().unwrap();
        assert!(value.ends_with(case.expected), "{} {}: {value}", case.method, case.url);
    }

    /// The suite `aws-sig-v4-test-suite` that AWS publishes. Some of its cases cannot come out:
    ///
    /// - `get-header-key-duplicate`, `get-header-value-multiline`, `get-header-value-order`, `get-header-value-trim`,
    ///   `post-header-key-sort` and `post-header-value-case` sign `My-Header1` and its like, which a proxy on the way may
    ///   change: they are sent, and stay out of the signature.
    /// - `get-relative`, `get-relative-relative`, `get-slash-dot-slash` and `get-slash-pointless-dot` ask for paths with
    ///   dots, `get-space` for one with a space, `get-utf8` and `get-vanilla-utf8-query` for what is not ASCII: a grant's
    ///   URL has none of these as it is, so that no such request gets as far as the signature.
    /// - `post-sts-header-after` adds the session token to what is signed already: here it is always signed.
    #[test]
    fn the_published_vectors_come_out() {
        let check = |method: Method, url: &str, headers: &[(&'static str, &str)], body: &[u8], expected: &str| {
            let keys = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
            check("service", keys, 1_440_938_160, &Case { method, url, headers, body, token: None, expected });
        };
        let root = "https://example.amazonaws.com/";
        let whole = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        check(Method::GET, root, &[], b"", whole);
        // What the plugin wrote in these places is replaced.
        check(Method::GET, root, &[("authorization", "mine"), ("x-amz-security-token", "mine")], b"", whole);
        let sorted = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        check(Method::GET, &format!("{root}?Param2=value2&Param1=value1"), &[], b"", sorted);
        check(Method::GET, &format!("{root}/"), &[], b"", whole);
        let posted = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        check(Method::POST, root, &[], b"", posted);
        let form = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        check(Method::POST, root, &kind, b"Param1=value1", form);
    }

    /// From the documentation of Signature Version 4, and of S3.
    #[test]
    fn the_documented_examples_come_out() {
        let keys = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let list = Case {
            method: Method::GET,
            url: "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            body: b"",
            token: None,
            expected: "SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        };
        check("iam", keys, 1_440_938_160, &list);
        let check = |method: Method, path: &str, headers: &[(&'static str, &str)], body: &[u8], expected: &str| {
            let keys = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
            let url = &format!("https://examplebucket.s3.amazonaws.com{path}");
            check("s3", keys, 1_369_353_600, &Case { method, url, headers, body, token: None, expected });
        };
        let ranged = "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        check(Method::GET, "/test.txt", &[("range", "bytes=0-9")], b"", ranged);
        let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let stored = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        check(Method::PUT, "/test$file.text", &put, b"Welcome to Amazon S3.", stored);
        let lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        check(Method::GET, "/?lifecycle", &[], b"", lifecycle);
        let listed = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        check(Method::GET, "/?max-keys=2&prefix=J", &[], b"", listed);
    }

    #[test]
    fn s3_takes_a_path_in_its_own_spelling_and_the_others_take_what_is_sent() {
        let settings = |service: &str| Settings {
            access_key: "a".into(),
            secret_key: "b".into(),
            session_token: None,
            region: "r".into(),
            service: service.into(),
        };
        for (path, s3) in [("/a%20b//c:d/", "/a%20b//c%3Ad/"), ("/%E1%88%B4", "/%E1%88%B4"), ("/%24$", "/%24%24")] {
            let url = Url::parse(&format!("https://example.com{path}?x=1")).unwrap();
            assert_eq!(settings("s3").signed_url(&url), format!("https://example.com{s3}?x=1"));
            assert_eq!(settings("sqs").signed_url(&url), url.as_str());
        }
    }

    #[test]
    fn a_session_token_is_sent_and_signed() {
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let case = Case {
            method: Method::POST,
            url: "https://example.amazonaws.com/",
            headers: &[],
            body: b"",
            token: Some(token),
            expected: "SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        };
        check("service", ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), 1_440_938_160, &case);
    }
}
