//! The connector's `config`, and the checked way of paging in it.

use std::collections::BTreeMap;

use bulkhead_sdk::prelude::*;
use serde_json::Value;

use crate::page::Paging;

/// `config` of `builtin:http-poll`. A *pointer* is a JSON pointer, as in `/data/items`; the empty one is the whole value.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Absolute URL of the first page.
    pub url: String,
    /// The queue that the records go to.
    pub publish: String,
    /// Parameters that are added to the URL: text, numbers or booleans.
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    /// Headers of each request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Pointer to the list of records in a page. An object there is one record.
    #[serde(default)]
    pub records: String,
    /// Pointer to a record's id. Left out, the message id comes from the whole record.
    #[serde(default)]
    pub id: Option<String>,
    /// Pointer to what changes when the record does, such as `/updated_at`. Left out, the whole record.
    #[serde(default)]
    pub version: Option<String>,
    /// Pointer to what messages are ordered by. Left out, the record's id.
    #[serde(default)]
    pub key: Option<String>,
    /// Where the next page is.
    #[serde(default)]
    pub page: Page,
    /// Asks only for what changed since the newest record seen.
    #[serde(default)]
    pub since: Option<Since>,
}

/// `page`: a name, or a table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Page {
    /// `"link"` or `"none"`.
    Name(PageName),
    /// Any other way.
    Table(PageTable),
}

/// A way of paging without settings.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PageName {
    /// The `Link` header with `rel="next"` names it.
    Link,
    /// There is one page.
    None,
}

/// One of `next`, `number`, `cursor` and `last`, with what belongs to it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageTable {
    /// Pointer to the next page's URL in the body.
    pub next: Option<String>,
    /// Name of the query parameter that counts pages (or records, with `step`), until a page has no record.
    pub number: Option<String>,
    /// With `number`: the first page's. 1 unless set.
    pub first: Option<u64>,
    /// With `number`: how much it grows by. 1 unless set.
    pub step: Option<u64>,
    /// Pointer to the next page's cursor in the body.
    pub cursor: Option<String>,
    /// Pointer, in the last record of a page, to the next page's cursor.
    pub last: Option<String>,
    /// With `cursor` or `last`: name of the query parameter that takes it.
    pub query: Option<String>,
}

/// `since`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Name of the query parameter that takes it.
    pub query: String,
    /// Pointer, in a record, to what is compared: numbers as numbers, text by its letters. `version` unless set.
    #[serde(default)]
    pub pointer: Option<String>,
    /// The first value. Left out, the first pass asks for everything.
    #[serde(default)]
    pub start: Option<Value>,
}

impl Default for Page {
    fn default() -> Self {
        Self::Name(PageName::Link)
    }
}

impl Page {
    /// The checked way of paging.
    pub(crate) fn paging(&self) -> Result<Paging, Failure> {
        let table = match self {
            Self::Name(PageName::Link) => return Ok(Paging::Link),
            Self::Name(PageName::None) => return Ok(Paging::None),
            Self::Table(table) => table,
        };
        let query = || table.query.clone().or_reject("config: `page.query` names the parameter that takes the cursor");
        match (&table.next, &table.number, &table.cursor, &table.last) {
            (Some(pointer), None, None, None) => Ok(Paging::Next { pointer: pointer.clone() }),
            (None, Some(query), None, None) => Ok(Paging::Number {
                query: query.clone(),
                first: table.first.unwrap_or(1),
                step: table.step.unwrap_or(1),
            }),
            (None, None, Some(pointer), None) => Ok(Paging::Cursor { pointer: pointer.clone(), query: query()? }),
            (None, None, None, Some(pointer)) => Ok(Paging::Last { pointer: pointer.clone(), query: query()? }),
            _ => Err(Failure::reject("config: `page` needs exactly one of `next`, `number`, `cursor` and `last`")),
        }
    }
}

impl Config {
    /// The pointer to what `since` compares, where it is asked for.
    pub(crate) fn since_pointer(&self) -> Option<&str> {
        let since = self.since.as_ref()?;
        since.pointer.as_deref().or(self.version.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(page: Value, expected: Result<Paging, &str>) {
        let page: Page = serde_json::from_value(page).unwrap();
        assert_eq!(page.paging(), expected.map_err(Failure::reject));
    }

    #[test]
    fn each_way_of_paging_has_its_table() {
        check(json!("link"), Ok(Paging::Link));
        check(json!("none"), Ok(Paging::None));
        check(json!({"next": "/next"}), Ok(Paging::Next { pointer: "/next".into() }));
        check(json!({"number": "page"}), Ok(Paging::Number { query: "page".into(), first: 1, step: 1 }));
        check(
            json!({"cursor": "/c", "query": "after"}),
            Ok(Paging::Cursor { pointer: "/c".into(), query: "after".into() }),
        );
        check(
            json!({"last": "/id", "query": "after"}),
            Ok(Paging::Last { pointer: "/id".into(), query: "after".into() }),
        );
    }

    #[test]
    fn half_a_table_is_explained() {
        check(json!({"cursor": "/c"}), Err("config: `page.query` names the parameter that takes the cursor"));
        let one = "config: `page` needs exactly one of `next`, `number`, `cursor` and `last`";
        check(json!({}), Err(one));
        check(json!({"next": "/a", "number": "b"}), Err(one));
    }
}
