//! Watching the change log: every change once, in the order of each user, also after resuming.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use m4_user_details::{
    domain::{
        clock::{Clock, SystemClock},
        page_token::{Purpose, TokenKey},
        watch::Position,
    },
    proto::{
        Address, General, ListUserDetailsChangesRequest, UpdateUserDetailsRequest, UserDetails,
        UserDetailsChange, WatchUserDetailsRequest, WatchUserDetailsResponse,
    },
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::support::{
    app::{TestApp, reason},
    database::TestDatabase,
    on_every_engine, on_servers,
};

on_every_engine!(
    a_change_comes_with_what_is_logged_of_it,
    a_watch_of_one_user_has_no_other,
    a_new_watch_is_not_told_what_was_stored_before,
    a_manager_watches_what_it_may_read,
    a_withdrawn_right_ends_a_watch,
    a_watch_that_is_killed_and_resumed_sees_every_change_once,
    one_who_does_not_listen_holds_up_nobody_and_misses_nothing,
    a_quiet_watch_is_told_so,
    a_service_that_stops_ends_its_watches,
    a_bad_token_is_refused,
    a_log_that_lost_its_end_ends_watches_and_refuses_their_tokens,
    a_log_that_has_grown_again_ends_watches_and_refuses_their_tokens,
);

// SQLite has one writer: nothing commits out of order.
on_servers!(
    a_change_that_commits_out_of_order_is_not_missed,
    a_portion_that_commits_late_is_told_to_its_end_whoever_is_killed_within_it,
);

/// The payload of a token.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Token {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) position: Vec<u8>,
    #[prost(int64, tag = "2")]
    told: i64,
}

/// A token as the service issues it for this request.
async fn seal(
    database: &TestDatabase,
    request: &WatchUserDetailsRequest,
    position: &Position,
    told: DateTime<Utc>,
) -> String {
    let secret = database.text("SELECT secret FROM token_keys").await;
    let key = TokenKey::new(&hex::decode(secret).unwrap().try_into().unwrap());
    let token = Token { position: position.to_bytes(1000), told: told.timestamp() };
    let request = Sha256::digest(request.encode_to_vec()).into();
    key.seal(Purpose::Watch, &request, &token.encode_to_vec())
}

/// Timeout of every wait in these tests.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A watch, after its first response.
pub(crate) struct Watch {
    responses: Streaming<WatchUserDetailsResponse>,
    pub(crate) token: String,
}

impl Watch {
    pub(crate) async fn start(
        app: &TestApp,
        request: WatchUserDetailsRequest,
    ) -> Result<Self, Status> {
        let responses = app.users().watch_user_details(request).await?.into_inner();
        let mut watch = Self { responses, token: String::new() };
        let first = watch.response().await.unwrap();
        assert_eq!(first.change, None);
        Ok(watch)
    }

    pub(crate) async fn response(&mut self) -> Result<WatchUserDetailsResponse, Status> {
        let response =
            timeout(RESPONSE_TIMEOUT, self.responses.message()).await.expect("no response");
        let response = response?.expect("the stream has ended without a status");
        self.token.clone_from(&response.resume_token);
        Ok(response)
    }

    /// The next change; skips heartbeats.
    pub(crate) async fn change(&mut self) -> Result<UserDetailsChange, Status> {
        let change = async {
            loop {
                if let Some(change) = self.response().await?.change {
                    return Ok(change);
                }
            }
        };
        timeout(RESPONSE_TIMEOUT, change).await.expect("no change")
    }

    /// The status that ends the watch.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.response().await {
                return status;
            }
        }
    }
}

pub(crate) fn everything() -> WatchUserDetailsRequest {
    WatchUserDetailsRequest::default()
}

fn of(user_id: i64) -> WatchUserDetailsRequest {
    WatchUserDetailsRequest { user_id: Some(user_id), ..everything() }
}

fn on_behalf_of(username: &str) -> WatchUserDetailsRequest {
    WatchUserDetailsRequest { acting_username: username.to_owned(), ..everything() }
}

pub(crate) fn behind(token: &str) -> WatchUserDetailsRequest {
    WatchUserDetailsRequest { resume_token: token.to_owned(), ..everything() }
}

pub(crate) async fn set_city(app: &TestApp, user_id: i64, city: &str) {
    let address = Address { city: Some(city.to_owned()), ..Address::default() };
    let details = UserDetails { address: Some(address.into()), ..UserDetails::default() };
    let user_details = Some(details);
    let request = UpdateUserDetailsRequest { user_id, user_details, ..Default::default() };
    app.update(request).await.unwrap();
}

async fn a_change_comes_with_what_is_logged_of_it(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    set_city(&app, 3, "York").await;
    app.call("manager", "4", "hidden=1&fax=5").await;
    let mut seen = vec![watch.change().await.unwrap(), watch.change().await.unwrap()];
    let request = ListUserDetailsChangesRequest::default();
    let listed = app.users().list_user_details_changes(request).await.unwrap();
    let listed = listed.into_inner().changes;
    seen.sort_by_key(|change| change.change_id);
    assert_eq!(seen, listed);
    assert_eq!(seen[1].door, "legacy");
    // An update that changes nothing is neither logged nor sent.
    set_city(&app, 3, "York").await;
    set_city(&app, 3, "Leeds").await;
    let next = watch.change().await.unwrap();
    assert_eq!(next.previous_details.unwrap().address.unwrap().city.unwrap(), "York");
}

async fn a_watch_of_one_user_has_no_other(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut watch = Watch::start(&app, of(4)).await.unwrap();
    for (user_id, city) in [(3, "a"), (4, "b"), (5, "c"), (4, "d"), (3, "e")] {
        set_city(&app, user_id, city).await;
    }
    let mut cities = Vec::new();
    for _ in 0..2 {
        let change = watch.change().await.unwrap();
        assert_eq!(change.user_id, 4);
        cities.push(change.details.unwrap().address.unwrap().city.unwrap());
    }
    assert_eq!(cities, ["b", "d"]);
    let token = watch.token.clone();
    drop(watch);
    for (user_id, city) in [(3, "f"), (4, "g")] {
        set_city(&app, user_id, city).await;
    }
    let request = WatchUserDetailsRequest { resume_token: token, ..of(4) };
    let mut watch = Watch::start(&app, request).await.unwrap();
    let change = watch.change().await.unwrap();
    assert_eq!(change.details.unwrap().address.unwrap().city.unwrap(), "g");
    let missing = Watch::start(&app, of(2)).await.err().unwrap();
    assert_eq!(reason(&missing), "USER_NOT_FOUND");
}

async fn a_new_watch_is_not_told_what_was_stored_before(database: TestDatabase) {
    let writer = TestApp::start(&database).await;
    let reader = TestApp::start(&database).await;
    // Keeps the replica's log reader running. It sees changes of the other replica a little later.
    let _other = Watch::start(&reader, everything()).await.unwrap();
    for number in 0..20 {
        for request in [everything(), of(3)] {
            set_city(&writer, 3, &format!("before {number}")).await;
            let mut watch = Watch::start(&reader, request).await.unwrap();
            set_city(&writer, 3, &format!("after {number}")).await;
            let change = watch.change().await.unwrap();
            let city = change.details.unwrap().address.unwrap().city;
            assert_eq!(city.unwrap(), format!("after {number}"));
        }
    }
}

async fn a_manager_watches_what_it_may_read(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut auditor = Watch::start(&app, on_behalf_of("auditor")).await.unwrap();
    let mut assigned = Watch::start(&app, on_behalf_of("assigned")).await.unwrap();
    for (user_id, city) in [(3, "a"), (4, "b"), (5, "c"), (4, "d")] {
        set_city(&app, user_id, city).await;
    }
    for user_id in [3, 4, 5, 4] {
        assert_eq!(auditor.change().await.unwrap().user_id, user_id);
    }
    // Only bob is assigned to this manager. The watch can be resumed.
    assert_eq!(assigned.change().await.unwrap().user_id, 4);
    let request = WatchUserDetailsRequest {
        resume_token: assigned.token.clone(),
        ..on_behalf_of("assigned")
    };
    let mut again = Watch::start(&app, request).await.unwrap();
    for watch in [&mut assigned, &mut again] {
        let change = watch.change().await.unwrap();
        assert_eq!(change.details.unwrap().address.unwrap().city.unwrap(), "d");
    }
    for nobody in ["alice", "locked", "nobody"] {
        let refused = Watch::start(&app, on_behalf_of(nobody)).await.err().unwrap();
        assert_eq!(reason(&refused), "ACCESS_DENIED", "{nobody}");
    }
}

async fn a_withdrawn_right_ends_a_watch(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut auditor = Watch::start(&app, on_behalf_of("auditor")).await.unwrap();
    let mut manager = Watch::start(&app, on_behalf_of("manager")).await.unwrap();
    database.execute("UPDATE accounts SET blocked = TRUE WHERE username = 'auditor'").await;
    database
        .execute("UPDATE accounts SET show_only_assigned_users = TRUE WHERE username = 'manager'")
        .await;
    assert_eq!(reason(&auditor.end().await), "ACCESS_DENIED");
    // The manager's scope has changed: a retry gets the new scope.
    assert_eq!(manager.end().await.code(), Code::Unavailable);
}

/// Two replicas, with writers on both.
async fn a_watch_that_is_killed_and_resumed_sees_every_change_once(database: TestDatabase) {
    const RESUMED: usize = 50;
    const CHANGES: usize = 600;
    let replicas = [TestApp::start(&database).await, TestApp::start(&database).await];
    let first = Watch::start(&replicas[0], everything()).await.unwrap();
    let writers = (0..4).map(|writer| {
        let app = &replicas[writer % 2];
        async move {
            for number in 0..CHANGES / 4 {
                let user_id = 3 + i64::try_from(number % 3).unwrap();
                let general = General {
                    call_limit: i32::try_from(writer * CHANGES + number).ok(),
                    ..General::default()
                };
                let details =
                    UserDetails { general: Some(general.into()), ..UserDetails::default() };
                let user_details = Some(details);
                app.update(UpdateUserDetailsRequest {
                    user_id,
                    user_details,
                    ..Default::default()
                })
                .await
                .unwrap();
            }
        }
    });
    let watcher = async {
        let mut seen: Vec<UserDetailsChange> = Vec::new();
        let mut token = first.token.clone();
        drop(first);
        for round in 0..=RESUMED {
            let app = &replicas[round % 2];
            let mut watch = Watch::start(app, behind(&token)).await.unwrap();
            // Killed midway, often with changes in flight to the client.
            let last = round == RESUMED;
            let portion = CHANGES / (RESUMED + 10);
            while seen.len() < CHANGES && (last || seen.len() < (round + 1) * portion) {
                seen.push(watch.change().await.unwrap());
            }
            token = watch.token;
        }
        seen
    };
    let (_, seen) = tokio::join!(join_all(writers), watcher);
    let mut ids: Vec<_> = seen.iter().map(|change| change.change_id).collect();
    ids.sort_unstable();
    let (mut unique, logged) =
        (ids.clone(), database.number("SELECT count(*) FROM change_log").await);
    unique.dedup();
    assert_eq!(ids, unique, "a change came twice");
    assert_eq!(i64::try_from(ids.len()).unwrap(), logged);
    let mut before: BTreeMap<i64, UserDetailsChange> = BTreeMap::new();
    for change in seen {
        let user_id = change.user_id;
        if let Some(before) = before.insert(user_id, change.clone()) {
            assert_eq!(before.details, change.previous_details, "out of order");
        }
    }
}

async fn a_change_that_commits_out_of_order_is_not_missed(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    let slow = database.begin().await;
    slow.execute(
        "INSERT INTO change_log (user_id, version, change_time, door, changes) \
         VALUES (5, 2, 1800000000000000, 'grpc', \
         '[{\"field\": \"address.city\", \"old\": \"\", \"new\": \"slow\"}]')",
    )
    .await;
    // This update gets its id later and commits first.
    set_city(&app, 3, "fast").await;
    let city = |change: UserDetailsChange| change.details.unwrap().address.unwrap().city.unwrap();
    assert_eq!(city(watch.change().await.unwrap()), "fast");
    // Resume from here, and start a new watch, on a replica that starts now.
    let token = watch.token.clone();
    let other = TestApp::start(&database).await;
    let mut resumed = Watch::start(&other, behind(&token)).await.unwrap();
    let mut new = Watch::start(&other, everything()).await.unwrap();
    slow.commit().await;
    for watch in [&mut watch, &mut resumed, &mut new] {
        assert_eq!(city(watch.change().await.unwrap()), "slow");
    }
    let mut late = Watch::start(&app, behind(&token)).await.unwrap();
    assert_eq!(city(late.change().await.unwrap()), "slow");
    set_city(&app, 3, "next").await;
    for watch in [&mut watch, &mut resumed, &mut new, &mut late] {
        assert_eq!(city(watch.change().await.unwrap()), "next");
    }
}

async fn a_portion_that_commits_late_is_told_to_its_end_whoever_is_killed_within_it(
    database: TestDatabase,
) {
    const LATE: usize = 1500;
    let app = TestApp::start(&database).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    let slow = database.begin().await;
    let row = |number: usize| {
        format!(
            "(5, {}, 1800000000000000, 'grpc', '[{{\"field\": \"address.city\", \"old\": \"\", \"new\": \"{number}\"}}]')",
            number + 2
        )
    };
    let rows: Vec<_> = (0..LATE).map(row).collect();
    slow.execute(&format!(
        "INSERT INTO change_log (user_id, version, change_time, door, changes) VALUES {}",
        rows.join(", ")
    ))
    .await;
    set_city(&app, 3, "fast").await;
    watch.change().await.unwrap();
    let before = watch.token.clone();
    slow.commit().await;
    let city = |change: UserDetailsChange| change.details.unwrap().address.unwrap().city.unwrap();
    // The open stream, a stream resumed from before the portion, and streams killed within it.
    let mut behind_all = Watch::start(&app, behind(&before)).await.unwrap();
    for number in 0..LATE {
        assert_eq!(city(watch.change().await.unwrap()), number.to_string());
        assert_eq!(city(behind_all.change().await.unwrap()), number.to_string());
    }
    let mut token = before;
    let mut number = 0;
    while number < LATE {
        let mut killed = Watch::start(&app, behind(&token)).await.unwrap();
        for _ in 0..(LATE - number).min(131) {
            assert_eq!(city(killed.change().await.unwrap()), number.to_string());
            number += 1;
        }
        token = killed.token;
    }
}

async fn one_who_does_not_listen_holds_up_nobody_and_misses_nothing(database: TestDatabase) {
    const CHANGES: usize = 3000;
    let app = TestApp::start(&database).await;
    let mut slow = Watch::start(&app, everything()).await.unwrap();
    let mut quick = Watch::start(&app, everything()).await.unwrap();
    // More data than the buffers on the way to a client hold.
    let long = "x".repeat(250);
    let write = async {
        for portion in 0..CHANGES / 50 {
            let updates = (0..50).map(|number| {
                let city = format!("{portion} {number} {long}");
                let city = city.chars().take(255).collect::<String>();
                let app = &app;
                async move { set_city(app, 3 + number % 3, &city).await }
            });
            join_all(updates).await;
        }
    };
    let read = async {
        for _ in 0..CHANGES {
            quick.change().await.unwrap();
        }
    };
    tokio::join!(write, read);
    let mut ids = Vec::new();
    for _ in 0..CHANGES {
        ids.push(slow.change().await.unwrap().change_id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CHANGES);
}

async fn a_quiet_watch_is_told_so(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("watch_heartbeat_seconds", "1")]).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    for _ in 0..2 {
        let quiet = watch.response().await.unwrap();
        assert_eq!(quiet.change, None);
    }
    set_city(&app, 3, "York").await;
    let mut resumed = Watch::start(&app, behind(&watch.token)).await.unwrap();
    assert_eq!(resumed.change().await.unwrap(), watch.change().await.unwrap());
}

async fn a_service_that_stops_ends_its_watches(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    let (stopped, ended) = tokio::join!(app.stop(), watch.end());
    stopped.unwrap();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "UNAVAILABLE"));
}

async fn a_log_that_lost_its_end_ends_watches_and_refuses_their_tokens(database: TestDatabase) {
    // As after a restore, or after a failover to a lagging standby.
    let loss = "DELETE FROM change_log WHERE id > 2";
    watches_end_and_their_tokens_are_refused(database, loss, &[4]).await;
}

async fn a_log_that_has_grown_again_ends_watches_and_refuses_their_tokens(database: TestDatabase) {
    // As above, and two other changes were stored since.
    let other = "UPDATE change_log SET change_time = change_time + 1 WHERE id > 2";
    watches_end_and_their_tokens_are_refused(database, other, &[3, 3, 4]).await;
}

/// Loses the log entries after the second. A watch from there receives changes of `users`.
async fn watches_end_and_their_tokens_are_refused(
    database: TestDatabase,
    loss: &str,
    users: &[i64],
) {
    let app = TestApp::start(&database).await;
    for city in ["a", "b"] {
        set_city(&app, 3, city).await;
    }
    let early = Watch::start(&app, everything()).await.unwrap().token;
    let mut watches =
        [Watch::start(&app, everything()).await.unwrap(), Watch::start(&app, of(3)).await.unwrap()];
    for city in ["c", "d"] {
        set_city(&app, 3, city).await;
        for watch in &mut watches {
            watch.change().await.unwrap();
        }
    }
    database.execute(loss).await;
    for (watch, request) in watches.iter_mut().zip([everything(), of(3)]) {
        let ended = watch.end().await;
        assert_eq!(reason(&ended), "INVALID_REQUEST", "{ended}");
        let again = WatchUserDetailsRequest { resume_token: watch.token.clone(), ..request };
        let refused = Watch::start(&app, again).await.err().unwrap();
        assert_eq!(reason(&refused), "INVALID_REQUEST", "{refused}");
        assert!(refused.message().contains("does not match this change log"), "{refused}");
    }
    // A watch resumes at a position that is still in the log.
    let mut watch = Watch::start(&app, behind(&early)).await.unwrap();
    set_city(&app, 4, "e").await;
    for user_id in users {
        assert_eq!(watch.change().await.unwrap().user_id, *user_id);
    }
}

async fn a_bad_token_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let watch = Watch::start(&app, everything()).await.unwrap();
    let now = SystemClock.now();
    let mut forged = watch.token.clone().into_bytes();
    forged[3] = if forged[3] == b'A' { b'B' } else { b'A' };
    for request in [
        behind("no token"),
        behind("AAAA"),
        behind(&"A".repeat(100_000)),
        behind(&watch.token[..watch.token.len() - 2]),
        behind(&String::from_utf8(forged).unwrap()),
        // A token of another request.
        WatchUserDetailsRequest { resume_token: watch.token.clone(), ..of(3) },
        // A token without authentication, as earlier versions issued it.
        behind(
            &URL_SAFE_NO_PAD
                .encode(Token { position: vec![0], told: now.timestamp() }.encode_to_vec()),
        ),
    ] {
        let refused = Watch::start(&app, request).await.err().unwrap();
        assert_eq!(reason(&refused), "INVALID_REQUEST");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("resume_token"), "{refused}");
    }
    // Replicas share the key, also after a restart.
    let other = TestApp::start(&database).await;
    Watch::start(&other, behind(&watch.token)).await.unwrap();
    let now = seal(&database, &everything(), &Position::default(), now).await;
    Watch::start(&other, behind(&now)).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM token_keys").await, 1);
}
