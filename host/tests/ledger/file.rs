//! The folder and the file: who is let in.

use super::*;

#[test]
fn a_second_process_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(Settings::new(dir.path().join("data")), Clock::default(), Metrics::default()).unwrap();
    let second = Ledger::open(Settings::new(dir.path().join("data")), Clock::default(), Metrics::default());
    let Err(OpenError::Locked { holder, .. }) = second else { panic!("it was let in") };
    assert_eq!(holder, Some(std::process::id()));
    ledger.close();
    assert!(Ledger::open(Settings::new(dir.path().join("data")), Clock::default(), Metrics::default()).is_ok());
}

#[test]
fn a_newer_or_foreign_file_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path().to_owned());
    let reopen = || Ledger::open(settings.clone(), Clock::default(), Metrics::default());
    reopen().unwrap().close();
    let db = rusqlite::Connection::open(settings.file()).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = std::fs::read(settings.file()).unwrap();
    assert!(matches!(reopen(), Err(OpenError::Newer { found: 99, .. })));
    assert_eq!(std::fs::read(settings.file()).unwrap(), before);
    for text in [b"not a database at all, but long enough to look at".as_slice(), &[0; 4096]] {
        std::fs::write(settings.file(), text).unwrap();
        assert!(matches!(reopen(), Err(OpenError::Foreign { .. })));
        assert_eq!(std::fs::read(settings.file()).unwrap(), text);
    }
}

/// What SQLite leaves where the first transaction of a file is cut off, that of another file being the folder's own.
fn cut_off_at_first(dir: &Path) {
    let (whole, journal) = (dir.join("whole.db"), dir.join("whole.db-journal"));
    let db = rusqlite::Connection::open(&whole).unwrap();
    // With so small a cache pages are written before the commit, and what undoes them is synchronised before that.
    let many =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT zeroblob(8000) FROM n";
    db.execute_batch("PRAGMA page_size = 8192; PRAGMA cache_size = 1; BEGIN; CREATE TABLE wide (body BLOB)").unwrap();
    db.execute_batch(&format!("INSERT INTO wide {many}")).unwrap();
    std::fs::copy(whole, dir.join("ledger.db")).unwrap();
    std::fs::copy(journal, dir.join("ledger.db-journal")).unwrap();
}

/// The power fails while a new file is written: all of it may be there but for its first sector, and in its place zeros or
/// what lay there before. The journal says that nothing was there.
#[test]
fn a_file_whose_first_page_was_torn_is_made_anew() {
    for sector in [[0; 512], [0xa5; 512]] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path().to_owned());
        cut_off_at_first(dir.path());
        let torn = std::fs::read(settings.file()).unwrap();
        let torn = [&sector[..], &torn[512..]].concat();
        std::fs::write(settings.file(), &torn).unwrap();
        assert_eq!(Ledger::unread_under(&layout(QueuePolicy::default(), &["a"]), dir.path()).unwrap(), []);
        assert!(std::fs::read(settings.file()).unwrap() == torn, "a look changes nothing");
        Ledger::open(settings.clone(), Clock::default(), Metrics::default()).unwrap().close();
        let db = rusqlite::Connection::open(settings.file()).unwrap();
        let tables = "SELECT count(*) FILTER (WHERE name = 'wide'), count(*) > 10 FROM sqlite_schema";
        let tables: (i64, bool) = db.query_row(tables, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(tables, (0, true));
    }
}

/// A journal that undoes less than all says nothing about who made the file.
#[test]
fn a_torn_file_that_had_pages_before_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, journal) = (Settings::new(dir.path().to_owned()), dir.path().join("ledger.db-journal"));
    cut_off_at_first(dir.path());
    let mut had_pages = std::fs::read(&journal).unwrap();
    had_pages[19] = 1;
    std::fs::write(&journal, &had_pages).unwrap();
    std::fs::write(settings.file(), [0; 8192]).unwrap();
    let opened = Ledger::open(settings.clone(), Clock::default(), Metrics::default());
    assert!(matches!(opened, Err(OpenError::Foreign { .. })));
    assert!(std::fs::read(settings.file()).unwrap() == [0; 8192]);
    assert!(std::fs::read(journal).unwrap() == had_pages);
}
