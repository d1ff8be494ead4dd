//! Senders that show a secret instead of signing with it: bearer tokens, passwords, GitLab's token.
//!
//! They prove who sends, and nothing of what is sent.

use data_encoding::BASE64_NOPAD;
use http::HeaderName;
use zeroize::Zeroizing;

use super::key::{Key, Ring};
use super::signature::is_same;
use super::{Incoming, Refused, header};

/// GitLab's header.
pub(super) const GITLAB: HeaderName = HeaderName::from_static("x-gitlab-token");

/// `Authorization: Bearer`.
pub(super) fn bearer(ring: &Ring, incoming: &Incoming<'_>) -> Result<(), Refused> {
    shown(ring, header::authorization(incoming.headers, "bearer")?.as_bytes())
}

/// `Authorization: Basic`; `user` is the one that alone may send.
pub(super) fn basic(ring: &Ring, user: Option<&str>, incoming: &Incoming<'_>) -> Result<(), Refused> {
    let text = header::authorization(incoming.headers, "basic")?;
    let pair = BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).map(Zeroizing::new);
    let pair = pair.map_err(|_| Refused::Malformed)?;
    let colon = pair.iter().position(|byte| *byte == b':').ok_or(Refused::Malformed)?;
    let is_user = user.is_none_or(|user| is_same(user.as_bytes(), &pair[..colon]));
    // The password is compared in any case: how long it takes does not tell whether there is such a user.
    let password = shown(ring, &pair[colon + 1..]);
    if is_user { password } else { Err(Refused::Wrong) }
}

/// `X-Gitlab-Token`.
pub(super) fn gitlab(ring: &Ring, incoming: &Incoming<'_>) -> Result<(), Refused> {
    shown(ring, header::needed(incoming.headers, &GITLAB)?.as_bytes())
}

fn shown(ring: &Ring, presented: &[u8]) -> Result<(), Refused> {
    ring.first(|key| match key {
        Key::Plain(secret) => is_same(secret.expose(), presented).then_some(()),
        Key::Hmac(_) | Key::Ed25519(_) => None,
    })
}
