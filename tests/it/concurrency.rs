//! Concurrent changes: none is lost, and none is overwritten unseen.

use futures_util::future::join_all;
use m4_user_details::{
    fields::{FIELDS, Kind},
    proto::{Address, Leaf, UpdateUserDetailsRequest, UserDetails},
};
use sea_orm::ConnectionTrait;

use crate::support::{
    app::{TestApp, reason},
    database::TestDatabase,
    on_every_engine,
};

on_every_engine!(
    of_two_updates_with_one_etag_exactly_one_succeeds,
    fifty_updates_of_different_fields_all_hold,
    every_version_of_a_contended_field_is_logged_once,
);

fn request(details: UserDetails) -> UpdateUserDetailsRequest {
    UpdateUserDetailsRequest {
        user_id: 3,
        user_details: Some(details),
        ..UpdateUserDetailsRequest::default()
    }
}

fn city(city: String, etag: String) -> UserDetails {
    let address = Address { city: Some(city), ..Address::default() };
    UserDetails { etag, address: Some(address.into()), ..UserDetails::default() }
}

async fn of_two_updates_with_one_etag_exactly_one_succeeds(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for round in 0..20 {
        let etag = app.read(3).await.etag;
        let update = |name: &str| app.update(request(city(format!("{name}{round}"), etag.clone())));
        let (left, right) = tokio::join!(update("left"), update("right"));
        let (stored, refused) = match (left, right) {
            (Ok(stored), Err(refused)) | (Err(refused), Ok(stored)) => (stored, refused),
            (left, right) => panic!("{left:?} {right:?}"),
        };
        assert_eq!(reason(&refused), "ETAG_MISMATCH");
        assert_eq!(stored.user_details.unwrap(), app.read(3).await);
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 20);
}

async fn fifty_updates_of_different_fields_all_hold(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    // The fields that can get a new value. Some are updated twice: there are fifty updates.
    let value = |kind, number: usize| match kind {
        Kind::Count => Some(Leaf::Int32(77)),
        Kind::Hour => Some(Leaf::Int32(17)),
        Kind::Text | Kind::Comment => Some(Leaf::Text(format!("value {number}"))),
        Kind::Email => Some(Leaf::Text("new@example.com".to_owned())),
        Kind::Language => Some(Leaf::Text("fi".to_owned())),
        Kind::Decimal { .. } => Some(Leaf::Text("77.125".to_owned())),
        _ => None,
    };
    let fields: Vec<_> =
        FIELDS.into_iter().filter(|field| value(field.kind(), 0).is_some()).collect();
    let mut expected: Vec<_> = Vec::new();
    let mut calls = Vec::new();
    for (number, field) in fields.iter().cycle().take(50).enumerate() {
        // A repeated field gets the same value again.
        let leaf = value(field.kind(), number % fields.len()).unwrap();
        let mut details = UserDetails::default();
        details.set(*field, leaf.clone());
        expected.push((*field, leaf));
        calls.push(app.update(request(details)));
    }
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let mut user = app.read(3).await;
    let version = database.number("SELECT version FROM accounts WHERE id = 3").await;
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, version - 1);
    for (field, leaf) in expected.into_iter().take(fields.len()) {
        assert_eq!(user.take(field), Some(leaf), "{}", field.path());
    }
}

/// Each entry's old value is the previous entry's new value.
async fn every_version_of_a_contended_field_is_logged_once(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let calls =
        (0..50).map(|number| app.update(request(city(format!("city {number}"), String::new()))));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let connection = database.connect().await;
    let query = sea_orm::Statement::from_string(
        connection.get_database_backend(),
        "SELECT changes FROM change_log WHERE user_id = 3 ORDER BY version",
    );
    let rows = connection.query_all_raw(query).await.unwrap();
    assert_eq!(rows.len(), 50);
    let mut before = "Vilnius".to_owned();
    for row in rows {
        let changes: serde_json::Value = row.try_get_by_index(0).unwrap();
        assert_eq!(changes[0]["old"], before);
        before = changes[0]["new"].as_str().unwrap().to_owned();
    }
    assert_eq!(app.read(3).await.address.unwrap().city, Some(before));
}
