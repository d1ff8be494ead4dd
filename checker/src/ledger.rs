//! An append-only file of JSON lines: a line is on disk when it was appended.
//!
//! Lines that come together are synchronised together. Nothing here is shared with the host's own ledger.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Lines that wait for the disk; more than there are threads here.
const WAITING_MAX: usize = 256;

/// A line, and who waits until it is on disk.
type Waiting = (Vec<u8>, SyncSender<()>);

/// The file; whole when this is dropped.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    lines: Option<SyncSender<Waiting>>,
    writer: Option<JoinHandle<()>>,
    entries: PhantomData<fn(T)>,
}

impl<T: Serialize + DeserializeOwned> Ledger<T> {
    /// Begins a new file.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let writer = Builder::new().name("checker-ledger".to_owned()).spawn(move || write(file, &waiting))?;
        Ok(Self { lines: Some(lines), writer: Some(writer), entries: PhantomData })
    }

    /// Writes an entry down; it is on disk when this returns.
    ///
    /// # Errors
    /// The disk did not take it.
    pub(crate) fn append(&self, entry: &T) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let (done, is_done) = sync_channel(1);
        let lines = self.lines.as_ref().context("the ledger is closed")?;
        lines.send((line, done)).ok().context("the disk does not take the checker's ledger")?;
        is_done.recv().context("the disk does not take the checker's ledger")
    }

    /// All entries of a file, in the order in which they were written.
    ///
    /// # Errors
    /// It cannot be read, or a line is no entry.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<T>> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}

impl<T> Drop for Ledger<T> {
    fn drop(&mut self) {
        self.lines.take();
        if let Some(writer) = self.writer.take() {
            // A disk that refused was reported to whoever appended.
            let _ = writer.join();
        }
    }
}

/// Ends at the first error: those who wait learn it, for nobody answers them any more.
fn write(mut file: File, waiting: &Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let (mut bytes, mut done) = (first.0, vec![first.1]);
        while let Ok((line, one)) = waiting.try_recv() {
            bytes.extend(line);
            done.push(one);
        }
        if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for one in done {
            // Whoever does not wait any more needs no answer.
            let _ = one.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_by_several_is_read_whole_and_a_file_is_never_begun_twice() {
        let folder = std::env::temp_dir().join(format!("checker-ledger-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let path = folder.join("lines");
        let ledger: Ledger<u32> = Ledger::create(&path).expect("a file can be made");
        std::thread::scope(|scope| {
            for first in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || (0..25).for_each(|nth| ledger.append(&(first * 25 + nth)).expect("a disk")));
            }
        });
        let mut found = Ledger::<u32>::read(&path).expect("it can be read");
        found.sort_unstable();
        assert_eq!(found, (0..100).collect::<Vec<u32>>());
        assert!(Ledger::<u32>::create(&path).is_err());
        std::fs::remove_dir_all(folder).expect("the folder is the test's own");
    }
}
