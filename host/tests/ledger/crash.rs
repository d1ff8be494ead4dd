//! What was running when the process died, and what it is charged.

use super::*;

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

/// A redriven message keeps the order of its key in this alone: nothing of the key runs beside it.
#[tokio::test]
async fn a_redriven_suspect_and_a_message_of_its_key_do_not_run_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(QueuePolicy { ordering: Ordering::Key, ..QueuePolicy::default() }, &["a"]);
    let host = open(dir.path(), &layout);
    host.send(&[draft("1", Some("k"))]).await;
    let worker = host.subscribe("a").await.worker();
    host.settle(&worker, "a", &lease(&worker, 1).await.deliveries, &dead()).await;
    let letter = host.ledger.dead_list(None, 0, 1).unwrap()[0].id;
    assert_eq!(host.ledger.dead_retry(&[letter], Redrive::default()).await.unwrap(), 1);
    let redriven = lease(&worker, 1).await;
    worker.begin(&redriven);
    host.send(&[draft("2", Some("k")), draft("3", None)]).await;
    let copy = host.crash(dir.path());

    let host = open(copy.path(), &layout);
    let subscription = host.subscribe("a").await;
    let workers = [subscription.worker(), subscription.worker()];
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = lease(&workers[0], 1).await.deliveries;
        if batch[0].message.key.is_some() {
            let beside = workers[1].try_lease(3).map(|batch| batch.deliveries).unwrap_or_default();
            assert!(beside.iter().all(|delivery| delivery.message.key.is_none()), "{beside:?} beside {batch:?}");
            workers[1].release(beside);
        }
        host.settle(&workers[0], "a", &batch, &Outcome::Done).await;
        seen.push(batch[0].message.id.clone());
    }
    seen.sort();
    assert_eq!(seen, ["1", "2", "3"]);
}
