//! No memory that is given back holds the value of a secret, whichever way it came into the host: looked at by an
//! allocator that reads every block before it goes.
#![allow(clippy::unwrap_used, reason = "a test")]
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use bulkhead_host::mask::Secret;
use bulkhead_host::secret_store::key::KeyPlace;
use bulkhead_host::secret_store::sealed::SealedStore;
use bulkhead_host::secret_store::{Environment, SecretStore, Source};

/// As long as no other text of a test is equal to it by chance.
const CANARY: &[u8] = b"canary-that-nobody-else-writes-down-anywhere";

/// Set for this test's own process, which begins with the canary in its environment.
const VARIABLE: &str = "BULKHEAD_TEST_CANARY";

thread_local! {
    /// Blocks of this thread that went with the canary in them.
    static SEEN: Cell<usize> = const { Cell::new(0) };
}

struct Watch;

#[global_allocator]
static WATCH: Watch = Watch;

// SAFETY: the system's, but for a look at what goes. A block is zeroed first: it holds nothing of who had it before.
unsafe impl GlobalAlloc for Watch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's until it returns, and was written when it was given out.
        let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
        if bytes.windows(CANARY.len()).any(|window| window == CANARY) {
            // A thread that ends has no place for the count any more, and no secret.
            let _ = SEEN.try_with(|seen| seen.set(seen.get() + 1));
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How many blocks hold the canary when they go, while this is done.
fn seen(act: impl FnOnce()) -> usize {
    let before = SEEN.get();
    act();
    SEEN.get() - before
}

#[test]
fn a_value_that_is_no_secret_is_seen() {
    assert_eq!(seen(|| drop(CANARY.to_vec())), 1);
    // Also where a vector that grows leaves its old place.
    assert_eq!(seen(|| drop([CANARY, CANARY].concat().into_iter().chain([0; 4096]).collect::<Vec<u8>>())), 2);
}

#[test]
fn a_secret_and_its_copies_are_zeroed() {
    let compare = |secret: Secret| assert!(secret.clone() == secret && secret != Secret::new(b"other".to_vec()));
    assert_eq!(seen(|| compare(Secret::new(CANARY.to_vec()))), 0);
    // What lies behind the end of a value that was cut goes as well.
    let mut long = [b"x".as_slice(), CANARY].concat();
    long.truncate(1);
    assert_eq!(seen(|| drop(Secret::new(long))), 0);
}

/// In a process of its own, on the only thread that does anything there.
#[test]
#[expect(clippy::disallowed_methods, reason = "looks whether the variable is still there")]
fn a_variable_that_was_taken_is_in_the_process_no_more() {
    let name = "a_variable_that_was_taken_is_in_the_process_no_more";
    if std::env::var_os(VARIABLE).is_some() {
        return take_variable();
    }
    let value = str::from_utf8(CANARY).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    let ended = again.args(["--exact", name, "--test-threads=1"]).env(VARIABLE, value).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[expect(clippy::disallowed_methods, reason = "looks whether the variable is still there")]
fn take_variable() {
    let holds_canary = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY);
    // As the system shows it, and as a child gets it.
    let shown = || fs::read("/proc/self/environ").unwrap();
    let inherited = || Command::new("env").output().unwrap().stdout;
    assert!(holds_canary(&shown()) && holds_canary(&inherited()));
    let folder = tempfile::tempdir().unwrap();
    let sources = BTreeMap::from([("token".to_owned(), Source::Env(VARIABLE.to_owned()))]);
    let mut taken = None;
    assert_eq!(seen(|| taken = Some(Environment::take(&sources, folder.path()))), 0);
    assert_eq!(std::env::var_os(VARIABLE), None);
    for left in [shown(), inherited()] {
        assert!(!holds_canary(&left) && left.windows(5).any(|window| window == b"PATH="));
    }
    let store = SecretStore::open(&sources, taken.as_ref().unwrap()).unwrap();
    assert_eq!(store.get("token").unwrap().expose(), CANARY);
    assert_eq!(seen(|| drop((store, taken))), 0);
}

#[test]
fn a_secret_of_a_file_leaves_nothing_behind_when_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, CANARY).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let sources = BTreeMap::from([("token".to_owned(), Source::File(path.clone()))]);
    let count = seen(|| {
        let store = SecretStore::open(&sources, &Environment::empty(folder.path())).unwrap();
        assert_eq!(store.get("token").unwrap().expose(), CANARY);
        fs::write(&path, "the next one").unwrap();
        assert_eq!(store.get("token").unwrap().expose(), b"the next one");
    });
    assert_eq!(count, 0);
}

#[test]
fn a_sealed_secret_leaves_nothing_behind_when_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let count = seen(|| {
        let open = || SealedStore::new(folder.path(), KeyPlace::own(folder.path()));
        open().set("token", &Secret::new(CANARY.to_vec())).unwrap();
        let store = open();
        assert_eq!(store.get("token").unwrap().unwrap().expose(), CANARY);
        store.set("token", &Secret::new(b"the next one".to_vec())).unwrap();
        assert_eq!(store.get("token").unwrap().unwrap().expose(), b"the next one");
    });
    assert_eq!(count, 0);
}
