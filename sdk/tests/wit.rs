//! The SDK carries its own copies of the interfaces, because a published crate has no repository around it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

const SDK: &str = env!("CARGO_MANIFEST_DIR");

fn texts(folder: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn check(copy: &str, original: &str) {
    let (copy, original) = (Path::new(SDK).join("wit/deps").join(copy), Path::new(SDK).join("..").join(original));
    if original.is_dir() {
        assert_eq!(texts(&copy), texts(&original), "copy {} to {}", original.display(), copy.display());
    }
}

#[test]
fn the_copies_are_the_originals() {
    check("bulkhead-connector", "wit");
    for standard in ["wasi-config-0.2.0-rc.1", "wasi-keyvalue-0.2.0-draft2", "wasi-logging-0.1.0-draft"] {
        check(standard, &format!("host/wit-deps/{standard}"));
    }
}
