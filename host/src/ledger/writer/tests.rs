//! What only shows inside: a disk without room, a change that fails, and what goes by age.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::id::Name;
use crate::ledger::{ConnectorLayout, Consumption, Directory, From, Layout, Ledger, QueuePolicy, Settings, StateUsage};
use crate::message::Draft;
use crate::metrics::Metrics;
use crate::settlement::{Origin, Outcome as Decided, Settlement, StateChanges};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn open(dir: &Path, policy: QueuePolicy, consumer: Option<&str>) -> (Ledger, Directory) {
    let settings = Settings { min_free: Some(0), ..Settings::new(dir.to_owned()) };
    let ledger = Ledger::open(settings, Clock::default(), Metrics::default()).unwrap();
    let connector = |consumer: &str| ConnectorLayout {
        name: name(consumer),
        was: None,
        consumes: vec![Consumption { queue: name("q"), from: From::Oldest }],
        has_inbox: false,
        dead_retention: Duration::from_secs(60),
        state_max: StateUsage { keys: 10_000, bytes: 64 << 20 },
        on_dead: None,
    };
    let connectors = consumer.map(connector).into_iter().collect();
    let layout = Layout { queues: [(name("q"), policy)].into(), connectors, routes: Vec::new() };
    let directory = ledger.configure(&layout).unwrap();
    (ledger, directory)
}

fn drafts(directory: &Directory, count: usize, bytes: usize) -> Vec<(QueueId, Draft)> {
    let queue = directory.queue("q").unwrap();
    let draft = |number: usize| Draft { id: number.to_string(), body: vec![7; bytes], ..Draft::default() };
    (0..count).map(|number| (queue, draft(number))).collect()
}

fn settlement(directory: &Directory, outcomes: Vec<(Origin, Decided)>) -> Settlement {
    Settlement {
        subscription: directory.subscription("q", "a").unwrap(),
        connector: directory.connector("a").unwrap(),
        outcomes,
        publishes: Vec::new(),
        state: StateChanges::default(),
        tick: None,
        mark: None,
    }
}

/// Lets the file grow no further than it is, or without bound.
async fn set_room(ledger: &Ledger, has_room: bool) {
    ledger
        .change(move |write| {
            let pages: i64 = write.db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let pages_max = if has_room { i64::from(i32::MAX) } else { pages };
            write.db.query_row(&format!("PRAGMA max_page_count = {pages_max}"), [], |_| Ok(()))
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_keeps_what_is_decided() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, directory) = open(dir.path(), QueuePolicy::default(), Some("a"));
    ledger.append(drafts(&directory, 3, 10)).await.unwrap();
    set_room(&ledger, false).await;
    let refused = ledger.append(drafts(&directory, 1, 500_000)).await;
    assert!(matches!(refused, Err(AppendError::Disk)));
    let mut decided = settlement(&directory, vec![(Origin::Log(1), Decided::Done)]);
    decided.state.writes.push(("key".to_owned(), Some(vec![7; 500_000])));
    let receipt = ledger.settle(decided);
    set_room(&ledger, true).await;
    receipt.await.unwrap();
    assert_eq!(ledger.state_usage(directory.connector("a").unwrap()).unwrap().keys, 1);
    assert_eq!(ledger.queues().unwrap()[0].subscriptions[0].backlog, 2);
    while ledger.disk_is_full() {
        tokio::task::yield_now().await;
    }
    ledger.append(drafts(&directory, 1, 500_000)).await.unwrap();
}

#[tokio::test]
async fn a_change_that_fails_takes_nothing_of_its_neighbours_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, directory) = open(dir.path(), QueuePolicy::default(), Some("a"));
    let queue = directory.queue("q").unwrap();
    let ways = (0..40).map(|number: u32| {
        let (ledger, batch) = (ledger.clone(), drafts(&directory, 1, 10));
        async move {
            if number.is_multiple_of(2) {
                return ledger.append(batch).await.is_ok();
            }
            let change = ledger.change(move |write| {
                write.accept(queue, &Draft { id: "lost".to_owned(), ..Draft::default() })?;
                write.db.execute("INSERT INTO no_such_table VALUES (1)", [])
            });
            change.await.is_ok()
        }
    });
    let went_well = futures_util::future::join_all(ways).await;
    assert!(went_well.iter().enumerate().all(|(number, is_ok)| *is_ok == (number % 2 == 0)));
    let page = ledger.read_log(queue, 0, 100, 1 << 20).unwrap();
    assert!(page.messages.iter().map(|(seq, _)| *seq).eq(1..=20), "dense");
    assert!(page.messages.iter().all(|(_, message)| message.id == "0"));
}

#[tokio::test]
async fn ages_are_minded_retention_where_nobody_subscribes_keep_where_all_is_settled() {
    let short = Duration::from_millis(1);
    for (policy, consumer) in [
        (QueuePolicy { retention: short, ..QueuePolicy::default() }, None),
        (QueuePolicy { keep: Some(short), ..QueuePolicy::default() }, Some("a")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, directory) = open(dir.path(), policy, consumer);
        ledger.append(drafts(&directory, 5, 10)).await.unwrap();
        let mut left = 0;
        if consumer.is_some() {
            let done = (1..=3).map(|seq| (Origin::Log(seq), Decided::Done)).collect();
            ledger.settle(settlement(&directory, done)).await.unwrap();
            left = 2;
        }
        while ledger.queues().unwrap()[0].messages != left {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn dead_letters_go_by_their_retention() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, directory) = open(dir.path(), QueuePolicy::default(), Some("a"));
    ledger.append(drafts(&directory, 1, 10)).await.unwrap();
    let dead = Decided::Dead { reason: "why".to_owned() };
    ledger.settle(settlement(&directory, vec![(Origin::Log(1), dead)])).await.unwrap();
    ledger.change(|write| write.db.execute("UPDATE dead SET died_ms = 1", [])).await.unwrap();
    while ledger.queues().unwrap()[0].subscriptions[0].dead > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(ledger.dead_list(None, 0, 10).unwrap().is_empty());
}

#[tokio::test]
async fn what_a_queue_expires_is_settled_although_nobody_consumes_it() {
    let dir = tempfile::tempdir().unwrap();
    let policy = QueuePolicy { expires: Some(Duration::from_secs(1)), ..QueuePolicy::default() };
    let (ledger, directory) = open(dir.path(), policy, Some("a"));
    ledger.append(drafts(&directory, 4, 10)).await.unwrap();
    let retry = Decided::Retry { due_ms: u64::MAX / 4, charged: true, reason: "why".to_owned() };
    ledger
        .settle(settlement(&directory, vec![(Origin::Log(1), retry), (Origin::Log(3), Decided::Done)]))
        .await
        .unwrap();
    let change = ledger.change(|write| write.db.execute("UPDATE message SET enqueued_ms = 1 WHERE id & 7 < 4", []));
    assert_eq!(change.await.unwrap(), 3);
    while ledger.queues().unwrap()[0].messages > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = &ledger.queues().unwrap()[0].subscriptions[0];
    assert_eq!((report.backlog, report.retrying), (1, 0));
}

/// Waits until everything that goes by age was looked at once more: letters are the last of it.
async fn age_once(ledger: &Ledger) {
    ledger.change(|write| write.db.execute("UPDATE dead SET died_ms = 1", [])).await.unwrap();
    while ledger.queues().unwrap()[0].subscriptions[0].dead > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_message_that_waits_for_its_next_attempt_expires_no_sooner_than_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let policy = QueuePolicy { expires: Some(Duration::from_secs(3_600)), ..QueuePolicy::default() };
    let (ledger, directory) = open(dir.path(), policy, Some("a"));
    ledger.append(drafts(&directory, 3, 10)).await.unwrap();
    let retry = Decided::Retry { due_ms: u64::MAX / 4, charged: true, reason: "why".to_owned() };
    let dead = Decided::Dead { reason: "why".to_owned() };
    let outcomes = vec![(Origin::Log(1), retry), (Origin::Log(2), Decided::Done), (Origin::Log(3), dead)];
    ledger.settle(settlement(&directory, outcomes)).await.unwrap();
    age_once(&ledger).await;
    let report = &ledger.queues().unwrap()[0];
    assert_eq!((report.messages, report.subscriptions[0].backlog), (1, 1));
}

/// A delayed message was accepted before those that stand in front of it.
#[tokio::test]
async fn an_old_message_behind_a_young_one_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let policy = QueuePolicy { expires: Some(Duration::from_secs(3_600)), ..QueuePolicy::default() };
    let (ledger, directory) = open(dir.path(), policy, Some("a"));
    ledger.append(drafts(&directory, 5, 10)).await.unwrap();
    ledger
        .settle(settlement(&directory, vec![(Origin::Log(5), Decided::Dead { reason: "why".to_owned() })]))
        .await
        .unwrap();
    let change =
        ledger.change(|write| write.db.execute("UPDATE message SET enqueued_ms = 1 WHERE id & 7 IN (1, 3)", []));
    assert_eq!(change.await.unwrap(), 2);
    age_once(&ledger).await;
    let left = ledger.read_log(directory.queue("q").unwrap(), 0, 10, 1 << 20).unwrap();
    assert!(left.messages.iter().any(|(seq, _)| *seq == 2), "the young one stays");
    assert_eq!(ledger.queues().unwrap()[0].subscriptions[0].backlog, 3);
}

#[tokio::test]
async fn the_oldest_unsettled_message_is_found_before_one_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, directory) = open(dir.path(), QueuePolicy::default(), Some("a"));
    ledger.append(drafts(&directory, 3, 10)).await.unwrap();
    let retry = Decided::Retry { due_ms: u64::MAX / 4, charged: true, reason: "why".to_owned() };
    ledger.settle(settlement(&directory, vec![(Origin::Log(3), retry)])).await.unwrap();
    let change = ledger.change(|write| {
        let aged_ms = write.now.due_ms - 1_000_000;
        write.db.execute("UPDATE message SET enqueued_ms = ?1 WHERE id & 7 = 1", [i64::try_from(aged_ms).unwrap()])
    });
    assert_eq!(change.await.unwrap(), 1);
    let oldest = ledger.queues().unwrap()[0].subscriptions[0].oldest_seconds;
    assert!(oldest.is_some_and(|seconds| seconds >= 1_000), "{oldest:?}");
}
