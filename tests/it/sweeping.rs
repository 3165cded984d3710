//! The periodic deletion of expired rows.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use m4_user_details::{
    app::Environment,
    domain::clock::{Clock, SystemClock},
    proto::{ListUserDetailsChangesRequest, UpdateUserDetailsRequest, WatchUserDetailsRequest},
    storage::{SqlStore, migrate},
};
use tokio::time::timeout;
use tracing::instrument::WithSubscriber;

use crate::{
    support::{
        CONDITION_TIMEOUT,
        app::{TestApp, reason, set_city},
        clock::TestClock,
        database::TestDatabase,
        on_every_engine, until,
    },
    watch::{Watch, behind, everything},
};

on_every_engine!(
    expired_rows_are_deleted,
    legacy_clients_without_calls_for_400_days_are_deleted,
    a_sweep_logs_the_number_of_deleted_rows,
    a_token_is_refused_once_entries_behind_it_were_deleted,
    nothing_is_deleted_after_the_clock_was_set,
);

fn update(user_id: i64, city: &str) -> UpdateUserDetailsRequest {
    let request_id = format!("{user_id}f8fad5b-d9cb-469f-a165-70867728950e");
    UpdateUserDetailsRequest { request_id, ..set_city(user_id, city) }
}

/// A service that keeps its change log for a day and sweeps every 20 ms.
async fn start(database: &TestDatabase, clock: &TestClock) -> TestApp {
    let environment = Environment {
        clock: Arc::new(clock.clone()),
        sweep_interval: Duration::from_millis(20),
        clients_interval: Duration::from_millis(20),
        ..Environment::default()
    };
    let settings = [("change_log.days", "1"), ("watch_heartbeat_seconds", "1")];
    TestApp::start_in(database, &settings, environment).await
}

async fn expired_rows_are_deleted(database: TestDatabase) {
    let clock = TestClock::at_present();
    let app = start(&database, &clock).await;
    let mut users = app.users();
    // Alice's rows expire, bob's rows are almost a day old, and carol's rows are new.
    for (user_id, hours) in [(3, 2), (4, 23), (5, 0)] {
        users.update_user_details(update(user_id, "Bonn")).await.unwrap();
        clock.advance(TimeDelta::hours(hours));
    }
    let (entries, answers) = ("SELECT count(*) FROM change_log", "SELECT count(*) FROM requests");
    until("expired rows are deleted", || async {
        database.number(entries).await < 3 && database.number(answers).await < 3
    })
    .await;
    let all = ListUserDetailsChangesRequest::default();
    let left = users.list_user_details_changes(all).await.unwrap().into_inner().changes;
    assert_eq!(left.iter().map(|change| change.user_id).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(database.number(answers).await, 2);

    // A request id is taken while its response is stored, and free afterwards.
    for user_id in [4, 5] {
        let status = users.update_user_details(update(user_id, "York")).await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    }
    users.update_user_details(update(3, "York")).await.unwrap();
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("York"));
}

async fn legacy_clients_without_calls_for_400_days_are_deleted(database: TestDatabase) {
    let clock = TestClock::at_present();
    let app = start(&database, &clock).await;
    let stored = async |username: &str| {
        let select = format!("SELECT count(*) FROM legacy_clients WHERE username = '{username}'");
        database.number(&select).await
    };
    for (username, days) in [("admin", 2), ("manager", 399)] {
        let answer = app.call(username, "3", "").await;
        assert!(answer.body.contains("successfully"), "{answer:?}");
        until("the client is stored", async || stored(username).await == 1).await;
        clock.advance(TimeDelta::days(days));
    }
    until("the client is deleted", async || stored("admin").await == 0).await;
    assert_eq!(stored("manager").await, 1);
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Removes the lines of sweeps: table and rows.
    fn take(&self) -> Vec<(String, u64)> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let lines =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let lines = lines.filter(|line| line["fields"]["message"] == "expired rows were deleted");
        let line = |line: serde_json::Value| {
            let fields = &line["fields"];
            (fields["table"].as_str().unwrap().to_owned(), fields["rows"].as_u64().unwrap())
        };
        lines.map(line).collect()
    }
}

async fn a_sweep_logs_the_number_of_deleted_rows(database: TestDatabase) {
    migrate(&database.options(), true).await.unwrap();
    let store = SqlStore::open_existing(database.options()).await.unwrap();
    for sql in [
        "INSERT INTO requests (id, content, answer_time, answer) VALUES ('a', 'a', 0, '{}'), \
         ('b', 'b', 0, '{}')",
        "INSERT INTO change_log (user_id, version, change_time, door, changes) VALUES \
         (3, 2, 0, 'grpc', '[]'), (3, 3, 0, 'grpc', '[]')",
    ] {
        database.execute(sql).await;
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = || {
        let writer = writer.clone();
        tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish()
    };
    let (now, keep) = (SystemClock.now(), Some(TimeDelta::days(1)));
    store.sweep(now, keep).with_subscriber(subscriber()).await.unwrap();
    // The newest entry of the change log stays.
    assert_eq!(log.take(), [("requests".to_owned(), 2), ("change_log".to_owned(), 1)]);
    store.sweep(now, keep).with_subscriber(subscriber()).await.unwrap();
    assert_eq!(log.take(), []);
    store.close().await;
}

async fn a_token_is_refused_once_entries_behind_it_were_deleted(database: TestDatabase) {
    let clock = TestClock::at_present();
    let app = start(&database, &clock).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    // A watch of bob, and changes of alice.
    let bob = WatchUserDetailsRequest { user_id: Some(4), ..everything() };
    let mut of_bob = Watch::start(&app, bob.clone()).await.unwrap();
    let before = watch.token.clone();
    clock.was_set(true);
    clock.advance(TimeDelta::days(2));
    // The time alone invalidates no token.
    drop(Watch::start(&app, behind(&before)).await.unwrap());
    for city in ["Bonn", "Bern"] {
        app.users().update_user_details(set_city(3, city)).await.unwrap();
        watch.change().await.unwrap();
    }
    let after = watch.token.clone();
    clock.was_set(false);
    clock.advance(TimeDelta::days(2));
    until("the first entry is deleted", || async {
        database.number("SELECT count(*) FROM change_log").await == 1
    })
    .await;
    let refused = Watch::start(&app, behind(&before)).await.err().unwrap();
    assert_eq!(reason(&refused), "INVALID_REQUEST");
    assert!(refused.message().contains("older than the retention of the change log"), "{refused}");
    drop(Watch::start(&app, behind(&after)).await.unwrap());
    // The position of a watch also advances past the entries of other users.
    let resumable = async {
        loop {
            of_bob.response().await.unwrap();
            let again =
                WatchUserDetailsRequest { resume_token: of_bob.token.clone(), ..bob.clone() };
            if Watch::start(&app, again).await.is_ok() {
                return;
            }
        }
    };
    timeout(CONDITION_TIMEOUT, resumable).await.expect("the position stands still");
}

async fn nothing_is_deleted_after_the_clock_was_set(database: TestDatabase) {
    let clock = TestClock::at_present();
    let app = start(&database, &clock).await;
    let mut users = app.users();
    for user_id in [3, 4] {
        users.update_user_details(update(user_id, "Bonn")).await.unwrap();
    }
    clock.was_set(true);
    clock.advance(TimeDelta::days(2));
    for number in 0..20 {
        users.update_user_details(set_city(5, &number.to_string())).await.unwrap();
    }
    // A sweep that begins now has ended when the next sweep begins.
    let begun = clock.sweeps();
    until("a sweep has ended", || async { clock.sweeps() >= begun + 2 }).await;
    // A retry still gets its first response.
    users.update_user_details(update(3, "Bonn")).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM requests").await, 2);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 22);
    clock.was_set(false);
    until("answers are deleted", || async {
        database.number("SELECT count(*) FROM requests").await == 0
    })
    .await;
}
