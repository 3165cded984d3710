//! Two replicas on one database.

use http::StatusCode;
use m4_user_details::proto::{
    BatchUpdateUserDetailsRequest, GetUserDetailsRequest, Settings, UpdateSettingsRequest,
    UpdateUserDetailsRequest, UpdateUserDetailsResult, WatchUserDetailsRequest,
    WatchUserDetailsResponse, settings_service_client::SettingsServiceClient,
    update_user_details_result::Result as UpdateResult,
    user_details_service_client::UserDetailsServiceClient,
};
use m4_user_details_migrations::steps;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::{
    program::Program,
    support::{
        CONDITION_TIMEOUT,
        app::{reason, set_city},
        database::TestDatabase,
        on_every_engine, until,
    },
};

on_every_engine!(
    replicas_that_start_at_once_do_not_race,
    an_etag_guards_between_replicas,
    a_request_that_both_get_at_once_is_done_once,
    batches_that_overlap_are_both_stored,
    a_setting_is_effective_on_the_other_replica,
    a_watch_goes_on_at_another_replica_and_after_a_crash,
);

type Users = UserDetailsServiceClient<Channel>;

async fn replicas_that_start_at_once_do_not_race(database: TestDatabase) {
    let start = || Program::demo(&database, &[]);
    let (left, right, third) = tokio::join!(start(), start(), start());
    for program in [left, right, third] {
        assert_eq!(program.read(3).await.username, "alice");
    }
    let mut applied = 0;
    for table in ["seaql_migrations", "schema_steps"] {
        applied += database.number(&format!("SELECT count(*) FROM {table}")).await;
    }
    assert_eq!(usize::try_from(applied).unwrap(), steps().len());
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

async fn a_request_that_both_get_at_once_is_done_once(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    let (left, right) = (connected(&left).await, connected(&right).await);
    for round in 0..20 {
        let id = format!("{round:02}8fad5b-d9cb-469f-a165-70867728950e");
        let request =
            UpdateUserDetailsRequest { request_id: id.clone(), ..set_city(3, &format!("{round}")) };
        let send = async |users: &Users| {
            users.clone().update_user_details(request.clone()).await.unwrap().into_inner()
        };
        let (one, other) = tokio::join!(send(&left), send(&right));
        assert_eq!(one, other);
        assert_eq!(one.changed_fields.unwrap().paths, ["address.city"]);
        let entries = format!("SELECT count(*) FROM change_log WHERE request_id = '{id}'");
        assert_eq!(database.number(&entries).await, 1);
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 20);
    assert_eq!(database.number("SELECT version FROM accounts WHERE id = 3").await, 21);
}

async fn batches_that_overlap_are_both_stored(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    let (left, right) = (connected(&left).await, connected(&right).await);
    let rows: Vec<_> =
        (1001..=1300).map(|id| format!("({id}, 'user {id}', 'user', 0, 0, '')")).collect();
    let insert = "INSERT INTO accounts (id, username, account_type, create_time, update_time, comment) VALUES ";
    database.execute(&format!("{insert}{}", rows.join(", "))).await;
    for round in 0..4 {
        let cities = ["left", "right"].map(|name| format!("{name} {round}"));
        let (up, down) = (1001..=1250, (1051..=1300).rev());
        tokio::join!(
            store(&left, &cities[0], up.collect()),
            store(&right, &cities[1], down.collect()),
        );
    }
    // Each of the 8 batches has one entry for each of its 250 users.
    let once = "SELECT count(*) FROM (SELECT DISTINCT user_id, reason FROM change_log) AS entries";
    assert_eq!(database.number(once).await, 2000);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 2000);
    let entries = "(SELECT count(*) FROM change_log WHERE user_id = accounts.id)";
    let astray = format!("SELECT count(*) FROM accounts WHERE version <> 1 + {entries}");
    assert_eq!(database.number(&astray).await, 0);
    // Each row matches the last entry of its user.
    let last = "user_id = accounts.id AND change_log.version = accounts.version";
    let right = format!(
        "SELECT count(*) FROM accounts WHERE city = (SELECT reason FROM change_log WHERE {last})"
    );
    assert_eq!(database.number(&right).await, 300);
}

/// Stores a batch that moves users to a city. Retries while the service asks for it.
async fn store(users: &Users, city: &str, ids: Vec<i64>) {
    let update = |id| UpdateUserDetailsRequest { reason: city.to_owned(), ..set_city(id, city) };
    let requests = ids.iter().copied().map(update).collect();
    let request = BatchUpdateUserDetailsRequest { requests, ..Default::default() };
    for _ in 0..20 {
        match users.clone().batch_update_user_details(request.clone()).await {
            Ok(answer) => {
                let user = |result: UpdateUserDetailsResult| match result.result {
                    Some(UpdateResult::Response(one)) => one.user_details.unwrap().user_id,
                    result => panic!("{result:?}"),
                };
                let stored: Vec<_> = answer.into_inner().results.into_iter().map(user).collect();
                assert_eq!(stored, ids);
                return;
            }
            Err(status) => assert!(status.get_details_retry_info().is_some(), "{status:?}"),
        }
    }
    panic!("{city} is refused again and again");
}

/// A connected client, so that its calls go out immediately.
async fn connected(program: &Program) -> Users {
    let users = program.users();
    let request = GetUserDetailsRequest { user_id: 3, ..GetUserDetailsRequest::default() };
    users.clone().get_user_details(request).await.unwrap();
    users
}

async fn a_setting_is_effective_on_the_other_replica(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    for allow_api in [false, true] {
        let disabled = |body: &str| body.contains("API Requests are disabled");
        assert_eq!(disabled(&right.call("admin", "3", "").await.body), allow_api);
        let settings = Settings { allow_api: Some(allow_api), ..Settings::default() };
        let request = UpdateSettingsRequest { settings: Some(settings), ..Default::default() };
        SettingsServiceClient::new(left.channel()).update_settings(request).await.unwrap();
        let answer = left.call("admin", "3", "").await;
        assert_eq!((answer.status, disabled(&answer.body)), (StatusCode::OK, !allow_api));
        until("the setting is effective on the other replica", || async {
            disabled(&right.call("admin", "3", "").await.body) != allow_api
        })
        .await;
    }
}

async fn a_watch_goes_on_at_another_replica_and_after_a_crash(database: TestDatabase) {
    let left = Program::demo(&database, &[]).await;
    let right = Program::demo(&database, &[]).await;
    // The watch also receives changes of the other replica.
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

/// Resumes a watch and runs `meanwhile`. Returns the cities of the changes and the last token.
async fn watch<T>(
    program: &Program,
    token: &str,
    changes: usize,
    meanwhile: impl Future<Output = T>,
) -> (Vec<String>, String) {
    let request = WatchUserDetailsRequest { resume_token: token.to_owned(), ..Default::default() };
    let mut stream = program.users().watch_user_details(request).await.unwrap().into_inner();
    let mut next = async || -> WatchUserDetailsResponse {
        let response = timeout(CONDITION_TIMEOUT, stream.message()).await;
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
