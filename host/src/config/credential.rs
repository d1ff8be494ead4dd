//! `auth` and `placeholders` of an http grant: which secret goes where.
//!
//! Checks that named secrets exist. Invariant: what is written in the place of a secret's name is never repeated, because
//! it may be the value, pasted by mistake.

use super::document::Place;
use super::problem::{Report, suggestion};
use super::schema::Kind;
use super::validate::is_name;
use super::view::View;
use crate::capability::credential::oauth2::{ClientAuth, Flow};
use crate::capability::credential::{Auth, Setting, hmac, jwt, oauth2, placeholder, sigv4};
use crate::capability::http::header::is_same;
use crate::capability::http::target::{Scheme, Target};

/// Reads `auth`; `secrets` are the names in `[secrets]`, `private` is the grant's.
pub(super) fn auth(view: &View<'_>, secrets: &[&str], private: bool, report: &mut Report<'_>) -> Option<Auth> {
    if view.has("bearer") {
        return Some(Auth::Bearer { secret: secret(view, "bearer", secrets, report)? });
    }
    if let Some(basic) = view.child("basic") {
        return self::basic(&basic, secrets, report);
    }
    if let Some(header) = view.child("header") {
        return self::header(&header, secrets, report);
    }
    if let Some(query) = view.child("query") {
        check_settings(&query, &[("name", Setting::Parameter)], report);
        let secret = secret(&query, "secret", secrets, report)?;
        return Some(Auth::Query { name: query.text("name")?.to_owned(), secret });
    }
    if let Some(hmac) = view.child("hmac") {
        return self::hmac(&hmac, secrets, report).map(Auth::Hmac);
    }
    if let Some(oauth2) = view.child("oauth2") {
        return self::oauth2(&oauth2, secrets, private, report).map(Box::new).map(Auth::Oauth2);
    }
    aws_sigv4(&view.child("aws_sigv4")?, secrets, report).map(Auth::AwsSigv4)
}

fn basic(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Auth> {
    let (user, secret) = user_and_password(view, secrets, report)?;
    Some(Auth::Basic { user, secret })
}

/// A user's name, and the name of the secret that is the password.
pub(super) fn user_and_password(
    view: &View<'_>,
    secrets: &[&str],
    report: &mut Report<'_>,
) -> Option<(String, String)> {
    check_settings(view, &[("user", Setting::User)], report);
    let password = secret(view, "password", secrets, report)?;
    Some((view.text("user")?.to_owned(), password))
}

fn header(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Auth> {
    check_settings(view, &[("name", Setting::Header), ("prefix", Setting::Prefix)], report);
    let secret = secret(view, "secret", secrets, report)?;
    let prefix = view.text("prefix").unwrap_or_default().to_owned();
    Some(Auth::Header { name: view.text("name")?.to_owned(), prefix, secret })
}

fn hmac(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<hmac::Settings> {
    let settings = [("header", Setting::Header), ("prefix", Setting::Prefix), ("timestamp", Setting::Header)];
    check_settings(view, &settings, report);
    let signed = signed(view, report);
    check_timestamp(view, signed.as_ref()?, report);
    Some(hmac::Settings {
        header: view.text("header")?.to_owned(),
        prefix: view.text("prefix").unwrap_or_default().to_owned(),
        signed: signed?,
        timestamp: view.text("timestamp").map(str::to_owned),
        algorithm: if view.text("algorithm") == Some("sha512") {
            hmac::Algorithm::Sha512
        } else {
            hmac::Algorithm::Sha256
        },
        encoding: if view.text("encoding") == Some("base64") { hmac::Encoding::Base64 } else { hmac::Encoding::Hex },
        secret: secret(view, "secret", secrets, report)?,
    })
}

/// What is signed. Nothing of the text is repeated: a variable may have been filled in.
fn signed(view: &View<'_>, report: &mut Report<'_>) -> Option<hmac::Template> {
    match hmac::Template::parse(view.text("signed")?) {
        Ok(template) => Some(template),
        Err(problem) => {
            let help = match &problem {
                hmac::Unreadable::Unknown(name) => suggestion(name, &hmac::NAMES),
                hmac::Unreadable::Unpaired | hmac::Unreadable::Constant => {
                    "write it as in \"{timestamp}.{body}\"".to_owned()
                }
            };
            report.problem(view.place_of("signed"), &view.path_of("signed"), problem.to_string(), help);
            None
        }
    }
}

/// A receiver can only check a time that it is told, and is told none that nothing vouches for.
fn check_timestamp(view: &View<'_>, signed: &hmac::Template, report: &mut Report<'_>) {
    let mut problem = |key: &str, message: &str, help: &str| {
        report.problem(view.place_of(key), &view.path_of(key), message, help);
    };
    match view.text("timestamp") {
        None if signed.has_timestamp() => {
            let help = "add `timestamp = \"HEADER\"`, the header that carries it";
            problem("signed", "the receiver is not told the timestamp that is signed", help);
        }
        Some(_) if !signed.has_timestamp() => {
            problem("timestamp", "the timestamp is not signed", "add `{timestamp}` to `signed`, or take it out");
        }
        Some(name) if view.text("header").is_some_and(|header| is_same(header, name)) => {
            problem("timestamp", "the signature stands in this header", "name another header");
        }
        Some(_) | None => {}
    }
}

/// A credential must not stand where it would change what the request is.
fn check_settings(view: &View<'_>, settings: &[(&str, Setting)], report: &mut Report<'_>) {
    for (key, setting) in settings {
        if let Some(Err(message)) = view.text(key).map(|text| setting.check(text)) {
            report.problem(view.place_of(key), &view.path_of(key), message, "");
        }
    }
}

fn oauth2(view: &View<'_>, secrets: &[&str], private: bool, report: &mut Report<'_>) -> Option<oauth2::Settings> {
    let token_url = token_url(view, private, report)?;
    let client_id = view.text("client_id")?.to_owned();
    let client_secret = secret_if(view, "client_secret", secrets, report)?;
    Some(oauth2::Settings {
        client_auth: if view.text("client_auth") == Some("body") { ClientAuth::Body } else { ClientAuth::Basic },
        scopes: view.texts("scopes").into_iter().map(|(scope, _)| scope.to_owned()).collect(),
        flow: flow(view, &token_url, &client_id, secrets, report)?,
        token_url,
        client_id,
        client_secret,
    })
}

fn flow(
    view: &View<'_>,
    token_url: &Target,
    client_id: &str,
    secrets: &[&str],
    report: &mut Report<'_>,
) -> Option<Flow> {
    if view.has("refresh_token") {
        if view.has("assertion") {
            let help = "keep one: each asks for tokens in its own way";
            report.problem(view.place_of("assertion"), &view.path, "`refresh_token` and `assertion` together", help);
        }
        return Some(Flow::RefreshToken(secret(view, "refresh_token", secrets, report)?));
    }
    if let Some(assertion) = view.child("assertion") {
        let own = |key: &str| assertion.text(key).map(str::to_owned);
        return Some(Flow::Assertion(jwt::Settings {
            key: secret(&assertion, "key", secrets, report)?,
            algorithm: if assertion.text("algorithm") == Some("ES256") {
                jwt::Algorithm::Es256
            } else {
                jwt::Algorithm::Rs256
            },
            key_id: own("key_id"),
            issuer: own("issuer").unwrap_or_else(|| client_id.to_owned()),
            subject: own("subject"),
            audience: own("audience").unwrap_or_else(|| token_url.url().to_string()),
            lifetime: assertion.duration("lifetime"),
        }));
    }
    if !view.has("client_secret") {
        let help = "add `client_secret`, `refresh_token` or `assertion`";
        report.problem(view.place, &view.path, "there is nothing to ask for a token with", help);
    }
    Some(Flow::ClientCredentials)
}

/// Over TLS, or to a place that is written out and said to be private beside it.
fn token_url(view: &View<'_>, private: bool, report: &mut Report<'_>) -> Option<Target> {
    match Target::parse(view.text("token_url")?) {
        Ok(url) if url.scheme() == Scheme::Http && !(private && url.names_port()) => {
            let help = "write `https://`; plain http is for private places: `private = true` and the port written out";
            report.problem(view.place_of("token_url"), &view.path_of("token_url"), "credentials need TLS", help);
            None
        }
        Ok(url) => Some(url),
        Err(message) => {
            report.problem(view.place_of("token_url"), &view.path_of("token_url"), message, "");
            None
        }
    }
}

fn aws_sigv4(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<sigv4::Settings> {
    for key in ["region", "service"] {
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if view.text(key).is_some_and(|text| !is_word(text)) {
            let help = "use letters, digits and `-`, as in \"eu-central-1\"";
            report.problem(view.place_of(key), &view.path_of(key), "not a name of AWS", help);
        }
    }
    Some(sigv4::Settings {
        access_key: secret(view, "access_key", secrets, report)?,
        secret_key: secret(view, "secret_key", secrets, report)?,
        session_token: secret_if(view, "session_token", secrets, report)?,
        region: view.text("region")?.to_owned(),
        service: view.text("service")?.to_owned(),
    })
}

/// Reads `placeholders` of a grant.
pub(super) fn placeholders(view: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Vec<placeholder::Settings> {
    let entries = view.children("placeholders");
    let entry = |entry: &View<'_>| {
        let part = match entry.text("in")? {
            "path" => placeholder::Part::Path,
            "query" => placeholder::Part::Query,
            "header" => placeholder::Part::Header,
            _ => placeholder::Part::Body,
        };
        Some(placeholder::Settings { secret: secret(entry, "secret", secrets, report)?, part })
    };
    entries.iter().filter_map(entry).collect()
}

/// As [`secret`], where it may be absent; `None` only for a name that does not exist.
fn secret_if(view: &View<'_>, key: &str, secrets: &[&str], report: &mut Report<'_>) -> Option<Option<String>> {
    if view.has(key) { secret(view, key, secrets, report).map(Some) } else { Some(None) }
}

/// The name of a secret that exists. What is written is not repeated: it may be the value, pasted by mistake.
pub(super) fn secret(view: &View<'_>, key: &str, secrets: &[&str], report: &mut Report<'_>) -> Option<String> {
    let name = view.text(key)?;
    if !secrets.contains(&name) {
        unknown_secret(view.place_of(key), &view.path_of(key), name, secrets, report);
        return None;
    }
    Some(name.to_owned())
}

/// Says that `[secrets]` has no such entry.
pub(super) fn unknown_secret(place: Place, path: &str, name: &str, secrets: &[&str], report: &mut Report<'_>) {
    if !is_name(name, &Kind::SecretName) {
        // Reported as such already.
        return;
    }
    let help = match secrets {
        [] => "add a table `[secrets]` with an entry such as `NAME = { env = \"VARIABLE\" }`".to_owned(),
        _ => suggestion(name, secrets),
    };
    report.problem(place, path, "not in `[secrets]`", help);
}
