//! What the hot paths cost, counted in instructions: they are the same on a busy machine, where a time is not.
//!
//! The test's process starts itself once more under callgrind, which counts anew at marks around each round of a path. In
//! the dev profile, in which the tests are built: a query, a crossing or a lock more shows there too, and what only an
//! optimiser makes of it does not. `BLESS=1` writes the ceilings again.

mod hot_paths;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_tests::{guest, has_program};

use hot_paths::{PATHS, Plugin, ROUNDS, TIMES};

/// Percent that a ceiling lies above what was counted when it was written. The same code was counted up to 7 % apart.
const ROOM: u64 = 10;
/// Beside others that keep every core at work, threads wait for each other more often: who is over is counted again.
const TRIES: usize = 3;
const CEILINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions/ceilings.toml");
/// Another architecture has other instructions.
const COUNTED_ON: &str = "x86_64";
/// Set under callgrind: the folder, and the plugin.
const WITHIN: &str = "BULKHEAD_TEST_HOT_PATHS";
const TEST: &str = "instructions::the_hot_paths_take_no_more_instructions_than_before";

#[test]
#[expect(clippy::disallowed_methods, reason = "how a test is run is no setting of the host")]
fn the_hot_paths_take_no_more_instructions_than_before() {
    if let Some(within) = std::env::var_os(WITHIN) {
        let paths: Vec<PathBuf> = std::env::split_paths(&within).collect();
        return hot_paths::take(&paths[0], &Plugin { file: &paths[1], store: &paths[0] }).unwrap();
    }
    if std::env::consts::ARCH != COUNTED_ON {
        // Not by a macro: the harness hides what those print in a test that passes.
        let word = format!("\nSKIPPED: instructions of hot paths are counted on {COUNTED_ON} alone\n");
        return std::io::stderr().write_all(word.as_bytes()).unwrap();
    }
    if !has_program("valgrind", "no instructions of hot paths are counted") {
        return;
    }
    let mut counted = count();
    if std::env::var_os("BLESS").is_some() {
        let ceilings: Counts = counted.into_iter().map(|(path, count)| (path, count * (100 + ROOM) / 100)).collect();
        fs::write(CEILINGS, toml::to_string(&ceilings).unwrap()).unwrap();
        return;
    }
    let ceilings: Counts = toml::from_str(&fs::read_to_string(CEILINGS).unwrap()).unwrap();
    for _ in 1..TRIES {
        if over(&counted, &ceilings).is_empty() {
            return;
        }
        let again = count();
        counted.iter_mut().for_each(|(path, count)| *count = again[path].min(*count));
    }
    let over = over(&counted, &ceilings);
    assert!(
        over.is_empty(),
        "{over:?} are more than {ceilings:?}: find out why, or accept it with `BLESS=1 cargo test --workspace --test \
         boundary instructions::`"
    );
}

/// Of each path, instructions for one message or one call.
type Counts = BTreeMap<String, u64>;

/// What is over its ceiling, or has none.
fn over(counted: &Counts, ceilings: &Counts) -> Counts {
    let is_over = |path: &str, count: u64| ceilings.get(path).is_none_or(|ceiling| count > *ceiling);
    counted.iter().filter(|(path, count)| is_over(path, **count)).map(|(path, count)| (path.clone(), *count)).collect()
}

fn count() -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let (counts, plugin) = (folder.path().join("counts"), guest("map"));
    // Under callgrind compiling takes a hundred times as long.
    let _ = Plugin { file: &plugin, store: folder.path() }.code(&hot_paths::engine().unwrap()).unwrap();
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--fair-sched=try", "--dump-before=*mark_of_a_path*"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display())).arg(std::env::current_exe().unwrap());
    valgrind.args(["--exact", TEST, "--nocapture"]);
    valgrind.env(WITHIN, std::env::join_paths([folder.path(), &plugin]).unwrap());
    let output = valgrind.output().unwrap();
    let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success() && said.contains("1 passed"), "it failed under callgrind:\n{said}{errors}");
    let of_path = |(nth, path): (usize, &&str)| {
        // What makes a path ready lies before its first mark.
        let first = nth * (ROUNDS + 1) + 2;
        let rounds = (first..first + ROUNDS).map(|round| total(&folder.path().join(format!("counts.{round}"))));
        ((*path).to_owned(), rounds.min().unwrap_or_default() / TIMES as u64)
    };
    PATHS.iter().enumerate().map(of_path).collect()
}

/// What callgrind has written there.
fn total(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a file of callgrind has a total");
    line.trim().parse().unwrap()
}
