//! `wasi:config/store`: a connector's own `config` table.
//!
//! Each top-level key under its name (strings bare, the rest as JSON), the whole table as JSON under `$`. Three drafts of
//! the interface are offered, with the same meaning. Needs no grant: it is the operator's word to this connector.

use serde_json::{Map, Value};
use wasmtime::component::{HasSelf, Linker};

use super::Session;
use crate::bindings::{config_draft, config_draft_2024, config_rc1};

/// The key under which the whole table is read.
const WHOLE: &str = "$";

/// One connector's `config`, ready to be read.
#[derive(Debug)]
pub(super) struct Grant {
    entries: Vec<(String, String)>,
}

impl Grant {
    pub(super) fn new(config: &Map<String, Value>) -> Self {
        let whole = (WHOLE.to_owned(), Value::Object(config.clone()).to_string());
        let entries = config.iter().map(|(key, value)| (key.clone(), text(value)));
        Self { entries: entries.chain([whole]).collect() }
    }

    fn get(&self, key: &str) -> Option<String> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn link(linker: &mut Linker<Session>) -> wasmtime::Result<()> {
    config_rc1::wasi::config::store::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    config_draft::wasi::config::store::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    config_draft_2024::wasi::config::store::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)
}

/// The drafts differ in their names only.
macro_rules! serve {
    ($($draft:ident),*) => {
        $(impl $draft::wasi::config::store::Host for Session {
            fn get(&mut self, key: String) -> Result<Option<String>, $draft::wasi::config::store::Error> {
                Ok(self.grants.config.get(&key))
            }

            fn get_all(&mut self) -> Result<Vec<(String, String)>, $draft::wasi::config::store::Error> {
                Ok(self.grants.config.entries.clone())
            }
        })*
    };
}

serve!(config_rc1, config_draft, config_draft_2024);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_bare_and_the_rest_is_json() {
        let Value::Object(table) = serde_json::json!({"url": "http://a", "pages": [1, 2]}) else { panic!("a table") };
        let grant = Grant::new(&table);
        assert_eq!(grant.get("url").as_deref(), Some("http://a"));
        assert_eq!(grant.get("pages").as_deref(), Some("[1,2]"));
        assert_eq!(grant.get(WHOLE).as_deref(), Some(r#"{"pages":[1,2],"url":"http://a"}"#));
        assert_eq!(grant.get("none"), None);
    }
}
