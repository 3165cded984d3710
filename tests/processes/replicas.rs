//! Two replicas on one database.

use std::time::{Duration, Instant};

use http::StatusCode;
use m4_user_details::proto::{
    Settings, UpdateSettingsRequest, WatchUserDetailsRequest, WatchUserDetailsResponse,
    settings_service_client::SettingsServiceClient,
};
use m4_user_details_migrations::Migrator;
use sea_orm_migration::MigratorTrait;
use tokio::time::timeout;

use crate::{
    program::Program,
    support::{app::reason, database::TestDatabase, on_every_engine},
};

on_every_engine!(
    replicas_that_start_at_once_do_not_race,
    an_etag_guards_between_replicas,
    a_setting_is_effective_on_the_other_replica_within_two_seconds,
    a_watch_goes_on_at_another_replica_and_after_a_crash,
);

async fn replicas_that_start_at_once_do_not_race(database: TestDatabase) {
    let start = || Program::demo(&database, &[]);
    let (left, right, third) = tokio::join!(start(), start(), start());
    for program in [left, right, third] {
        assert_eq!(program.read(3).await.username, "alice");
    }
    let steps = database.number("SELECT count(*) FROM seaql_migrations").await;
    assert_eq!(usize::try_from(steps).unwrap(), Migrator::migrations().len());
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 8);
}

async fn an_etag_guards_between_replicas(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    for round in 0..5 {
        let etag = left.read(3).await.etag;
        let cities = ["left", "right"].map(|name| format!("{name} {round}"));
        let (one, other) =
            tokio::join!(left.set_city(&cities[0], &etag), right.set_city(&cities[1], &etag),);
        let (stored, refused) = match (one, other) {
            (Ok(stored), Err(refused)) | (Err(refused), Ok(stored)) => (stored, refused),
            (one, other) => panic!("{one:?} {other:?}"),
        };
        assert_eq!(reason(&refused), "ETAG_MISMATCH");
        assert_eq!(right.read(3).await, stored.user_details.unwrap());
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 5);
}

async fn a_setting_is_effective_on_the_other_replica_within_two_seconds(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    for allow_api in [false, true] {
        let disabled = |body: &str| body.contains("API Requests are disabled");
        assert_eq!(disabled(&right.call("admin", "3", "").await.body), allow_api);
        let settings = Settings { allow_api: Some(allow_api), ..Settings::default() };
        let request = UpdateSettingsRequest { settings: Some(settings), ..Default::default() };
        SettingsServiceClient::new(left.channel()).update_settings(request).await.unwrap();
        let changed = Instant::now();
        let answer = left.call("admin", "3", "").await;
        assert_eq!((answer.status, disabled(&answer.body)), (StatusCode::OK, !allow_api));
        while disabled(&right.call("admin", "3", "").await.body) == allow_api {
            assert!(changed.elapsed() < Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn a_watch_goes_on_at_another_replica_and_after_a_crash(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    // A change that the other replica makes comes as well.
    let (_, token) = watch(&left, "", 0, async { left.read(3).await }).await;
    let stored = async { right.set_city("one", "").await.unwrap() };
    let (cities, token) = watch(&left, &token, 1, stored).await;
    assert_eq!(cities, ["one"]);
    right.set_city("two", "").await.unwrap();
    left.kill();
    let (cities, token) =
        watch(&right, &token, 2, async { right.set_city("three", "").await }).await;
    assert_eq!(cities, ["two", "three"]);
    right.set_city("four", "").await.unwrap();
    right.kill();
    let again = Program::demo(&database, &[]).await;
    let (cities, _) = watch(&again, &token, 2, async { again.set_city("five", "").await }).await;
    assert_eq!(cities, ["four", "five"]);
}

/// Watches from a token on, does something once the stream has begun, and answers the cities of so many changes and the last token.
async fn watch<T>(
    program: &Program,
    token: &str,
    changes: usize,
    meanwhile: impl Future<Output = T>,
) -> (Vec<String>, String) {
    let request = WatchUserDetailsRequest { resume_token: token.to_owned(), ..Default::default() };
    let mut stream = program.users().watch_user_details(request).await.unwrap().into_inner();
    let mut next = async || -> WatchUserDetailsResponse {
        let response = timeout(Duration::from_secs(20), stream.message()).await;
        response.unwrap().unwrap().unwrap()
    };
    let mut token = next().await.resume_token;
    meanwhile.await;
    let mut cities = Vec::new();
    while cities.len() < changes {
        let response = next().await;
        token = response.resume_token;
        let details = response.change.and_then(|change| change.details);
        cities.extend(details.and_then(|details| details.address?.city));
    }
    (cities, token)
}
