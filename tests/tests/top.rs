//! `bulkhead top`: what a terminal shows of a host that runs.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connector that does what messages say, one that has nothing to do, and one that is not enabled.
fn three() -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.obey]\nplugin = '{}'\nconsume = 'in'\nbrake = 2\nretry = {{ attempts = 1 }}\n
        [connectors.idle]\nplugin = 'builtin:log'\nconsume = 'other'\n
        [connectors.off]\nplugin = 'builtin:log'\nconsume = 'other'\nenabled = false\n",
        guest("hostile").display()
    ))
}

#[test]
fn a_frame_shows_trouble_first_and_what_others_say_as_plain_text() {
    let host = three();
    let unstarted = host.run(&["top", "--once"]).ended_with(1);
    assert!(unstarted.errors().contains("start one with `bulkhead run`"), "{}", unstarted.errors());
    let running = host.start();
    host.send("in", &["reject \u{1b}[2J\u{202e}hostile", "reject 2"]);
    running.wait_for_log("the brake is on", PATIENCE);
    running.wait_until("dead letters", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) >= 2.0);
    let frame = host.run(&["top", "--once"]).ok().output;
    let lines: Vec<&str> = frame.lines().collect();
    let head = format!("bulkhead {}", env!("CARGO_PKG_VERSION"));
    assert!(lines[0].starts_with(&head) && lines[0].contains("ready"), "{frame}");
    assert!(lines[1].starts_with("3 connectors, 1 held; 0 waiting, 2 dead"), "{frame}");
    let place = |name: &str| {
        let is_row = |line: &&str| line.split_whitespace().next() == Some(name);
        lines.iter().position(is_row).unwrap_or_else(|| panic!("no line of {name}:\n{frame}"))
    };
    let (obey, idle, off) = (place("obey"), place("idle"), place("off"));
    assert!(obey < idle && idle < off && lines[obey].contains("held: brake"), "{frame}");
    assert!(lines[off].contains("off"), "{frame}");
    assert!(frame.contains("\\u{202e}hostile"), "{frame}");
    assert!(!frame.contains(['\u{1b}', '\u{202e}']), "{frame:?}");
    let unwatched = host.run(&["top"]).ended_with(2);
    assert!(unwatched.errors().contains("--once"), "{}", unwatched.errors());
    let _ = running.terminate().ok();
    let gone = host.run(&["top", "--once"]).ended_with(1);
    let help = format!("no host runs on {}: start it with `bulkhead run`", host.data().display());
    assert!(gone.errors().contains(&help), "{}", gone.errors());
    let address = host.run(&["ui"]).ok();
    assert!(address.output.starts_with("http://"), "{}", address.output);
    assert!(address.errors().contains("nobody answers there now"), "{}", address.errors());
}
