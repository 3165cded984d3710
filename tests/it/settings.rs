//! The switches of the legacy call.

use m4_user_details::proto::{GetSettingsRequest, HashRecipe, Settings, UpdateSettingsRequest};
use prost_types::FieldMask;
use tonic::Code;

use crate::support::{
    app::{PATH, TestApp, hash, reason},
    database::TestDatabase,
    on_every_engine,
};

on_every_engine!(
    only_admins_change_settings,
    a_mask_says_which_settings_change,
    a_second_recipe_can_be_switched_on,
);

/// Changes switches as admin.
pub async fn set(app: &TestApp, allow_api: Option<bool>, allow_get_api: Option<bool>) {
    let settings = Settings { allow_api, allow_get_api, hash_recipes: Vec::new() };
    update(app, settings, &[], "admin").await.unwrap();
}

async fn update(
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

async fn get(app: &TestApp, acting_username: &str) -> Result<Settings, tonic::Status> {
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
    let both = Settings { allow_api: Some(false), allow_get_api: Some(true), hash_recipes: vec![] };
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
