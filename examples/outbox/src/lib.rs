//! The other half of a transactional outbox: a service writes what it wants to tell into a table of its own database, in
//! the transaction that makes it true; this takes the rows over and confirms them.
//!
//! A tick confirms what an earlier one took over, and then takes over the next rows. Messages and the ids to confirm
//! commit together. Invariant: a row is confirmed only when its message is on disk, and not taken over again before that.

use bulkhead_sdk::prelude::*;
use serde_json::Value;

/// The key of the state: ids that are in the queue, and that the service has not been told of for certain.
const UNCONFIRMED: &str = "unconfirmed";
/// Rows of a tick where the configuration says nothing else: far below the defaults of `limits`.
const ROWS: usize = 500;

/// `config`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Answers the rows that are not confirmed, the oldest first: `[{"id": "…", "key": "…", "body": …}, …]`.
    pub rows: String,
    /// Takes `{"ids": ["…", …]}` by POST: these rows are not answered any more. Twice does no harm.
    pub confirm: String,
    /// The queue that the rows go to.
    pub publish: String,
    /// Rows of one tick at most, asked for as `limit`.
    #[serde(default = "rows")]
    pub limit: usize,
}

/// A row.
#[derive(Debug, Deserialize)]
struct Row {
    id: Id,
    /// What the message is ordered by.
    #[serde(default)]
    key: Option<String>,
    body: Value,
}

/// A number, or text.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

/// The connector.
pub struct Outbox;

impl Scheduled for Outbox {
    fn run(_tick: Tick) -> Result<(), Failure> {
        let config: Config = config::load()?;
        confirm(&config)?;
        let rows: Vec<Row> = http::get(&config.rows).query("limit", config.limit).send()?.json()?;
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<Id> = rows.iter().map(|row| row.id.clone()).collect();
        let drafts = rows.into_iter().map(Row::into_draft).collect::<Result<Vec<Draft>, Failure>>()?;
        queue::publish_all(&config.publish, drafts)?;
        state::set(UNCONFIRMED, &ids)
    }
}

/// Tells the service what is on disk: the state that a call reads is committed, or the host holds the request back until
/// it is.
fn confirm(config: &Config) -> Result<(), Failure> {
    let Some(ids) = state::get::<Vec<Id>>(UNCONFIRMED)? else { return Ok(()) };
    http::post(&config.confirm).json(&serde_json::json!({ "ids": ids })).send()?.check()?;
    state::delete(UNCONFIRMED)
}

fn rows() -> usize {
    ROWS
}

impl Row {
    /// Its id is the message's.
    fn into_draft(self) -> Result<Draft, Failure> {
        let draft = Draft::json(&self.body)?;
        let draft = match self.id {
            Id::Number(id) => draft.id(id),
            Id::Text(id) => draft.id(id),
        };
        Ok(Draft { key: self.key, ..draft })
    }
}

export!(
    /// Takes over what a service has put into its outbox, and tells the service when it is on disk.
    Outbox: Scheduled,
    name = "outbox",
    config = Config,
    wants = [r#"publish = ["QUEUE"]"#, r#"http = [{ url = "URL", methods = ["GET", "POST"] }]"#],
);

#[cfg(test)]
mod tests {
    use bulkhead_sdk::testing::{Host, Installed};
    use serde_json::json;

    use super::*;

    fn host(rows: &'static str) -> Host {
        let place = |path| format!("https://a.example/{path}");
        let config = json!({ "rows": place("outbox"), "confirm": place("outbox/confirmed"), "publish": "orders" });
        Host::new().config(config).respond(move |request| match request.method() {
            "GET" => Ok(http::Response::new(200).with_body(rows)),
            _ => Ok(http::Response::new(204)),
        })
    }

    fn sent(host: &Installed) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        host.requests().iter().map(|it| (it.method().to_owned(), text(it.body_bytes()))).collect()
    }

    #[test]
    fn a_row_becomes_a_message_with_its_id_and_key() {
        let host = host(r#"[{"id": 7, "key": "c1", "body": {"a": 1}}, {"id": "x", "body": 2}]"#).install();
        Outbox::run(Tick::default()).unwrap();
        let expected = [Draft::new(r#"{"a":1}"#).id(7).key("c1"), Draft::new("2").id("x")];
        assert_eq!(
            (host.published("orders"), host.value::<Value>(UNCONFIRMED)),
            (expected.into(), Some(json!([7, "x"])))
        );
        assert_eq!(host.requests()[0].url(), "https://a.example/outbox?limit=500");
    }

    #[test]
    fn what_was_taken_over_is_confirmed_before_more_is_asked_for() {
        let host = host("[]").state(UNCONFIRMED, json!([7, "x"])).install();
        Outbox::run(Tick::default()).unwrap();
        let (confirmed, asked) = (("POST".into(), r#"{"ids":[7,"x"]}"#.into()), ("GET".into(), String::new()));
        assert_eq!((sent(&host), host.value::<Value>(UNCONFIRMED)), (vec![confirmed, asked], None));
    }

    #[test]
    fn while_it_cannot_be_confirmed_nothing_is_asked_for() {
        let host = host("[]").state(UNCONFIRMED, json!([7]));
        let host = host.respond(|_| Ok(http::Response::new(503))).install();
        assert!(Outbox::run(Tick::default()).unwrap_err().is_retry());
        assert_eq!((host.requests().len(), host.value(UNCONFIRMED)), (1, Some(json!([7]))));
    }
}
