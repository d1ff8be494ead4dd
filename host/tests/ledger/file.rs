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
