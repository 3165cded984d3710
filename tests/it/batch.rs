//! Batches: atomic, or each update on its own.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use m4_user_details::proto::{
    Address, BatchUpdateUserDetailsRequest, BatchUpdateUserDetailsResponse, Comment, General,
    UpdateUserDetailsError, UpdateUserDetailsRequest, UpdateUserDetailsResponse,
    UpdateUserDetailsResult, UserDetails, update_user_details_result::Result as UpdateResult,
};
use tonic::{Code, Status};

use crate::support::{
    app::{TestApp, reason, violations},
    database::TestDatabase,
    on_every_engine, on_sqlite,
};

on_every_engine!(
    all_are_stored_or_none,
    each_may_be_on_its_own,
    a_bad_batch_is_refused,
    a_thousand_are_stored_beside_others,
    each_user_gets_what_is_its_own,
    a_large_batch_fits_where_few_calls_do,
    a_repeated_batch_is_done_once,
    an_answer_that_would_be_too_large_says_less,
);

// Only SQLite has a single writer.
on_sqlite!(single_updates_go_between_batches);

fn update(user_id: i64, city: &str) -> UpdateUserDetailsRequest {
    let address = Address { city: Some(city.to_owned()), ..Address::default() };
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(UserDetails { address: Some(address.into()), ..UserDetails::default() }),
        ..UpdateUserDetailsRequest::default()
    }
}

fn manager(user_id: i64, responsible_manager_id: i64) -> UpdateUserDetailsRequest {
    let responsible_manager_id = Some(responsible_manager_id);
    let general = General { responsible_manager_id, ..General::default() };
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(UserDetails { general: Some(general.into()), ..UserDetails::default() }),
        ..UpdateUserDetailsRequest::default()
    }
}

fn batch(requests: Vec<UpdateUserDetailsRequest>) -> BatchUpdateUserDetailsRequest {
    BatchUpdateUserDetailsRequest { requests, ..BatchUpdateUserDetailsRequest::default() }
}

impl TestApp {
    async fn batch(
        &self,
        request: BatchUpdateUserDetailsRequest,
    ) -> Result<BatchUpdateUserDetailsResponse, Status> {
        self.users().batch_update_user_details(request).await.map(tonic::Response::into_inner)
    }

    async fn city(&self, user_id: i64) -> String {
        self.read(user_id).await.address.unwrap().city.unwrap()
    }
}

fn results(
    answer: BatchUpdateUserDetailsResponse,
) -> Vec<Result<UpdateUserDetailsResponse, UpdateUserDetailsError>> {
    let result = |result| match result {
        UpdateResult::Response(response) => Ok(response),
        UpdateResult::Error(error) => Err(error),
    };
    answer.results.into_iter().map(|item| result(item.result.unwrap())).collect()
}

async fn entries(database: &TestDatabase) -> i64 {
    database.number("SELECT count(*) FROM change_log").await
}

async fn all_are_stored_or_none(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let good = vec![
        update(3, "Bonn"),
        update(5, "Kaunas"),
        manager(3, 6),
        update(4, "York"),
        update(3, "Riga"),
        update(3, "Riga"),
    ];
    for (bad, expected, code) in [
        (update(999, "x"), "USER_NOT_FOUND", Code::NotFound),
        (update(2, "x"), "USER_NOT_FOUND", Code::NotFound),
        (update(1, "x"), "ACCESS_DENIED", Code::PermissionDenied),
        (update(4, "\u{1}"), "INVALID_DETAILS", Code::InvalidArgument),
        (manager(4, 999), "MANAGER_INVALID", Code::InvalidArgument),
        (
            UpdateUserDetailsRequest { reason: "\u{1}".to_owned(), ..update(4, "x") },
            "INVALID_REQUEST",
            Code::InvalidArgument,
        ),
    ] {
        let mut requests = good.clone();
        requests.insert(2, bad);
        let status = app.batch(batch(requests)).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), status.code()), (expected, code));
        assert!(status.message().starts_with("requests[2]: "), "{status}");
        for (field, _) in violations(&status) {
            assert!(field.starts_with("requests[2]."), "{field}");
        }
        assert_eq!(entries(&database).await, 0);
    }
    let stored = results(app.batch(batch(good)).await.unwrap());
    let versions: Vec<_> = stored
        .iter()
        .map(|result| result.as_ref().unwrap().user_details.clone().unwrap().etag)
        .collect();
    assert_eq!(versions, ["3-2", "5-2", "3-3", "4-2", "3-4", "3-4"]);
    assert!(stored[5].as_ref().unwrap().changed_fields.as_ref().unwrap().paths.is_empty());
    assert_eq!(entries(&database).await, 5);
    let last = stored[4].as_ref().unwrap();
    assert_eq!(last.user_details.clone().unwrap(), app.read(3).await);
    assert_eq!((app.city(3).await, app.city(5).await), ("Riga".to_owned(), "Kaunas".to_owned()));
    // Managers have the same rights in a batch as for one update.
    let as_assigned = BatchUpdateUserDetailsRequest {
        acting_username: "assigned".to_owned(),
        ..batch(vec![update(4, "Bonn"), update(5, "Bonn")])
    };
    let status = app.batch(as_assigned).await.unwrap_err();
    assert_eq!(reason(&status), "USER_NOT_FOUND");
    assert!(status.message().starts_with("requests[1]: "), "{status}");
    assert_eq!(app.city(4).await, "York");
}

async fn each_may_be_on_its_own(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let requests = vec![
        update(3, "Bonn"),
        update(999, "x"),
        UpdateUserDetailsRequest { request_id: "x".to_owned(), ..update(4, "x") },
        update(4, "\u{1}"),
        update(3, "Riga"),
        update(5, "York"),
    ];
    let request = BatchUpdateUserDetailsRequest { allow_partial: true, ..batch(requests) };
    let results = results(app.batch(request).await.unwrap());
    let told = results.iter().map(|result| match result {
        Ok(response) => response.user_details.clone().unwrap().etag,
        Err(error) => error.reason.clone(),
    });
    let told: Vec<_> = told.collect();
    let expected = ["3-2", "USER_NOT_FOUND", "INVALID_REQUEST", "INVALID_DETAILS", "3-3", "5-2"];
    assert_eq!(told, expected);
    let error = results[3].as_ref().unwrap_err();
    assert_eq!(error.code, i32::from(Code::InvalidArgument));
    assert_eq!(error.violations[0].field, "user_details.address.city");
    assert!(!error.message.is_empty() && !error.violations[0].description.is_empty());
    assert_eq!((app.city(3).await, app.city(5).await), ("Riga".to_owned(), "York".to_owned()));
    assert_eq!(entries(&database).await, 3);
}

async fn a_bad_batch_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let other =
        UpdateUserDetailsRequest { acting_username: "manager".to_owned(), ..update(3, "x") };
    let nobody = BatchUpdateUserDetailsRequest {
        acting_username: "nobody".to_owned(),
        ..batch(vec![update(3, "x")])
    };
    for (request, expected) in [
        (batch(Vec::new()), "INVALID_REQUEST"),
        (batch(vec![update(3, "x"); 1001]), "INVALID_REQUEST"),
        (batch(vec![other]), "INVALID_REQUEST"),
        (nobody, "ACCESS_DENIED"),
    ] {
        assert_eq!(reason(&app.batch(request).await.unwrap_err()), expected);
    }
    assert_eq!(entries(&database).await, 0);
}

/// Adds the users from 1001 to `last`.
async fn crowd(database: &TestDatabase, last: i64) {
    let rows: Vec<_> =
        (1001..=last).map(|id| format!("({id}, 'user {id}', 'user', 0, 0, '')")).collect();
    let insert = "INSERT INTO accounts (id, username, account_type, create_time, update_time, comment) VALUES ";
    database.execute(&format!("{insert}{}", rows.join(", "))).await;
}

/// The batch changes the same fields of many users, and other fields of some users.
async fn each_user_gets_what_is_its_own(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    crowd(&database, 1200).await;
    let details = |id: i64| {
        let address = Address { city: Some(format!("City {id}")), ..Address::default() };
        let comment = Comment { comment: Some(format!("Comment {id}")) };
        UserDetails {
            address: (id % 3 > 0).then(|| address.into()),
            comment: (id % 3 < 2 || id % 50 == 0).then(|| comment.into()),
            ..UserDetails::default()
        }
    };
    let request =
        |id| UpdateUserDetailsRequest { user_details: Some(details(id)), ..update(id, "") };
    app.batch(batch((1001..=1200).map(request).collect())).await.unwrap();
    for id in 1001..=1200 {
        let stored = app.read(id).await;
        let city = stored.address.unwrap_or_default().city.unwrap_or_default();
        let comment = stored.comment.unwrap_or_default().comment.unwrap_or_default();
        let expected = details(id);
        assert_eq!(city, expected.address.unwrap_or_default().city.unwrap_or_default());
        assert_eq!(comment, expected.comment.unwrap_or_default().comment.unwrap_or_default());
        assert_eq!(stored.etag, format!("{id:x}-2"));
    }
    assert_eq!(entries(&database).await, 200);
}

async fn a_large_batch_fits_where_few_calls_do(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("max_in_flight", "4")]).await;
    crowd(&database, 1100).await;
    let requests = (1001..=1100).map(|id| update(id, "Bonn")).collect();
    let request = BatchUpdateUserDetailsRequest { allow_partial: true, ..batch(requests) };
    assert!(results(app.batch(request).await.unwrap()).iter().all(Result::is_ok));
    assert_eq!(entries(&database).await, 100);
}

async fn a_thousand_are_stored_beside_others(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    crowd(&database, 2000).await;
    for allow_partial in [false, true] {
        let city = |id: i64| format!("City {id} {allow_partial}");
        let requests = (1001..=2000).rev().map(|id| update(id, &city(id))).collect();
        let request = BatchUpdateUserDetailsRequest { allow_partial, ..batch(requests) };
        let others = async {
            for number in 0..20 {
                app.update(update(3, &format!("{number} {allow_partial}"))).await.unwrap();
                app.update(update(1001 + number * 40, &city(1001 + number * 40))).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(app.batch(request), others);
        let results = results(answer.unwrap());
        for (result, id) in results.into_iter().zip((1001..=2000).rev()) {
            let stored = result.unwrap().user_details.unwrap();
            assert_eq!((stored.user_id, stored.address.unwrap().city), (id, Some(city(id))));
        }
        let right = format!(
            "SELECT count(*) FROM accounts WHERE id > 1000 AND city LIKE 'City % {allow_partial}'"
        );
        assert_eq!(database.number(&right).await, 1000);
    }
    assert_eq!(entries(&database).await, 2000 + 40);
}

/// With a single writer, queued single updates run between batches.
async fn single_updates_go_between_batches(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    crowd(&database, 1800).await;
    let mut rounds = Vec::new();
    // On a busy machine a batch may end while no single update is queued.
    while rounds.len() < 10 {
        let between = singles_between_batches(&app, &database, rounds.len()).await;
        if between.iter().all(|singles| *singles > 0) {
            return;
        }
        rounds.push(between);
    }
    panic!("{rounds:?}");
}

/// Makes four batches and many single updates at once. Returns the number of single updates stored
/// between consecutive batches.
async fn singles_between_batches(app: &TestApp, database: &TestDatabase, round: usize) -> Vec<i64> {
    let before = entries(database).await;
    let city = format!("Bonn {round}");
    let batches = (0..4).map(|number| {
        let ids = (1001 + number * 200)..(1201 + number * 200);
        app.batch(batch(ids.map(|id| update(id, &city)).collect()))
    });
    let batches = join_all(batches);
    let done = AtomicBool::new(false);
    // Enough callers that some updates are queued whenever a batch ends, even on a busy machine.
    let singles = (0..32).map(|caller| {
        let done = &done;
        async move {
            for number in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let city = format!("{number} {caller} {round}");
                app.update(update(3 + caller % 3, &city)).await.unwrap();
            }
        }
    });
    let batches = async {
        // Wait until single updates are under way.
        while entries(database).await == before {}
        let answers = batches.await;
        done.store(true, Ordering::Relaxed);
        answers
    };
    let (answers, _) = tokio::join!(batches, join_all(singles));
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    let mut bounds = Vec::new();
    for number in 0..4 {
        let (first, last) = (1001 + number * 200, 1200 + number * 200);
        let of = format!(
            "FROM change_log WHERE user_id BETWEEN {first} AND {last} AND version = {}",
            round + 2
        );
        let first = database.number(&format!("SELECT min(id) {of}")).await;
        bounds.push((first, database.number(&format!("SELECT max(id) {of}")).await));
    }
    bounds.sort_unstable();
    assert!(bounds.iter().all(|(first, last)| last - first == 199), "each is stored as one");
    bounds.windows(2).map(|pair| pair[1].0 - pair[0].1 - 1).collect()
}

async fn a_repeated_batch_is_done_once(database: TestDatabase) {
    let replicas = [TestApp::start(&database).await, TestApp::start(&database).await];
    let id = |number: u8| format!("0f8fad5b-d9cb-469f-a165-7086772895{number:02}");
    let requests: Vec<_> = [(3, 1), (4, 2), (5, 3)]
        .map(|(user, number)| UpdateUserDetailsRequest {
            request_id: id(number),
            ..update(user, "Bonn")
        })
        .into();
    let (one, two) = tokio::join!(
        replicas[0].batch(batch(requests.clone())),
        replicas[1].batch(batch(requests.clone()))
    );
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(entries(&database).await, 3);
    let reused = UpdateUserDetailsRequest { request_id: id(1), ..update(3, "York") };
    let status = replicas[0].batch(batch(vec![update(4, "York"), reused])).await.unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    assert_eq!(replicas[0].city(4).await, "Bonn");
}

async fn an_answer_that_would_be_too_large_says_less(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("grpc.message_limit", "2097152")]).await;
    let comment = Some(Box::new(Comment { comment: Some("x".repeat(8000)) }));
    let commented =
        UserDetails { comment: comment.clone(), ..update(3, "York").user_details.unwrap() };
    let request = UpdateUserDetailsRequest { user_details: Some(commented), ..update(3, "") };
    app.update(request).await.unwrap();

    // Each result contains the comment.
    let cities = |number| batch((0..number).map(|city| update(3, &city.to_string())).collect());
    let details = |answer: &BatchUpdateUserDetailsResponse| -> Vec<UserDetails> {
        let one = |result: &UpdateUserDetailsResult| match result.result.as_ref().unwrap() {
            UpdateResult::Response(one) => {
                assert_eq!(one.changed_fields.as_ref().unwrap().paths, ["address.city"]);
                one.user_details.clone().unwrap()
            }
            UpdateResult::Error(error) => panic!("{error:?}"),
        };
        answer.results.iter().map(one).collect()
    };
    let small = app.batch(cities(100)).await.unwrap();
    assert!(details(&small).iter().all(|one| one.comment == comment));
    for allow_partial in [false, true] {
        let large = BatchUpdateUserDetailsRequest { allow_partial, ..cities(400) };
        let large = app.batch(large).await.unwrap();
        let details = details(&large);
        assert_eq!(details.len(), 400);
        assert!(details.iter().all(|one| *one == UserDetails { etag: one.etag.clone(), ..UserDetails::default() }));
        assert_eq!(app.city(3).await, "399");
        assert_eq!(app.read(3).await.etag, details[399].etag);
    }
}
