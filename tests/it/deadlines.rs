//! Calls that are given up, by their deadline or because the caller goes away.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use m4_user_details::proto::{
    GetUserDetailsRequest, ListUserDetailsChangesRequest, ListUserDetailsRequest, UserDetails,
};
use tonic::{Code, Request};

use crate::support::{
    app::{TestApp, set_city},
    database::{Kind, TestDatabase},
    on_every_engine,
};

on_every_engine!(
    an_update_waits_for_a_lock_no_longer_than_its_caller,
    no_commit_is_torn_when_callers_go_away,
    a_read_is_waited_for_no_longer_than_its_caller_waits,
);

async fn an_update_waits_for_a_lock_no_longer_than_its_caller(database: TestDatabase) {
    // What is under way keeps its room until it has ended.
    let app = TestApp::start_with(&database, &[("max_in_flight", "1")]).await;
    let lock = database.lock_alice().await;
    let begun = Instant::now();
    let mut request = Request::new(set_city(3, "Late"));
    request.set_timeout(Duration::from_millis(300));
    let error = app.users().update_user_details(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    loop {
        let request = GetUserDetailsRequest { user_id: 4, ..GetUserDetailsRequest::default() };
        match app.users().get_user_details(request).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "it still waits, for nobody");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lock.release().await;

    // Where there is no hurry, a lock is waited for as long as ever.
    let lock = database.lock_alice().await;
    let users = app.users();
    let update = async { users.clone().update_user_details(set_city(3, "York")).await };
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lock.release().await;
    };
    tokio::join!(update, release).0.expect("it has the lock in time");
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("York"));
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn no_commit_is_torn_when_callers_go_away(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let callers = (0..16).map(|caller| {
        let users = app.users();
        async move {
            let mut acknowledged = Vec::new();
            for call in 0..40 {
                let (user_id, city) = (3 + (caller + call) % 3, format!("{caller} {call}"));
                // Somewhere in the middle of it; and now and then not at all.
                let patience = match call % 8 {
                    7 => Duration::from_secs(60),
                    _ => Duration::from_micros((caller * 7919 + call * 104_729) as u64 % 30_000),
                };
                let mut users = users.clone();
                let update = users.update_user_details(set_city(user_id, &city));
                if let Ok(Ok(answer)) = tokio::time::timeout(patience, update).await {
                    let etag = answer.into_inner().user_details.unwrap().etag;
                    acknowledged.push((user_id, etag, city));
                }
            }
            acknowledged
        }
    });
    let acknowledged: Vec<_> = join_all(callers).await.into_iter().flatten().collect();
    // What was begun is finished.
    app.stop().await.unwrap();
    let app = TestApp::start(&database).await;

    let mut logged = HashSet::new();
    for user_id in 3..=5_i64 {
        let request = ListUserDetailsChangesRequest {
            user_id: Some(user_id),
            page_size: 1000,
            ..ListUserDetailsChangesRequest::default()
        };
        let answer = app.users().list_user_details_changes(request).await.unwrap();
        let changes = answer.into_inner().changes;
        let version = format!("SELECT version FROM accounts WHERE id = {user_id}");
        let version = database.number(&version).await;
        assert_eq!(version - 1, i64::try_from(changes.len()).unwrap());
        let last = changes.last().unwrap();
        let city = |details: &Option<UserDetails>| {
            details.clone().unwrap_or_default().address.unwrap_or_default().city.unwrap_or_default()
        };
        assert_eq!(app.read(user_id).await.address.unwrap().city.unwrap(), city(&last.details));
        assert_eq!(app.read(user_id).await.etag, last.etag);
        logged.extend(changes.iter().map(|one| (user_id, one.etag.clone(), city(&one.details))));
    }
    for one in &acknowledged {
        assert!(logged.contains(one), "{one:?} was acknowledged, and is not there");
    }
    assert!(!acknowledged.is_empty() && acknowledged.len() < 16 * 40, "{}", acknowledged.len());
}

async fn a_read_is_waited_for_no_longer_than_its_caller_waits(database: TestDatabase) {
    let (lock, mode, waiting) = match database.kind {
        // There nobody who reads waits for one who writes.
        Kind::Sqlite => return,
        Kind::Postgres => (
            "LOCK TABLE",
            "IN ACCESS EXCLUSIVE MODE",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        ),
        Kind::MariaDb => (
            "LOCK TABLES",
            "WRITE",
            "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND state LIKE 'Waiting for %'",
        ),
    };
    let app = TestApp::start(&database).await;
    let users = app.users();
    let get = GetUserDetailsRequest { user_id: 3, ..GetUserDetailsRequest::default() };
    let one = GetUserDetailsRequest { acting_username: "manager".to_owned(), ..get.clone() };
    let page = ListUserDetailsChangesRequest::default;
    let since = Some(prost_types::Timestamp::default());
    let span = ListUserDetailsChangesRequest { since, ..page() };
    macro_rules! given_up {
        ($table:literal, $method:ident, $request:expr) => {
            let transaction = database.begin().await;
            transaction.execute(&format!("{lock} {} {mode}", $table)).await;
            let mut request = Request::new($request);
            request.set_timeout(Duration::from_millis(500));
            let mut client = users.clone();
            let (begun, call) = (Instant::now(), client.$method(request));
            let look = async {
                while database.number(waiting).await == 0 {
                    assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits");
                }
                while database.number(waiting).await > 0 {
                    assert!(begun.elapsed() < Duration::from_secs(5), "it waits, for nobody");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let error = tokio::join!(call, look).0.unwrap_err();
            // The client has a deadline of its own, and says so otherwise, if it is the first.
            let codes = [Code::DeadlineExceeded, Code::Cancelled];
            assert!(codes.contains(&error.code()), "{error:?}");
            transaction.commit().await;
            users.clone().$method($request).await.expect("the connection is as good as new");
        };
    }
    given_up!("change_log", list_user_details_changes, page());
    given_up!("change_log", list_user_details_changes, span.clone());
    given_up!("accounts", list_user_details, ListUserDetailsRequest::default());
    given_up!("accounts", get_user_details, get.clone());
    given_up!("accounts", get_user_details, one.clone());
}
