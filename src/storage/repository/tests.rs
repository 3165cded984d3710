//! Subscriptions on a server that lags behind another server.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_watch_does_not_skip_what_a_server_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let store = SqlStore::new(Options::of(url)).unwrap();
    store.prepare(true).await.unwrap();
    // The log is empty here, but has nine entries on another server.
    store.feed.has_read(Position::new(9, Vec::new()).unwrap()).await;
    for user_id in [None, Some(3)] {
        let watched = SubscriptionFilter { user_id, visibility: Visibility::All };
        let mut watch = store
            .watch(&CallContext::default(), Some(Position::default()), watched, "")
            .await
            .unwrap();
        let next = timeout(Duration::from_secs(60), watch.next()).await.unwrap();
        assert!(matches!(next, Err(Error::Unavailable(_))), "{next:?}");
    }
}
