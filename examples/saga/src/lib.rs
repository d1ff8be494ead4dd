//! A compensating saga: the steps of an order, one after the other, each at a service of its own; when one is refused,
//! those before it are undone, the last one first.
//!
//! One call does one step. What came of it, and that the next one is to be done, commit together before the next one
//! begins; so whatever dies in between, the saga goes on where it was. Invariant: a step and its undoing have each one
//! idempotency key, however often they are asked for.

mod service;
mod settings;

use bulkhead_sdk::prelude::*;
use serde_json::Value;

use service::Answer;
pub use settings::{Config, Step};

/// The connector.
pub struct Orders;

/// A saga under way: the body of the messages in its own queue.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Saga {
    /// The id of the message that began it.
    id: String,
    /// Grows by one with each step: a message with another version than the state's is an old one.
    version: u32,
    /// What it is about.
    order: Value,
    /// What is done and not undone, the last one last.
    done: Vec<Done>,
    /// Why it goes back, once it does.
    refused: Option<String>,
}

/// A step that is done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Done {
    step: String,
    /// What the service answered: undoing may need a number from it.
    answer: Value,
}

/// What the state holds of a saga under way.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Standing {
    version: u32,
    /// The steps that are done and not undone.
    done: Vec<String>,
}

/// How a saga ended.
#[derive(Debug, Serialize)]
struct End<'a> {
    saga: &'a str,
    order: &'a Value,
    /// `done` or `undone`.
    outcome: &'static str,
    /// Why, where it is undone.
    refused: Option<&'a str>,
}

impl Consumer for Orders {
    fn handle(message: Message) -> Result<(), Failure> {
        let config: Config = config::load()?;
        if message.queue == config.queue { message.json::<Saga>()?.advance(&config) } else { begin(&config, &message) }
    }
}

/// An order becomes the first message of a saga.
fn begin(config: &Config, message: &Message) -> Result<(), Failure> {
    let (id, order) = (message.id.clone(), message.json()?);
    let saga = Saga { id, version: 0, order, done: Vec::new(), refused: None };
    queue::publish(&config.queue, Draft::json(&saga)?.key(&saga.id))?;
    Ok(())
}

impl Saga {
    /// Does or undoes one step, and says in the same settlement what comes next.
    fn advance(mut self, config: &Config) -> Result<(), Failure> {
        config.check()?;
        let standing: Option<Standing> = state::get(&self.state_key())?;
        let version = standing.map_or(0, |standing| standing.version);
        if version != self.version {
            info!("saga {}: its step {} is an old one, it has come to {version}", self.id, self.version);
            return Ok(());
        }
        if self.refused.is_none() {
            self.go_on(config)?
        } else {
            self.go_back(config)?
        }
        self.version += 1;
        let is_over = if self.refused.is_none() { self.next(config).is_none() } else { self.done.is_empty() };
        if is_over { self.end(config) } else { self.pass_on(config) }
    }

    /// The first step that is not done.
    fn next<'c>(&self, config: &'c Config) -> Option<&'c Step> {
        config.steps.iter().find(|step| self.done.iter().all(|done| done.step != step.name))
    }

    fn go_on(&mut self, config: &Config) -> Result<(), Failure> {
        let Some(step) = self.next(config) else { return Ok(()) };
        match service::post(&step.url, &self.request_key(&step.name, "do"), &self.request())? {
            Answer::Done(answer) => self.done.push(Done { step: step.name.clone(), answer }),
            Answer::Refused(reason) => self.refused = Some(reason),
        }
        Ok(())
    }

    /// A service that refuses to undo leaves a dead letter: somebody must look at it.
    fn go_back(&mut self, config: &Config) -> Result<(), Failure> {
        let Some(last) = self.done.last() else { return Ok(()) };
        let step = config.steps.iter().find(|step| step.name == last.step);
        let step = step.or_reject(&format!("config: step `{}` is done, and has gone from `steps`", last.step))?;
        if let Some(url) = &step.undo {
            match service::post(url, &self.request_key(&step.name, "undo"), &self.request())? {
                Answer::Done(_) => {}
                Answer::Refused(reason) => return Err(Failure::reject(format!("not undone: {reason}"))),
            }
        }
        self.done.pop();
        Ok(())
    }

    fn pass_on(&self, config: &Config) -> Result<(), Failure> {
        let done = self.done.iter().map(|done| done.step.clone()).collect();
        state::set(&self.state_key(), &Standing { version: self.version, done })?;
        queue::publish(&config.queue, Draft::json(self)?.key(&self.id))?;
        Ok(())
    }

    fn end(&self, config: &Config) -> Result<(), Failure> {
        let outcome = if self.refused.is_none() { "done" } else { "undone" };
        let end = End { saga: &self.id, order: &self.order, outcome, refused: self.refused.as_deref() };
        state::delete(&self.state_key())?;
        queue::publish(&config.ended, Draft::json(&end)?.key(&self.id))?;
        Ok(())
    }

    fn state_key(&self) -> String {
        format!("saga/{}", self.id)
    }

    /// The same on every attempt, also when a dead letter is delivered again.
    fn request_key(&self, step: &str, what: &str) -> String {
        format!("{}.{step}.{what}", http::encode(&self.id))
    }

    /// What every service is sent.
    fn request(&self) -> Value {
        let answers: serde_json::Map<String, Value> =
            self.done.iter().map(|done| (done.step.clone(), done.answer.clone())).collect();
        serde_json::json!({ "saga": self.id, "order": self.order, "answers": answers })
    }
}

export!(
    /// Does the steps of an order one after the other, and undoes them when one is refused.
    Orders: Consumer,
    name = "saga",
    config = Config,
    wants = [r#"publish = ["QUEUE"]"#, r#"http = [{ url = "URL", methods = ["POST"] }]"#],
);

#[cfg(test)]
mod tests {
    use bulkhead_sdk::testing::{Host, Installed};
    use serde_json::json;

    use super::*;

    /// A host whose second service answers with this.
    fn host(status: u16) -> Host {
        let steps = json!([
            { "name": "reserve", "url": "https://a.example/do", "undo": "https://a.example/undo" },
            { "name": "charge", "url": "https://b.example/do" },
        ]);
        let config = json!({ "queue": "checkout", "ended": "ended", "steps": steps });
        Host::new().config(config).respond(move |request| {
            let status = if request.url().starts_with("https://b") { status } else { 200 };
            Ok(http::Response::new(status).with_body(r#"{"number":1}"#))
        })
    }

    /// Hands a message over.
    fn handle(queue: &str, id: &str, body: &[u8]) -> Result<(), Failure> {
        let message = Message { queue: queue.into(), id: id.into(), body: body.to_vec(), ..Message::default() };
        Orders::handle(message)
    }

    /// Hands the message over that was published last.
    fn step(host: &Installed) -> Result<(), Failure> {
        let draft = host.published("checkout").pop().unwrap();
        handle("checkout", "derived", &draft.body)
    }

    fn keys(host: &Installed) -> Vec<String> {
        let key = |request: &http::Request| {
            request.headers().iter().find(|(name, _)| name == "idempotency-key").unwrap().1.clone()
        };
        host.requests().iter().map(key).collect()
    }

    fn end(host: &Installed) -> Value {
        serde_json::from_slice(&host.published("ended").pop().unwrap().body).unwrap()
    }

    #[test]
    fn every_call_is_one_step() {
        let host = host(200).install();
        handle("orders", "order/7", b"{}").unwrap();
        assert!(host.requests().is_empty());
        step(&host).unwrap();
        let standing = Standing { version: 1, done: vec!["reserve".into()] };
        assert_eq!((host.value("saga/order/7"), host.requests().len()), (Some(standing), 1));
        step(&host).unwrap();
        assert_eq!(keys(&host), ["order%2F7.reserve.do", "order%2F7.charge.do"]);
        assert_eq!((host.value::<Standing>("saga/order/7"), &end(&host)["outcome"]), (None, &json!("done")));
        let sent: Value = serde_json::from_slice(host.requests()[1].body_bytes()).unwrap();
        assert_eq!(sent["answers"], json!({ "reserve": { "number": 1 } }));
    }

    #[test]
    fn a_refusal_turns_it_round() {
        let host = host(402).install();
        handle("orders", "7", b"{}").unwrap();
        (0..3).for_each(|_| step(&host).unwrap());
        assert_eq!(keys(&host), ["7.reserve.do", "7.charge.do", "7.reserve.undo"]);
        let end = end(&host);
        assert!(end["outcome"] == "undone" && end["refused"].as_str().unwrap().contains("status 402"), "{end}");
    }

    #[test]
    fn trouble_is_tried_again_and_leaves_nothing_behind() {
        for status in [503, 409] {
            let host = host(status).install();
            handle("orders", "7", b"{}").unwrap();
            step(&host).unwrap();
            assert!(step(&host).unwrap_err().is_retry(), "{status}");
            assert_eq!(host.published("checkout").len(), 2, "{status}");
        }
    }

    #[test]
    fn an_old_step_does_nothing() {
        let host = host(200).install();
        handle("orders", "7", b"{}").unwrap();
        let first = host.published("checkout").remove(0).body;
        step(&host).unwrap();
        handle("checkout", "again", &first).unwrap();
        assert_eq!((host.requests().len(), host.published("checkout").len()), (1, 2));
    }

    #[test]
    fn what_the_configuration_forbids_is_no_refusal() {
        let denied = Host::respond(host(200), |_| Err(http::ErrorKind::Denied("no grant".into()))).install();
        handle("orders", "7", b"{}").unwrap();
        assert!(!step(&denied).unwrap_err().is_retry());
        assert!(denied.published("ended").is_empty());
    }
}
