//! The table of settings: a row for each that is not at its default.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, sea_query::OnConflict};

use super::{asynchronous::entities::setting, failure::Corrupt};
use crate::domain::{error::Error, hash::Recipe, settings::Settings};

const ALLOW_API: &str = "allow_api";
const ALLOW_GET_API: &str = "allow_get_api";
const HASH_RECIPES: &str = "hash_recipes";

/// Reads the settings.
pub(super) async fn load<C: ConnectionTrait>(connection: &C) -> Result<Settings, Error> {
    let rows = setting::Entity::find().all(connection).await?;
    let rows: BTreeMap<String, String> =
        rows.into_iter().map(|row| (row.name, row.value)).collect();
    let default = Settings::default();
    let flag = |name: &'static str, default: bool| match rows.get(name).map(String::as_str) {
        None => Ok(default),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(_) => Err(Corrupt(name)),
    };
    let hash_recipes = match rows.get(HASH_RECIPES) {
        None => default.hash_recipes,
        Some(names) => {
            let recipes: Option<_> = names.split(' ').map(Recipe::from_word).collect();
            recipes.ok_or(Corrupt(HASH_RECIPES))?
        }
    };
    Ok(Settings {
        allow_api: flag(ALLOW_API, default.allow_api)?,
        allow_get_api: flag(ALLOW_GET_API, default.allow_get_api)?,
        hash_recipes,
    })
}

/// Stores the settings that differ from `before`, at least one.
pub(super) async fn save<C: ConnectionTrait>(
    connection: &C,
    before: &Settings,
    after: &Settings,
) -> Result<(), DbErr> {
    let before = words(before);
    let changed = words(after).into_iter().filter(|row| !before.contains(row));
    let rows: Vec<_> = changed
        .map(|(name, value)| setting::ActiveModel { name: Set(name.to_owned()), value: Set(value) })
        .collect();
    let replace =
        OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
    setting::Entity::insert_many(rows)
        .on_conflict(replace)
        .exec_without_returning(connection)
        .await?;
    Ok(())
}

/// The settings as rows.
fn words(settings: &Settings) -> [(&'static str, String); 3] {
    let word = |flag| if flag { "on" } else { "off" }.to_owned();
    let recipes: Vec<_> = settings.hash_recipes.iter().map(|recipe| recipe.as_str()).collect();
    [
        (ALLOW_API, word(settings.allow_api)),
        (ALLOW_GET_API, word(settings.allow_get_api)),
        (HASH_RECIPES, recipes.join(" ")),
    ]
}
