//! What a queue accepts: repeats, bounds and sizes.

use bulkhead_host::settlement::Mark;

use super::*;

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

/// Else whoever shows one key again beside another that is not signed could have a later request dropped, which nobody
/// has accepted: its sender would be told that it was.
#[tokio::test]
async fn a_repeat_leaves_no_mark_whichever_of_its_keys_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy { marks: Some(DAY), ..QueuePolicy::default() }, &["a"]));
    let queue = host.queue("in");
    let requests: [(&str, &[&str], (&str, bool)); 6] = [
        ("1", &["known"], ("1", false)),
        ("2", &["known", "behind"], ("1", true)),
        ("3", &["before", "known"], ("1", true)),
        ("4", &["behind"], ("4", false)),
        ("5", &["before"], ("5", false)),
        ("6", &["new", "before"], ("5", true)),
    ];
    for (id, keys, answer) in requests {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let mark = Mark { inbox: queue, keys, message_id: id.to_owned(), answer: None };
        let received = host.ledger.receive(queue, draft(id, None), Some(mark)).await.unwrap();
        assert_eq!((received.id.as_str(), received.duplicate), answer, "request {id}");
    }
    assert_eq!(host.report("in").messages, 3);
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
async fn a_delayed_message_is_part_of_every_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a", "b"]));
    host.send(&[Draft { delay_ms: Some(3_600_000), ..draft("later", None) }, draft("now", None)]).await;
    let worker = host.subscribe("a").await.worker();
    host.settle(&worker, "a", &lease(&worker, 2).await.deliveries, &dead()).await;
    let letter = host.ledger.dead_list(None, 0, 1).unwrap()[0].id;
    host.ledger.dead_retry(&[letter], Redrive::default()).await.unwrap();
    let backlogs: Vec<u64> = host.report("in").subscriptions.iter().map(|subscription| subscription.backlog).collect();
    assert_eq!(backlogs, [2, 2], "the redriven one counts in its own subscription alone");
}
