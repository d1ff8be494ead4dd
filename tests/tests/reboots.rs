//! What a machine that boots anew leaves of a run: its note of what was running is not believed.

use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Run, guest, sabotaged};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first run after a start. Whoever says that it runs has emptied the file of what ran before.
fn first_run(host: &Bulkhead) -> Run {
    let running = host.start();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(run) = host.in_flight().into_iter().next() {
            running.kill9();
            return run;
        }
        assert!(Instant::now() < deadline, "no run within {PATIENCE:?}:\n{}", running.log().join("\n"));
        running.rest();
    }
}

#[test]
fn what_ran_before_the_machine_booted_anew_is_no_suspect() {
    let toml = format!(
        "[connectors.it]\nplugin = '{}'\nconsume = 'in'\nlimits = {{ cpu = '1h', wall = '1h' }}\n",
        guest("hostile").display()
    );
    let (host, saboteur) = sabotaged(Bulkhead::new(&toml));
    host.send("in", &["spin", "ok"]);
    let run = first_run(&host);
    assert_eq!((run.seqs, run.is_alone), (vec![1, 2], false));
    saboteur.reboot().unwrap();
    let run = first_run(&host);
    assert_eq!((run.seqs, run.is_alone), (vec![1, 2], false), "the machine has booted anew");
    let run = first_run(&host);
    assert_eq!((run.seqs, run.is_alone), (vec![1], true), "it has not");
    assert_eq!(host.ledger().dead(), []);
}
