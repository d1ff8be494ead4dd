//! What a grant permits, in plain words, for whoever has to trust it.

use super::{Grant, GrantSettings, Reach};
use crate::capability::credential::Auth;

impl Grant {
    /// One line for each entry that permits anything.
    pub(in crate::capability) fn permissions(&self) -> impl Iterator<Item = String> {
        let settings = self.entries.iter().map(|entry| &entry.settings);
        settings.filter(|settings| !settings.methods.is_empty()).map(GrantSettings::permission)
    }
}

/// What is done with a credential, and where it goes.
fn shown(auth: &Auth) -> String {
    let secrets = auth.secrets().join("`, `");
    match auth {
        Auth::Bearer { .. } | Auth::Basic { .. } | Auth::Header { .. } | Auth::Query { .. } => {
            format!("with the credential `{secrets}` attached")
        }
        Auth::Hmac(hmac) => format!("signed with `{secrets}` over `{}`", hmac.signed),
        Auth::AwsSigv4(_) => format!("signed with `{secrets}`"),
        Auth::Oauth2(oauth2) => {
            let endpoint = oauth2.token_url.display();
            format!("with a token attached that the host gets from {endpoint} for `{secrets}`")
        }
    }
}

impl GrantSettings {
    fn permission(&self) -> String {
        let mut text = format!("may {} {}", self.methods.join(", "), self.pattern);
        if let Some(auth) = &self.auth {
            text.push_str(", ");
            text.push_str(&shown(auth));
        }
        for place in &self.placeholders {
            text.push_str(&format!(
                ", with the secret `{}` put where the plugin asks for it in its {}",
                place.secret,
                place.part.label()
            ));
        }
        if self.identity.is_some() {
            text.push_str(", showing a client certificate");
        }
        if self.reach() == Reach::Private {
            text.push_str(", also at a private address");
        }
        for bound in self.bounds() {
            text.push_str(", ");
            text.push_str(&bound);
        }
        text
    }

    /// What narrows it.
    fn bounds(&self) -> impl Iterator<Item = String> {
        let bounds = [
            self.rate.map(|rate| format!("at most {rate}")),
            self.timeout.map(|timeout| format!("each within {timeout:?}")),
            self.max_request.map(|bytes| format!("with bodies of at most {bytes} bytes")),
            self.max_response.map(|bytes| format!("taking answers of at most {bytes} bytes")),
            self.idempotency.then(|| "with an idempotency key where the method is unsafe".to_owned()),
            self.breaker
                .map(|breaker| format!("none for {:?} after {} failures in a row", breaker.open, breaker.failures)),
        ];
        bounds.into_iter().flatten()
    }
}
