//! The data that a database server has stored.

use sea_orm::{ConnectionTrait, Statement};

use crate::{
    checker::{Entry, Row},
    support::database::{Kind, TestDatabase},
    writers::{FIRST_USER, LAST_USER},
};

/// Inserts the writers' users.
pub async fn insert_users(database: &TestDatabase) {
    let row = |id| format!("({id}, 'user {id}', 'user', 0, 0, '')");
    let rows: Vec<_> = (FIRST_USER..=LAST_USER).map(row).collect();
    let columns = "id, username, account_type, create_time, update_time, comment";
    database.execute(&format!("INSERT INTO accounts ({columns}) VALUES {}", rows.join(", "))).await;
}

/// Reads the change log by user and version, and the rows of the writers' users.
pub async fn read(database: &TestDatabase) -> (Vec<Entry>, Vec<Row>) {
    let text = match database.kind {
        Kind::MariaDb => "CHAR",
        Kind::Postgres | Kind::Sqlite => "text",
    };
    let log = format!(
        "SELECT id, user_id, version, CAST(changes AS {text}) FROM change_log \
         ORDER BY user_id, version"
    );
    let rows = "SELECT id, version, city FROM accounts WHERE username LIKE 'user %'";
    let connection = database.connect().await;
    let backend = connection.get_database_backend();
    let query = async |sql: &str| {
        connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap()
    };
    let (log, rows) = (query(&log).await, query(rows).await);
    connection.close().await.unwrap();
    let entry = |row: &sea_orm::QueryResult| {
        let changes: String = row.try_get_by_index(3).unwrap();
        let (old, new) = city(&changes);
        Entry {
            id: row.try_get_by_index(0).unwrap(),
            user_id: row.try_get_by_index(1).unwrap(),
            version: row.try_get_by_index(2).unwrap(),
            old,
            new,
        }
    };
    let row = |row: &sea_orm::QueryResult| Row {
        user_id: row.try_get_by_index(0).unwrap(),
        version: row.try_get_by_index(1).unwrap(),
        value: row.try_get_by_index(2).unwrap(),
    };
    (log.iter().map(entry).collect(), rows.iter().map(row).collect())
}

/// The old and new city of an entry that changes only the city.
fn city(changes: &str) -> (String, String) {
    let changes: serde_json::Value = serde_json::from_str(changes).unwrap();
    let [change] = &**changes.as_array().unwrap() else { panic!("{changes}") };
    assert_eq!(change["field"], "address.city");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&change["old"]), text(&change["new"]))
}
