//! Data of a newer version, and corrupt data. Unknown values are skipped and harm nothing else.

use m4_user_details::{
    domain::{
        administration::Administrator,
        clock::{Clock, SystemClock},
        scope::Scope,
        token::{RANDOM_BYTES, ServiceToken, TokenStore},
    },
    proto::{
        BatchUpdateUserDetailsRequest, GetUserDetailsRequest, ListUserDetailsChangesRequest,
        ListUserDetailsRequest, RevertUserDetailsChangeRequest, UpdateUserDetailsResult,
        UserDetailsChange, WatchUserDetailsRequest,
        update_user_details_result::Result as UpdateResult,
    },
    storage::SqlStore,
};
use secrecy::ExposeSecret;
use tonic::Code;

use crate::{
    identities::{read, with},
    support::{
        app::{TestApp, reason, set_city},
        database::{Kind, TestDatabase},
        on_every_engine, on_sqlite, until,
    },
    watch::Watch,
};

on_every_engine!(
    an_entry_is_kept_without_what_is_unknown,
    a_change_that_is_known_in_part_is_not_reverted,
    a_bad_row_is_marked_in_its_page,
    a_bad_row_fails_its_own_update_of_a_batch,
    an_unknown_level_allows_nothing,
    a_stored_answer_is_kept_without_what_is_unknown,
    unknown_settings_change_nothing,
    an_unknown_switch_is_off,
    known_scopes_hold_beside_unknown_ones,
);

// Server columns hold no values of another type.
on_sqlite!(a_value_of_another_type_harms_no_other_row);

/// Gives bob a value that no version writes.
const BAD_ROW: &str = "UPDATE accounts SET enable_static_list = 'maybe' WHERE id = 4";

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Stores an entry of alice as a newer version does.
async fn log(database: &TestDatabase, version: i64, door: &str, changes: &str) {
    database
        .execute(&format!(
            "INSERT INTO change_log (user_id, version, change_time, actor_id, door, changes) \
             VALUES (3, {version}, 1767225600000000, 1, '{door}', '{changes}')"
        ))
        .await;
}

async fn changes(app: &TestApp) -> Vec<UserDetailsChange> {
    let request = ListUserDetailsChangesRequest::default();
    app.users().list_user_details_changes(request).await.unwrap().into_inner().changes
}

fn paths(change: &UserDetailsChange) -> Vec<&str> {
    let fields = change.changed_fields.as_ref().unwrap();
    fields.paths.iter().map(String::as_str).collect()
}

const LATER: &str = r#"{"field":"general.later","old":null,"new":"1"}"#;
const CITY: &str = r#"{"field":"address.city","old":"Vilnius","new":"Bonn"}"#;
/// A value that only a newer version knows.
const LIST: &str = r#"{"field":"lists.enable_static_list","old":"no","new":"greylist","more":[1]}"#;

async fn an_entry_is_kept_without_what_is_unknown(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let all = WatchUserDetailsRequest::default();
    let alice = WatchUserDetailsRequest { user_id: Some(3), ..all.clone() };
    let mut watches =
        [Watch::start(&app, all.clone()).await.unwrap(), Watch::start(&app, alice).await.unwrap()];
    log(&database, 2, "grpc", &format!("[{LATER}]")).await;
    log(&database, 3, "admin_page", &format!("[{LATER},{CITY},{LIST}]")).await;
    log(&database, 4, "grpc", r#"{"later":true}"#).await;
    log(&database, 5, "grpc", r#"[7,{"field":"address.city","old":1,"new":2}]"#).await;
    app.update(set_city(4, "Kaunas")).await.unwrap();

    let entries = changes(&app).await;
    let expected: [(&str, &[&str]); 5] = [
        ("grpc", &[]),
        ("unknown", &["address.city"]),
        ("grpc", &[]),
        ("grpc", &[]),
        ("grpc", &["address.city"]),
    ];
    let found: Vec<_> = entries.iter().map(|entry| (&*entry.door, paths(entry))).collect();
    assert_eq!(found, expected.map(|(door, paths)| (door, paths.to_vec())));
    let [every, own] = watches.each_mut();
    for entry in &entries {
        assert_eq!(&every.change().await.unwrap(), entry);
        if entry.user_id == 3 {
            assert_eq!(&own.change().await.unwrap(), entry);
        }
    }
    // A resumed watch reads the log itself.
    let resume_token = every.token.clone();
    log(&database, 6, "admin_page", &format!("[{LATER}]")).await;
    app.update(set_city(4, "Bonn")).await.unwrap();
    let request = WatchUserDetailsRequest { resume_token, ..all };
    let mut resumed = Watch::start(&app, request).await.unwrap();
    for entry in &changes(&app).await[5..] {
        assert_eq!(&resumed.change().await.unwrap(), entry);
    }
}

async fn a_change_that_is_known_in_part_is_not_reverted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.update(set_city(3, "Bonn")).await.unwrap();
    log(&database, 3, "grpc", &format!("[{CITY},{LATER}]")).await;
    let entries = changes(&app).await;
    let revert = |change_id, etag: &str| RevertUserDetailsChangeRequest {
        change_id,
        etag: etag.to_owned(),
        ..RevertUserDetailsChangeRequest::default()
    };
    let etag = app.read(3).await.etag;
    for etag in ["", &etag] {
        let request = revert(entries[1].change_id, etag);
        let refused = app.users().revert_user_details_change(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(reason(&refused), "CHANGE_NOT_SUPPORTED");
        assert!(refused.message().contains("newer version"), "{}", refused.message());
    }
    assert_eq!(app.read(3).await.etag, etag);
    // An unknown field of a later change does not conflict with this change.
    database.execute("DELETE FROM change_log WHERE version = 3").await;
    log(&database, 3, "grpc", &format!("[{LATER}]")).await;
    let request = revert(entries[0].change_id, "");
    app.users().revert_user_details_change(request).await.unwrap();
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("Vilnius"));
}

/// The ids of the listed users, and of the users with an unreadable row, read in pages of
/// `page_size`.
async fn listed(app: &TestApp, order_by: &str, page_size: i32) -> [Vec<i64>; 2] {
    let order_by = order_by.to_owned();
    let mut request =
        ListUserDetailsRequest { order_by, page_size, ..ListUserDetailsRequest::default() };
    let (mut ids, mut marked) = (Vec::new(), Vec::new());
    loop {
        let page = app.users().list_user_details(request.clone()).await.unwrap().into_inner();
        ids.extend(page.user_details.iter().map(|user| user.user_id));
        marked.extend(page.unreadable.iter().map(|user| user.user_id));
        if page.next_page_token.is_empty() {
            return [ids, marked];
        }
        let rows = page.user_details.len() + page.unreadable.len();
        assert_eq!(rows, usize::try_from(page_size).unwrap());
        request.page_token = page.next_page_token;
    }
}

async fn a_bad_row_is_marked_in_its_page(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let columns = "account_type, create_time, update_time, comment, enable_static_list";
    for id in 11..=16 {
        let list = if id == 16 { "no" } else { "maybe" };
        let row = format!("{id}, 'user{id}', 'user', {id}, {id}, '', '{list}'");
        let insert = format!("INSERT INTO accounts (id, username, {columns}) VALUES ({row})");
        database.execute_without_triggers(&insert).await;
    }
    database.execute_without_triggers(BAD_ROW).await;
    for page_size in [1, 2, 3, 50] {
        for (order_by, expected) in [
            ("", [3, 5, 16]),
            ("id desc", [16, 5, 3]),
            ("username", [3, 5, 16]),
            ("username desc", [16, 5, 3]),
            ("update_time", [16, 3, 5]),
            ("update_time desc", [5, 3, 16]),
        ] {
            let mut marked = vec![4, 11, 12, 13, 14, 15];
            if order_by.starts_with("update_time") {
                marked.rotate_left(1);
            }
            if order_by.ends_with("desc") {
                marked.reverse();
            }
            let found = listed(&app, order_by, page_size).await;
            assert_eq!(found, [expected.to_vec(), marked], "{order_by} {page_size}");
        }
    }
    let page = app.users().list_user_details(ListUserDetailsRequest::default()).await.unwrap();
    let bob = page.into_inner().unreadable.remove(0);
    let path = "lists.enable_static_list";
    assert_eq!((bob.user_id, &*bob.username, &*bob.field), (4, "bob", path));
    // Only the corrupt row itself fails.
    let get = |user_id| GetUserDetailsRequest { user_id, acting_username: "admin".to_owned() };
    let failed = app.users().get_user_details(get(4)).await.unwrap_err();
    assert_eq!((failed.code(), &*reason(&failed)), (Code::Internal, "INTERNAL"));
    assert!(!failed.message().contains('4'), "{}", failed.message());
    assert_eq!(app.update(set_city(4, "Bonn")).await.unwrap_err().code(), Code::Internal);
    app.update(set_city(3, "Bonn")).await.unwrap();
}

async fn a_bad_row_fails_its_own_update_of_a_batch(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    database.execute_without_triggers(BAD_ROW).await;
    let mut batch = BatchUpdateUserDetailsRequest {
        requests: [3, 4, 5].map(|user_id| set_city(user_id, "Bonn")).into(),
        allow_partial: true,
        ..BatchUpdateUserDetailsRequest::default()
    };
    let answer = app.users().batch_update_user_details(batch.clone()).await.unwrap();
    let code = |result: UpdateUserDetailsResult| match result.result {
        Some(UpdateResult::Error(error)) => (error.code, error.reason),
        _ => (0, String::new()),
    };
    let codes: Vec<_> = answer.into_inner().results.into_iter().map(code).collect();
    let stored = (0, String::new());
    assert_eq!(codes, [stored.clone(), (Code::Internal as i32, "INTERNAL".to_owned()), stored]);

    batch.allow_partial = false;
    batch.requests = [3, 5, 4].map(|user_id| set_city(user_id, "York")).into();
    let refused = app.users().batch_update_user_details(batch).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert!(refused.message().starts_with("requests[2]: "), "{}", refused.message());
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("Bonn"));
}

async fn an_unknown_level_allows_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    database.execute("UPDATE manager_group_rights SET level = 'own' WHERE level = 'edit'").await;
    let request = GetUserDetailsRequest { user_id: 3, acting_username: "manager".to_owned() };
    let refused = app.users().get_user_details(request).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_AUTHORIZED");
}

async fn a_stored_answer_is_kept_without_what_is_unknown(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut request = set_city(3, "Bonn");
    ID.clone_into(&mut request.request_id);
    let first = app.update(request.clone()).await.unwrap();
    for (from, to) in [
        (r#""changes""#, r#""later":{},"changes""#),
        (r#"{"field""#, &format!(r#"{LATER},{{"field""#)),
        (r#""address.city":"#, r#""general.later":"1","address.city":"#),
        (r#""user""#, r#""reseller""#),
    ] {
        // Only PostgreSQL has a separate JSON type, which writes spaces.
        let (column, cast) = match database.kind {
            Kind::Postgres => ("replace(answer::text, ': ', ':')", "::json"),
            Kind::Sqlite | Kind::MariaDb => ("answer", ""),
        };
        let update = "UPDATE requests SET answer";
        database.execute(&format!("{update} = (replace({column}, '{from}', '{to}')){cast}")).await;
        assert_eq!(app.update(request.clone()).await.unwrap(), first, "{to}");
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn call_is_answered(app: &TestApp, text: &str) {
    until(text, || async { app.call("admin", "3", "").await.body.contains(text) }).await;
}

async fn unknown_settings_change_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for (name, value) in [("later", "maybe"), ("hash_recipes", "sha256 u,user_id")] {
        let insert = "INSERT INTO settings (name, value) VALUES";
        database.execute(&format!("{insert} ('{name}', '{value}')")).await;
    }
    let other = TestApp::start(&database).await;
    call_is_answered(&other, "success").await;
    // A change of other settings keeps unknown values.
    crate::settings::set(&app, None, Some(true)).await;
    let recipes = "SELECT value FROM settings WHERE name = 'hash_recipes'";
    assert_eq!(database.text(recipes).await, "sha256 u,user_id");
    // Without a known recipe, no hash is valid.
    database.execute("UPDATE settings SET value = 'sha256' WHERE name = 'hash_recipes'").await;
    call_is_answered(&other, "Incorrect hash").await;
}

async fn an_unknown_switch_is_off(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    database.execute("INSERT INTO settings (name, value) VALUES ('allow_api', 'maybe')").await;
    call_is_answered(&app, "API Requests are disabled").await;
}

async fn known_scopes_hold_beside_unknown_ones(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let store = SqlStore::new(database.options()).unwrap();
    store.attach();
    let mut texts = Vec::new();
    for byte in 0..2 {
        let (name, scopes) = ("crm".to_owned(), [Scope::Read].into_iter().collect());
        let (random, now) = ([byte; RANDOM_BYTES], SystemClock.now());
        let (text, token) = ServiceToken::new(random, name, scopes, None, now, None);
        store.create_token(&Administrator::default(), token).await.unwrap();
        texts.push(text.expose_secret().to_owned());
    }
    let broken = ServiceToken::id_of(&texts[1]).unwrap();
    let broken = format!("UPDATE service_tokens SET token_hash = 'x' WHERE id = '{broken}'");
    database.execute(&broken).await;
    database.execute("UPDATE service_tokens SET scopes = 'later read', fields = 'later.x'").await;
    // Another replica, which has not read the tokens yet.
    let other = TestApp::start(&database).await;
    until("the token is known", || async { read(&other, &texts[0], "admin").await.is_ok() }).await;
    let refused = other.users().update_user_details(with(&texts[0], set_city(3, "Bonn"))).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = read(&other, &texts[1], "admin").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(store.tokens().await.unwrap().len(), 1);
    store.close().await;
    drop(app);
}

async fn a_value_of_another_type_harms_no_other_row(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut watch = Watch::start(&app, WatchUserDetailsRequest::default()).await.unwrap();
    let bad_row = "UPDATE accounts SET call_limit = 'many' WHERE id = 4";
    database.execute_without_triggers(bad_row).await;
    assert_eq!(listed(&app, "", 1).await, [vec![3, 5], vec![4]]);
    log(&database, 2, "grpc", "no JSON").await;
    log(&database, 3, "grpc", "[]").await;
    database
        .execute("PRAGMA foreign_keys = OFF; UPDATE change_log SET user_id = 'x' WHERE id = 2")
        .await;
    app.update(set_city(3, "Bonn")).await.unwrap();
    let entries = changes(&app).await;
    let ids: Vec<_> = entries.iter().map(|entry| entry.change_id).collect();
    assert_eq!(ids, [1, 3]);
    for entry in &entries {
        assert_eq!(&watch.change().await.unwrap(), entry);
    }
}
