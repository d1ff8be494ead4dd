//! Settlements: what commits together, what comes back, and what is removed behind it.

use super::*;

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
