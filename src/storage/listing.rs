//! Pages of users and of the change log. Each page is one statement that uses an index.

use std::{collections::BTreeSet, ops::RangeInclusive};

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, Order as Direction, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
    sea_query::{Expr, ExprTrait},
};

use super::{
    connect::Engine,
    sql::{
        entities::{account, change_log},
        statements::padded,
    },
};
use crate::domain::{
    account::AccountType,
    listing::{ChangeQuery, OrderKey, UserFilter, UserQuery},
    rules::Visibility,
    watch::Position,
};

/// Tolerated disorder between ids and times of the change log: clock skew of replicas, and the time
/// that a change spends in a queue.
const SKEW_MICROS: i64 = 3_600_000_000;

/// Selects a page of users.
pub(super) fn users(
    engine: Engine,
    query: &UserQuery,
    visibility: Visibility,
) -> Select<account::Entity> {
    let UserFilter {
        username_prefix,
        email,
        blocked,
        hidden,
        responsible_manager_id,
        updated_since,
    } = &query.filter;
    let flag = |column: account::Column, wanted: bool| {
        // Most users are neither blocked nor hidden: an index on the flag would sort nearly all
        // users. An expression bypasses that index. PostgreSQL decides by its statistics.
        let walk = !wanted && engine != Engine::Postgres && query.order.key != OrderKey::Id;
        if walk { Expr::col(column).add(0).eq(0) } else { column.eq(wanted) }
    };
    let mut condition = Condition::all()
        .add(account::Column::AccountType.eq(AccountType::User.as_str()))
        .add_option(email.as_ref().map(|email| exactly(engine, account::Column::Email, email)))
        .add_option(blocked.map(|blocked| flag(account::Column::Blocked, blocked)))
        .add_option(hidden.map(|hidden| flag(account::Column::Hidden, hidden)))
        .add_option(responsible_manager_id.map(|id| account::Column::ResponsibleManagerId.eq(id)));
    if let Visibility::AssignedTo(manager) = visibility {
        condition = condition.add(account::Column::ResponsibleManagerId.eq(manager));
    }
    if let Some(since) = updated_since {
        condition = condition.add(account::Column::UpdateTime.gte(since.timestamp_micros()));
    }
    if !username_prefix.is_empty() {
        condition = condition.add(account::Column::Username.gte(username_prefix));
        if engine == Engine::MySql {
            condition = condition.add(bytes(account::Column::Username).gte(username_prefix));
        }
        // Upper bound: the prefix followed by the highest character.
        let last = format!("{username_prefix}{}", char::MAX);
        condition = condition.add(account::Column::Username.lte(last));
    }
    let descending = query.order.descending;
    let key = match query.order.key {
        OrderKey::Id => None,
        OrderKey::Username => Some(account::Column::Username),
        OrderKey::UpdateTime => Some(account::Column::UpdateTime),
    };
    if let Some(after) = &query.after {
        let behind = |column: account::Column, value: sea_orm::Value| {
            let column = Expr::col(column);
            if descending { column.lt(value) } else { column.gt(value) }
        };
        let value: sea_orm::Value = match query.order.key {
            OrderKey::Username => after.username.clone().into(),
            OrderKey::Id | OrderKey::UpdateTime => after.update_time.into(),
        };
        let id = behind(account::Column::Id, after.id.into());
        condition = condition.add(match key {
            None => Condition::all().add(id),
            Some(account::Column::Username) => {
                Condition::all().add(behind(account::Column::Username, value))
            }
            // Uses the index to find the start of the page among equal keys. MariaDB cannot do so
            // with tuples, and the other engines cannot with OR.
            Some(key) if engine == Engine::MySql => Condition::any()
                .add(behind(key, value.clone()))
                .add(Condition::all().add(Expr::col(key).eq(value)).add(id)),
            Some(key) => {
                let own = Expr::tuple([Expr::col(key), Expr::col(account::Column::Id)]);
                let place = Expr::tuple([value.into(), after.id.into()]);
                Condition::all().add(if descending { own.lt(place) } else { own.gt(place) })
            }
        });
    }
    let direction = if descending { Direction::Desc } else { Direction::Asc };
    let mut select = account::Entity::find().filter(condition);
    if let Some(key) = key {
        select = select.order_by(key, direction.clone());
    }
    // Usernames are unique, and MariaDB would sort all users for a second order key.
    if query.order.key != OrderKey::Username {
        select = select.order_by(account::Column::Id, direction);
    }
    select.limit(query.limit)
}

/// Compares a text exactly.
fn exactly(engine: Engine, column: impl ColumnTrait, text: &str) -> Condition {
    let bytes = (engine == Engine::MySql).then(|| bytes(column).eq(text));
    Condition::all().add(column.eq(text)).add_option(bytes)
}

/// Casts a text to bytes: MariaDB ignores trailing spaces of text. Only text has an index.
fn bytes(column: impl ColumnTrait) -> Expr {
    Expr::col(column).cast_as("BINARY")
}

/// Selects the first or last entry id of a time span, widened by [`SKEW_MICROS`]. All entries of
/// the span lie between these ids, so an index on ids finds them.
pub(super) fn boundary(since: Option<i64>, until: Option<i64>) -> Select<change_log::Entity> {
    let time = change_log::Column::ChangeTime;
    let condition = Condition::all()
        .add_option(since.map(|since| time.gte(since.saturating_sub(SKEW_MICROS))))
        .add_option(until.map(|until| time.lt(until.saturating_add(SKEW_MICROS))));
    let direction = if since.is_some() { Direction::Asc } else { Direction::Desc };
    change_log::Entity::find()
        .select_only()
        .column(change_log::Column::Id)
        .filter(condition)
        .order_by(time, direction)
        .limit(1)
}

/// Selects the smallest id of the entries in the two minutes from a time.
pub(super) fn smallest_id(from: i64) -> Select<change_log::Entity> {
    const TWO_MINUTES: i64 = 120_000_000;
    let (id, time) = (change_log::Column::Id, change_log::Column::ChangeTime);
    change_log::Entity::find()
        .select_only()
        .column_as(id.min(), "id")
        .filter(time.gte(from))
        .filter(time.lt(from.saturating_add(TWO_MINUTES)))
}

/// Selects a page of entries with ids within `span`. A restricted manager sees the entries of users
/// that are assigned to it now.
pub(super) fn changes(
    engine: Engine,
    query: &ChangeQuery,
    visibility: Visibility,
    span: RangeInclusive<i64>,
) -> Select<change_log::Entity> {
    let filter = &query.filter;
    let (first, last) = span.into_inner();
    let (first, last) = match query.after {
        None => (first, last),
        Some(after) if query.descending => (first, Ord::min(last, after.saturating_sub(1))),
        Some(after) => (Ord::max(first, after.saturating_add(1)), last),
    };
    let time = change_log::Column::ChangeTime;
    let mut condition = Condition::all()
        .add(change_log::Column::Id.between(first, last))
        .add_option(filter.user_id.map(|id| change_log::Column::UserId.eq(id)))
        .add_option(filter.actor_id.map(|id| change_log::Column::ActorId.eq(id)))
        .add_option(
            filter.service.as_ref().map(|name| exactly(engine, change_log::Column::Service, name)),
        )
        .add_option(filter.since.map(|since| time.gte(since.timestamp_micros())))
        .add_option(filter.until.map(|until| time.lt(until.timestamp_micros())));
    if let Visibility::AssignedTo(manager) = visibility {
        let own = account::Entity::find()
            .select_only()
            .column(account::Column::Id)
            .filter(account::Column::ResponsibleManagerId.eq(manager))
            .into_query();
        condition = condition.add(change_log::Column::UserId.in_subquery(own));
    }
    let direction = if query.descending { Direction::Desc } else { Direction::Asc };
    change_log::Entity::find()
        .filter(condition)
        .order_by(change_log::Column::Id, direction)
        .limit(query.limit)
}

/// Ids per statement for a position with more than [`GAPS`] gaps.
const MOST_IDS: u64 = 100_000;

/// Maximum number of gaps in a position that a statement lists.
pub(super) const GAPS: usize = 500;

/// Selects the entries after a position, of one user or all.
pub(super) fn behind(
    position: &Position,
    user_id: Option<i64>,
    limit: u64,
) -> Select<change_log::Entity> {
    let id = change_log::Column::Id;
    let gap = |(first, last): &(i64, i64)| id.between(*first, *last);
    let unseen = padded(position.missing())
        .fold(Condition::any().add(id.gt(position.seen())), |unseen, range| unseen.add(gap(range)));
    change_log::Entity::find()
        // Lets the engine use the index.
        .filter(id.gt(position.contiguous_up_to()))
        .filter(unseen)
        .filter(
            Condition::all()
                .add_option(user_id.map(|user_id| change_log::Column::UserId.eq(user_id))),
        )
        .order_by_asc(id)
        .limit(limit)
}

/// Selects the ids of entries after `floor`, up to which a position has no gaps.
pub(super) fn ids_behind(floor: i64, user_id: Option<i64>) -> Select<change_log::Entity> {
    let user = change_log::Column::UserId;
    change_log::Entity::find()
        .select_only()
        .column(change_log::Column::Id)
        .filter(change_log::Column::Id.gt(floor))
        .filter(Condition::all().add_option(user_id.map(|user_id| user.eq(user_id))))
        .order_by_asc(change_log::Column::Id)
        .limit(MOST_IDS)
}

/// Selects entries by id.
pub(super) fn of_ids(ids: impl IntoIterator<Item = i64>) -> Select<change_log::Entity> {
    let id = change_log::Column::Id;
    change_log::Entity::find().filter(id.is_in(ids)).order_by_asc(id)
}

/// Selects the time of an entry.
pub(super) fn time(id: i64) -> Select<change_log::Entity> {
    change_log::Entity::find_by_id(id).select_only().column(change_log::Column::ChangeTime)
}

/// Selects the ids of the newest entries, newest first.
pub(super) fn newest(limit: u64) -> Select<change_log::Entity> {
    change_log::Entity::find()
        .select_only()
        .column(change_log::Column::Id)
        .order_by_desc(change_log::Column::Id)
        .limit(limit)
}

/// Selects the id of the oldest entry.
pub(super) fn oldest() -> Select<change_log::Entity> {
    change_log::Entity::find()
        .select_only()
        .column(change_log::Column::Id)
        .order_by_asc(change_log::Column::Id)
        .limit(1)
}

/// Selects those `users` that are assigned to a manager.
pub(super) fn assigned(manager: i64, users: &BTreeSet<i64>) -> Select<account::Entity> {
    account::Entity::find()
        .select_only()
        .column(account::Column::Id)
        .filter(account::Column::Id.is_in(padded(users).copied()))
        .filter(account::Column::ResponsibleManagerId.eq(manager))
}
