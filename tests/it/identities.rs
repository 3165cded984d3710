//! Service tokens: scopes, field lists, expiry and revocation.

use chrono::{DateTime, TimeDelta, Utc};
use m4_user_details::{
    app::Environment,
    domain::{
        administration::Administrator,
        clock::{Clock, SystemClock},
        scope::{Scope, Scopes},
        token::{RANDOM_BYTES, ServiceToken, TokenStore},
    },
    proto::{
        Address, BatchUpdateUserDetailsRequest, CreateLegacyKeyRequest, ExplainLegacyCallRequest,
        General, GetSettingsRequest, GetUserDetailsRequest, LegacyKey,
        ListUserDetailsChangesRequest, ListUserDetailsRequest, RevertUserDetailsChangeRequest,
        RotateLegacyKeyRequest, Settings, UpdateSettingsRequest, UpdateUserDetailsRequest,
        UserDetails, WatchUserDetailsRequest, update_user_details_result::Result as UpdateResult,
    },
    storage::SqlStore,
};
use prost_types::FieldMask;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret;
use tonic::{Code, Request, Status};

use crate::support::{
    CONDITION_TIMEOUT,
    app::{TestApp, reason},
    clock::TestClock,
    database::TestDatabase,
    on_every_engine, until,
};

on_every_engine!(
    every_rpc_takes_its_scope,
    a_list_of_fields_bounds_every_way_of_changing,
    a_list_of_fields_may_name_groups,
    changes_in_its_own_name_bear_the_name_of_the_token,
    a_token_expires,
    a_revoked_token_is_refused_on_every_replica,
    a_watch_ends_when_its_token_is_revoked,
    the_first_token_closes_what_was_open_for_good,
    what_is_secret_of_a_token_is_not_stored,
    the_last_use_of_a_token_is_noted,
    what_is_no_token_is_refused,
);

/// Every RPC, and its scope.
const RPCS: [(&str, Scope); 10] = [
    ("GetUserDetails", Scope::Read),
    ("ListUserDetails", Scope::Read),
    ("ListUserDetailsChanges", Scope::Read),
    ("WatchUserDetails", Scope::Read),
    ("UpdateUserDetails", Scope::Update),
    ("BatchUpdateUserDetails", Scope::Update),
    ("RevertUserDetailsChange", Scope::Update),
    ("GetSettings", Scope::Settings),
    ("UpdateSettings", Scope::Settings),
    ("ExplainLegacyCall", Scope::Admin),
];

/// Stores a token, as `token create` does.
async fn token(
    database: &TestDatabase,
    scopes: &[Scope],
    fields: Option<&str>,
    expire_time: Option<DateTime<Utc>>,
) -> String {
    let scopes: Scopes = scopes.iter().copied().collect();
    let mut random = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut random).unwrap();
    let (name, fields) = ("crm".to_owned(), fields.map(str::to_owned));
    let now = SystemClock.now();
    let (text, token) = ServiceToken::new(random, name, scopes, fields, now, expire_time);
    let store = SqlStore::new(database.options()).unwrap();
    store.attach();
    store.create_token(&Administrator::default(), token).await.unwrap();
    store.close().await;
    text.expose_secret().to_owned()
}

async fn revoke(database: &TestDatabase, token: &str) {
    let store = SqlStore::new(database.options()).unwrap();
    store.attach();
    let id = ServiceToken::id_of(token).unwrap();
    assert_eq!(
        store.revoke_tokens(&Administrator::default(), id, SystemClock.now()).await.unwrap(),
        1
    );
    store.close().await;
}

/// A request with a token.
pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// Reads alice with a token.
pub async fn read(
    app: &TestApp,
    token: &str,
    acting_username: &str,
) -> Result<UserDetails, Status> {
    let acting_username = acting_username.to_owned();
    let request = with(token, GetUserDetailsRequest { user_id: 3, acting_username });
    let answer = app.users().get_user_details(request).await?;
    Ok(answer.into_inner().user_details.unwrap())
}

/// Hides alice, and changes nothing else.
fn hide() -> UpdateUserDetailsRequest {
    let general = General { hidden: Some(true), ..General::default() };
    let details = UserDetails { general: Some(general.into()), ..UserDetails::default() };
    UpdateUserDetailsRequest { user_id: 3, user_details: Some(details), ..Default::default() }
}

/// Gives alice another city.
fn move_to(city: &str) -> UpdateUserDetailsRequest {
    let address = Address { city: Some(city.to_owned()), ..Address::default() };
    let details = UserDetails { address: Some(address.into()), ..UserDetails::default() };
    UpdateUserDetailsRequest { user_id: 3, user_details: Some(details), ..Default::default() }
}

fn clear(path: &str) -> UpdateUserDetailsRequest {
    let update_mask = Some(FieldMask { paths: vec![path.to_owned()] });
    UpdateUserDetailsRequest { user_id: 3, update_mask, ..Default::default() }
}

fn batch(requests: Vec<UpdateUserDetailsRequest>) -> BatchUpdateUserDetailsRequest {
    BatchUpdateUserDetailsRequest { requests, ..Default::default() }
}

/// Calls an RPC with a token. The call succeeds if the token and the acting account permit it.
async fn call(app: &TestApp, rpc: &str, token: &str, acting: &str) -> Result<(), Status> {
    let acting_username = acting.to_owned();
    let (mut users, mut settings) = (app.users(), app.settings());
    match rpc {
        "GetUserDetails" => read(app, token, acting).await.map(drop),
        "ListUserDetails" => {
            let request = ListUserDetailsRequest { acting_username, ..Default::default() };
            users.list_user_details(with(token, request)).await.map(drop)
        }
        "ListUserDetailsChanges" => {
            let request = ListUserDetailsChangesRequest { acting_username, ..Default::default() };
            users.list_user_details_changes(with(token, request)).await.map(drop)
        }
        "WatchUserDetails" => {
            let request = WatchUserDetailsRequest { acting_username, ..Default::default() };
            let answer = users.watch_user_details(with(token, request)).await?;
            answer.into_inner().message().await.map(drop)
        }
        "UpdateUserDetails" => {
            let request = UpdateUserDetailsRequest { acting_username, ..move_to("Kaunas") };
            users.update_user_details(with(token, request)).await.map(drop)
        }
        "BatchUpdateUserDetails" => {
            let requests = vec![move_to("Vilnius"), move_to("Kaunas")];
            let request = BatchUpdateUserDetailsRequest { acting_username, ..batch(requests) };
            users.batch_update_user_details(with(token, request)).await.map(drop)
        }
        "RevertUserDetailsChange" => {
            let request = RevertUserDetailsChangeRequest {
                change_id: 1,
                etag: read_etag(app, token).await,
                validate_only: true,
                acting_username,
                ..Default::default()
            };
            users.revert_user_details_change(with(token, request)).await.map(drop)
        }
        "GetSettings" => {
            let request = GetSettingsRequest { acting_username };
            settings.get_settings(with(token, request)).await.map(drop)
        }
        "UpdateSettings" => {
            let change = Settings { allow_get_api: Some(true), ..Settings::default() };
            let request = UpdateSettingsRequest {
                settings: Some(change),
                acting_username,
                ..Default::default()
            };
            settings.update_settings(with(token, request)).await.map(drop)
        }
        "ExplainLegacyCall" => {
            let request = ExplainLegacyCallRequest { acting_username, ..Default::default() };
            app.legacy().explain_legacy_call(with(token, request)).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

/// The etag of alice; empty if the token may not read.
async fn read_etag(app: &TestApp, token: &str) -> String {
    read(app, token, "admin").await.map(|alice| alice.etag).unwrap_or_default()
}

#[track_caller]
fn assert_denied(status: &Status, what: &str) {
    let told = (status.code(), reason(status));
    assert_eq!(told, (Code::PermissionDenied, "ACCESS_DENIED".to_owned()), "{what}: {status:?}");
}

async fn every_rpc_takes_its_scope(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    // Without an etag, `RevertUserDetailsChange` needs a change that no later change touches.
    app.update(hide()).await.unwrap();
    for scope in Scope::ALL {
        let token = token(&database, &[scope], None, None).await;
        until_it_is_known(&app, &token).await;
        for (rpc, needed) in RPCS {
            let admin = scope == Scope::Admin;
            let what = format!("{rpc} with {scope:?}");
            match call(&app, rpc, &token, "admin").await {
                Ok(()) => assert!(admin || scope == needed, "{what}"),
                Err(status) => {
                    assert!(!admin && scope != needed, "{what}: {status:?}");
                    assert_denied(&status, &what);
                }
            }
            match call(&app, rpc, &token, "").await {
                Ok(()) => assert!(admin, "{what} in its own name"),
                Err(status) => {
                    assert!(!admin, "{what} in its own name: {status:?}");
                    assert_denied(&status, &what);
                }
            }
            // A scope gives an account no rights that it lacks.
            assert_denied(&call(&app, rpc, &token, "alice").await.unwrap_err(), &what);
        }
    }
}

async fn a_list_of_fields_bounds_every_way_of_changing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.update(hide()).await.unwrap();
    app.update(move_to("Vilnius")).await.unwrap();
    let before = app.read(3).await;
    let scopes = [Scope::Read, Scope::Admin];
    let token = token(&database, &scopes, Some("address.city comment.comment"), None).await;
    until_it_is_known(&app, &token).await;
    let mut users = app.users();
    let whole = UpdateUserDetailsRequest {
        user_details: Some(before.clone()),
        update_mask: Some(FieldMask { paths: vec!["*".to_owned()] }),
        ..move_to("")
    };
    let by_name = UpdateUserDetailsRequest { acting_username: "admin".to_owned(), ..hide() };
    let dry = UpdateUserDetailsRequest { validate_only: true, ..clear("address") };
    let mut wrong = hide();
    wrong.user_details.as_mut().unwrap().general.as_mut().unwrap().call_limit = Some(-1);
    // `hide` would change nothing: it is refused because of the fields that it names.
    let refused =
        [hide(), by_name, whole, clear("general.call_limit"), clear("address"), dry, wrong];
    for request in &refused {
        let status = users.update_user_details(with(&token, request.clone())).await.unwrap_err();
        assert_denied(&status, &format!("{request:?}"));
        let requests = vec![move_to("never"), request.clone()];
        let status = users.batch_update_user_details(with(&token, batch(requests))).await;
        let status = status.unwrap_err();
        // All updates of a batch act as one account.
        if request.acting_username.is_empty() {
            assert_denied(&status, &format!("{request:?}"));
            assert!(status.message().starts_with("requests[1]: "), "{status:?}");
        }
    }
    let revert = |change_id| RevertUserDetailsChangeRequest { change_id, ..Default::default() };
    let status = users.revert_user_details_change(with(&token, revert(1))).await.unwrap_err();
    assert_denied(&status, "revert");
    assert!(status.message().contains("general.hidden"), "{status:?}");
    assert_eq!(read(&app, &token, "admin").await.unwrap(), before);

    let partial = BatchUpdateUserDetailsRequest {
        allow_partial: true,
        ..batch(vec![hide(), move_to("Kaunas"), clear("taxes")])
    };
    let answer = users.batch_update_user_details(with(&token, partial)).await.unwrap();
    let stored: Vec<_> = answer
        .get_ref()
        .results
        .iter()
        .map(|own| matches!(own.result, Some(UpdateResult::Response(_))))
        .collect();
    assert_eq!(stored, [false, true, false]);
    // A hash would permit changes of every field through the gateway.
    let explain = |include_hash| {
        let acting_username = "admin".to_owned();
        let request =
            ExplainLegacyCallRequest { include_hash, acting_username, ..Default::default() };
        with(&token, request)
    };
    app.legacy().explain_legacy_call(explain(false)).await.unwrap();
    let refused = app.legacy().explain_legacy_call(explain(true)).await.unwrap_err();
    assert_denied(&refused, "include_hash");
    // So would a new client key.
    let key = LegacyKey { name: "x".to_owned(), ..LegacyKey::default() };
    let create = CreateLegacyKeyRequest { key: Some(key), acting_username: "admin".to_owned() };
    let refused = app.legacy().create_legacy_key(with(&token, create)).await.unwrap_err();
    assert_denied(&refused, "create");
    let (key_id_or_name, acting_username) = ("x".to_owned(), "admin".to_owned());
    let rotate = RotateLegacyKeyRequest { key_id_or_name, acting_username };
    let refused = app.legacy().rotate_legacy_key(with(&token, rotate)).await.unwrap_err();
    assert_denied(&refused, "rotate");
    users.update_user_details(with(&token, clear("comment"))).await.unwrap();
    users.update_user_details(with(&token, move_to("Vilnius"))).await.unwrap();
    let entries = database.number("SELECT count(*) FROM change_log").await;
    users.revert_user_details_change(with(&token, revert(entries))).await.unwrap();
    let after = read(&app, &token, "admin").await.unwrap();
    assert_eq!(after.address.unwrap().city(), "Kaunas");
    assert_eq!(after.general, before.general);
    assert_eq!(after.taxes, before.taxes);
}

async fn a_list_of_fields_may_name_groups(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = token(&database, &[Scope::Admin], Some("address no_such"), None).await;
    until_it_is_known(&app, &token).await;
    let mut users = app.users();
    let answer = users.update_user_details(with(&token, clear("address"))).await.unwrap();
    assert!(answer.get_ref().changed_fields.as_ref().unwrap().paths.len() > 5);
    for path in ["*", "general", "comment.comment"] {
        let status = users.update_user_details(with(&token, clear(path))).await.unwrap_err();
        assert_denied(&status, path);
    }
}

async fn changes_in_its_own_name_bear_the_name_of_the_token(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = token(&database, &[Scope::Admin], None, None).await;
    until_it_is_known(&app, &token).await;
    app.users().update_user_details(with(&token, hide())).await.unwrap();
    assert_eq!(database.text("SELECT service FROM change_log").await, "crm");
    let by_name =
        UpdateUserDetailsRequest { acting_username: "manager".to_owned(), ..move_to("x") };
    app.users().update_user_details(with(&token, by_name)).await.unwrap();
    let actor = "SELECT actor_id FROM change_log WHERE service IS NULL";
    assert_eq!(database.number(actor).await, 2);
    // In both cases the log names the calling service.
    let calls = "SELECT count(*) FROM change_log WHERE identity = 'crm'";
    assert_eq!(database.number(calls).await, 2);
}

async fn until_it_is_known(app: &TestApp, token: &str) {
    until("the token is accepted", || async move {
        let outcome = read(app, token, "admin").await;
        !outcome.is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
}

async fn until_it_is_refused(app: &TestApp, token: &str) {
    until("the token is refused", || async move {
        let outcome = read(app, token, "admin").await;
        outcome.is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
}

/// An application with a clock that the test sets.
async fn start_with_clock(database: &TestDatabase) -> (TestApp, TestClock) {
    let clock = TestClock::at_present();
    let environment =
        Environment { clock: std::sync::Arc::new(clock.clone()), ..Environment::default() };
    (TestApp::start_in(database, &[], environment).await, clock)
}

async fn a_token_expires(database: TestDatabase) {
    let (app, clock) = start_with_clock(&database).await;
    let (now, minute) = (clock.now(), TimeDelta::minutes(1));
    let living = token(&database, &[Scope::Read], None, Some(now + minute)).await;
    let ended = token(&database, &[Scope::Read], None, Some(now)).await;
    until_it_is_known(&app, &living).await;
    let status = read(&app, &ended, "admin").await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "UNAUTHENTICATED"));
    clock.advance(minute - TimeDelta::microseconds(1));
    read(&app, &living, "admin").await.unwrap();
    // Exactly on time, although tokens are read only once a second.
    clock.advance(TimeDelta::microseconds(1));
    let status = read(&app, &living, "admin").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

async fn a_revoked_token_is_refused_on_every_replica(database: TestDatabase) {
    let left = TestApp::start(&database).await;
    let right = TestApp::start(&database).await;
    let one = token(&database, &[Scope::Read], None, None).await;
    let other = token(&database, &[Scope::Read], None, None).await;
    for app in [&left, &right] {
        until_it_is_known(app, &one).await;
        until_it_is_known(app, &other).await;
    }
    revoke(&database, &one).await;
    tokio::join!(until_it_is_refused(&left, &one), until_it_is_refused(&right, &one));
    // Another token with the same name stays valid.
    for app in [&left, &right] {
        assert_eq!(read(app, &other, "admin").await.unwrap().username, "alice");
    }
}

async fn a_watch_ends_when_its_token_is_revoked(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = token(&database, &[Scope::Admin], None, None).await;
    until_it_is_known(&app, &token).await;
    let request = with(&token, WatchUserDetailsRequest::default());
    let mut watch = app.users().watch_user_details(request).await.unwrap().into_inner();
    watch.message().await.unwrap();
    revoke(&database, &token).await;
    let ended = tokio::time::timeout(CONDITION_TIMEOUT, async {
        loop {
            if let Err(status) = watch.message().await {
                return status;
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::Unauthenticated);
}

async fn the_first_token_closes_what_was_open_for_good(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let without = || async {
        let request = GetUserDetailsRequest { user_id: 3, ..Default::default() };
        app.users().get_user_details(request).await
    };
    let closed =
        || async { without().await.is_err_and(|status| status.code() == Code::Unauthenticated) };
    without().await.unwrap();
    let token = token(&database, &[Scope::Read], None, None).await;
    until("the service is closed", closed).await;
    revoke(&database, &token).await;
    until_it_is_refused(&app, &token).await;
    assert!(closed().await);
    // The gateway in the same process needs no token.
    assert!(app.call("admin", "3", "hidden=1").await.body.contains("successfully"));
}

async fn what_is_secret_of_a_token_is_not_stored(database: TestDatabase) {
    let _app = TestApp::start(&database).await;
    let token = token(&database, &[Scope::Update, Scope::Read], None, None).await;
    let columns = ["id", "name", "token_hash", "scopes"];
    let mut row = String::new();
    for column in columns {
        row += &database.text(&format!("SELECT {column} FROM service_tokens")).await;
        row.push('\n');
    }
    let (id, secret) = token.strip_prefix("m4_").unwrap().split_once('_').unwrap();
    assert_eq!((id.len(), secret.len()), (16, 64));
    assert!(row.starts_with(&format!("{id}\ncrm\n")), "{row}");
    assert!(row.ends_with("\nread update\n"), "{row}");
    assert!(!row.contains(secret));
}

async fn the_last_use_of_a_token_is_noted(database: TestDatabase) {
    let (app, clock) = start_with_clock(&database).await;
    let first = token(&database, &[Scope::Read], None, None).await;
    until_it_is_known(&app, &first).await;
    let id = ServiceToken::id_of(&first).unwrap();
    let used = format!("SELECT coalesce(last_used_time, 0) FROM service_tokens WHERE id = '{id}'");
    let is_noted_now = || async {
        read(&app, &first, "admin").await.unwrap();
        database.number(&used).await == clock.now().timestamp_micros()
    };
    until("the use is noted", is_noted_now).await;
    let noted = clock.now().timestamp_micros();
    // Not again within a minute. The tokens were read anew: the second token is accepted.
    clock.advance(TimeDelta::seconds(59));
    let second = token(&database, &[Scope::Read], None, None).await;
    until_it_is_known(&app, &second).await;
    for _ in 0..10 {
        assert!(!is_noted_now().await);
    }
    assert_eq!(database.number(&used).await, noted);
    clock.advance(TimeDelta::seconds(1));
    until("the use is noted again", is_noted_now).await;
}

async fn what_is_no_token_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = token(&database, &[Scope::Admin], None, None).await;
    until_it_is_known(&app, &token).await;
    let (start, last) = token.split_at(token.len() - 1);
    let other = if last == "0" { "1" } else { "0" };
    let id = ServiceToken::id_of(&token).unwrap();
    for wrong in [
        format!("{start}{other}"),
        start.to_owned(),
        format!("{token}0"),
        format!("m4_{id}_"),
        format!("m4_{id}"),
        format!("m4__{}", "0".repeat(64)),
        token.to_uppercase(),
        String::new(),
        "a.b.c".to_owned(),
    ] {
        let status = read(&app, &wrong, "admin").await.unwrap_err();
        let told = (status.code(), reason(&status));
        assert_eq!(told, (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()), "{wrong}");
    }
}
