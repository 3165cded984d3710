//! Client keys of legacy calls, and the administration log.

use std::{sync::Arc, time::Duration};

use ::http::{Method, StatusCode};
use m4_user_details::{
    app::Environment,
    domain::{
        administration::Administrator, call_context::CallContext, clock::SystemClock,
        legacy_access::ClientKeys, master_key::MasterKeys,
    },
    proto::{
        AdministrationEntry, CreateLegacyKeyRequest, ExplainLegacyCallRequest, HashRecipe,
        LegacyCheck, LegacyClient, LegacyKey, ListAdministrationLogRequest,
        ListLegacyClientsRequest, ListLegacyKeysRequest, ListUserDetailsChangesRequest,
        RevokeLegacyKeysRequest, RotateLegacyKeyRequest, Settings, UpdateSettingsRequest,
    },
    secrets::Secrets,
    storage::SqlStore,
};
use prost_types::Timestamp;
use sha1::{Digest, Sha1};
use tempfile::NamedTempFile;
use tonic::Code;

use crate::support::{
    app::{Answer, PATH, TestApp, config, reason, target},
    database::TestDatabase,
    on_every_engine, until,
};

on_every_engine!(
    a_key_is_bound_to_what_its_client_needs,
    a_key_ends_on_every_replica,
    keys_are_listed_rotated_and_revoked_without_their_secrets,
    keys_need_a_master_key,
    keys_are_sealed_again_with_a_new_master_key,
    many_keys_are_told_apart,
    who_administers_is_logged,
    clients_are_counted_on_every_replica,
    a_key_in_the_wrong_hands_is_in_the_report,
    usernames_without_an_account_are_counted_together,
);

const MASTER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW_MASTER: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const DENIED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<status>\n  \
                      <error>Access Denied</error>\n</status>\n";

/// A file of master keys.
fn masters(lines: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

async fn start(database: &TestDatabase, masters: &NamedTempFile) -> TestApp {
    let path = masters.path().to_str().unwrap();
    TestApp::start_with(database, &[("api.master_key_file", path)]).await
}

async fn create(app: &TestApp, key: LegacyKey) -> String {
    let request = CreateLegacyKeyRequest { key: Some(key), acting_username: "admin".to_owned() };
    app.legacy().create_legacy_key(request).await.unwrap().into_inner().secret
}

fn named(name: &str) -> LegacyKey {
    LegacyKey { name: name.to_owned(), ..LegacyKey::default() }
}

/// The target of a call whose hash is made of `hashed` and a secret.
fn call(username: &str, hashed: &str, secret: &str, parameters: &str) -> String {
    let hash = hex::encode(Sha1::digest(format!("{hashed}{secret}")));
    format!("{PATH}?u={username}&user_id=3&hash={hash}&{parameters}")
}

async fn post(app: &TestApp, target: &str) -> Answer {
    app.send(Method::POST, target, &[], "").await
}

async fn explain(app: &TestApp, url: String, address: &str) -> (LegacyCheck, String, String) {
    let request = ExplainLegacyCallRequest {
        url,
        address: address.to_owned(),
        acting_username: "admin".to_owned(),
        ..ExplainLegacyCallRequest::default()
    };
    let explained = app.legacy().explain_legacy_call(request).await.unwrap().into_inner();
    let key = explained.hash.clone().unwrap().key;
    (explained.check(), explained.explanation, key)
}

async fn log(app: &TestApp) -> Vec<AdministrationEntry> {
    let request = ListAdministrationLogRequest {
        acting_username: "admin".to_owned(),
        ..ListAdministrationLogRequest::default()
    };
    app.administration().list_administration_log(request).await.unwrap().into_inner().entries
}

async fn a_key_is_bound_to_what_its_client_needs(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let app = start(&database, &masters).await;
    let crm = create(
        &app,
        LegacyKey {
            username: Some("admin".to_owned()),
            networks: vec!["127.0.0.0/8".to_owned()],
            fields: vec!["address".to_owned()],
            ..named("crm")
        },
    );
    let crm = &*crm.await;
    let answer = post(&app, &call("admin", "admin3", crm, "city=Kaunas")).await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
    // The configured key works as before.
    assert!(app.call("admin", "3", "city=Vilnius").await.body.contains("successfully"));
    let listed = ListUserDetailsChangesRequest {
        acting_username: "admin".to_owned(),
        ..ListUserDetailsChangesRequest::default()
    };
    let changes = app.users().list_user_details_changes(listed).await.unwrap().into_inner().changes;
    let identities: Vec<_> = changes.iter().map(|change| change.identity.as_str()).collect();
    assert_eq!(identities, ["crm", "default"]);

    // Row 3a comes after row 3 and before row 4: another `u`, another field, also with a value that no
    // typed field can hold.
    let before = app.read(3).await;
    for (username, hashed, parameters, why) in [
        ("manager", "manager3", "city=Trakai", "another `u`"),
        ("nobody", "nobody3", "city=Trakai", "another `u`"),
        ("admin", "admin3", "hidden=1", "`general.hidden`"),
        ("admin", "admin3", "hidden=7", "`general.hidden`"),
        (
            "admin",
            "admin3",
            "city=Trakai&warning_email_hour=0",
            "`warning_balance.warning_email_hour`",
        ),
    ] {
        let target = call(username, hashed, crm, parameters);
        let answer = post(&app, &target).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, DENIED), "{parameters}");
        let (check, explanation, key) = explain(&app, target, "127.0.0.1").await;
        assert_eq!((check, key.as_str()), (LegacyCheck::KeyNotAllowed, "crm"), "{explanation}");
        assert!(explanation.contains(why), "{explanation}");
    }
    let target = call("admin", "admin3", crm, "city=Trakai");
    let (check, explanation, _) = explain(&app, target.clone(), "10.0.0.1").await;
    assert_eq!(check, LegacyCheck::KeyNotAllowed);
    assert!(explanation.contains("address"), "{explanation}");
    assert_eq!(explain(&app, target, "127.0.0.1").await.0, LegacyCheck::Passed);
    let wrong = post(&app, &call("admin", "admin4", crm, "hidden=1")).await;
    assert!(wrong.body.contains("Incorrect hash"));
    assert_eq!(app.read(3).await, before);

    // Its own recipes replace the recipes of the settings.
    let old = LegacyKey { recipes: vec![HashRecipe::UserId as i32], ..named("old") };
    let old = &*create(&app, old).await;
    assert!(
        post(&app, &call("admin", "3", old, "city=Trakai")).await.body.contains("successfully")
    );
    let documented = post(&app, &call("admin", "admin3", old, "city=Kaunas")).await;
    assert!(documented.body.contains("Incorrect hash"));
    let (check, _, key) = explain(&app, call("admin", "admin3", old, ""), "").await;
    assert_eq!((check, key.as_str()), (LegacyCheck::IncorrectHash, "old"));
}

async fn a_key_ends_on_every_replica(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let (one, other) = (start(&database, &masters).await, start(&database, &masters).await);
    let secret = &*create(&one, named("crm")).await;
    let is_accepted = async |app: &TestApp| {
        post(app, &call("admin", "admin3", secret, "city=Kaunas"))
            .await
            .body
            .contains("successfully")
    };
    assert!(is_accepted(&one).await);
    until("the other replica accepts the key", || is_accepted(&other)).await;
    let request = RevokeLegacyKeysRequest {
        key_id_or_name: "crm".to_owned(),
        acting_username: "admin".to_owned(),
    };
    let revoked = other.legacy().revoke_legacy_keys(request.clone()).await.unwrap().into_inner();
    assert_eq!(revoked.revoked, 1);
    assert!(!is_accepted(&other).await);
    until("the first replica refuses the key", async || !is_accepted(&one).await).await;
    let status = other.legacy().revoke_legacy_keys(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "KEY_NOT_FOUND"));
}

async fn keys_are_listed_rotated_and_revoked_without_their_secrets(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let app = start(&database, &masters).await;
    let bound = LegacyKey {
        username: Some("admin".to_owned()),
        networks: vec!["10.0.0.1/8".to_owned(), "127.0.0.1".to_owned()],
        fields: vec!["address".to_owned(), "general.hidden".to_owned()],
        recipes: vec![HashRecipe::UUserId as i32, HashRecipe::UserId as i32],
        ..named("crm")
    };
    let first = create(&app, bound.clone()).await;
    let rotate = RotateLegacyKeyRequest {
        key_id_or_name: "crm".to_owned(),
        acting_username: "admin".to_owned(),
    };
    let rotated = app.legacy().rotate_legacy_key(rotate.clone()).await.unwrap().into_inner();
    assert_ne!(rotated.secret, first);
    for secret in [&first, &rotated.secret] {
        let answer = post(&app, &call("admin", "admin3", secret, "city=Kaunas")).await;
        assert!(answer.body.contains("successfully"));
    }
    let mut request = ListLegacyKeysRequest {
        page_size: 1,
        acting_username: "admin".to_owned(),
        ..ListLegacyKeysRequest::default()
    };
    let mut keys = Vec::new();
    loop {
        let page = app.legacy().list_legacy_keys(request.clone()).await.unwrap().into_inner();
        keys.extend(page.keys);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert_eq!(
            (key.name.as_str(), key.networks.as_slice()),
            ("crm", ["10.0.0.0/8".to_owned(), "127.0.0.1/32".to_owned()].as_slice(),)
        );
        assert_eq!((&key.fields, &key.recipes), (&bound.fields, &bound.recipes));
        assert_eq!((key.revoke_time, key.expire_time), (None, None));
    }
    let revoke = RevokeLegacyKeysRequest {
        key_id_or_name: keys[0].key_id.clone(),
        acting_username: "admin".to_owned(),
    };
    app.legacy().revoke_legacy_keys(revoke).await.unwrap();
    let refused = post(&app, &call("admin", "admin3", &first, "city=Trakai")).await;
    assert!(refused.body.contains("Incorrect hash"));
    let answer = post(&app, &call("admin", "admin3", &rotated.secret, "city=Trakai")).await;
    assert!(answer.body.contains("successfully"));
    for name in ["alice", "manager"] {
        let rotate = RotateLegacyKeyRequest { acting_username: name.to_owned(), ..rotate.clone() };
        let status = app.legacy().rotate_legacy_key(rotate).await.unwrap_err();
        assert_eq!(reason(&status), "ACCESS_DENIED");
    }
    for key in [
        named(""),
        named("x\ny"),
        named("default"),
        LegacyKey { username: Some(String::new()), ..named("x") },
        LegacyKey { username: Some("x".repeat(256)), ..named("x") },
        LegacyKey { fields: vec!["*".to_owned()], ..named("x") },
        LegacyKey { expire_time: Some(Timestamp { seconds: 1, nanos: 0 }), ..named("x") },
        LegacyKey { fields: vec!["nothing".to_owned()], ..named("x") },
        LegacyKey { networks: vec!["somewhere".to_owned()], ..named("x") },
        LegacyKey { recipes: vec![7], ..named("x") },
    ] {
        let request =
            CreateLegacyKeyRequest { key: Some(key), acting_username: "admin".to_owned() };
        let status = app.legacy().create_legacy_key(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
    }
    let sealed = database.text("SELECT MIN(sealed_secret) FROM legacy_keys").await;
    assert!(!sealed.contains(&first) && !sealed.contains(&rotated.secret));
}

async fn keys_need_a_master_key(database: TestDatabase) {
    let with = masters(&[MASTER]);
    let app = start(&database, &with).await;
    let secret = create(&app, named("crm")).await;
    let target = call("admin", "admin3", &secret, "city=Kaunas");
    app.stop().await.unwrap();
    for keys in [None, Some(masters(&[NEW_MASTER]))] {
        let path = keys.as_ref().map(|file| file.path().to_str().unwrap());
        let keys: Vec<_> = path.iter().map(|path| ("api.master_key_file", *path)).collect();
        let app = TestApp::start_with(&database, &keys).await;
        assert!(post(&app, &target).await.body.contains("Incorrect hash"));
        assert!(app.call("admin", "3", "city=Vilnius").await.body.contains("successfully"));
        if keys.is_empty() {
            let key = Some(named("other"));
            let request = CreateLegacyKeyRequest { key, acting_username: "admin".to_owned() };
            let status = app.legacy().create_legacy_key(request).await.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(reason(&status), "PRECONDITION_FAILED");
            assert!(status.message().contains("api.master_key_file"), "{status:?}");
        }
        app.stop().await.unwrap();
    }
}

async fn keys_are_sealed_again_with_a_new_master_key(database: TestDatabase) {
    let file = masters(&[MASTER]);
    let app = start(&database, &file).await;
    let secret = create(&app, named("crm")).await;
    let target = call("admin", "admin3", &secret, "city=Kaunas");
    app.stop().await.unwrap();
    let options = config(&database.url, &[]).database;
    let store = SqlStore::open_existing(options).await.unwrap();
    let keys = |lines: &[&str]| ClientKeys {
        store: Arc::new(store.clone()),
        masters: MasterKeys(Secrets::new(lines.iter().map(|line| (*line).into()))),
    };
    let (call, by) = (CallContext::default(), Administrator::default());
    assert!(keys(&[NEW_MASTER]).reseal(&call, &by, &SystemClock).await.is_err());
    let both = keys(&[NEW_MASTER, MASTER]);
    assert_eq!(both.reseal(&call, &by, &SystemClock).await.unwrap(), 1);
    assert_eq!(both.reseal(&call, &by, &SystemClock).await.unwrap(), 0);
    store.close().await;
    let file = masters(&[NEW_MASTER]);
    let app = start(&database, &file).await;
    assert!(post(&app, &target).await.body.contains("successfully"));
}

async fn many_keys_are_told_apart(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let app = start(&database, &masters).await;
    let mut secrets = Vec::new();
    for number in 0..20 {
        secrets.push(create(&app, named(&format!("client {number}"))).await);
    }
    // The second round finds each key by its hint, or by that of another client.
    for round in 0..2 {
        for number in 0..2 {
            let answer = app.call("admin", "3", &format!("city=Round{round}{number}")).await;
            assert!(answer.body.contains("successfully"), "{answer:?}");
        }
        for (number, secret) in secrets.iter().enumerate() {
            let (check, _, key) = explain(&app, call("admin", "admin3", secret, ""), "").await;
            assert_eq!((check, key), (LegacyCheck::Passed, format!("client {number}")));
            let target = call("admin", "admin3", secret, &format!("city=City {number}"));
            let answer = post(&app, &target.replace(' ', "%20")).await;
            assert!(answer.body.contains("successfully"), "{number}");
        }
    }
    let logged = database.number("SELECT COUNT(DISTINCT identity) FROM change_log").await;
    assert_eq!(logged, 21);
}

/// Starts a replica that writes its counts often.
async fn counting(database: &TestDatabase, masters: &NamedTempFile) -> TestApp {
    let keys = [("api.master_key_file", masters.path().to_str().unwrap())];
    let clients_interval = Duration::from_millis(20);
    let environment = Environment { clients_interval, ..Environment::default() };
    TestApp::start_in(database, &keys, environment).await
}

async fn clients(app: &TestApp) -> Vec<LegacyClient> {
    let mut request = ListLegacyClientsRequest {
        page_size: 1,
        acting_username: "admin".to_owned(),
        ..ListLegacyClientsRequest::default()
    };
    let mut clients = Vec::new();
    loop {
        let page = app.legacy().list_legacy_clients(request.clone()).await.unwrap().into_inner();
        clients.extend(page.clients);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return clients;
        }
    }
}

async fn clients_are_counted_on_every_replica(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let one = counting(&database, &masters).await;
    let other = counting(&database, &masters).await;
    let secret = &*create(&one, named("crm")).await;
    until("the other replica accepts the key", async || {
        let target = call("admin", "admin3", secret, "city=Kaunas");
        post(&other, &target).await.body.contains("successfully")
    })
    .await;
    for app in [&one, &other] {
        for parameters in ["hidden=1", "hidden=7", "city=Trakai"] {
            post(app, &call("admin", "admin3", secret, parameters)).await;
            app.call("admin", "3", parameters).await;
        }
        for wrong in ["admin", "nobody"] {
            app.send(Method::POST, &format!("{PATH}?u={wrong}&user_id=3&hash=0"), &[], "").await;
        }
    }
    until("all calls are counted", async || {
        let clients = clients(&one).await;
        let failed: i64 = clients.iter().map(|client| client.failed_hashes).sum();
        clients.iter().filter(|client| client.calls >= 6).count() == 2 && failed >= 4
    })
    .await;
    let mut clients = clients(&other).await;
    clients.sort_by(|one, other| one.key.cmp(&other.key));
    let [crm, default] = &clients[..] else { panic!("{clients:?}") };
    assert_eq!((crm.key.as_str(), default.key.as_str()), ("crm", "default"));
    for client in &clients {
        assert_eq!((client.network.as_str(), client.username.as_str()), ("127.0.0.1", "admin"));
        assert_eq!((client.gets, client.recipe.as_str()), (0, "u,user_id"));
        // Of each replica: the other username is no client.
        assert!(client.failed_hashes >= 2);
        assert_eq!(client.fields, ["address.city", "general.hidden"]);
        assert!(client.first_time.unwrap().seconds <= client.last_time.unwrap().seconds);
        // The call with a value that no typed field can hold.
        assert_eq!(client.refused, 2);
    }
    assert_eq!(default.calls, 6);

    // What was counted is written when the service stops.
    one.call("admin", "3", "city=Vilnius").await;
    one.stop().await.unwrap();
    let calls = "SELECT CAST(SUM(calls) AS CHAR(9)) FROM legacy_clients WHERE key_name = 'default'";
    assert_eq!(database.text(calls).await.trim(), "7");
    let request = ListLegacyClientsRequest {
        acting_username: "manager".to_owned(),
        ..ListLegacyClientsRequest::default()
    };
    let status = other.legacy().list_legacy_clients(request).await.unwrap_err();
    assert_eq!(reason(&status), "ACCESS_DENIED");
}

/// A client can send any number of usernames.
async fn usernames_without_an_account_are_counted_together(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let app = counting(&database, &masters).await;
    for username in ["nobody", "nemo", "anyone"] {
        let answer = app.call(username, "3", "city=Trakai").await;
        assert!(answer.body.contains("<error>"), "{answer:?}");
    }
    until("the calls are counted", async || {
        clients(&app).await.iter().map(|client| client.calls).sum::<i64>() == 3
    })
    .await;
    let counted = clients(&app).await;
    let [counted] = &counted[..] else { panic!("{counted:?}") };
    assert_eq!((counted.username.as_str(), counted.refused), ("", 3));
}

async fn a_key_in_the_wrong_hands_is_in_the_report(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let app = counting(&database, &masters).await;
    let bound = LegacyKey {
        username: Some("admin".to_owned()),
        networks: vec!["10.0.0.0/8".to_owned()],
        ..named("crm")
    };
    let secret = create(&app, bound).await;
    let answer = post(&app, &call("admin", "admin3", &secret, "city=Kaunas")).await;
    assert_eq!(answer.body, DENIED);
    until("the call is counted", async || !clients(&app).await.is_empty()).await;
    let counted = &clients(&app).await[0];
    assert_eq!((counted.key.as_str(), counted.network.as_str()), ("crm", "127.0.0.1"));
    assert_eq!((counted.calls, counted.refused), (1, 1));
}

async fn who_administers_is_logged(database: TestDatabase) {
    let masters = masters(&[MASTER]);
    let app = start(&database, &masters).await;
    let settings = Settings {
        allow_get_api: Some(true),
        allowed_networks: vec!["127.0.0.1".to_owned()],
        ..Settings::default()
    };
    let request = UpdateSettingsRequest {
        settings: Some(settings),
        acting_username: "admin".to_owned(),
        ..UpdateSettingsRequest::default()
    };
    // The second one changes nothing.
    for _ in 0..2 {
        app.settings().update_settings(request.clone()).await.unwrap();
    }
    let secret = create(&app, named("crm")).await;
    let explain = ExplainLegacyCallRequest {
        url: target("admin", "3", ""),
        include_hash: true,
        acting_username: "admin".to_owned(),
        ..ExplainLegacyCallRequest::default()
    };
    app.legacy().explain_legacy_call(explain).await.unwrap();
    let entries = log(&app).await;
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            (entry.object.as_str(), value(&entry.old_value), value(&entry.new_value))
        })
        .collect();
    let expected = [
        ("legacy_hash", "-", "-"),
        ("legacy_key", "-", "name=crm"),
        ("setting", "-", "on"),
        ("setting", "off", "on"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, (object, old, new)) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1.as_str(), found.2.as_str()), (object, old, new));
    }
    assert_eq!(entries[0].name, "u=\"admin\" user_id=\"3\"");
    assert_eq!(entries[2].name, "allowed_network 127.0.0.1/32");
    assert_eq!(entries[3].name, "allow_get_api");
    for entry in &entries {
        assert_eq!(
            (entry.acting_username.as_str(), entry.address.as_str()),
            ("admin", "127.0.0.1")
        );
        assert!(!format!("{entry:?}").contains(&secret));
    }
    let mut request = ListAdministrationLogRequest {
        page_size: 3,
        acting_username: "admin".to_owned(),
        ..ListAdministrationLogRequest::default()
    };
    let page = app.administration().list_administration_log(request.clone()).await.unwrap();
    request.page_token = page.into_inner().next_page_token;
    let page = app.administration().list_administration_log(request.clone()).await.unwrap();
    assert_eq!(page.into_inner().entries, entries[3..]);
    request.acting_username = "manager".to_owned();
    request.page_token.clear();
    let status = app.administration().list_administration_log(request).await.unwrap_err();
    assert_eq!(reason(&status), "ACCESS_DENIED");
}
