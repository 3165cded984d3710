//! The counts of legacy clients, across the end of a process.

use std::time::Duration;

use ::http::{Method, StatusCode};

use crate::{
    program::Program,
    support::{app::target, database::TestDatabase, on_every_engine, until},
};

on_every_engine!(a_killed_process_loses_the_counts_of_ten_seconds_at_most);

/// The interval of writes, and time for a write.
const WRITTEN: Duration = Duration::from_secs(15);

async fn call(program: &Program, address: &str) {
    let headers = [("x-forwarded-for", address)];
    let answer = program.send(Method::POST, &target("admin", "3", "city=Kaunas"), &headers).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("successfully"), "{}", answer.body);
}

async fn a_killed_process_loses_the_counts_of_ten_seconds_at_most(database: TestDatabase) {
    let variables = [("M4_HTTP_TRUSTED_PROXIES", "127.0.0.1")];
    let counted = async || {
        let calls = "SELECT CAST(COALESCE(SUM(calls), 0) AS CHAR(9)) FROM legacy_clients";
        database.text(calls).await.trim().parse::<i64>().unwrap()
    };
    let mut program = Program::demo(&database, &variables).await;
    let new_network = "a known key is used from a new address";
    call(&program, "192.0.2.1").await;
    tokio::time::sleep(WRITTEN).await;
    assert_eq!(counted().await, 1);
    assert!(!program.log().contains(new_network), "a new key has no known network");
    call(&program, "192.0.2.1").await;
    call(&program, "198.51.100.7").await;
    let line = program.wait_for_line(new_network).await;
    assert_eq!(line["fields"]["client.address"], "198.51.100.7");
    assert_eq!(line["fields"]["key"], "default");
    until("the counts are written", async || counted().await == 3).await;
    call(&program, "192.0.2.1").await;
    program.kill();

    // The next process counts on.
    let program = Program::demo(&database, &variables).await;
    call(&program, "192.0.2.1").await;
    program.signal("TERM");
    until("the counts are written at the end", async || counted().await >= 4).await;
    assert!(counted().await <= 5);
}
