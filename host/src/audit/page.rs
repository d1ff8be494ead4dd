//! Reading the record backwards, a page at a time, while it is written.
//!
//! Whether it is whole is [`super::verify`]'s matter. Invariant: a page looks at a bounded number of records, so one that
//! holds few of them may be followed by others.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;

use super::chain::{self, Record};
use super::{FOLDER, Kind};

/// Records that one page looks at.
const LOOKED_AT_MAX: usize = 20_000;

/// Which records are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this connector.
    pub connector: Option<String>,
}

/// Some records, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that were looked for.
    pub records: Vec<Record>,
    /// The records before this number were not looked at; none where there are no more.
    pub before: Option<u64>,
}

impl Page {
    /// The newest records of a data directory before number `before`, `count` at most.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn read(data_dir: &Path, sought: &Sought, before: Option<u64>, count: usize) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        let files = chain::files(&folder).with_context(|| format!("cannot look into {}", folder.display()))?;
        let (mut page, mut looked_at) = (Self::default(), 0);
        for (first, path) in files.iter().rev().filter(|(first, _)| before.is_none_or(|before| *first < before)) {
            let text = match fs::read(path) {
                // A rotation has removed it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                text => text.with_context(|| format!("cannot read {}", path.display()))?,
            };
            // What has no end yet is being written.
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<&[u8]> = text[..whole].split_inclusive(|byte| *byte == b'\n').collect();
            for (nth, line) in lines.into_iter().enumerate().rev() {
                let number = first + nth as u64;
                if before.is_some_and(|before| number >= before) {
                    continue;
                }
                if page.records.len() == count || looked_at == LOOKED_AT_MAX {
                    page.before = Some(number + 1);
                    return Ok(page);
                }
                looked_at += 1;
                // What is no record is for `bulkhead audit verify` to tell.
                page.records.extend(serde_json::from_slice(line).ok().filter(|record| sought.means(record)));
            }
        }
        Ok(page)
    }
}

impl Sought {
    fn means(&self, record: &Record) -> bool {
        self.kind.is_none_or(|kind| record.event.kind == kind)
            && self.connector.as_ref().is_none_or(|name| record.event.connector.as_ref() == Some(name))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::chain::{Bounds, Chain};
    use super::super::event::Event;
    use super::*;

    #[test]
    fn pages_go_back_over_files_and_leave_nothing_out() {
        let data = tempfile::tempdir().unwrap();
        let bounds = Bounds { file_bytes_max: 1_000, files_max: 100 };
        let mut chain = Chain::open(&data.path().join(FOLDER), bounds).unwrap();
        for nth in 0..60 {
            let event = Event::action("pause", "x").of(if nth % 3 == 0 { "a" } else { "b" });
            chain.append(&[event]).unwrap();
        }
        let all = |sought: &Sought| {
            let (mut numbers, mut before) = (Vec::new(), None);
            loop {
                let page = Page::read(data.path(), sought, before, 7).unwrap();
                numbers.extend(page.records.iter().map(|record| record.sequence));
                before = page.before;
                if before.is_none() {
                    return numbers;
                }
            }
        };
        let last = chain.sequence();
        assert!(last > 60, "there are rotations among them");
        assert_eq!(all(&Sought::default()), (1..=last).rev().collect::<Vec<_>>());
        assert_eq!(all(&Sought { kind: Some(Kind::Action), connector: Some("a".to_owned()) }).len(), 20);
        assert!(all(&Sought { kind: Some(Kind::Stop), connector: None }).is_empty());
    }
}
