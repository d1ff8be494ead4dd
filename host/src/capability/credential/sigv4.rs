//! AWS Signature Version 4, in the `Authorization` header, as AWS documents it.
//!
//! Written here and not taken from AWS's crate, which brings a runtime of two dozen crates for what two of ours do; the
//! published vectors are the test. The query is sent in its canonical form, so that what is signed is what is sent.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

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

/// The values that [`Settings`] name.
struct Keys {
    access_key: Secret,
    secret_key: Secret,
    session_token: Option<Secret>,
}

/// What is known of a body before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Known(&'a [u8]),
    /// Only where [`Settings::is_body_unsigned`].
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

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

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
        let keys = Keys {
            access_key: values.get(&self.access_key)?,
            secret_key: values.get(&self.secret_key)?,
            session_token: self.session_token.as_ref().map(|name| values.get(name)).transpose()?,
        };
        let payload = if self.is_body_unsigned(draft.url) { Payload::Unsigned } else { draft.body };
        self.sign(&keys, draft, payload, values.now)?;
        Ok([keys.access_key, keys.secret_key].into_iter().chain(keys.session_token).collect())
    }

    /// Signs a request that is ready otherwise; `now` is in seconds since the Unix epoch.
    fn sign(&self, keys: &Keys, draft: &mut Draft<'_>, payload: Payload<'_>, now: i64) -> Result<(), Unfit> {
        let (headers, url) = (&mut *draft.headers, &mut *draft.url);
        let time = timestamp(now).ok_or(Unfit)?;
        let content = match payload {
            Payload::Known(body) => HEXLOWER.encode(&Sha256::digest(body)),
            Payload::Unsigned => UNSIGNED.to_owned(),
        };
        headers.remove(AUTHORIZATION);
        place(headers, DATE, &[time.as_bytes()])?;
        headers.remove(TOKEN);
        if let Some(token) = &keys.session_token {
            place(headers, TOKEN, &[token.expose()])?;
        }
        headers.remove(CONTENT);
        if self.is_s3() {
            place(headers, CONTENT, &[content.as_bytes()])?;
        }
        let query = canonical_query(url);
        url.set_query((!query.is_empty()).then_some(&query));
        let names = signed_names(headers);
        let request = self.canonical_request(draft.method, headers, url, &names, &content)?;
        self.authorize(keys, headers, &time, &names, &request)
    }

    fn authorize(
        &self,
        keys: &Keys,
        headers: &mut HeaderMap,
        time: &str,
        names: &[String],
        request: &str,
    ) -> Result<(), Unfit> {
        let scope = format!("{}/{}/{}/aws4_request", &time[..8], self.region, self.service);
        let digest = HEXLOWER.encode(&Sha256::digest(request));
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{digest}");
        let first = Zeroizing::new([b"AWS4", keys.secret_key.expose()].concat());
        let steps = [&time[..8], &self.region, &self.service, "aws4_request"];
        let key = steps.iter().fold(first, |key, step| Zeroizing::new(mac(&key, step.as_bytes())));
        let signature = HEXLOWER.encode(&mac(&key, text.as_bytes()));
        let names = names.join(";");
        let rest = format!("/{scope}, SignedHeaders={names}, Signature={signature}");
        let credential = [ALGORITHM.as_bytes(), b" Credential=", keys.access_key.expose(), rest.as_bytes()];
        place(headers, AUTHORIZATION, &credential)
    }

    fn canonical_request(
        &self,
        method: &Method,
        headers: &HeaderMap,
        url: &Url,
        names: &[String],
        content: &str,
    ) -> Result<Zeroizing<String>, Unfit> {
        let (path, query) = (self.canonical_path(url.path()), url.query().unwrap_or_default());
        let mut request = Zeroizing::new(format!("{method}\n{path}\n{query}\n"));
        for name in names {
            let value = match name.as_str() {
                "host" => host(url),
                name => canonical_value(headers, name)?,
            };
            // Writing into a String cannot fail.
            let _ = writeln!(request, "{name}:{value}");
        }
        let _ = write!(request, "\n{}\n{content}", names.join(";"));
        Ok(request)
    }

    /// S3 takes the path as it is sent; the others take it without empty segments, and encoded once more.
    fn canonical_path(&self, path: &str) -> String {
        if self.is_s3() {
            let decoded = percent_decode_str(path).collect::<Vec<u8>>();
            return percent_encoding::percent_encode(&decoded, RESERVED_IN_PATH).to_string();
        }
        let mut plain = String::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            plain.push('/');
            plain.push_str(segment);
        }
        if plain.is_empty() || path.ends_with('/') {
            plain.push('/');
        }
        utf8_percent_encode(&plain, RESERVED_IN_PATH).to_string()
    }
}

/// `20150830T123600Z`.
fn timestamp(now: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(now).ok()?;
    Some(time.strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn canonical_query(url: &Url) -> String {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let pairs = form_urlencoded::parse(url.query().unwrap_or_default().as_bytes());
    let mut pairs: Vec<(String, String)> = pairs.map(|(name, value)| (encode(&name), encode(&value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// What a proxy on the way may change stays out of the signature.
fn signed_names(headers: &HeaderMap) -> Vec<String> {
    let is_signed =
        |name: &str| name.starts_with("x-amz-") || matches!(name, "content-type" | "content-md5" | "date" | "range");
    let names = headers.keys().map(HeaderName::as_str).filter(|name| is_signed(name)).map(str::to_owned);
    let mut names: Vec<String> = names.chain(["host".to_owned()]).collect();
    names.sort();
    names
}

fn canonical_value(headers: &HeaderMap, name: &str) -> Result<String, Unfit> {
    let text = |value: &HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Unfit)?;
        Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    };
    let values: Result<Vec<String>, Unfit> = headers.get_all(name).iter().map(text).collect();
    Ok(values?.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

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
        let session_token = case.token.map(secret);
        let keys = Keys { access_key: secret(keys.0), secret_key: secret(keys.1), session_token };
        let body = Payload::Known(case.body);
        let mut draft = Draft { method: &case.method, headers: &mut headers, url: &mut url, body };
        settings.sign(&keys, &mut draft, body, now).unwrap();
        let value = headers[AUTHORIZATION].to_str().unwrap();
        assert!(value.ends_with(case.expected), "{} {}: {value}", case.method, case.url);
    }

    /// The suite `aws-sig-v4-test-suite` that AWS publishes.
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
    fn s3_takes_a_path_as_it_is_sent_and_the_others_encode_it_once_more() {
        let settings = |service: &str| Settings {
            access_key: "a".into(),
            secret_key: "b".into(),
            session_token: None,
            region: "r".into(),
            service: service.into(),
        };
        for (path, s3, other) in [
            ("/a%20b//c:d/", "/a%20b//c%3Ad/", "/a%2520b/c%3Ad/"),
            ("/%E1%88%B4", "/%E1%88%B4", "/%25E1%2588%25B4"),
            ("/", "/", "/"),
        ] {
            assert_eq!(settings("s3").canonical_path(path), s3);
            assert_eq!(settings("sqs").canonical_path(path), other);
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
