//! A plugin's file that becomes another one while the host reads it, and compiled code that lies under another name: what
//! is compiled, compared and recorded is what was read, and it is read once.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;

use bulkhead_tests::{Bulkhead, Finished, guest};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use sha2::{Digest, Sha256};

const TOML: &str = "[connectors.x]\nplugin = 'x.wasm'\nconsume = 'in'\nretry = { attempts = 1 }\n";

fn bytes(name: &str) -> Vec<u8> {
    fs::read(guest(name)).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// A verb that finds `first` in the plugin's file as long as it has not read all of it, and `then` from then on. A second
/// look at the first would find no end.
fn run_swapped(host: &Bulkhead, verb: &[&str], first: &str, then: &str) -> Finished {
    let (path, next) = (host.path("x.wasm"), host.path("next.wasm"));
    let (mut first, then) = (bytes(first), bytes(then));
    let _ = fs::remove_file(&path);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut pipe = OpenOptions::new().write(true).open(&path).unwrap();
            let last = first.pop().unwrap();
            pipe.write_all(&first).unwrap();
            fs::write(&next, then).unwrap();
            fs::rename(&next, &path).unwrap();
            pipe.write_all(&[last]).unwrap();
        });
        host.run(verb)
    })
}

/// The hash of the plugin that the last start has recorded with its grants.
fn recorded(host: &Bulkhead) -> String {
    let files = fs::read_dir(host.path("data/audit")).unwrap();
    let text: String = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let record = text.lines().rfind(|line| line.contains(r#""kind":"grants""#)).unwrap().to_owned();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["sha256"].as_str().unwrap().to_owned()
}

/// Why the one dead letter died: the guest `hostile` rejects a verb that it does not know, in its own words.
fn reason(host: &Bulkhead) -> String {
    host.ledger().dead().remove(0).reason
}

#[test]
fn a_plugin_that_is_swapped_while_it_is_read_is_compiled_recorded_and_cached_as_what_was_read() {
    let host = Bulkhead::new(TOML).cold();
    host.send("in", &["no-such-verb"]);
    let _ = run_swapped(&host, &["run", "--until-idle"], "hostile", "vandal").ok();
    assert_eq!(recorded(&host), sha256(&bytes("hostile")));
    assert_eq!(reason(&host), "no such verb: no-such-verb");
    // Under the hash of the other one, nothing lies there.
    for compiled in [1, 0] {
        let log = host.run_until_idle().errors();
        assert!(log.contains(&format!(r#""plugins":1,"compiled":{compiled}"#)), "{log}");
        assert_eq!(recorded(&host), sha256(&bytes("vandal")));
    }
}

#[test]
fn a_swap_passes_no_lock_file_in_either_direction() {
    let host = Bulkhead::new(TOML).cold();
    fs::write(host.path("x.wasm"), bytes("hostile")).unwrap();
    let _ = host.run(&["lock"]).ok();
    // The accepted one lies there only when the other has been read.
    let refused = run_swapped(&host, &["run", "--until-idle"], "vandal", "hostile").ended_with(2).errors();
    assert!(refused.contains(&format!("its sha256 is {}", sha256(&bytes("vandal")))), "{refused}");
    let _ = run_swapped(&host, &["run", "--until-idle"], "hostile", "vandal").ok();
    assert_eq!(recorded(&host), sha256(&bytes("hostile")));
    let _ = host.run(&["run"]).ended_with(2);
}

/// Where the compiled code of two plugins lies, by the name of its guest.
fn compiled(host: &Bulkhead, name: &str) -> PathBuf {
    fs::write(host.path("x.wasm"), bytes(name)).unwrap();
    let _ = host.run_until_idle();
    let files = fs::read_dir(host.path("data/compiled")).unwrap().map(|file| file.unwrap());
    let sha256 = sha256(&bytes(name));
    files.map(|file| file.path()).find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&sha256)).unwrap()
}

/// It is compiled anew, and does what it is.
fn check_anew(host: &Bulkhead) {
    host.send("in", &["no-such-verb"]);
    let log = host.run_until_idle().errors();
    assert!(log.contains("a compiled plugin was changed") && log.contains(r#""plugins":1,"compiled":1"#), "{log}");
    assert_eq!(reason(host), "no such verb: no-such-verb");
}

#[test]
fn code_of_another_plugin_is_not_run_under_the_hash_of_this_one() {
    let host = Bulkhead::new(TOML).cold();
    let (other, this) = (compiled(&host, "discard"), compiled(&host, "hostile"));
    fs::copy(other, this).unwrap();
    check_anew(&host);
}

/// As one would find it after an upgrade of the host.
#[test]
fn code_that_was_made_for_another_engine_is_not_looked_at() {
    let host = Bulkhead::new(TOML).cold();
    let path = compiled(&host, "hostile");
    let name = path.file_name().unwrap().to_str().unwrap();
    let (sha256, engine) = name.trim_end_matches(".cwasm").split_once('-').unwrap();
    assert_eq!(sha256, self::sha256(&bytes("hostile")));
    let other = format!("{sha256}-{:016x}.cwasm", !u64::from_str_radix(engine, 16).unwrap());
    fs::rename(&path, path.with_file_name(other)).unwrap();
    let log = host.run_until_idle().errors();
    assert!(!log.contains("was changed") && log.contains(r#""plugins":1,"compiled":1"#), "{log}");
}
