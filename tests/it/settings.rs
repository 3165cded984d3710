//! The switches of the legacy call.

use ::http::{Method, StatusCode};
use m4_user_details::proto::{
    ExplainLegacyCallRequest, GetSettingsRequest, HashRecipe, LegacyCheck, Settings,
    UpdateSettingsRequest,
};
use prost_types::FieldMask;
use tonic::Code;

use crate::support::{
    app::{PATH, TestApp, hash, reason, target, violations},
    database::TestDatabase,
    on_every_engine,
};

on_every_engine!(
    only_admins_change_settings,
    a_mask_says_which_settings_change,
    a_second_recipe_can_be_switched_on,
    only_allowed_networks_reach_the_call,
    networks_are_stored_in_their_short_form,
);

/// Changes switches as admin.
pub async fn set(app: &TestApp, allow_api: Option<bool>, allow_get_api: Option<bool>) {
    let settings = Settings { allow_api, allow_get_api, ..Settings::default() };
    update(app, settings, &[], "admin").await.unwrap();
}

/// Changes settings as an account.
pub async fn update(
    app: &TestApp,
    settings: Settings,
    mask: &[&str],
    acting_username: &str,
) -> Result<Settings, tonic::Status> {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateSettingsRequest {
        settings: Some(settings),
        update_mask: Some(FieldMask { paths }),
        acting_username: acting_username.to_owned(),
    };
    let answer = app.settings().update_settings(request).await?;
    Ok(answer.into_inner().settings.unwrap())
}

/// Reads the settings as an account.
pub async fn get(app: &TestApp, acting_username: &str) -> Result<Settings, tonic::Status> {
    let request = GetSettingsRequest { acting_username: acting_username.to_owned() };
    let answer = app.settings().get_settings(request).await?;
    Ok(answer.into_inner().settings.unwrap())
}

async fn only_admins_change_settings(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for username in ["manager", "auditor", "locked", "alice", "nobody"] {
        let change = Settings { allow_api: Some(false), ..Settings::default() };
        for status in [
            get(&app, username).await.unwrap_err(),
            update(&app, change, &[], username).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::PermissionDenied);
            assert_eq!(reason(&status), "ACCESS_DENIED");
        }
    }
    let settings = get(&app, "admin").await.unwrap();
    assert_eq!((settings.allow_api, settings.allow_get_api), (Some(true), Some(false)));
    assert_eq!(settings.hash_recipes, [HashRecipe::UUserId as i32]);
}

async fn a_mask_says_which_settings_change(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let both =
        Settings { allow_api: Some(false), allow_get_api: Some(true), ..Settings::default() };
    let stored = update(&app, both.clone(), &["allow_get_api"], "admin").await.unwrap();
    assert_eq!((stored.allow_api, stored.allow_get_api), (Some(true), Some(true)));
    let stored = update(&app, both, &[], "admin").await.unwrap();
    assert_eq!((stored.allow_api, stored.allow_get_api), (Some(false), Some(true)));
    let stored = update(&app, Settings::default(), &["*"], "admin").await.unwrap();
    assert_eq!((stored.allow_api, stored.allow_get_api), (Some(true), Some(false)));
    let status = update(&app, Settings::default(), &["no_such"], "admin").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_REQUEST")
    );
    let unknown = Settings { hash_recipes: vec![99], ..Settings::default() };
    let status = update(&app, unknown, &[], "admin").await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
}

async fn a_second_recipe_can_be_switched_on(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let old = format!("{PATH}?u=admin&user_id=3&hidden=1&hash={}", hash("", "3"));
    let post = || app.send(::http::Method::POST, &old, &[], "");
    assert!(post().await.body.contains("Incorrect hash"));
    let recipes = vec![HashRecipe::UUserId as i32, HashRecipe::UserId as i32];
    let settings = Settings { hash_recipes: recipes, ..Settings::default() };
    update(&app, settings, &[], "admin").await.unwrap();
    assert!(post().await.body.contains("User was updated successfully"));
    assert!(app.call("admin", "3", "hidden=0").await.body.contains("successfully"));
    update(&app, Settings::default(), &["hash_recipes"], "admin").await.unwrap();
    assert!(post().await.body.contains("Incorrect hash"));
}

fn networks(networks: &[&str]) -> Settings {
    let allowed_networks = networks.iter().map(|network| (*network).to_owned()).collect();
    Settings { allowed_networks, ..Settings::default() }
}

async fn only_allowed_networks_reach_the_call(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let denied = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<status>\n  \
                  <error>Access Denied</error>\n</status>\n";
    update(&app, networks(&["10.0.0.0/8"]), &[], "admin").await.unwrap();
    let answer = app.call("admin", "3", "city=Kaunas").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, denied));
    // Row 0 comes before rows 1 to 3.
    set(&app, Some(false), Some(false)).await;
    let wrong = format!("{PATH}?u=admin&user_id=3&hash=0");
    assert_eq!(app.send(Method::GET, &wrong, &[], "").await.body, denied);
    set(&app, Some(true), None).await;
    assert_eq!(app.send(Method::POST, &wrong, &[], "").await.body, denied);
    let explain = async |address: &str| {
        let request = ExplainLegacyCallRequest {
            url: target("admin", "3", "city=Kaunas"),
            address: address.to_owned(),
            acting_username: "admin".to_owned(),
            ..ExplainLegacyCallRequest::default()
        };
        let explained = app.legacy().explain_legacy_call(request).await.unwrap().into_inner();
        (explained.check(), explained.xml)
    };
    for address in ["", "127.0.0.1", "2001:db8::1"] {
        let expected = (LegacyCheck::AddressNotAllowed, denied.to_owned());
        assert_eq!(explain(address).await, expected, "{address:?}");
    }
    for address in ["10.1.2.3", "::ffff:10.1.2.3"] {
        assert_eq!(explain(address).await.0, LegacyCheck::Passed, "{address}");
    }
    update(&app, networks(&["10.0.0.0/8", "127.0.0.1"]), &[], "admin").await.unwrap();
    assert!(app.call("admin", "3", "city=Kaunas").await.body.contains("successfully"));
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
    update(&app, networks(&["10.0.0.0/8"]), &[], "admin").await.unwrap();
    update(&app, Settings::default(), &["allowed_networks"], "admin").await.unwrap();
    assert!(app.call("admin", "3", "city=Vilnius").await.body.contains("successfully"));
}

async fn networks_are_stored_in_their_short_form(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let stored = async || {
        let mut networks = get(&app, "admin").await.unwrap().allowed_networks;
        networks.sort();
        networks
    };
    let many: Vec<_> = (0..256).map(|number| format!("10.0.{number}.0/24")).collect();
    let all: Vec<_> = many.iter().map(String::as_str).collect();
    update(&app, networks(&all), &[], "admin").await.unwrap();
    assert_eq!(stored().await.len(), 256);
    let given = ["192.0.2.9/24", "192.0.2.0/24", "2001:db8::7", "::ffff:198.51.100.0/120"];
    update(&app, networks(&given), &["allowed_networks"], "admin").await.unwrap();
    let short = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::7/128"];
    assert_eq!(stored().await, short);
    // An empty list without a path changes nothing.
    set(&app, Some(true), None).await;
    assert_eq!(stored().await, short);
    for wrong in ["10.0.0.0/33", "crm.internal", "", "*"] {
        let status = update(&app, networks(&[wrong]), &[], "admin").await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST", "{wrong:?}");
        assert_eq!(violations(&status)[0].0, "settings.allowed_networks");
    }
    let too_many: Vec<_> = all.into_iter().chain(["192.0.2.1"]).collect();
    let status = update(&app, networks(&too_many), &[], "admin").await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
    assert_eq!(stored().await, short);
    // A newer version's network: nothing is let in.
    let row = "INSERT INTO settings (name, value) VALUES ('allowed_network eth0', 'on')";
    database.execute(row).await;
    let settings = get(&app, "admin").await.unwrap();
    assert_eq!((settings.allow_api, settings.allowed_networks.len()), (Some(false), 0));
}
