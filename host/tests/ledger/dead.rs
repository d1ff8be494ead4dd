//! Dead letters: their story, and a second life.

use super::*;

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

    assert_eq!(host.ledger.dead_retry(&[letters[0].id], Redrive::default()).await.unwrap(), 1);
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
