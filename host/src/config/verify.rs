//! `verify` of a webhook: who may send.
//!
//! Each scheme takes its own keys, and others beside it are problems. What must hold between keys is that whatever is
//! believed is also signed: a time or an id that anybody may change proves nothing.

use http::HeaderName;

use super::credential;
use super::problem::Report;
use super::view::View;
use crate::capability::http::target::{self, Target};
use crate::egress::address::Reach;
use crate::trigger::webhook::verify::event_id::{Place, Pointer};
use crate::trigger::webhook::verify::signature::Encoding;
use crate::trigger::webhook::verify::template::{Field, Template};
use crate::trigger::webhook::verify::{SECRETS_MAX, Scheme, Settings, hmac, jwt};

/// What is written when nothing else is.
const ALGORITHMS_USUAL: [&str; 3] = ["RS256", "ES256", "EdDSA"];

/// The keys that a scheme takes beside `scheme` and `id`; `None` where there is no such scheme.
fn keys_of(scheme: &str) -> Option<&'static [&'static str]> {
    Some(match scheme {
        "standard-webhooks" | "slack" | "stripe" => &["secret", "secrets", "window"],
        "github" | "gitlab" | "shopify" | "twilio" | "bearer" => &["secret", "secrets"],
        "hmac" => &["secret", "secrets", "header", "prefix", "encoding", "algorithm", "signed", "timestamp", "window"],
        "basic" => &["secret", "secrets", "user"],
        "jwt" => &["jwks", "private", "issuer", "audience", "subject", "algorithms", "window"],
        "none" => &[],
        _ => return None,
    })
}

/// Reads `verify` of `webhook`; `secrets` are the names in `[secrets]`.
pub(super) fn verify(webhook: &View<'_>, secrets: &[&str], report: &mut Report<'_>) -> Option<Settings> {
    let Some(view) = webhook.child("verify") else {
        let open = Settings { scheme: Scheme::Open, secrets: Vec::new(), window: std::time::Duration::ZERO, id: None };
        return webhook.text("verify").filter(|word| *word == "none").map(|_| open);
    };
    let word = view.text("scheme")?;
    let own = keys_of(word)?;
    check_keys(&view, word, own, report);
    let id = id(&view, report);
    let names = if own.contains(&"secret") { self::secrets(&view, secrets, report) } else { Some(Vec::new()) };
    let scheme = scheme(&view, word, id.as_ref(), report);
    if word == "standard-webhooks" && matches!(id, Some(Place::Header(_))) {
        let help = "take it out: the id is `webhook-id`, which is signed; no other header is";
        report.problem(view.place_of("id"), &view.path_of("id"), "an id that nobody signs", help);
    }
    Some(Settings { scheme: scheme?, secrets: names?, window: view.duration("window"), id })
}

fn check_keys(view: &View<'_>, scheme: &str, own: &[&str], report: &mut Report<'_>) {
    let foreign = view.written().filter(|key| !own.contains(key) && !["scheme", "id"].contains(key));
    for key in foreign {
        let allowed: Vec<&str> = own.iter().copied().chain(["id"]).collect();
        let help = format!("take it out; `{scheme}` takes {}", allowed.join(", "));
        report.problem(view.place_of(key), &view.path_of(key), format!("not a key of `{scheme}`"), help);
    }
}

fn secrets(view: &View<'_>, known: &[&str], report: &mut Report<'_>) -> Option<Vec<String>> {
    let list = view.texts("secrets");
    let problem = match (view.has("secret"), view.has("secrets")) {
        (true, false) => return credential::secret(view, "secret", known, report).map(|name| vec![name]),
        (false, true) if (1..=SECRETS_MAX).contains(&list.len()) => None,
        (false, true) => Some(("secrets", "not a list of 1 to 8 names of secrets")),
        (true, true) => Some(("secrets", "`secret` and `secrets` together")),
        (false, false) => Some(("", "there is no secret to check with")),
    };
    if let Some((key, message)) = problem {
        let path = if key.is_empty() { view.path.clone() } else { view.path_of(key) };
        let help = "write `secret = \"NAME\"`, or `secrets = [\"NEW\", \"OLD\"]` while one takes over from the other";
        report.problem(view.place_of(key), &path, message, help);
        return None;
    }
    let mut names = Vec::new();
    for (index, (name, node)) in list.into_iter().enumerate() {
        if known.contains(&name) {
            names.push(name.to_owned());
        } else {
            let path = format!("{}[{index}]", view.path_of("secrets"));
            credential::unknown_secret(node.place, &path, name, known, report);
        }
    }
    Some(names)
}

fn id(view: &View<'_>, report: &mut Report<'_>) -> Option<Place> {
    let id = view.child("id")?;
    if let Some(header) = header(&id, "header") {
        return Some(Place::Header(header));
    }
    match Pointer::parse(id.text("pointer")?) {
        Ok(pointer) => Some(Place::Pointer(pointer)),
        Err(message) => {
            let help = "write a JSON pointer, as in \"/event/id\"";
            report.problem(id.place_of("pointer"), &id.path_of("pointer"), message, help);
            None
        }
    }
}

/// A name of the wrong form has been reported.
fn header(view: &View<'_>, key: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(view.text(key)?.as_bytes()).ok()
}

fn scheme(view: &View<'_>, word: &str, id: Option<&Place>, report: &mut Report<'_>) -> Option<Scheme> {
    Some(match word {
        "none" => Scheme::Open,
        "standard-webhooks" => Scheme::StandardWebhooks,
        "github" => Scheme::GitHub,
        "gitlab" => Scheme::GitLab,
        "shopify" => Scheme::Shopify,
        "slack" => Scheme::Slack,
        "stripe" => Scheme::Stripe,
        "twilio" => Scheme::Twilio,
        "hmac" => Scheme::Hmac(Box::new(hmac(view, id, report)?)),
        "bearer" => Scheme::Bearer,
        "basic" => Scheme::Basic(user(view, report)),
        "jwt" => Scheme::Jwt(Box::new(jwt(view, report)?)),
        _ => return None,
    })
}

/// A colon ends the user's name.
fn user(view: &View<'_>, report: &mut Report<'_>) -> Option<String> {
    let user = view.text("user")?;
    if user.is_empty() || user.contains(':') {
        let help = "write the user's name, without `:`";
        report.problem(view.place_of("user"), &view.path_of("user"), "not a user of Basic authentication", help);
    }
    Some(user.to_owned())
}

fn hmac(view: &View<'_>, id: Option<&Place>, report: &mut Report<'_>) -> Option<hmac::Settings> {
    let carrier = needed(view, "header", "add `header = \"X-Signature\"`, where the signature is", report)
        .and_then(|_| header(view, "header"));
    let prefix = view.text("prefix").unwrap_or_default();
    if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        let help = "use printable ASCII, as in \"sha256=\"";
        report.problem(view.place_of("prefix"), &view.path_of("prefix"), "not the beginning of a header", help);
    }
    let signed = match Template::parse(view.text("signed")?) {
        Ok(signed) => signed,
        Err(message) => {
            let help = "write what the sender signs, as in \"{timestamp}.{body}\"";
            report.problem(view.place_of("signed"), &view.path_of("signed"), message, help);
            return None;
        }
    };
    check_signed(view, &signed, id, report);
    Some(hmac::Settings {
        other_header: None,
        header: carrier?,
        prefix: prefix.to_owned(),
        encoding: match view.text("encoding") {
            Some("base64") => Encoding::Base64,
            Some("base64url") => Encoding::Base64Url,
            _ => Encoding::Hex,
        },
        algorithm: match view.text("algorithm") {
            Some("sha1") => hmac::Algorithm::Sha1,
            Some("sha512") => hmac::Algorithm::Sha512,
            _ => hmac::Algorithm::Sha256,
        },
        timestamp: header(view, "timestamp"),
        id: id.filter(|_| signed.has(Field::Id)).and_then(|place| match place {
            Place::Header(name) => Some(name.clone()),
            Place::Pointer(_) => None,
        }),
        signed,
    })
}

/// What is believed must be signed, and what is signed must be somewhere.
fn check_signed(view: &View<'_>, signed: &Template, id: Option<&Place>, report: &mut Report<'_>) {
    let mut problem = |key, message, help| report.problem(view.place_of(key), &view.path_of(key), message, help);
    match (view.has("timestamp"), signed.has(Field::Timestamp)) {
        (true, false) => {
            problem("timestamp", "a time that nobody signs", "put `{timestamp}` where the sender has it in `signed`");
        }
        (false, true) => {
            problem("signed", "nothing says where `{timestamp}` is", "add `timestamp = \"HEADER\"`");
        }
        (false, false) if view.has("window") => {
            problem("window", "nothing says when a request was signed", "take it out, or add `timestamp`");
        }
        _ => {}
    }
    if signed.has(Field::Id) && !matches!(id, Some(Place::Header(_))) {
        problem("signed", "nothing says where `{id}` is", "add `id = { header = \"HEADER\" }`");
    }
}

fn jwt(view: &View<'_>, report: &mut Report<'_>) -> Option<jwt::Settings> {
    let jwks =
        needed(view, "jwks", "add `jwks = \"https://…/jwks.json\"`, where the issuer publishes its keys", report);
    let issuer = needed(view, "issuer", "add `issuer = \"https://…\"`, as `iss` of a token has it", report);
    let audience = needed(
        view,
        "audience",
        "add `audience = \"…\"`, as `aud` of a token has it: what is for others is no good here",
        report,
    );
    let jwks = jwks.and_then(|text| jwks_url(view, text, report));
    let written: Vec<&str> = view.texts("algorithms").into_iter().map(|(name, _)| name).collect();
    if view.has("algorithms") && written.is_empty() {
        let help = "name one, or take the key out";
        report.problem(view.place_of("algorithms"), &view.path_of("algorithms"), "lets no token in", help);
    }
    let wanted = if view.has("algorithms") { &written[..] } else { &ALGORITHMS_USUAL };
    let algorithms = jwt::ALGORITHMS.iter().filter(|(name, _)| wanted.contains(name)).map(|(_, algorithm)| *algorithm);
    Some(jwt::Settings {
        jwks: jwks?,
        reach: if view.boolean("private") { Reach::Private } else { Reach::Public },
        issuer: issuer?.to_owned(),
        audience: audience?.to_owned(),
        subject: view.text("subject").map(str::to_owned),
        algorithms: algorithms.collect(),
    })
}

/// Over TLS, or at a private place that is written out.
fn jwks_url(view: &View<'_>, text: &str, report: &mut Report<'_>) -> Option<Target> {
    let private = view.boolean("private");
    let (message, help) = match Target::parse(text) {
        Ok(url) if private && !url.names_port() => {
            ("a private address needs its port", "write the port out, as in \"http://10.0.0.5:8080/jwks.json\"")
        }
        Ok(url) if url.scheme() == target::Scheme::Http && !private => {
            ("keys need TLS", "write `https://`; plain http is for private places: `private = true`")
        }
        Ok(url) => return Some(url),
        Err(message) => (message, ""),
    };
    report.problem(view.place_of("jwks"), &view.path_of("jwks"), message, help);
    None
}

/// A key that the scheme cannot do without.
fn needed<'a>(view: &View<'a>, key: &str, help: &str, report: &mut Report<'_>) -> Option<&'a str> {
    let text = view.text(key).filter(|text| !text.is_empty());
    if text.is_none() {
        report.problem(view.place_of(key), &view.path_of(key), "missing", help);
    }
    text
}
