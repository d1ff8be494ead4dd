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
    /// What is looked for in all of the plugin's own memory when the answer is there: finding it is a failure. In
    /// hexadecimal, each byte XOR [`VEIL`], so that asking for it does not put it there.
    #[serde(default)]
    hunt: Vec<String>,
    /// Whether a status that is no success is a failure.
    #[serde(default)]
    check: bool,
}

/// Under what the words lie that are looked for.
const VEIL: u8 = 0x55;
const PAGE: usize = 64 << 10;

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
        errand.hunt.iter().try_for_each(|word| hunt(word))?;
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

/// Nothing here ever holds a byte of the word in clear but the byte that is compared.
fn hunt(word: &str) -> Result<(), Failure> {
    let byte = |at: usize| u8::from_str_radix(word.get(at..at + 2).unwrap_or_default(), 16).or_reject("a byte");
    let veiled = (0..word.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, Failure>>()?;
    let end = core::arch::wasm32::memory_size::<0>() * PAGE - veiled.len();
    // SAFETY: all of it is this plugin's memory, and nobody writes to it meanwhile.
    let is_at =
        |at: usize, nth: usize| unsafe { std::ptr::read_volatile((at + nth) as *const u8) } ^ VEIL == veiled[nth];
    match (1..end).find(|at| (0..veiled.len()).all(|nth| is_at(*at, nth))) {
        Some(at) => Err(Failure::reject(format!("the sandbox has a hole: the word is at {at}"))),
        None => Ok(()),
    }
}

export!(Courier: Consumer);
