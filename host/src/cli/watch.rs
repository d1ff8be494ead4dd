//! `bulkhead run --watch`: the configuration is read again when one of its files has changed.
//!
//! Looks at the files now and then instead of being told by the system: that works on every file system, and through the
//! links that orchestrators swap. Invariant: what is still being written is not read; a change is taken up once the files
//! have looked the same twice.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::{Asker, Reloader};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// Device, file, size and time of change of each file; `None` where it is not there.
pub(super) type Stamps = BTreeMap<PathBuf, Option<(u64, u64, u64, i64, i64)>>;

/// Reloads with each change, for ever; `known` is how the files looked when the host read them.
pub(super) async fn reload_on_change(reloader: Reloader, mut known: Stamps) {
    let mut before = Stamps::new();
    let mut looks = tokio::time::interval(PERIOD);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = look(reloader.files());
        // A file that the configuration has come to name is no change by itself.
        let is_changed = now.iter().any(|(path, stamp)| known.get(path).is_some_and(|known| known != stamp));
        let is_settled = now == before;
        before.clone_from(&now);
        if is_changed && is_settled {
            // What came of it is in the log; what is refused is tried again when it has changed again.
            let _ = reloader.reload(Asker::Watch).await;
        }
        if !is_changed || is_settled {
            known = now;
        }
    }
}

/// How files look at this moment.
pub(super) fn look(files: BTreeSet<PathBuf>) -> Stamps {
    let stamp = |path: PathBuf| {
        let found = path.metadata().ok();
        let stamp = found.map(|it| (it.dev(), it.ino(), it.size(), it.ctime(), it.ctime_nsec()));
        (path, stamp)
    };
    files.into_iter().map(stamp).collect()
}
