//! Sends the request that a message describes, and publishes what came back: all that a plugin can see of it.
//!
//! `[NAME]` in the URL, the headers or the body becomes the placeholder of the secret NAME, `<NAME>` its value.

use bulkhead_sdk::prelude::*;

/// What a message describes.
#[derive(Deserialize)]
struct Errand {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    /// Secrets whose placeholders are used.
    #[serde(default)]
    place: Vec<String>,
    /// Secrets whose values are used.
    #[serde(default)]
    reveal: Vec<String>,
    /// Whether a status that is no success is a failure.
    #[serde(default)]
    check: bool,
}

/// What came back.
#[derive(Serialize)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

struct Courier;

impl Consumer for Courier {
    fn handle(message: Message) -> Result<(), Failure> {
        let mut errand: Errand = message.json()?;
        for name in std::mem::take(&mut errand.place) {
            let word = secrets::get(&name)?.placeholder();
            errand.replace(&format!("[{name}]"), &word);
        }
        for name in std::mem::take(&mut errand.reveal) {
            let value = secrets::get(&name)?.reveal()?;
            errand.replace(&format!("<{name}>"), &String::from_utf8_lossy(&value));
        }
        let request = http::request(errand.method, errand.url).body(errand.body);
        let request = errand.headers.into_iter().fold(request, |request, (name, value)| request.header(&name, value));
        let mut response = request.send()?;
        if errand.check {
            response = response.check()?;
        }
        let seen = Seen {
            status: response.status(),
            headers: response.headers().to_vec(),
            body: String::from_utf8_lossy(response.body()).into_owned(),
        };
        queue::publish("seen", Draft::json(&seen)?).map(drop).map_err(Failure::from)
    }
}

impl Errand {
    fn replace(&mut self, from: &str, to: &str) {
        let texts = self.headers.iter_mut().map(|(_, value)| value).chain([&mut self.url, &mut self.body]);
        texts.for_each(|text| *text = text.replace(from, to));
    }
}

export!(Courier: Consumer);
