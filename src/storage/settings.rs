//! The table of settings: a row for each setting that differs from its default.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, sea_query::OnConflict};

use super::{sql::entities::setting, unknown};
use crate::domain::{hash::Recipe, settings::Settings};

const ALLOW_API: &str = "allow_api";
const ALLOW_GET_API: &str = "allow_get_api";
const HASH_RECIPES: &str = "hash_recipes";

/// Rows of the table that are not settings.
const MARKS: [&str; 1] = [super::demo::MARK];

/// Reads the settings. An unknown word allows nothing: it turns its switch off, and an unknown hash
/// recipe is skipped.
pub(super) async fn load<C: ConnectionTrait>(connection: &C) -> Result<Settings, DbErr> {
    let rows = setting::Entity::find().all(connection).await?;
    let rows: BTreeMap<String, String> =
        rows.into_iter().map(|row| (row.name, row.value)).collect();
    let default = Settings::default();
    let known = [ALLOW_API, ALLOW_GET_API, HASH_RECIPES];
    let is_known = |name: &str| known.contains(&name) || MARKS.contains(&name);
    let mut unknown = rows.keys().filter(|name| !is_known(name)).count();
    let mut flag = |name: &str, default: bool| match rows.get(name).map(String::as_str) {
        None => default,
        Some("on") => true,
        Some("off") => false,
        Some(_) => {
            unknown += 1;
            false
        }
    };
    let allow_api = flag(ALLOW_API, default.allow_api);
    let allow_get_api = flag(ALLOW_GET_API, default.allow_get_api);
    let hash_recipes = rows.get(HASH_RECIPES).map_or(default.hash_recipes, |names| {
        let recipes: Vec<_> = names.split(' ').map(Recipe::from_word).collect();
        unknown += recipes.iter().filter(|recipe| recipe.is_none()).count();
        recipes.into_iter().flatten().collect()
    });
    unknown::count("settings", unknown);
    Ok(Settings { allow_api, allow_get_api, hash_recipes })
}

/// Stores the settings that differ from `before`; at least one must differ.
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
