//! Subscriptions on a server that lags behind another server, and with gaps.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::domain::watch::EntryFilter;

/// A store with demo data.
async fn store(folder: &tempfile::TempDir) -> SqlStore {
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let store = SqlStore::new(Options::of(url)).unwrap();
    store.prepare(true).await.unwrap();
    store
}

#[tokio::test]
async fn a_watch_does_not_skip_what_a_server_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    // The log is empty here, but has nine entries on another server.
    store.feed.has_read(Position::new(9, Vec::new()).unwrap()).await;
    for user_id in [None, Some(3)] {
        let entries = EntryFilter::default();
        let watched = SubscriptionFilter { user_id, visibility: Visibility::All, entries };
        let mut watch = store
            .watch(&CallContext::default(), WatchStart::Position(Position::default()), watched, "")
            .await
            .unwrap();
        let next = timeout(Duration::from_secs(60), watch.next()).await.unwrap();
        assert!(matches!(next, Err(Error::Unavailable(_))), "{next:?}");
    }
}

#[tokio::test]
async fn the_gaps_of_each_watch_are_charged_until_it_ends() {
    const GAPS: i64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let gaps = (0..GAPS).map(|number| (2 * number + 1, 2 * number + 1)).collect();
    let position = Position::new(2 * GAPS, gaps).unwrap();
    let memory = position.memory();
    assert_eq!(memory, 16 * usize::try_from(GAPS).unwrap());
    store.feed.has_read(position).await;
    let (visibility, entries) = (Visibility::All, EntryFilter::default());
    let watched = SubscriptionFilter { user_id: None, visibility, entries };
    let budget = store.watch_budget();
    let first =
        store.watch(&CallContext::default(), WatchStart::Now, watched.clone(), "").await.unwrap();
    assert_eq!(budget.entries_used(), memory);
    let second = store.watch(&CallContext::default(), WatchStart::Now, watched, "").await.unwrap();
    assert_eq!(budget.entries_used(), 2 * memory);
    drop((first, second));
    assert_eq!(budget.used(), 0);
}
