//! The durable core at its boundary: messages in, settlements in, what is left after a crash out.
//!
//! A crash is a ledger whose folder is copied while it is open: what another process would find after kill -9.
#![allow(clippy::disallowed_methods, reason = "looks into the file after the ledger has closed it")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use bulkhead_host::broker::{Batch, Broker, KeysInBatch, Subscription, SubscriptionSettings, Worker};
use bulkhead_host::clock::Clock;
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{
    AppendError, ConnectorLayout, Consumption, Directory, From, Layout, Ledger, OpenError, Ordering, QueuePolicy,
    QueueReport, Settings,
};
use bulkhead_host::message::Draft;
use bulkhead_host::metrics::{Held, Metrics};
use bulkhead_host::settlement::{
    Delivery, Origin, Outcome, Publish, QueueId, SettleError, Settlement, StateChanges, SubscriptionId,
};

const DAY: Duration = Duration::from_secs(86_400);
const NO_WAIT: Duration = Duration::ZERO;

/// A ledger with queue `in`, read by `a` and whoever else is named, and queue `out`.
struct Host {
    ledger: Ledger,
    directory: Directory,
    broker: Broker,
    metrics: Metrics,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn connector(text: &str) -> ConnectorLayout {
    ConnectorLayout {
        name: name(text),
        was: None,
        consumes: vec![Consumption { queue: name("in"), from: From::Oldest }],
        has_inbox: false,
        dead_retention: DAY,
        dead_max_bytes: 1 << 30,
    }
}

fn layout(policy: QueuePolicy, connectors: &[&str]) -> Layout {
    let queues = [(name("in"), policy), (name("out"), QueuePolicy::default())].into();
    Layout { queues, connectors: connectors.iter().map(|text| connector(text)).collect() }
}

fn open(dir: &Path, layout: &Layout) -> Host {
    let metrics = Metrics::default();
    let ledger = Ledger::open(Settings::new(dir.to_owned()), Clock::default(), metrics.clone()).unwrap();
    let directory = ledger.configure(layout).unwrap();
    let broker = Broker::local(ledger.clone()).unwrap();
    Host { ledger, directory, broker, metrics }
}

/// What another process finds after kill -9: the files as they are. The write-ahead log goes first, for an idle ledger
/// may empty it into the file at any time.
fn crashed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["ledger.db-wal", "ledger.db", "inflight"] {
        std::fs::copy(dir.join(file), copy.path().join(file)).unwrap();
    }
    copy
}

fn draft(id: &str, key: Option<&str>) -> Draft {
    Draft { id: id.to_owned(), key: key.map(str::to_owned), body: id.as_bytes().to_vec(), ..Draft::default() }
}

fn outcomes(deliveries: &[Delivery], outcome: &Outcome) -> Vec<(Origin, Outcome)> {
    deliveries.iter().map(|delivery| (delivery.origin, outcome.clone())).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}

fn retry(due_ms: u64) -> Outcome {
    Outcome::Retry { due_ms, charged: true, reason: "no luck".to_owned() }
}

fn dead() -> Outcome {
    Outcome::Dead { reason: "hopeless".to_owned() }
}

impl Host {
    fn queue(&self, name: &str) -> QueueId {
        self.directory.queue(name).unwrap()
    }

    fn settings(&self, connector: &str) -> SubscriptionSettings {
        SubscriptionSettings {
            subscription: self.directory.subscription("in", connector).unwrap(),
            queue: self.queue("in"),
            connector: self.directory.connector(connector).unwrap(),
            pending_max: 1_000,
            keys: KeysInBatch::Several,
            attempts: 3,
            message_bytes_max: 1 << 20,
        }
    }

    async fn subscribe(&self, connector: &str) -> Subscription {
        self.broker.subscribe(self.settings(connector)).await.unwrap()
    }

    async fn send(&self, drafts: &[Draft]) {
        let queue = self.queue("in");
        let appended = self.ledger.append(drafts.iter().map(|draft| (queue, draft.clone())).collect()).await.unwrap();
        assert_eq!(appended.len(), drafts.len());
    }

    async fn send_ids(&self, ids: &[&str]) {
        self.send(&ids.iter().map(|id| draft(id, None)).collect::<Vec<_>>()).await;
    }

    fn settlement(&self, connector: &str, outcomes: Vec<(Origin, Outcome)>) -> Settlement {
        let settings = self.settings(connector);
        Settlement {
            subscription: settings.subscription,
            connector: settings.connector,
            outcomes,
            publishes: Vec::new(),
            state: StateChanges::default(),
            tick_done: None,
        }
    }

    async fn settle(&self, worker: &Worker, connector: &str, batch: &[Delivery], outcome: &Outcome) {
        worker.settle(self.settlement(connector, outcomes(batch, outcome))).await.unwrap();
    }

    fn report(&self, queue: &str) -> QueueReport {
        self.ledger.queues().unwrap().into_iter().find(|report| report.queue == queue).unwrap()
    }

    fn now_ms(&self) -> u64 {
        self.ledger.clock().now_ms()
    }

    /// Ends without a clean stop: the files stay as they are.
    fn crash(self, dir: &Path) -> tempfile::TempDir {
        let copy = crashed(dir);
        self.ledger.close();
        copy
    }
}

async fn lease(worker: &Worker, max: usize) -> Batch {
    tokio::time::timeout(Duration::from_secs(20), worker.lease(max, NO_WAIT)).await.expect("something is deliverable")
}

/// Leases until so many deliveries have come.
async fn lease_all(worker: &Worker, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(lease(worker, count - all.len()).await.deliveries);
    }
    all
}

#[tokio::test]
async fn what_is_accepted_outlives_a_crash_and_what_is_settled_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a", "b"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1", "2", "3", "4"]).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease_all(&worker, 4).await;
    assert_eq!(ids(&batch), ["1", "2", "3", "4"]);
    host.settle(&worker, "a", &batch[..1], &Outcome::Done).await;
    host.settle(&worker, "a", &batch[2..3], &Outcome::Done).await;
    drop(worker);
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let worker = host.subscribe("a").await.worker();
    assert_eq!(ids(&lease_all(&worker, 2).await), ["2", "4"]);
    let worker = host.subscribe("b").await.worker();
    assert_eq!(ids(&lease_all(&worker, 4).await), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn publishes_and_state_commit_with_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1"]).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease(&worker, 1).await.deliveries;
    let mut settlement = host.settlement("a", outcomes(&batch, &Outcome::Done));
    let headers = vec![("content-type".to_owned(), "a/b".to_owned())];
    let published =
        Draft { headers: headers.clone(), parent: Some("1".to_owned()), hops: 1, ..draft("child", Some("k")) };
    settlement.publishes.push(Publish { queue: host.queue("out"), draft: published });
    settlement.state.seen.push(("key".to_owned(), 0));
    settlement.state.writes.push(("key".to_owned(), Some(b"value".to_vec())));
    worker.settle(settlement).await.unwrap();
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    assert_eq!(host.report("in").messages, 0);
    let page = host.ledger.read_log(host.queue("out"), 0, 10, 1 << 20).unwrap();
    let (seq, message) = &page.messages[0];
    assert_eq!((*seq, message.id.as_str(), message.hops), (1, "child", 1));
    assert_eq!((&message.headers, message.parent.as_deref(), message.key.as_deref()), (&headers, Some("1"), Some("k")));
    let id = host.directory.connector("a").unwrap();
    assert_eq!(host.ledger.state_get(id, "key").unwrap(), (Some(b"value".to_vec()), 1));
    let usage = host.ledger.state_usage(id).unwrap();
    assert_eq!((usage.keys, usage.bytes), (1, 8));
}

#[tokio::test]
async fn stale_state_is_a_conflict_that_changes_nothing_and_keeps_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send_ids(&["1", "2"]).await;
    let subscription = host.subscribe("a").await;
    let worker = subscription.worker();
    let batch = lease_all(&worker, 2).await;
    let write = |version: u64, value: &str, at: usize| {
        let mut settlement = host.settlement("a", outcomes(&batch[at..=at], &Outcome::Done));
        settlement.state.seen.push(("key".to_owned(), version));
        settlement.state.writes.push(("key".to_owned(), Some(value.as_bytes().to_vec())));
        settlement.publishes.push(Publish { queue: host.queue("out"), draft: draft(value, None) });
        settlement
    };
    let (first, second) = (worker.settle(write(0, "x", 0)), worker.settle(write(0, "y", 1)));
    first.await.unwrap();
    assert!(matches!(second.await, Err(SettleError::Conflict)));
    assert_eq!(host.report("out").messages, 1);
    assert_eq!(subscription.counts().in_flight, 1);
    worker.settle(write(1, "y", 1)).await.unwrap();
    assert_eq!(subscription.counts().in_flight, 0);
    let id = host.directory.connector("a").unwrap();
    assert_eq!(host.ledger.state_get(id, "key").unwrap(), (Some(b"y".to_vec()), 2));
    let listed = host.ledger.state_list(id, None).unwrap();
    assert_eq!((listed.keys, listed.version), (vec!["key".to_owned()], 2));
    let mut settlement = host.settlement("a", Vec::new());
    settlement.state.listed = Some(1);
    assert!(matches!(host.ledger.settle(settlement).await, Err(SettleError::Conflict)));
}

#[tokio::test]
async fn a_failed_message_comes_back_when_due_with_its_attempts_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1", "2"]).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease_all(&worker, 2).await;
    host.settle(&worker, "a", &batch[..1], &retry(host.now_ms())).await;
    host.settle(&worker, "a", &batch[1..], &retry(host.now_ms() + 3_600_000)).await;
    let again = lease(&worker, 5).await.deliveries;
    assert_eq!((ids(&again), again[0].attempt), (vec!["1"], 2));
    host.settle(&worker, "a", &again, &retry(host.now_ms())).await;
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let subscription = host.subscribe("a").await;
    let worker = subscription.worker();
    let again = lease(&worker, 5).await.deliveries;
    assert_eq!((ids(&again), again[0].attempt), (vec!["1"], 3));
    host.settle(&worker, "a", &again, &Outcome::Done).await;
    assert_eq!(subscription.counts().waiting, 1);
    assert!(subscription.is_idle(60_000).unwrap() && !subscription.is_idle(7_200_000).unwrap());
    let report = &host.report("in").subscriptions[0];
    assert_eq!((report.backlog, report.retrying), (1, 1));
}

#[tokio::test]
async fn a_failed_message_ends_before_an_older_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1", "2"]).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease_all(&worker, 2).await;
    host.settle(&worker, "a", &batch[1..], &retry(host.now_ms())).await;
    let again = lease(&worker, 1).await.deliveries;
    assert_eq!((ids(&again), again[0].attempt), (vec!["2"], 2));
    host.settle(&worker, "a", &again, &Outcome::Done).await;
    host.settle(&worker, "a", &batch[..1], &Outcome::Done).await;
    let subscription = &host.report("in").subscriptions[0];
    assert_eq!((subscription.backlog, subscription.retrying), (0, 0));
    drop(worker);
    let copy = host.crash(dir.path());
    assert_eq!(open(copy.path(), &layout).report("in").messages, 0);
}

#[tokio::test]
async fn settled_messages_are_removed_around_an_unfinished_one() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a", "b"]));
    host.send_ids(&["1", "2", "3", "4"]).await;
    for (connector, failed) in [("a", 1..2), ("b", 0..0)] {
        let worker = host.subscribe(connector).await.worker();
        let batch = lease_all(&worker, 4).await;
        let mut settled = outcomes(&batch, &Outcome::Done);
        for place in failed {
            settled[place].1 = retry(host.now_ms());
        }
        worker.settle(host.settlement(connector, settled)).await.unwrap();
        if connector == "b" {
            assert_eq!(host.report("in").messages, 1, "the unfinished one");
        }
    }
    let report = host.report("in");
    assert_eq!((report.messages, report.bytes), (1, 2));
    let worker = host.subscribe("a").await.worker();
    let batch = lease(&worker, 4).await.deliveries;
    assert_eq!(ids(&batch), ["2"]);
    host.settle(&worker, "a", &batch, &Outcome::Done).await;
    let report = host.report("in");
    assert_eq!((report.messages, report.bytes), (0, 0));
}

#[tokio::test]
async fn a_key_keeps_its_order_and_a_failed_message_holds_back_its_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let policy = QueuePolicy { ordering: Ordering::Key, ..QueuePolicy::default() };
    let layout = layout(policy, &["a"]);
    let host = open(dir.path(), &layout);
    let drafts = [("x1", "x"), ("y1", "y"), ("x2", "x"), ("x3", "x"), ("y2", "y")];
    host.send(&drafts.map(|(id, key)| draft(id, Some(key)))).await;
    host.send(&[draft("free", None)]).await;
    let subscription = host.subscribe("a").await;
    let (worker, other) = (subscription.worker(), subscription.worker());
    let mut batch = lease(&worker, 2).await.deliveries;
    assert_eq!(ids(&batch), ["x1", "x2"]);
    let rest = lease_all(&other, 3).await;
    assert_eq!(ids(&rest), ["y1", "y2", "free"]);
    assert!(other.try_lease(1).is_none(), "x3 waits for the run that holds its key");
    worker.release(batch.split_off(1));
    host.settle(&worker, "a", &batch, &retry(host.now_ms() + 3_600_000)).await;
    host.settle(&other, "a", &rest, &Outcome::Done).await;
    assert!(worker.try_lease(5).is_none(), "the key waits for its first message");
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let subscription = host.subscribe("a").await;
    let worker = subscription.worker();
    host.send(&[draft("x4", Some("x")), draft("z1", Some("z"))]).await;
    let batch = lease(&worker, 9).await.deliveries;
    assert_eq!(ids(&batch), ["z1"], "also after a crash");
    let x1 = Origin::Log(1);
    host.ledger.settle(host.settlement("a", vec![(x1, dead())])).await.unwrap();
    drop((worker, subscription));
    let worker = host.subscribe("a").await.worker();
    let after = lease_all(&worker, 4).await;
    assert_eq!(ids(&after), ["x2", "x3", "x4", "z1"], "a dead letter releases its key");
}

#[tokio::test]
async fn a_dead_letter_keeps_its_story_and_is_delivered_again_to_its_subscription_alone() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a", "b"]);
    let host = open(dir.path(), &layout);
    host.send(&[Draft { hops: 3, ..draft("1", Some("k")) }]).await;
    let subscription = host.subscribe("a").await;
    let worker = subscription.worker();
    host.settle(&worker, "a", &lease(&worker, 1).await.deliveries, &retry(host.now_ms())).await;
    host.settle(&worker, "a", &lease(&worker, 1).await.deliveries, &dead()).await;
    let letters = host.ledger.dead_list(host.directory.connector("a"), 0, 10).unwrap();
    assert_eq!((letters.len(), letters[0].attempts, letters[0].reason.as_str()), (1, 2, "hopeless"));
    let letter = host.ledger.dead_show(letters[0].id).unwrap().unwrap();
    let reasons: Vec<_> = letter.history.iter().map(|attempt| attempt.reason.as_str()).collect();
    assert_eq!((reasons, letter.message.hops), (vec!["no luck", "hopeless"], 3));
    assert_eq!(host.ledger.dead_bytes(host.directory.connector("a").unwrap()).unwrap(), 3);

    assert_eq!(host.ledger.dead_retry(&[letters[0].id], None).await.unwrap(), 1);
    assert!(host.ledger.dead_list(None, 0, 10).unwrap().is_empty());
    assert_eq!(host.report("in").subscriptions[0].backlog, 1);
    let again = lease(&worker, 5).await.deliveries;
    assert_eq!((ids(&again), again[0].attempt, again[0].message.hops), (vec!["1"], 1, 0));
    host.settle(&worker, "a", &again, &retry(host.now_ms())).await;
    let again = lease(&worker, 5).await.deliveries;
    assert_eq!(again[0].attempt, 2);
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let worker = host.subscribe("a").await.worker();
    let again = lease(&worker, 5).await.deliveries;
    host.settle(&worker, "a", &again, &Outcome::Done).await;
    let worker = host.subscribe("b").await.worker();
    host.settle(&worker, "b", &lease_all(&worker, 1).await, &Outcome::Done).await;
    let report = host.report("in");
    assert_eq!((report.messages, report.bytes, report.subscriptions[0].backlog), (0, 0, 0));
}

#[tokio::test]
async fn a_repeat_within_the_window_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy { dedup: Some(DAY), ..QueuePolicy::default() }, &["a"]);
    let host = open(dir.path(), &layout);
    let queue = host.queue("in");
    let drafts = vec![(queue, draft("1", None)), (queue, draft("2", None)), (queue, draft("1", None))];
    let appended = host.ledger.append(drafts).await.unwrap();
    assert_eq!(appended.iter().map(|one| one.duplicate).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(appended[2].id, "1");
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    assert!(host.ledger.append(vec![(queue, draft("2", None))]).await.unwrap()[0].duplicate);
    assert_eq!(host.report("in").messages, 2);
    assert!(host.metrics.text().contains(r#"bulkhead_duplicates_total{queue="in"} 1"#));
}

#[tokio::test]
async fn an_id_is_new_again_after_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let window = Duration::from_millis(30);
    let host = open(dir.path(), &layout(QueuePolicy { dedup: Some(window), ..QueuePolicy::default() }, &["a"]));
    host.send_ids(&["1"]).await;
    let queue = host.queue("in");
    let mut duplicates = 0;
    while host.ledger.append(vec![(queue, draft("1", None))]).await.unwrap()[0].duplicate {
        duplicates += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(host.report("in").messages, 2, "after {duplicates} repeats");
}

#[tokio::test]
async fn a_full_queue_refuses_a_whole_batch_and_takes_more_when_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy { max_bytes: 4, ..QueuePolicy::default() }, &["a"]));
    let queue = host.queue("in");
    let batch = |ids: &[&str]| ids.iter().map(|id| (queue, draft(id, None))).collect::<Vec<_>>();
    let refused = host.ledger.append(batch(&["1", "2", "3"])).await;
    assert!(matches!(refused, Err(AppendError::Full { queue }) if queue == name("in")));
    assert_eq!(host.report("in").messages, 0);
    host.ledger.append(batch(&["1", "2"])).await.unwrap();
    assert!(host.ledger.is_full(queue) && host.ledger.reserve(queue, 1).is_err());
    let worker = host.subscribe("a").await.worker();
    host.settle(&worker, "a", &lease_all(&worker, 2).await, &Outcome::Done).await;
    tokio::time::timeout(Duration::from_secs(20), host.ledger.room(queue)).await.unwrap();
    let held = host.ledger.reserve(queue, 3).unwrap();
    assert!(host.ledger.append(batch(&["4"])).await.is_err(), "the room is promised");
    drop(held);
    host.ledger.append(batch(&["4"])).await.unwrap();
    let refused = host.ledger.append(vec![(queue, Draft { body: vec![0; 2 << 20], ..draft("5", None) })]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
}

#[tokio::test]
async fn a_rename_moves_everything_and_keeps_the_lineage() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = layout(QueuePolicy::default(), &["a"]);
    before.connectors[0].has_inbox = true;
    let host = open(dir.path(), &before);
    let id = host.directory.connector("a").unwrap();
    host.send_ids(&["1", "2", "3"]).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease_all(&worker, 3).await;
    host.settle(&worker, "a", &batch[..1], &Outcome::Done).await;
    host.settle(&worker, "a", &batch[1..2], &dead()).await;
    let (inbox, _) = host.directory.inbox(&name("a")).unwrap();
    host.ledger.hold(id, Held::Brake).await.unwrap();
    host.ledger.enqueue_tick(id, "default", 7_000, Some((inbox, draft("tick", None)))).await.unwrap();
    drop(worker);
    let copy = host.crash(dir.path());

    let mut after = layout(QueuePolicy::default(), &["b"]);
    after.connectors[0].has_inbox = true;
    after.connectors[0].was = Some(name("a"));
    let host = open(copy.path(), &after);
    assert_eq!(host.directory.connector("b"), Some(id));
    assert_eq!(host.directory.lineage("b"), Some("a"));
    assert_eq!(host.directory.inbox(&name("b")).unwrap().0, inbox);
    assert!(host.directory.orphans().is_empty());
    assert_eq!(host.ledger.holds(id).unwrap(), [Held::Brake]);
    assert_eq!(host.ledger.schedule_last(id, "default").unwrap().unwrap().last_planned_ms, 7_000);
    assert_eq!(host.ledger.dead_list(Some(id), 0, 10).unwrap()[0].connector, "b");
    assert_eq!(host.report("@b").messages, 1);
    let worker = host.subscribe("b").await.worker();
    assert_eq!(ids(&lease_all(&worker, 1).await), ["3"]);
    drop(worker);
    let copy = host.crash(copy.path());
    let mut third = layout(QueuePolicy::default(), &["b", "a"]);
    third.connectors[0].was = Some(name("a"));
    let host = open(copy.path(), &third);
    assert_ne!(host.directory.lineage("a"), Some("a"), "a new connector does not take over ids");
}

#[tokio::test]
async fn an_orphan_keeps_its_messages_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a", "b"]));
    host.send_ids(&["1", "2"]).await;
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout(QueuePolicy::default(), &["a"]));
    let orphans = host.directory.orphans();
    assert_eq!((orphans.len(), orphans[0].connector.as_str(), orphans[0].messages), (1, "b", 2));
    let worker = host.subscribe("a").await.worker();
    host.settle(&worker, "a", &lease_all(&worker, 2).await, &Outcome::Done).await;
    assert_eq!(host.report("in").messages, 2);
    assert_eq!(host.ledger.forget("in", "a").await.unwrap(), None, "it is in the configuration");
    assert_eq!(host.ledger.forget("in", "b").await.unwrap(), Some(2));
    while host.report("in").messages > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let copy = host.crash(copy.path());

    let host = open(copy.path(), &layout(QueuePolicy::default(), &["a", "b"]));
    host.send_ids(&["3"]).await;
    let worker = host.subscribe("b").await.worker();
    assert_eq!(ids(&lease_all(&worker, 1).await), ["3"], "back again, it begins anew");
}

#[tokio::test]
async fn a_delayed_message_takes_its_place_when_due() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send(&[Draft { delay_ms: Some(150), ..draft("late", None) }]).await;
    let subscription = host.subscribe("a").await;
    assert_eq!(host.report("in").messages, 1);
    host.send_ids(&["soon"]).await;
    let worker = subscription.worker();
    assert_eq!(ids(&lease_all(&worker, 2).await), ["soon", "late"]);
}

#[tokio::test]
async fn expired_and_endless_messages_are_settled_without_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send(&[
        Draft { expires_ms: Some(0), ..draft("old", None) },
        Draft { hops: 33, ..draft("round", None) },
        Draft { hops: 32, ..draft("good", None) },
    ])
    .await;
    let worker = host.subscribe("a").await.worker();
    assert_eq!(ids(&lease_all(&worker, 1).await), ["good"]);
    host.ledger.settled(host.directory.connector("a").unwrap()).await.unwrap();
    assert_eq!(host.report("in").subscriptions[0].dead, 1);
    assert_eq!(host.report("in").subscriptions[0].backlog, 1);
    assert!(host.metrics.text().contains(r#"bulkhead_expired_total{queue="in",connector="a"} 1"#));
}

#[tokio::test]
async fn a_suspect_runs_alone_and_is_charged_only_where_it_was_alone() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a", "b"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1", "2", "3"]).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease(&worker, 2).await;
    worker.begin(&batch);
    host.settle(&worker, "a", &batch.deliveries[..1], &Outcome::Done).await;
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let subscription = host.subscribe("a").await;
    let (worker, other) = (subscription.worker(), subscription.worker());
    let (one, two) = (lease(&worker, 2).await, lease(&other, 2).await);
    let (lone, plain) = if one.alone { (one, two) } else { (two, one) };
    assert_eq!((ids(&lone.deliveries), lone.deliveries[0].attempt), (vec!["2"], 1));
    assert_eq!((ids(&plain.deliveries), plain.alone), (vec!["3"], false));
    worker.begin(&lone);
    let copy = host.crash(copy.path());

    let host = open(copy.path(), &layout);
    let worker = host.subscribe("a").await.worker();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = lease(&worker, 2).await;
        seen.push((batch.deliveries[0].message.id.clone(), batch.deliveries[0].attempt, batch.alone));
    }
    seen.sort();
    assert_eq!(seen, [("2".to_owned(), 2, true), ("3".to_owned(), 1, false)]);
}

#[tokio::test]
async fn a_message_that_takes_the_process_down_ends_as_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1"]).await;
    let worker = host.subscribe("a").await.worker();
    worker.begin(&lease(&worker, 1).await);
    let mut copy = host.crash(dir.path());
    for attempt in 1..=3 {
        let host = open(copy.path(), &layout);
        let worker = host.subscribe("a").await.worker();
        let batch = lease(&worker, 1).await;
        assert_eq!((batch.alone, batch.deliveries[0].attempt), (true, attempt));
        worker.begin(&batch);
        copy = host.crash(copy.path());
    }
    let host = open(copy.path(), &layout);
    host.subscribe("a").await;
    let report = host.report("in");
    assert_eq!((report.messages, report.subscriptions[0].dead), (0, 1));
}

#[tokio::test]
async fn a_clean_stop_leaves_no_suspects() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a"]);
    let host = open(dir.path(), &layout);
    host.send_ids(&["1"]).await;
    let worker = host.subscribe("a").await.worker();
    worker.begin(&lease(&worker, 1).await);
    host.ledger.close();
    drop(worker);
    let host = open(dir.path(), &layout);
    let worker = host.subscribe("a").await.worker();
    assert!(!lease(&worker, 1).await.alone);
}

#[tokio::test]
async fn a_worker_that_goes_gives_back_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send_ids(&["1", "2"]).await;
    let subscription = host.subscribe("a").await;
    let worker = subscription.worker();
    let batch = lease_all(&worker, 2).await;
    let receipt = worker.settle(host.settlement("a", outcomes(&batch[..1], &Outcome::Done)));
    drop(worker);
    receipt.await.unwrap();
    assert_eq!(ids(&lease_all(&subscription.worker(), 1).await), ["2"]);
}

#[tokio::test]
async fn a_slow_run_does_not_keep_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy::default(), &["a"]);
    let host = open(dir.path(), &layout);
    let all: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    host.send(&all.iter().map(|id| draft(id, None)).collect::<Vec<_>>()).await;
    let worker = host.subscribe("a").await.worker();
    let batch = lease_all(&worker, 400).await;
    let even: Vec<_> =
        batch.iter().filter(|delivery| matches!(delivery.origin, Origin::Log(seq) if seq % 2 == 0)).cloned().collect();
    host.settle(&worker, "a", &even, &Outcome::Done).await;
    let report = host.report("in");
    assert_eq!(report.subscriptions[0].backlog, 200);
    assert!(report.messages < 400, "{} are kept", report.messages);
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let worker = host.subscribe("a").await.worker();
    let rest = lease_all(&worker, 200).await;
    let mut numbers: Vec<u32> = ids(&rest).iter().map(|id| id.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq((0..400).step_by(2)));
    host.settle(&worker, "a", &rest, &Outcome::Done).await;
    let report = host.report("in");
    assert_eq!((report.messages, report.bytes, report.subscriptions[0].backlog), (0, 0, 0));
}

#[tokio::test]
async fn much_unfinished_work_holds_the_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send_ids(&["1", "2", "3"]).await;
    let settings = SubscriptionSettings { pending_max: 3, ..host.settings("a") };
    let subscription = host.broker.subscribe(settings).await.unwrap();
    let worker = subscription.worker();
    let batch = lease_all(&worker, 3).await;
    host.settle(&worker, "a", &batch, &retry(host.now_ms() + 3_600_000)).await;
    host.send_ids(&["4"]).await;
    assert!(worker.try_lease(1).is_none() && subscription.counts().is_held);
}

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
    assert!(matches!(reopen(), Err(OpenError::Newer { found: 99, known: 1 })));
    assert_eq!(std::fs::read(settings.file()).unwrap(), before);
    for text in [b"not a database at all, but long enough to look at".as_slice(), &[0; 4096]] {
        std::fs::write(settings.file(), text).unwrap();
        assert!(matches!(reopen(), Err(OpenError::Foreign { .. })));
        assert_eq!(std::fs::read(settings.file()).unwrap(), text);
    }
}

#[tokio::test]
async fn subscriptions_of_other_connectors_are_not_mixed_up() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a", "b"]));
    let numbers: Vec<SubscriptionId> = ["a", "b"].map(|name| host.settings(name).subscription).into();
    assert_ne!(numbers[0], numbers[1]);
    assert_eq!(host.ledger.settle(host.settlement("a", vec![(Origin::Log(9), Outcome::Done)])).await.ok(), Some(()));
    host.ledger.close();
    assert!(matches!(host.ledger.settle(host.settlement("a", Vec::new())).await, Err(SettleError::Closed)));
    assert!(matches!(host.ledger.append(vec![(host.queue("in"), draft("1", None))]).await, Err(AppendError::Closed)));
}

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
