//! The table of settings: a row for each setting that differs from its default.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    sea_query::OnConflict,
};

use super::{sql::entities::setting, unknown};
use crate::{
    domain::{
        administration::{AdminChange, Object},
        hash::Recipe,
        settings::{HashLimits, Settings},
    },
    networks::Networks,
    retirement::{Brownouts, Retirement},
};

const ALLOW_API: &str = "allow_api";
const ALLOW_GET_API: &str = "allow_get_api";
const HASH_RECIPES: &str = "hash_recipes";
/// The beginning of the names of rows with a network each.
const ALLOWED_NETWORK: &str = "allowed_network ";
const DEPRECATION: &str = "deprecation";
const SUNSET: &str = "sunset";
const RETIREMENT_LINK: &str = "retirement_link";
/// The beginning of the names of rows with a window each.
const BROWNOUT: &str = "brownout ";
const PER_ADDRESS: &str = "failed_hashes_per_address";
const PER_USERNAME: &str = "failed_hashes_per_username";
const BLOCK_SECONDS: &str = "block_seconds";

/// Rows of the table that are not settings.
const MARKS: [&str; 2] = [super::demo::MARK, LOCK];
/// A row that each change writes first: concurrent changes run one after the other.
const LOCK: &str = "lock";

/// Reads the settings. An unknown word allows nothing: it turns its switch off, and an unknown hash
/// recipe is skipped. With an unreadable network or brownout, legacy calls are off. An unreadable
/// date or link is skipped, and an unreadable limit on wrong hashes is the default.
pub(super) async fn load<C: ConnectionTrait>(connection: &C) -> Result<Settings, DbErr> {
    let rows = setting::Entity::find().all(connection).await?;
    let rows: BTreeMap<String, String> =
        rows.into_iter().map(|row| (row.name, row.value)).collect();
    let default = Settings::default();
    let known = [
        ALLOW_API,
        ALLOW_GET_API,
        HASH_RECIPES,
        DEPRECATION,
        SUNSET,
        RETIREMENT_LINK,
        PER_ADDRESS,
        PER_USERNAME,
        BLOCK_SECONDS,
    ];
    let is_known = |name: &str| {
        known.contains(&name)
            || MARKS.contains(&name)
            || [ALLOWED_NETWORK, BROWNOUT].iter().any(|begin| name.starts_with(begin))
    };
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
    let mut allow_api = flag(ALLOW_API, default.allow_api);
    let allow_get_api = flag(ALLOW_GET_API, default.allow_get_api);
    let hash_recipes = rows.get(HASH_RECIPES).map_or(default.hash_recipes, |names| {
        let recipes: Vec<_> = names.split(' ').map(Recipe::from_word).collect();
        unknown += recipes.iter().filter(|recipe| recipe.is_none()).count();
        recipes.into_iter().flatten().collect()
    });
    let networks = rows.keys().filter_map(|name| name.strip_prefix(ALLOWED_NETWORK));
    let allowed_networks = Networks::of(networks).unwrap_or_else(|_| {
        // Without a network that this version does not know, others could be let in.
        allow_api = false;
        unknown += 1;
        Networks::default()
    });
    let windows = rows.keys().filter_map(|name| name.strip_prefix(BROWNOUT)).map(str::parse);
    let windows = windows.collect::<Result<_, _>>().and_then(Brownouts::of);
    let brownouts = windows.unwrap_or_else(|_| {
        // The present may be in a window that this version does not know.
        allow_api = false;
        unknown += 1;
        Brownouts::default()
    });
    let retirement = Retirement {
        deprecation: parsed(&rows, DEPRECATION, &mut unknown),
        sunset: parsed(&rows, SUNSET, &mut unknown),
        link: parsed(&rows, RETIREMENT_LINK, &mut unknown),
        brownouts,
    };
    let retirement = if retirement.ends_too_early() {
        unknown += 1;
        Retirement { sunset: None, ..retirement }
    } else {
        retirement
    };
    let limit = |number: &u32| HashLimits::is_limit(*number);
    let seconds = |number: &u32| HashLimits::is_block_seconds(*number);
    let limits = default.hash_limits;
    let hash_limits = HashLimits {
        per_address: parsed(&rows, PER_ADDRESS, &mut unknown)
            .filter(limit)
            .unwrap_or(limits.per_address),
        per_username: parsed(&rows, PER_USERNAME, &mut unknown)
            .filter(limit)
            .unwrap_or(limits.per_username),
        block_seconds: parsed(&rows, BLOCK_SECONDS, &mut unknown)
            .filter(seconds)
            .unwrap_or(limits.block_seconds),
    };
    unknown::count("settings", unknown);
    Ok(Settings {
        allow_api,
        allow_get_api,
        hash_recipes,
        allowed_networks,
        hash_limits,
        retirement,
    })
}

/// The value of a row; `None` if the row is missing or, counted in `unknown`, unreadable.
fn parsed<T: FromStr>(
    rows: &BTreeMap<String, String>,
    name: &str,
    unknown: &mut usize,
) -> Option<T> {
    let value = rows.get(name)?.parse().ok();
    *unknown += usize::from(value.is_none());
    value
}

/// Waits for other changes of the settings, until the end of the transaction.
pub(super) async fn lock<C: ConnectionTrait>(connection: &C) -> Result<(), DbErr> {
    let row = setting::ActiveModel { name: Set(LOCK.to_owned()), value: Set(String::new()) };
    upsert([row], connection).await
}

/// Stores the settings that differ from `before`; at least one must differ.
pub(super) async fn save<C: ConnectionTrait>(
    connection: &C,
    before: &Settings,
    after: &Settings,
) -> Result<(), DbErr> {
    let (before, after) = (words(before), words(after));
    let removed: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    if !removed.is_empty() {
        let delete = setting::Entity::delete_many();
        delete.filter(setting::Column::Name.is_in(removed)).exec(connection).await?;
    }
    let changed = after.into_iter().filter(|(name, value)| before.get(name) != Some(value));
    let rows: Vec<_> = changed
        .map(|(name, value)| setting::ActiveModel { name: Set(name), value: Set(value) })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    upsert(rows, connection).await
}

/// The log entries of a change: one for each row.
pub(super) fn changes(before: &Settings, after: &Settings) -> Vec<AdminChange> {
    let (before, after) = (words(before), words(after));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let change = |name: &String| AdminChange {
        object: Object::Setting,
        name: name.clone(),
        old: before.get(name).cloned(),
        new: after.get(name).cloned(),
    };
    changed.map(change).collect()
}

async fn upsert<C: ConnectionTrait>(
    rows: impl IntoIterator<Item = setting::ActiveModel>,
    connection: &C,
) -> Result<(), DbErr> {
    let replace =
        OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
    setting::Entity::insert_many(rows)
        .on_conflict(replace)
        .exec_without_returning(connection)
        .await?;
    Ok(())
}

/// The settings as rows: the values by name.
fn words(settings: &Settings) -> BTreeMap<String, String> {
    let word = |flag| if flag { "on" } else { "off" }.to_owned();
    let recipes: Vec<_> = settings.hash_recipes.iter().map(|recipe| recipe.as_str()).collect();
    let switches = [
        (ALLOW_API, word(settings.allow_api)),
        (ALLOW_GET_API, word(settings.allow_get_api)),
        (HASH_RECIPES, recipes.join(" ")),
        (PER_ADDRESS, settings.hash_limits.per_address.to_string()),
        (PER_USERNAME, settings.hash_limits.per_username.to_string()),
        (BLOCK_SECONDS, settings.hash_limits.block_seconds.to_string()),
    ];
    let switches = switches.map(|(name, value)| (name.to_owned(), value)).into_iter();
    let network = |network| (format!("{ALLOWED_NETWORK}{network}"), word(true));
    let networks = settings.allowed_networks.iter().map(network);
    let Retirement { deprecation, sunset, link, brownouts } = &settings.retirement;
    let texts = [
        (DEPRECATION, deprecation.map(|point| point.to_string())),
        (SUNSET, sunset.map(|point| point.to_string())),
        (RETIREMENT_LINK, link.as_ref().map(|link| link.as_str().to_owned())),
    ];
    let texts = texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let window = |window| (format!("{BROWNOUT}{window}"), word(true));
    switches.chain(networks).chain(texts).chain(brownouts.iter().map(window)).collect()
}
