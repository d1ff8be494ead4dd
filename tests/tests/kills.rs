//! `kill -9` in the middle of the work, again and again: who is charged for it.
//!
//! That nothing is lost, doubled or made up is shown by the checker (`checker/tests`), from outside and with more kinds of
//! faults. Here the in-flight file is read beside, which says of each message whether it was running alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Ledger, Posted, guest};
use sha2::{Digest as _, Sha256};

/// Ends of the process without warning.
const KILLS: u32 = 80;
/// For what happens within a moment, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that wait before the first start.
const SENT_BEFORE: u32 = 2_000;
/// Messages of one send while the host runs, and sends of one life.
const SENT_TOGETHER: u32 = 8;
const SENDS: u32 = 3;
/// Charged attempts after which a message dies: few, so that one charged wrongly is found.
const ATTEMPTS: u32 = 2;
/// Steps of the work after which a life ends, at most: runs that begin or end, and commits.
const STEPS_MAX: u64 = 60;

/// Two workers that publish, and behind them one that counts in its state what it publishes. Both queues keep what is
/// settled, so that every place can be told its message at the end.
fn pipeline() -> Bulkhead {
    let (relay, tally) = (guest("echo"), guest("tally"));
    Bulkhead::new(&format!(
        "[queues.in]\nkeep = '1d'\n[queues.mid]\nkeep = '1d'\n
        [connectors.relay]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 8, concurrency = 2 }}\n
        retry = {{ attempts = {ATTEMPTS} }}\nconfig = {{ publish = 'mid' }}\nallow.publish = ['mid']\n
        [connectors.tally]\nplugin = '{}'\nconsume = {{ queue = 'mid', batch = 8, concurrency = 2 }}\n
        retry = {{ attempts = {ATTEMPTS} }}\nconfig = {{ publish = 'out' }}\nallow.publish = ['out']\n",
        relay.display(),
        tally.display()
    ))
}

/// The message with this number: its number, and a payload that follows from it.
fn body(number: u32) -> String {
    let mut body = format!("{number} ");
    for block in 0..number % 40 {
        let hash = Sha256::digest(format!("{number} {block}"));
        for byte in hash {
            let _ = write!(body, "{byte:02x}");
        }
    }
    body
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers
        .map(|number| format!("{}\n", serde_json::json!({ "id": format!("n{number}"), "body": body(number) })))
        .collect()
}

/// What became of the sends.
#[derive(Default)]
struct Sent {
    accepted: HashSet<u32>,
    /// The host died before it answered: in the queue or not, but as a whole.
    unanswered: Vec<std::ops::Range<u32>>,
}

/// Sends while the host starts, runs and dies: one send for each ticket, once somebody listens.
fn send(host: &Bulkhead, tickets: &Receiver<()>, has_ended: &AtomicBool) -> Sent {
    let mut sent = Sent { accepted: (0..SENT_BEFORE).collect(), unanswered: Vec::new() };
    let mut next = SENT_BEFORE;
    while tickets.recv().is_ok() {
        let numbers = next..next + SENT_TOGETHER;
        let (lines, deadline) = (lines(numbers.clone()), Instant::now() + PATIENCE);
        let posted = loop {
            assert!(Instant::now() < deadline, "nobody listened within {PATIENCE:?}");
            match host.post("in", &lines) {
                Posted::NotSent if !has_ended.load(Ordering::SeqCst) => thread::yield_now(),
                posted => break posted,
            }
        };
        next = numbers.end;
        match posted {
            Posted::Accepted => sent.accepted.extend(numbers),
            Posted::Unanswered => sent.unanswered.push(numbers),
            Posted::NotSent => return sent,
        }
    }
    sent
}

/// A number below `bound`; another one at each call and in each process of tests.
fn dice(bound: u64) -> u64 {
    std::hash::RandomState::new().build_hasher().finish() % bound
}

/// Waits until something else runs than at the last death, and some further steps; then for the next run, if one is to be
/// hit.
fn wait_for_work(host: &Bulkhead, steps: u64, hits_a_run: bool) {
    let deadline = Instant::now() + PATIENCE;
    let before = host.in_flight();
    let mut is_at_work = false;
    let (mut last, mut left) = (host.progress(), steps);
    let mut runs = Vec::new();
    while left > 0 || !is_at_work || (hits_a_run && runs.is_empty()) {
        assert!(Instant::now() < deadline, "no work within {PATIENCE:?}");
        thread::yield_now();
        runs = host.in_flight();
        is_at_work = is_at_work || (!runs.is_empty() && runs != before);
        let now = host.progress();
        if is_at_work && now != last {
            left = left.saturating_sub(1);
        }
        last = now;
    }
}

/// How often each message was running alone when the process died, by subscription and place.
type Alone = HashMap<(u32, i64), u32>;

/// One life of the host; whether it died in the middle of a run.
fn live_and_die(host: &Bulkhead, tickets: &SyncSender<()>, alone: &mut Alone) -> bool {
    let running = host.launch();
    for _ in 0..SENDS {
        // There may be sends left over from the life before.
        let _ = tickets.try_send(());
    }
    // Now and then at its very beginning, where suspects run alone.
    let steps = if dice(4) == 0 { 0 } else { dice(STEPS_MAX) };
    wait_for_work(host, steps, dice(2) == 0);
    running.kill9();
    let runs = host.in_flight();
    for run in runs.iter().filter(|run| run.is_alone) {
        run.seqs.iter().for_each(|seq| *alone.entry((run.subscription, *seq)).or_default() += 1);
    }
    !runs.is_empty()
}

#[test]
fn killed_in_the_middle_of_the_work_nothing_is_lost_doubled_or_charged_wrongly() {
    let host = pipeline();
    // What is compiled at the first start is there at the next ones.
    let _ = host.start().terminate().ok();
    host.send("in", &(0..SENT_BEFORE).map(body).collect::<Vec<_>>());
    let mut alone = Alone::new();
    let started = Instant::now();
    let (tickets, taken) = sync_channel(SENDS as usize);
    let (sending, has_ended) = (&host, &AtomicBool::new(false));
    let (sent, in_mid_run) = thread::scope(|scope| {
        let sender = scope.spawn(move || send(sending, &taken, has_ended));
        let in_mid_run = (0..KILLS).filter(|_| live_and_die(&host, &tickets, &mut alone)).count();
        has_ended.store(true, Ordering::SeqCst);
        drop(tickets);
        (sender.join().unwrap(), in_mid_run)
    });
    let (seconds, accepted, unanswered) = (started.elapsed().as_secs_f64(), sent.accepted.len(), sent.unanswered.len());
    println!(
        "{KILLS} kills in {seconds:.1} s, {in_mid_run} of them in the middle of a run, {accepted} messages accepted, {unanswered} sends unanswered"
    );
    assert!(in_mid_run > KILLS as usize / 3, "{in_mid_run} kills in the middle of a run");
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    ledger.check_integrity();
    check_queue(&ledger, &sent);
    check_deaths(&ledger, &alone);
    println!("{} died, of {} that were running alone at some kill", ledger.dead().len(), alone.len());
}

/// Every accepted message came out or is a dead letter, once, as it was; nothing else is there.
fn check_queue(ledger: &Ledger, sent: &Sent) {
    let mut found: BTreeMap<u32, u32> = BTreeMap::new();
    let out = ledger.messages("out");
    let dead = ledger.dead();
    let ends = out.iter().map(|message| &message.body).chain(dead.iter().map(|letter| &letter.body));
    ends.for_each(|body| *found.entry(number(body)).or_default() += 1);
    assert!(found.values().all(|times| *times == 1), "doubled: {found:?}");
    for numbers in &sent.unanswered {
        let there = numbers.clone().filter(|number| found.contains_key(number)).count();
        assert!(there == 0 || there == numbers.len(), "{there} of {numbers:?}: not as a whole");
    }
    let maybe: HashSet<u32> = sent.unanswered.iter().cloned().flatten().collect();
    let lost: Vec<&u32> = sent.accepted.iter().filter(|number| !found.contains_key(number)).collect();
    let foreign: Vec<&u32> = found.keys().filter(|it| !sent.accepted.contains(it) && !maybe.contains(it)).collect();
    assert!(lost.is_empty() && foreign.is_empty(), "lost {lost:?}, not sent {foreign:?}");
    assert_eq!(ledger.messages("in").len(), found.len(), "accepted once");
    assert_eq!(ledger.pending(), 0);
    let count = vec![("count".to_owned(), out.len().to_string().into_bytes())];
    assert_eq!(ledger.state("tally"), count, "the state is what was published");
}

/// The number of a message that is as it was sent.
fn number(found: &[u8]) -> u32 {
    let text = std::str::from_utf8(found).unwrap();
    let number = text.split(' ').next().unwrap().parse().unwrap();
    assert!(text == body(number), "message {number} is not what was sent");
    number
}

/// Only messages that were running alone at their last deaths have died, and each was charged for those alone.
fn check_deaths(ledger: &Ledger, alone: &Alone) {
    let of = |queue: &str, connector: &'static str| {
        let subscription = ledger.subscription(queue, connector);
        ledger.messages(queue).into_iter().map(move |it| ((connector, it.id), (subscription, it.seq)))
    };
    let places: HashMap<_, _> = of("in", "relay").chain(of("mid", "tally")).collect();
    for letter in ledger.dead() {
        let place = places[&(letter.connector.as_str(), letter.id.clone())];
        let times = alone.get(&place).copied().unwrap_or_default();
        assert!(letter.attempts <= times, "charged {} for {times} kills: {letter:?}", letter.attempts);
    }
}
