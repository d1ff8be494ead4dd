//! Leases: what a worker gets, in which order, and what it gives back.

use super::*;

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
async fn after_a_panic_what_was_held_alone_is_known_and_several_run_alone_each() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send_ids(&["1", "2", "3"]).await;
    let subscription = host.subscribe("a").await;
    let worker = subscription.worker();
    let batch = lease_all(&worker, 3).await;
    host.settle(&worker, "a", &batch[..1], &Outcome::Done).await;
    assert_eq!(worker.broke(), None, "either of two may have done it");
    drop(worker);
    let worker = subscription.worker();
    for id in ["2", "3"] {
        let batch = lease(&worker, 3).await;
        assert_eq!((ids(&batch.deliveries), batch.alone), (vec![id], true));
        assert_eq!(worker.broke().as_ref(), batch.deliveries.first());
        host.settle(&worker, "a", &batch.deliveries, &Outcome::Done).await;
    }
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
async fn much_unfinished_work_holds_the_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    host.send_ids(&["1", "2", "3"]).await;
    let settings = SubscriptionSettings { pending_max: 3, ..host.settings("a") };
    let subscription = host.broker.subscribe(settings).unwrap();
    let worker = subscription.worker();
    let batch = lease_all(&worker, 3).await;
    host.settle(&worker, "a", &batch, &retry(host.now_ms() + 3_600_000)).await;
    host.send_ids(&["4"]).await;
    assert!(worker.try_lease(1).is_none() && subscription.counts().is_held);
}
