//! A message that takes the process down: it ends as a dead letter, not as a crash loop, and nobody else pays for it.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, Run};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const ATTEMPTS: usize = 3;
/// The place of the deadly one among the others.
const DEADLY: i64 = 10;
const MESSAGES: i64 = 24;

/// Waits for a run in which the server is asked, and kills the host in it. Until then the file may be the one that the
/// life before has left.
fn kill_in(host: &Bulkhead, server: &Fixture, what: &str, is_it: impl Fn(&Run) -> bool) {
    let asked = || server.requests().iter().filter(|request| request.body == "deadly").count();
    let before = asked();
    let running = host.launch();
    let deadline = Instant::now() + PATIENCE;
    while asked() == before || !host.in_flight().iter().any(&is_it) {
        assert!(Instant::now() < deadline, "no {what}:\n{}", running.log().join("\n"));
        thread::yield_now();
    }
    running.kill9();
}

/// The process dies in every run that holds the deadly message: first in one of many, then in those of it alone.
#[test]
fn a_message_that_takes_the_process_down_dies_after_its_attempts_and_no_other_does() {
    let server = Fixture::start(|request| if request.body == "deadly" { Answer::Hang } else { Answer::status(200) });
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = {{ queue = 'in', batch = 6, concurrency = 2 }}\n
        retry = {{ attempts = {ATTEMPTS} }}\nlimits = {{ wall = '1h' }}\nconfig = {{ url = '{url}/' }}\n
        allow.http = [{{ url = '{url}/', methods = ['POST'], private = true }}]\n"
    ));
    let body = |place| if place == DEADLY { "deadly".to_owned() } else { format!("harmless {place}") };
    host.send("in", &(1..=MESSAGES).map(body).collect::<Vec<_>>());
    kill_in(&host, &server, "run of many", |run| run.seqs.contains(&DEADLY) && run.seqs.len() > 1 && !run.is_alone);
    for _ in 0..ATTEMPTS {
        kill_in(&host, &server, "run of it alone", |run| run.seqs == [DEADLY] && run.is_alone);
    }
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    let letters: Vec<_> = ledger.dead().into_iter().map(|it| (it.body, it.attempts as usize, it.reason)).collect();
    let reason = "the process ended while this message was running alone";
    assert_eq!(letters, [(b"deadly".to_vec(), ATTEMPTS, reason.to_owned())]);
    assert_eq!((ledger.messages("in").len(), ledger.pending()), (0, 0));
    let delivered: BTreeSet<Vec<u8>> = server.requests().into_iter().map(|request| request.body.to_vec()).collect();
    assert_eq!(delivered, (1..=MESSAGES).map(|place| body(place).into_bytes()).collect());
}
