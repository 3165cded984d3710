//! One entry for each stored change: who, when, through which entry point, and what.

use m4_user_details::proto::{Address, Taxes, UpdateUserDetailsRequest, UserDetails};
use serde_json::{Value, json};

use crate::support::{
    app::{TestApp, reason},
    database::{Kind, TestDatabase},
    on_every_engine,
};

on_every_engine!(an_entry_tells_who_when_where_and_what, references_and_usernames_are_guarded);

async fn an_entry_tells_who_when_where_and_what(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let parameters = "city=K%C3%B6ln%00"; // invalid: no entry
    app.call("manager", "3", parameters).await;
    let parameters = "city=K%C3%B6ln&hidden=0&warning_email_balance=19,95&responsible_manager_id=-1&by=2028&bm=2&bd=29";
    assert!(app.call("manager", "3", parameters).await.body.contains("successfully"));
    let address = Address { city: Some("Bonn".to_owned()), ..Address::default() };
    let taxes = Taxes { tax4_value: Some("0.000001".to_owned()), ..Taxes::default() };
    let details = UserDetails {
        address: Some(address.into()),
        taxes: Some(taxes.into()),
        ..UserDetails::default()
    };
    let request = UpdateUserDetailsRequest {
        user_id: 3,
        user_details: Some(details),
        acting_username: "admin".to_owned(),
        reason: "Moved to Bonn".to_owned(),
        ..UpdateUserDetailsRequest::default()
    };
    let bad = UpdateUserDetailsRequest { reason: "x".repeat(256), ..request.clone() };
    assert_eq!(reason(&app.update(bad).await.unwrap_err()), "INVALID_REQUEST");
    let stored = app.update(request).await.unwrap().user_details.unwrap();

    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 2);
    let column = |name: &'static str, version| {
        let query =
            format!("SELECT {name} FROM change_log WHERE user_id = 3 AND version = {version}");
        let database = &database;
        async move { database.number(&query).await }
    };
    assert_eq!((column("actor_id", 2).await, column("actor_id", 3).await), (2, 1));
    let time = stored.update_time.unwrap();
    let micros = time.seconds * 1_000_000 + i64::from(time.nanos) / 1000;
    assert_eq!(column("change_time", 3).await, micros);
    assert_eq!(database.text("SELECT door FROM change_log WHERE version = 2").await, "legacy");
    assert_eq!(database.text("SELECT door FROM change_log WHERE version = 3").await, "grpc");
    let words = database.text("SELECT reason FROM change_log WHERE version = 3").await;
    assert_eq!(words, "Moved to Bonn");
    for version in [2, 3] {
        let query = format!("SELECT address FROM change_log WHERE version = {version}");
        assert_eq!(database.text(&query).await, "127.0.0.1");
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log WHERE service IS NULL").await, 2);
    let cast = if database.kind == Kind::MariaDb { "CHAR" } else { "TEXT" };
    let changes = |version| {
        let query =
            format!("SELECT CAST(changes AS {cast}) FROM change_log WHERE version = {version}");
        let database = &database;
        async move { serde_json::from_str::<Value>(&database.text(&query).await).unwrap() }
    };
    assert_eq!(
        changes(2).await,
        json!([
            {"field": "general.responsible_manager_id", "old": 2, "new": null},
            {"field": "blocking.block_date", "old": "2027-03-31", "new": "2028-02-29"},
            {"field": "address.city", "old": "Vilnius", "new": "Köln"},
            {"field": "warning_balance.warning_email_balance", "old": "25.5", "new": "19.95"},
        ])
    );
    assert_eq!(
        changes(3).await,
        json!([
            {"field": "address.city", "old": "Köln", "new": "Bonn"},
            {"field": "taxes.tax4_value", "old": "3", "new": "0.000001"},
        ])
    );
}

/// The schema itself refuses invalid references and duplicate usernames.
async fn references_and_usernames_are_guarded(database: TestDatabase) {
    let _app = TestApp::start(&database).await;
    let connection = database.connect().await;
    if database.kind == Kind::Sqlite {
        sea_orm::ConnectionTrait::execute_unprepared(&connection, "PRAGMA foreign_keys = ON")
            .await
            .unwrap();
    }
    for sql in [
        "UPDATE accounts SET currency_id = 99 WHERE id = 3",
        "UPDATE accounts SET direction_id = 99 WHERE id = 3",
        "UPDATE accounts SET taxation_country = 99 WHERE id = 3",
        "UPDATE accounts SET static_list_id = 99 WHERE id = 3",
        "UPDATE accounts SET static_source_list_id = 99 WHERE id = 3",
        "UPDATE accounts SET responsible_manager_id = 99 WHERE id = 3",
        "UPDATE accounts SET username = 'bob' WHERE id = 3",
        "DELETE FROM currencies WHERE id = 1",
    ] {
        let failed = sea_orm::ConnectionTrait::execute_unprepared(&connection, sql).await;
        assert!(failed.unwrap_err().sql_err().is_some(), "{sql}");
    }
    // Usernames are case-sensitive.
    let other = "UPDATE accounts SET username = 'ALICE' WHERE id = 4";
    sea_orm::ConnectionTrait::execute_unprepared(&connection, other).await.unwrap();
}
