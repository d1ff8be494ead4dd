//! From one configuration to the next: renames and connectors that have gone.

use bulkhead_host::ledger::{NewTick, Planned};

use super::*;

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
    let tick = NewTick { inbox, due_ms: 7_000, draft: draft("tick", None), remember_ms: 1_000 };
    let planned = Planned { schedule: "default".to_owned(), planned_ms: 7_000, tick: Some(tick) };
    host.ledger.enqueue_tick(id, planned).await.unwrap();
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
    assert_eq!(host.ledger.schedule(id, "default").unwrap().last_planned_ms, Some(7_000));
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
        tokio::task::yield_now().await;
    }
    let copy = host.crash(copy.path());

    let host = open(copy.path(), &layout(QueuePolicy::default(), &["a", "b"]));
    host.send_ids(&["3"]).await;
    let worker = host.subscribe("b").await.worker();
    assert_eq!(ids(&lease_all(&worker, 1).await), ["3"], "back again, it begins anew");
}

#[tokio::test]
async fn a_rename_that_is_refused_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = layout(QueuePolicy::default(), &["a", "b", "c"]);
    let host = open(dir.path(), &before);
    let number = host.directory.connector("a");
    let mut refused = layout(QueuePolicy::default(), &["x", "b"]);
    refused.connectors[0].was = Some(name("a"));
    refused.connectors[1].was = Some(name("c"));
    let error = host.ledger.configure(&refused).unwrap_err().to_string();
    assert!(error.contains("remove `connectors.b.was`"), "{error}");
    let directory = host.ledger.configure(&before).unwrap();
    assert_eq!((directory.connector("a"), directory.orphans()), (number, &[][..]));
}
