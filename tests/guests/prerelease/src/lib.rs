//! Uses every interface of which the host offers several pre-releases, in each of them, and publishes what it saw: the
//! body of a message is the name of the interface and its version.

use bulkhead_sdk::prelude::*;
use serde_json::{Value, json};

/// One more than a page of `list-keys` holds.
const KEYS: usize = 1_001;

macro_rules! bind {
    ($($module:ident: $path:literal),*) => {
        $(#[allow(unsafe_code, unused_qualifications, clippy::all)]
        mod $module {
            wit_bindgen::generate!({ path: $path, world: "imports", generate_all });
        })*
    };
}

bind! {
    config_rc1: "../../../host/wit-deps/wasi-config-0.2.0-rc.1",
    config_draft: "../../../host/wit-deps/wasi-config-0.2.0-draft",
    config_draft_2024: "../../../host/wit-deps/wasi-config-0.2.0-draft-2024-09-27",
    keyvalue_draft: "../../../host/wit-deps/wasi-keyvalue-0.2.0-draft",
    keyvalue_draft2: "../../../host/wit-deps/wasi-keyvalue-0.2.0-draft2"
}

struct Prerelease;

impl Consumer for Prerelease {
    fn handle(message: Message) -> Result<(), Failure> {
        let seen = match message.text()? {
            "config 0.2.0-rc.1" => config_rc1(),
            "config 0.2.0-draft" => config_draft(),
            "config 0.2.0-draft-2024-09-27" => config_draft_2024(),
            "keyvalue 0.2.0-draft" => keyvalue_draft(),
            "keyvalue 0.2.0-draft2" => keyvalue_draft2(),
            "atomics 0.2.0-draft" => atomics_draft(),
            "atomics 0.2.0-draft2" => atomics_draft2(),
            other => Err(Failure::reject(format!("no such interface: {other}"))),
        }?;
        queue::publish("out", Draft::json(&seen)?).map(drop).map_err(Failure::from)
    }
}

export!(Prerelease: Consumer);

macro_rules! config {
    ($module:ident) => {
        fn $module() -> Result<Value, Failure> {
            use crate::$module::wasi::config::store;
            let get = |key: &str| store::get(key).map_err(failed);
            let all = store::get_all().map_err(failed)?;
            Ok(json!({ "text": get("text")?, "list": get("list")?, "absent": get("absent")?, "all": all }))
        }
    };
}

config!(config_rc1);
config!(config_draft);
config!(config_draft_2024);

/// Everything of `store` and `batch`. What `get-many` answers is what tells the two apart.
macro_rules! keyvalue {
    ($module:ident, $found:path, $cursor:expr) => {
        fn $module() -> Result<Value, Failure> {
            use crate::$module::wasi::keyvalue::{batch, store};
            let bucket = store::open("").map_err(failed)?;
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
            let entry = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
            batch::set_many(&bucket, &[entry("a", "1"), entry("b", "2"), entry("c", "3")]).map_err(failed)?;
            let many = batch::get_many(&bucket, &names(&["b", "absent", "a"])).map_err(failed)?;
            batch::delete_many(&bucket, &names(&["a", "absent"])).map_err(failed)?;
            bucket.set("b", b"4").map_err(failed)?;
            bucket.delete("c").map_err(failed)?;
            let get = |key: &str| Ok::<_, Failure>(bucket.get(key).map_err(failed)?.map(text));
            let exists = |key: &str| bucket.exists(key).map_err(failed);
            let one_by_one = json!([get("a")?, get("b")?, exists("b")?, exists("c")?]);
            let more: Vec<_> = (1..KEYS).map(|nth| entry(&format!("key-{nth:04}"), "")).collect();
            batch::set_many(&bucket, &more).map_err(failed)?;
            let (mut pages, mut keys, mut cursor) = (Vec::new(), Vec::new(), None);
            loop {
                let page = bucket.list_keys($cursor(&cursor)).map_err(failed)?;
                pages.push(page.keys.len());
                keys.extend(page.keys);
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            keys.dedup();
            let ends = [keys.first(), keys.last()];
            let is_refused = store::open("other").is_err();
            Ok(json!({
                "many": many.into_iter().map($found).collect::<Vec<_>>(), "one_by_one": one_by_one, "pages": pages,
                "keys": keys.len(), "ends": ends, "is_refused": is_refused,
            }))
        }
    };
}

keyvalue!(keyvalue_draft, found_or_nothing, Option::<u64>::clone);
keyvalue!(keyvalue_draft2, found, Option::<String>::as_deref);

fn found_or_nothing(entry: Option<(String, Vec<u8>)>) -> Value {
    json!(entry.map(|(key, value)| (key, text(value))))
}

fn found((key, value): (String, Option<Vec<u8>>)) -> Value {
    json!((key, value.map(text)))
}

fn atomics_draft() -> Result<Value, Failure> {
    use keyvalue_draft::wasi::keyvalue::{atomics, store};
    let bucket = store::open("").map_err(failed)?;
    let add = |delta| atomics::increment(&bucket, "count", delta).map_err(failed);
    let counts = [add(5)?, add(2)?];
    Ok(json!({ "counts": counts, "stored": bucket.get("count").map_err(failed)?.map(text) }))
}

fn atomics_draft2() -> Result<Value, Failure> {
    use keyvalue_draft2::wasi::keyvalue::atomics::{self, CasError};
    use keyvalue_draft2::wasi::keyvalue::store;
    let bucket = store::open("").map_err(failed)?;
    let add = |delta| atomics::increment(&bucket, "count", delta).map_err(failed);
    let counts = [add(5)?, add(-7)?];
    let swap = atomics::Cas::new(&bucket, "swapped").map_err(failed)?;
    let before = swap.current().map_err(failed)?.map(text);
    bucket.set("swapped", b"by another").map_err(failed)?;
    let Err(CasError::CasFailed(again)) = atomics::swap(swap, b"too late") else {
        return Err(Failure::reject("it was swapped although it had changed"));
    };
    let between = again.current().map_err(failed)?.map(text);
    atomics::swap(again, b"in time").map_err(failed)?;
    let after = bucket.get("swapped").map_err(failed)?.map(text);
    Ok(json!({ "counts": counts, "swapped": [before, between, after] }))
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8_lossy(&value).into_owned()
}

fn failed(error: impl std::fmt::Debug) -> Failure {
    Failure::reject(format!("{error:?}"))
}
