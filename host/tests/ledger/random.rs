//! Random work with crashes: nothing is lost, nothing doubled, each key in order.

use super::*;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Works on a subscription for a while. Some messages are done (each publishes a child), some fail, some die; some runs
/// break off and give the rest back.
async fn work(host: &Host, connector: &str, dice: &mut Dice, deaths: &mut Vec<String>) {
    let subscription = host.subscribe(connector).await;
    let workers = [subscription.worker(), subscription.worker()];
    let mut receipts = Vec::new();
    for _ in 0..16 {
        let worker = &workers[usize::try_from(dice.below(2)).unwrap()];
        let max = 1 + usize::try_from(dice.below(9)).unwrap();
        let Ok(batch) = tokio::time::timeout(Duration::from_millis(20), worker.lease(max, NO_WAIT)).await else {
            continue;
        };
        worker.begin(&batch);
        let mut settlement = host.settlement(connector, Vec::new());
        let mut deliveries = batch.deliveries;
        let kept = deliveries.split_off(usize::try_from(dice.below(10)).unwrap().min(deliveries.len()));
        for delivery in deliveries {
            let outcome = match dice.below(12) {
                0 => retry(host.now_ms() + dice.below(4)),
                1 => dead(),
                _ => Outcome::Done,
            };
            let (id, key) = (&delivery.message.id, delivery.message.key.as_deref());
            match outcome {
                Outcome::Done => {
                    let child = Publish { queue: host.queue("out"), draft: draft(&format!("{connector}/{id}"), key) };
                    settlement.publishes.push(child);
                }
                Outcome::Dead { .. } => deaths.push(format!("{connector}/{id}")),
                _ => {}
            }
            let is_failure = matches!(outcome, Outcome::Retry { .. });
            settlement.outcomes.push((delivery.origin, outcome));
            if is_failure {
                // As a lane does: one that failed ends the run of its key, here of everything.
                break;
            }
        }
        worker.release(kept);
        receipts.push(worker.settle(settlement));
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
}

async fn random_work(seed: u64, ordering: Ordering) {
    const MESSAGES: u64 = 150;
    let mut dice = Dice(seed);
    let mut dir = tempfile::tempdir().unwrap();
    let mut layout = layout(QueuePolicy { ordering, ..QueuePolicy::default() }, &["a", "b"]);
    layout.queues.insert(name("out"), QueuePolicy { retention: 30 * DAY, ..QueuePolicy::default() });
    let (mut sent, mut deaths) = (0, Vec::new());
    let mut rounds = 0;
    loop {
        let host = open(dir.path(), &layout);
        let more = dice.below(60).min(MESSAGES - sent);
        let key = |number: u64| format!("k{}", number % 5);
        let drafts: Vec<_> =
            (sent..sent + more).map(|number| draft(&format!("{number:03}"), Some(&key(number)))).collect();
        sent += more;
        host.send(&drafts).await;
        for connector in ["a", "b"] {
            work(&host, connector, &mut dice, &mut deaths).await;
        }
        let report = host.report("in");
        let is_done = sent == MESSAGES && report.subscriptions.iter().all(|subscription| subscription.backlog == 0);
        if is_done {
            check(&host, MESSAGES, ordering, &mut deaths);
            return;
        }
        rounds += 1;
        assert!(rounds < 200, "seed {seed} does not end: {report:?}");
        dir = host.crash(dir.path());
    }
}

/// Every message was done or died once for each connector, in the order of its key, and nothing is left behind.
fn check(host: &Host, messages: u64, ordering: Ordering, deaths: &mut Vec<String>) {
    let report = host.report("in");
    assert_eq!((report.messages, report.bytes), (0, 0));
    let count = usize::try_from(messages).unwrap() * 2;
    let page = host.ledger.read_log(host.queue("out"), 0, 2 * count, 1 << 30).unwrap();
    let children: Vec<(String, String)> =
        page.messages.into_iter().map(|(_, message)| (message.key.unwrap(), message.id)).collect();
    if ordering == Ordering::Key {
        for connector in ["a/", "b/"] {
            let mut mine: Vec<_> = children.iter().filter(|(_, id)| id.starts_with(connector)).collect();
            let order = mine.clone();
            mine.sort();
            let mut stable = order.clone();
            stable.sort_by_key(|(key, _)| key.clone());
            assert_eq!(stable, mine, "each key in order");
        }
    }
    let mut all: Vec<String> = children.into_iter().map(|(_, id)| id).chain(deaths.drain(..)).collect();
    all.sort();
    let mut expected: Vec<String> =
        (0..messages).flat_map(|number| [format!("a/{number:03}"), format!("b/{number:03}")]).collect();
    expected.sort();
    assert_eq!(all, expected);
    let dead: u64 = report.subscriptions.iter().map(|subscription| subscription.dead).sum();
    assert_eq!(usize::try_from(dead).unwrap(), host.ledger.dead_list(None, 0, count).unwrap().len());
}

#[tokio::test]
async fn random_work_with_crashes_loses_and_doubles_nothing() {
    for seed in 0..3 {
        random_work(seed, Ordering::None).await;
    }
}

#[tokio::test]
async fn random_work_with_crashes_keeps_the_order_of_keys() {
    for seed in 0..3 {
        random_work(100 + seed, Ordering::Key).await;
    }
}
