//! The checker at work: it finds nothing wrong with the host, and every bug of a host that was given one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use bulkhead_checker::{
    BackedUp, Report, Sabotage, Settings, Soak, Swept, Violation, backup, power, run, sabotage, soak,
};

/// Strikes at a host that should have no bug.
const CYCLES: u64 = 200;
/// Strikes at one that was given a bug. The first dozen nearly always finds it; where a disk is so fast that a strike
/// seldom falls between two commits, more of them do.
const CYCLES_OF_A_BUG: [u64; 4] = [12, 24, 48, 96];
/// Power failures at a host that should have no bug, without those of its recoveries.
const IMAGES: usize = 40;
/// And at one that never synchronises.
const IMAGES_OF_A_BUG: usize = 16;
/// For how long too much is offered.
const SOAK: Duration = Duration::from_secs(7);
const TARGET: &str = "wasm32-wasip2";

/// What the variable is called by which a build with bugs is given one.
const VARIABLE: &str = "BULKHEAD_FAULT";

/// The profile's folder, in which cargo has put everything that it built with this test.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The host as everybody has it.
fn host() -> PathBuf {
    let host = built().join("bulkhead-under-test");
    assert!(host.is_file(), "{} is missing: run the tests with `cargo test --workspace`", host.display());
    host
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Cargo sees itself whether something has to be built.
fn cargo(folder: &Path, arguments: &[&str]) {
    let built = Command::new("cargo").arg("build").args(arguments).current_dir(folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// The host that can be given bugs. All of the workspace is selected, as for the tests: nothing else is built anew.
static WITH_FAULTS: LazyLock<PathBuf> = LazyLock::new(|| {
    let example = ["--example", "bulkhead-with-faults", "--features", "bulkhead-tests/faults"];
    cargo(workspace(), &[&["--locked", "--workspace"][..], &example].concat());
    built().join("examples/bulkhead-with-faults")
});

/// The folder of the plugins.
static GUESTS: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = workspace().join("target/builtin");
    let folder = ["--target", TARGET, "--target-dir", target.to_str().unwrap()];
    cargo(&workspace().join("tests/guests"), &[&["--locked", "--profile", "plugin"][..], &folder].concat());
    target.join(TARGET).join("plugin")
});

/// A data directory in which all plugins are compiled: not each of many hosts has to do it.
static COMPILED: LazyLock<PathBuf> = LazyLock::new(|| {
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-for-checker");
    let folder = tempfile::tempdir().unwrap();
    lend(&store, &folder.path().join("data"));
    let report = run(&settings(&host(), folder.path(), 0, 0, None)).unwrap();
    assert!(report.is_clean(), "{report}");
    let _ = fs::remove_dir_all(&store);
    lend(&folder.path().join("data"), &store);
    store
});

/// Gives a new data directory what another has compiled.
fn lend(from: &Path, to: &Path) {
    let Ok(compiled) = fs::read_dir(from.join("compiled")) else { return };
    DirBuilder::new().recursive(true).mode(0o700).create(to.join("compiled")).unwrap();
    for file in compiled {
        let file = file.unwrap();
        fs::copy(file.path(), to.join("compiled").join(file.file_name())).unwrap();
    }
    fs::copy(from.join("compiled.key"), to.join("compiled.key")).unwrap();
}

fn settings(host: &Path, folder: &Path, cycles: u64, seed: u64, fault: Option<&str>) -> Settings {
    let guest = |name: &str| GUESTS.join(format!("guest_{name}.wasm"));
    let (tally, parcel, fault) = (guest("tally"), guest("parcel"), fault.map(str::to_owned));
    Settings { host: host.to_owned(), tally, parcel, folder: folder.to_owned(), cycles, seed, fault }
}

/// Attacks a host; what is left of it stays where something was found that should not be.
fn attack(host: &Path, cycles: u64, seed: u64, fault: Option<&str>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    let report = run(&settings(host, folder.path(), cycles, seed, fault)).unwrap();
    if fault.is_none() && !report.is_clean() {
        let _ = folder.keep();
    }
    report
}

/// A host with this bug is found to break this promise.
fn check_found(bug: &str, is_it: fn(&Violation) -> bool) {
    let mut seen = Vec::new();
    for (cycles, seed) in CYCLES_OF_A_BUG.into_iter().zip(1..) {
        let report = attack(&WITH_FAULTS, cycles, seed, Some(bug));
        if report.violations.iter().any(is_it) {
            return;
        }
        seen.push(report.to_string());
    }
    panic!("`{bug}` is not found:\n{}", seen.join("\n"));
}

#[test]
fn a_host_keeps_its_promises_through_two_hundred_strikes() {
    let report = attack(&host(), CYCLES, RandomState::new().build_hasher().finish(), None);
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    // It was not for want of trying.
    assert!(report.kills > 100 && report.kills_at_start > 10 && report.stops > 5 && report.freezes > 1, "{report}");
    assert!(report.accepted > 500 && report.repeated > 50 && report.dead > 20 && report.ticks > 50, "{report}");
}

#[test]
fn a_host_that_is_offered_too_much_keeps_its_promises_within_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    let seed = RandomState::new().build_hasher().finish();
    let settings = settings(&host(), folder.path(), 0, seed, None);
    let soaked = soak(&Soak { settings, length: SOAK, strike_every: SOAK * 4 / 7 }).unwrap();
    println!("{soaked}");
    if !soaked.is_clean() {
        let _ = folder.keep();
    }
    assert!(soaked.is_clean(), "{soaked}");
    // It was not for want of trying. How much is refused depends on how fast the machine is.
    assert!(soaked.report.kills == 1 && soaked.report.accepted > 50 && soaked.answered > 0, "{soaked}");
}

/// Does it to a host, between so many calls that are left alone; what is left of it stays where it did wrong. The least
/// number of times that it was done says that it was not for want of trying.
fn check_sabotage(what: Sabotage, stride: u64, least: u64) -> Swept {
    let folder = tempfile::tempdir().unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    let seed = RandomState::new().build_hasher().finish();
    let swept = sabotage(&settings(&host(), folder.path(), 0, seed, None), what, stride).unwrap();
    if !swept.is_clean() {
        let _ = folder.keep();
    }
    assert!(swept.is_clean() && swept.done() >= least, "{swept}");
    swept
}

#[test]
fn a_host_ends_with_a_word_whichever_synchronisation_fails_and_starts_again() {
    println!("{}", check_sabotage(Sabotage::Sync, 4, 4));
}

#[test]
fn a_host_refuses_and_goes_on_whichever_call_finds_no_room() {
    println!("{}", check_sabotage(Sabotage::NoRoom, 48, 3));
}

#[test]
fn a_host_that_can_open_no_more_files_says_so_or_goes_on_afterwards() {
    println!("{}", check_sabotage(Sabotage::TooManyFiles, 8, 2));
}

#[test]
fn a_host_on_a_disk_that_became_read_only_waits_or_ends_with_a_word() {
    println!("{}", check_sabotage(Sabotage::ReadOnly, 24, 3));
}

#[test]
fn a_host_with_a_damaged_file_delivers_nothing_else_than_was_sent() {
    println!("{}", check_sabotage(Sabotage::Damage, 40, 15));
}

#[test]
fn a_host_that_could_have_bugs_and_was_given_none_is_as_good() {
    let report = attack(&WITH_FAULTS, CYCLES_OF_A_BUG[0], 1, None);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_send_that_is_answered_before_it_is_on_disk_is_found() {
    check_found("ack-before-commit", |found| matches!(found, Violation::Lost { .. }));
}

#[test]
fn a_commit_that_is_not_synchronised_is_found() {
    check_found("skip-fsync", |found| matches!(found, Violation::Unsynced { .. }));
}

#[test]
fn a_message_that_is_cut_off_with_the_log_is_found() {
    check_found("drop-on-rotation", |found| matches!(found, Violation::Lost { .. } | Violation::NotDead { .. }));
}

#[test]
fn a_message_that_two_workers_get_is_found() {
    check_found("double-lease", |found| matches!(found, Violation::Repeated { .. }));
}

/// What the disk refuses meanwhile is no excuse.
#[test]
fn a_message_that_two_workers_get_is_found_on_a_disk_without_room_too() {
    let folder = tempfile::tempdir().unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    let settings = settings(&WITH_FAULTS, folder.path(), 0, 1, Some("double-lease"));
    let swept = sabotage(&settings, Sabotage::NoRoom, 100).unwrap();
    let is_found = swept.report.violations.iter().any(|found| matches!(found, Violation::Repeated { .. }));
    assert!(is_found && swept.done() > 0, "{swept}");
}

#[test]
fn a_mark_outside_of_the_transaction_is_found() {
    check_found("dedup-outside-transaction", |found| matches!(found, Violation::Doubled { .. }));
}

#[test]
fn an_id_that_is_used_again_is_found() {
    check_found("reuse-id", |found| matches!(found, Violation::HalfDone { .. } | Violation::SharedId { .. }));
}

#[test]
fn a_message_that_overtakes_another_of_its_key_is_found() {
    check_found("reorder-within-key", |found| matches!(found, Violation::Reordered { .. }));
}

#[test]
fn state_that_is_written_without_a_look_is_found() {
    check_found("state-unchecked", |found| matches!(found, Violation::StateDrift { .. }));
}

/// Lets the power fail so often; what is left stays where something was found that should not be.
fn cut_power(host: &Path, images: usize, seed: u64, fault: Option<&str>) -> power::Report {
    let folder = tempfile::tempdir().unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    let report = power::run(&settings(host, folder.path(), 0, seed, fault), Some(images)).unwrap();
    if fault.is_none() && !report.is_clean() {
        let _ = folder.keep();
    }
    report
}

#[test]
fn a_host_keeps_its_promises_when_the_power_fails() {
    let report = cut_power(&host(), IMAGES, RandomState::new().build_hasher().finish(), None);
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    // It was not for want of trying.
    assert!(report.syncs > 50 && report.accepted > 20 && report.images.iter().all(|images| *images > 5), "{report}");
}

#[test]
fn a_commit_that_is_not_synchronised_is_lost_when_the_power_fails() {
    let report = cut_power(&WITH_FAULTS, IMAGES_OF_A_BUG, 1, Some("skip-fsync"));
    let is_lost = |found: &power::Finding| matches!(found.violation, Violation::Lost { .. });
    assert!(report.findings.iter().any(is_lost), "{report}");
}

/// Makes a backup under load and works on with it; what is left stays where something was found that should not be.
fn back_up(host: &Path, seed: u64, fault: Option<&str>) -> BackedUp {
    let folder = tempfile::tempdir().unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    let backed_up = backup(&settings(host, folder.path(), 1, seed, fault)).unwrap();
    if fault.is_none() && !backed_up.is_clean() {
        let _ = folder.keep();
    }
    backed_up
}

#[test]
fn what_is_restored_from_a_backup_under_load_keeps_the_promises_of_the_host() {
    let backed_up = back_up(&host(), RandomState::new().build_hasher().finish(), None);
    println!("{backed_up}");
    assert!(backed_up.is_clean(), "{backed_up}");
    // It was not for want of trying.
    assert!(backed_up.accepted_meanwhile > 0 && backed_up.restored.delivered > 5, "{backed_up}");
}

#[test]
fn a_backup_that_lacks_a_message_is_found() {
    let backed_up = back_up(&WITH_FAULTS, 1, Some("partial-backup"));
    assert!(backed_up.original.is_clean(), "{backed_up}");
    let is_lost = |found: &Violation| matches!(found, Violation::Lost { .. });
    assert!(backed_up.restored.violations.iter().any(is_lost), "{backed_up}");
}

/// Runs a verb of a host that panics when a plugin publishes "panic"; what it printed.
fn panicking(folder: &Path, verb: &[&str], input: &str) -> String {
    let mut host = Command::new(&*WITH_FAULTS);
    host.current_dir(folder).env(VARIABLE, "host-panic").args(["--config", "bulkhead.toml"]).args(verb);
    host.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = host.spawn().unwrap();
    host.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = host.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Of three messages of one run that one dies, and what the others do is whole.
#[test]
fn a_panic_in_a_function_of_the_host_costs_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plugin = GUESTS.join("guest_tally.wasm");
    let toml = format!(
        "[host]\ndata_dir = 'data'\nadmin = '{admin}'\n[connectors.tally]\nplugin = '{}'\nconsume = 'in'\n\
         retry = {{ attempts = 1 }}\nconfig = {{ publish = 'out' }}\nallow.publish = ['out']\n",
        plugin.display()
    );
    fs::write(folder.path().join("bulkhead.toml"), toml).unwrap();
    lend(&COMPILED, &folder.path().join("data"));
    panicking(folder.path(), &["send", "in", "--lines"], "one\npanic\nthree\n");
    panicking(folder.path(), &["run", "--until-idle"], "");
    let dead = panicking(folder.path(), &["dead", "list", "--json"], "");
    assert_eq!(dead.matches("\"reason\"").count(), 1, "{dead}");
    assert!(dead.contains("the host failed while it ran: a bug that was planted"), "{dead}");
    let db = rusqlite::Connection::open(folder.path().join("data/ledger.db")).unwrap();
    let bodies = "SELECT group_concat(CAST(body AS TEXT), ' ') FROM (SELECT body FROM message ORDER BY id)";
    let left = |sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!((left(bodies), left("SELECT CAST(value AS TEXT) FROM state")), ("one three".to_owned(), "2".to_owned()));
}

/// The host that everybody has knows nothing of bugs, and nothing switches them on.
#[test]
fn no_other_build_can_be_given_a_bug() {
    let names = |binary: &Path| {
        let bytes = fs::read(binary).unwrap();
        bytes.windows(VARIABLE.len()).any(|window| window == VARIABLE.as_bytes())
    };
    assert!(names(&WITH_FAULTS));
    assert!(!names(&host()));
    let manifests = ["host", "checker", "xtask", "demo/server", "sdk"].map(|folder| workspace().join(folder));
    for manifest in manifests {
        let text = fs::read_to_string(manifest.join("Cargo.toml")).unwrap();
        assert!(!text.contains("default =") && !text.contains("\"faults\""), "{} switches it on", manifest.display());
    }
}
