//! A new epoch: nothing that was read before a restore is valid after it.

use m4_user_details::{
    domain::{
        administration::Administrator,
        call_context::CallContext,
        clock::{Clock, SystemClock},
    },
    proto::{
        ListUserDetailsRequest, RevertUserDetailsChangeRequest, UpdateUserDetailsRequest,
        UserDetails, WatchUserDetailsRequest, watch_user_details_request::Start,
    },
    storage::SqlStore,
};
use tonic::Code;

use crate::{
    support::{
        app::{TestApp, config, reason, set_city},
        database::TestDatabase,
        on_every_engine, until,
    },
    watch::{Watch, everything},
};

on_every_engine!(
    nothing_of_an_earlier_epoch_is_valid,
    epochs_follow_each_other,
    an_epoch_begins_before_the_first_change,
);

async fn begin_epoch(database: &TestDatabase) -> i64 {
    let store = SqlStore::open_existing(config(&database.url, &[]).database).await.unwrap();
    let by = (&Administrator::default(), SystemClock.now());
    let epoch = store.begin_epoch(&CallContext::default(), by).await.unwrap();
    store.close().await;
    epoch
}

/// An update that is guarded by an etag.
fn guarded(user_id: i64, etag: &str, city: &str) -> UpdateUserDetailsRequest {
    let update = set_city(user_id, city);
    let details = update.user_details.unwrap();
    let user_details = Some(UserDetails { etag: etag.to_owned(), ..details });
    UpdateUserDetailsRequest { user_details, ..update }
}

async fn nothing_of_an_earlier_epoch_is_valid(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let request_id = "2f8fad5b-d9cb-469f-a165-70867728950e".to_owned();
    let repeated = UpdateUserDetailsRequest { request_id, ..set_city(3, "York") };
    let stored = app.update(repeated.clone()).await.unwrap();
    let etag = stored.user_details.unwrap().etag;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    app.update(set_city(4, "Leeds")).await.unwrap();
    let before = watch.change().await.unwrap();
    let resume_token = watch.token.clone();
    let mut list = ListUserDetailsRequest {
        page_size: 1,
        with_watch_token: true,
        acting_username: "admin".to_owned(),
        ..ListUserDetailsRequest::default()
    };
    let page = app.users().list_user_details(list.clone()).await.unwrap().into_inner();
    list.page_token = page.next_page_token;

    begin_epoch(&database).await;
    let refused = app.update(guarded(3, &etag, "Hull")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert!(refused.message().contains("before the database was restored"), "{refused:?}");
    // A replica follows within two seconds, without a restart.
    until("the page token is refused", async || {
        let Err(refused) = app.users().list_user_details(list.clone()).await else { return false };
        assert_eq!(reason(&refused), "INVALID_REQUEST");
        refused.message().contains("before the database was restored")
    })
    .await;
    for resume_token in [resume_token, page.watch_token] {
        let request = WatchUserDetailsRequest { resume_token, ..everything() };
        let refused = Watch::start(&app, request).await.err().unwrap();
        assert_eq!(reason(&refused), "INVALID_REQUEST");
        assert!(refused.message().contains("before the database was restored"), "{refused:?}");
    }
    // The database is as it was.
    let alice = app.read(3).await;
    assert_eq!(alice.address.clone().unwrap().city.as_deref(), Some("York"));
    let again = app.update(repeated).await.unwrap();
    assert_eq!(again.user_details.unwrap().etag, etag, "the stored answer");
    let revert = RevertUserDetailsChangeRequest {
        change_id: before.change_id,
        acting_username: "admin".to_owned(),
        ..RevertUserDetailsChangeRequest::default()
    };
    app.users().revert_user_details_change(revert).await.unwrap();
    // Ids and etags of the new epoch are valid.
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    app.update(guarded(3, &alice.etag, "Hull")).await.unwrap();
    let change = watch.change().await.unwrap();
    assert!(change.change_id > before.change_id + (1 << 32), "{}", change.change_id);
    let request = WatchUserDetailsRequest { resume_token: watch.token, ..everything() };
    let mut watch = Watch::start(&app, request).await.unwrap();
    app.update(guarded(3, &change.etag, "Bath")).await.unwrap();
    assert_eq!(watch.change().await.unwrap().user_id, 3);
}

async fn epochs_follow_each_other(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut etags = vec![app.read(3).await.etag];
    let mut last = 0;
    for _ in 0..3 {
        let epoch = begin_epoch(&database).await;
        assert!(epoch > last);
        last = epoch;
        app.update(set_city(3, &format!("City {epoch}"))).await.unwrap();
        etags.push(app.read(3).await.etag);
    }
    for earlier in &etags[..3] {
        let refused = app.update(guarded(3, earlier, "Hull")).await.unwrap_err();
        assert!(refused.message().contains("restored"), "{refused:?}");
    }
    app.update(guarded(3, &etags[3], "Hull")).await.unwrap();
    let log = "SELECT COUNT(*) FROM administration_log WHERE object = 'epoch'";
    assert_eq!(database.number(log).await, 3);
}

async fn an_epoch_begins_before_the_first_change(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let epoch = begin_epoch(&database).await;
    app.update(set_city(3, "York")).await.unwrap();
    let first = database.number("SELECT MIN(id) FROM change_log").await;
    assert!(first > epoch << 32, "{first}");
    // A change id of before is not taken for a start.
    let start =
        |id| WatchUserDetailsRequest { start: Some(Start::StartAfterChangeId(id)), ..everything() };
    let refused = Watch::start(&app, start(7)).await.err().unwrap();
    assert!(refused.message().contains("restored"), "{refused:?}");
    Watch::start(&app, start(first)).await.unwrap();
}
