//! Request ids: a retry on any replica gets the first response and changes nothing.

use chrono::TimeDelta;
use futures_util::future::join_all;
use m4_user_details::{
    domain::{
        administration::Administrator,
        clock::{Clock, SystemClock},
        scope::Scope,
        token::{RANDOM_BYTES, ServiceToken, TokenStore},
    },
    proto::{Address, UpdateUserDetailsRequest, UserDetails},
    storage::SqlStore,
};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret;
use tonic::{Code, Response};

use crate::{
    identities::with,
    support::{
        app::{TestApp, reason},
        database::TestDatabase,
        on_every_engine, until,
    },
};

on_every_engine!(
    a_repeat_gets_the_first_answer,
    repeats_at_once_are_done_once,
    an_id_is_for_one_request,
    two_services_may_use_the_same_id,
    an_old_replica_finds_the_answer_of_a_new_one,
    an_answer_that_an_earlier_version_stored_is_found,
    what_was_refused_or_only_checked_may_come_again,
    old_answers_and_entries_are_swept,
);

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn update(user_id: i64, city: &str, request_id: &str) -> UpdateUserDetailsRequest {
    let address = Address { city: Some(city.to_owned()), ..Address::default() };
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(UserDetails { address: Some(address.into()), ..UserDetails::default() }),
        request_id: request_id.to_owned(),
        ..UpdateUserDetailsRequest::default()
    }
}

async fn entries(database: &TestDatabase) -> i64 {
    database.number("SELECT count(*) FROM change_log").await
}

async fn a_repeat_gets_the_first_answer(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let other = TestApp::start(&database).await;
    let first = app.update(update(3, "Bonn", ID)).await.unwrap();
    assert_eq!(first.changed_fields.as_ref().unwrap().paths, ["address.city"]);
    app.update(update(3, "Kaunas", "")).await.unwrap();
    for app in [&app, &other] {
        assert_eq!(app.update(update(3, "Bonn", ID)).await.unwrap(), first);
        assert_eq!(app.update(update(3, "Bonn", &ID.to_uppercase())).await.unwrap(), first);
    }
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("Kaunas"));
    assert_eq!(entries(&database).await, 2);
    let logged = "SELECT request_id FROM change_log ORDER BY id LIMIT 1";
    assert_eq!(database.text(logged).await, ID);
    // A retry of an update that changed nothing also changes nothing.
    let id = ID.replace('0', "1");
    let same = app.update(update(4, "Bonn", "")).await.unwrap().user_details.unwrap();
    let first = app.update(update(4, "Bonn", &id)).await.unwrap();
    assert_eq!(first.user_details.as_ref().unwrap(), &same);
    app.update(update(4, "Kaunas", "")).await.unwrap();
    assert_eq!(other.update(update(4, "Bonn", &id)).await.unwrap(), first);
    assert_eq!(app.read(4).await.address.unwrap().city.as_deref(), Some("Kaunas"));
}

async fn repeats_at_once_are_done_once(database: TestDatabase) {
    let replicas = [TestApp::start(&database).await, TestApp::start(&database).await];
    for round in 0..5 {
        let id = format!("{round}f8fad5b-d9cb-469f-a165-70867728950e");
        let city = format!("City {round}");
        let calls = (0..12).map(|call| replicas[call % 2].update(update(3, &city, &id)));
        let answers = join_all(calls).await;
        let first = answers[0].as_ref().unwrap();
        for answer in &answers {
            assert_eq!(answer.as_ref().unwrap(), first);
        }
        assert_eq!(entries(&database).await, round + 1);
    }
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 5);
}

async fn an_id_is_for_one_request(database: TestDatabase) {
    let replicas = [TestApp::start(&database).await, TestApp::start(&database).await];
    replicas[0].update(update(3, "Bonn", ID)).await.unwrap();
    let as_manager =
        UpdateUserDetailsRequest { acting_username: "manager".to_owned(), ..update(3, "Bonn", ID) };
    let with_reason =
        UpdateUserDetailsRequest { reason: "why".to_owned(), ..update(3, "Bonn", ID) };
    for request in [update(3, "Kaunas", ID), update(4, "Bonn", ID), as_manager, with_reason] {
        let status = replicas[1].update(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::AlreadyExists, "REQUEST_ID_REUSED")
        );
    }
    for id in ["x", "0f8fad5b-d9cb-469f-a165-70867728950", "0f8fad5b-d9cb-469f-a165-70867728950g"] {
        let status = replicas[0].update(update(3, "Bonn", id)).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert!(status.message().contains("request_id"), "{status}");
    }
    // Of two concurrent updates of different users, one wins.
    let id = ID.replace('f', "a");
    let (one, two) = tokio::join!(
        replicas[0].update(update(4, "Bonn", &id)),
        replicas[1].update(update(5, "Bonn", &id))
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(reason(&one.err().or(two.err()).unwrap()), "REQUEST_ID_REUSED");
    assert_eq!(entries(&database).await, 2);
}

/// Stores a service token.
async fn token(database: &TestDatabase, name: &str) -> String {
    let mut random = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut random).unwrap();
    let scopes = Scope::ALL.into_iter().collect();
    let now = SystemClock.now();
    let (text, token) = ServiceToken::new(random, name.to_owned(), scopes, None, now, None);
    let store = SqlStore::new(database.options()).unwrap();
    store.attach();
    store.create_token(&Administrator::default(), token).await.unwrap();
    store.close().await;
    text.expose_secret().to_owned()
}

async fn two_services_may_use_the_same_id(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let (crm, erp) = (token(&database, "crm").await, token(&database, "erp").await);
    let update_as = async |token: &str, city: &str| {
        let request =
            UpdateUserDetailsRequest { acting_username: "admin".to_owned(), ..update(3, city, ID) };
        app.users().update_user_details(with(token, request)).await.map(Response::into_inner)
    };
    // The service accepts a new token within a second.
    let first = loop {
        match update_as(&crm, "Bonn").await {
            Err(status) if status.code() == Code::Unauthenticated => tokio::task::yield_now().await,
            answer => break answer.unwrap(),
        }
    };
    // Same account, id and content: each service gets its own response.
    let second = loop {
        match update_as(&erp, "Bonn").await {
            Err(status) if status.code() == Code::Unauthenticated => tokio::task::yield_now().await,
            answer => break answer.unwrap(),
        }
    };
    assert_eq!(first.changed_fields.as_ref().unwrap().paths, ["address.city"]);
    assert_eq!(second.changed_fields.as_ref().unwrap().paths.len(), 0);
    assert_eq!(update_as(&crm, "Bonn").await.unwrap(), first);
    assert_eq!(update_as(&erp, "Bonn").await.unwrap(), second);
    for token in [&crm, &erp] {
        let status = update_as(token, "Kaunas").await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    }
    // The table holds both responses and a copy of the first.
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 3);
    assert_eq!(database.text("SELECT request_id FROM change_log").await, ID);
}

/// Version 0.1.0 looks up only the id, and compares the content.
async fn an_old_replica_finds_the_answer_of_a_new_one(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let crm = token(&database, "crm").await;
    let update_as_crm = async |id: &str| {
        let request = with(&crm, update(3, "Bonn", id));
        app.users().update_user_details(request).await.map(Response::into_inner)
    };
    until("the token is known", || async { update_as_crm(ID).await.is_ok() }).await;
    update_as_crm(&ID.replace('0', "1")).await.unwrap();
    let found = format!(
        "SELECT count(*) FROM requests old JOIN requests new \
         ON old.content = new.content AND old.answer_time = new.answer_time AND old.id <> new.id \
         WHERE old.id = '{ID}' AND new.id NOT LIKE '%-%'"
    );
    assert_eq!(database.number(&found).await, 1);
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 4);
    let repeat = update_as_crm(ID).await.unwrap();
    assert_eq!(repeat.changed_fields.unwrap().paths, ["address.city"]);
    // A caller without identity uses the id alone as its key, and does not get the copy.
    database.execute("DELETE FROM service_tokens").await;
    let other = TestApp::start(&database).await;
    let second = other.update(update(4, "Kaunas", ID)).await.unwrap();
    assert_eq!(second.user_details.unwrap().user_id, 4);
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 4);
    assert_eq!(entries(&database).await, 2);
}

async fn an_answer_that_an_earlier_version_stored_is_found(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    // Callers without a token have no identity: earlier versions stored ids like this.
    let first =
        UpdateUserDetailsRequest { acting_username: "admin".to_owned(), ..update(3, "Bonn", ID) };
    let answer = app.update(first.clone()).await.unwrap();
    let token = token(&database, "crm").await;
    let repeat = async |request: UpdateUserDetailsRequest| loop {
        let request = with(&token, request.clone());
        match app.users().update_user_details(request).await {
            Err(status) if status.code() == Code::Unauthenticated => tokio::task::yield_now().await,
            answer => return answer.map(Response::into_inner),
        }
    };
    assert_eq!(repeat(first.clone()).await.unwrap(), answer);
    assert_eq!(entries(&database).await, 1);
    // With other content the id may belong to another service.
    let other = UpdateUserDetailsRequest { user_id: 4, ..first };
    assert_eq!(repeat(other).await.unwrap().user_details.unwrap().user_id, 4);
    assert_eq!(entries(&database).await, 2);
}

async fn what_was_refused_or_only_checked_may_come_again(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let dry = UpdateUserDetailsRequest { validate_only: true, ..update(3, "Bonn", ID) };
    app.update(dry).await.unwrap();
    assert_eq!(reason(&app.update(update(3, "\u{1}", ID)).await.unwrap_err()), "INVALID_DETAILS");
    app.update(update(3, "Bonn", ID)).await.unwrap();
    assert_eq!(entries(&database).await, 1);
    // An account that lost its rights gets no stored response.
    let as_manager = UpdateUserDetailsRequest {
        acting_username: "manager".to_owned(),
        ..update(4, "Bonn", &ID.replace('0', "1"))
    };
    app.update(as_manager.clone()).await.unwrap();
    database.execute("DELETE FROM manager_group_rights").await;
    assert_eq!(reason(&app.update(as_manager).await.unwrap_err()), "NOT_AUTHORIZED");
}

async fn old_answers_and_entries_are_swept(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.update(update(3, "Bonn", ID)).await.unwrap();
    let store = SqlStore::new(database.options()).unwrap();
    store.prepare(true).await.unwrap();
    let (now, hour) = (SystemClock.now(), TimeDelta::hours(1));
    store.sweep(now + hour * 23, Some(hour * 24)).await.unwrap();
    app.update(update(3, "Bonn", ID)).await.unwrap();
    assert_eq!(entries(&database).await, 1);
    store.sweep(now + hour * 25, None).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 0);
    assert_eq!(entries(&database).await, 1);
    // The sweep keeps the newest entry: it marks the end of the log.
    store.sweep(now + hour * 25, Some(hour * 24)).await.unwrap();
    assert_eq!(entries(&database).await, 1);
    // The id is free again: this is a new request.
    app.update(update(4, "Kaunas", ID)).await.unwrap();
    // More rows than the sweep deletes at a time.
    let many: Vec<_> = (0..1100).map(|number| format!("('{number}', '', 0, '{{}}')")).collect();
    let insert = "INSERT INTO requests (id, content, answer_time, answer) VALUES ";
    database.execute(&format!("{insert}{}", many.join(", "))).await;
    store.sweep(now, None).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 1);
    assert_eq!(entries(&database).await, 2);
    store.sweep(now + hour * 25, Some(hour * 24)).await.unwrap();
    assert_eq!(database.number("SELECT user_id FROM change_log").await, 4);
}
