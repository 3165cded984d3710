//! Calls that end early: at their deadline, or when the caller goes away.

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
    app::{TestApp, set_city, untimed_users},
    database::{Kind, TestDatabase},
    on_every_engine, on_servers, until,
};

on_every_engine!(
    an_update_waits_for_a_lock_no_longer_than_its_caller,
    an_update_without_a_short_deadline_waits_until_the_lock_is_free,
    no_commit_is_torn_when_callers_go_away,
);

// SQLite readers do not wait for writers.
on_servers!(a_read_is_waited_for_no_longer_than_its_caller_waits);

/// The lock timeout of a statement whose caller sets no deadline.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

async fn an_update_waits_for_a_lock_no_longer_than_its_caller(database: TestDatabase) {
    // A call holds its permit until it has ended.
    let app = TestApp::start_with(&database, &[("max_in_flight", "1")]).await;
    let lock = database.lock_alice().await;
    // A busy machine may delay one attempt, but hardly each of several.
    let mut waits = Vec::new();
    while waits.last().is_none_or(|wait| *wait >= LOCK_TIMEOUT) {
        assert!(waits.len() < 5, "an update waits for a lock without a caller: {waits:?}");
        let begun = Instant::now();
        let mut request = Request::new(set_city(3, "Late"));
        request.set_timeout(Duration::from_millis(300));
        let error = untimed_users(app.grpc).update_user_details(request).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        until("the update gives up its place", || async {
            let request = GetUserDetailsRequest { user_id: 4, ..GetUserDetailsRequest::default() };
            match app.users().get_user_details(request).await {
                Ok(_) => true,
                Err(error) if error.code() == Code::ResourceExhausted => false,
                Err(error) => panic!("{error:?}"),
            }
        })
        .await;
        waits.push(begun.elapsed());
    }
    lock.release().await;
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn an_update_without_a_short_deadline_waits_until_the_lock_is_free(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("max_in_flight", "1")]).await;
    let lock = database.lock_alice().await;
    let mut users = app.users();
    let update = tokio::spawn(async move {
        // A read below may hold the permit.
        loop {
            match users.update_user_details(set_city(3, "York")).await {
                Err(error) if error.code() == Code::ResourceExhausted => {}
                outcome => return outcome,
            }
        }
    });
    until("the update has its place", || async {
        let request = GetUserDetailsRequest { user_id: 4, ..GetUserDetailsRequest::default() };
        let read = app.users().get_user_details(request).await;
        read.is_err_and(|error| error.code() == Code::ResourceExhausted)
    })
    .await;
    assert!(!update.is_finished());
    lock.release().await;
    update.await.unwrap().unwrap();
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
                // Drop most calls midway, and let some finish.
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
    // A stop finishes every call that has begun.
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
    let (lock, mode) = match database.kind {
        Kind::MariaDb => ("LOCK TABLES", "WRITE"),
        Kind::Sqlite | Kind::Postgres => ("LOCK TABLE", "IN ACCESS EXCLUSIVE MODE"),
    };
    let app = TestApp::start(&database).await;
    let users = untimed_users(app.grpc);
    let get = GetUserDetailsRequest { user_id: 3, ..GetUserDetailsRequest::default() };
    let one = GetUserDetailsRequest { acting_username: "manager".to_owned(), ..get.clone() };
    let page = ListUserDetailsChangesRequest::default;
    let since = Some(prost_types::Timestamp::default());
    let span = ListUserDetailsChangesRequest { since, ..page() };
    macro_rules! given_up {
        ($table:literal, $method:ident, $request:expr) => {
            let transaction = database.begin().await;
            transaction.execute(&format!("{lock} {} {mode}", $table)).await;
            // On a busy machine the deadline may pass before the statement begins.
            let (mut has_waited, mut deadline) = (false, Duration::from_millis(250));
            while !has_waited {
                assert!(deadline < Duration::from_secs(30), "the statement waits for no lock");
                deadline *= 2;
                let mut request = Request::new($request);
                request.set_timeout(deadline);
                let mut client = users.clone();
                let call = tokio::spawn(async move { client.$method(request).await });
                while !call.is_finished() {
                    has_waited |= database.lock_waits().await > 0;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let error = call.await.unwrap().unwrap_err();
                assert_eq!(error.code(), Code::DeadlineExceeded);
            }
            let begun = Instant::now();
            until("nothing waits for the lock", || async { database.lock_waits().await == 0 })
                .await;
            assert!(begun.elapsed() < LOCK_TIMEOUT, "a read waits for a lock without a caller");
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
