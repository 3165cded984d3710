//! Verifies the stored data: rows, change log and references. Changes nothing.

mod references;

use std::{collections::BTreeMap, pin::pin};

use futures_util::TryStreamExt;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{
    connect::{OpenError, Options},
    consistent_read::ConsistentRead,
    sql::{
        entities::{account, change_log},
        stored::Stored,
    },
    unknown::Unreadable,
};
use crate::domain::{
    account::User,
    listing::LoggedChange,
    replay::{Defect, DefectKind, Replay, check_values},
};

/// Accounts in memory at a time. Their comments may have 13 MB.
const ACCOUNTS_PER_PAGE: u64 = 200;

/// The number of rows that were verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows of `accounts`.
    pub accounts: u64,
    /// Entries of the change log.
    pub entries: u64,
}

/// Verifies that each row equals its newest change log entries, that fields allow their values, and
/// that references exist. Reads one snapshot, in bounded memory.
///
/// # Errors
/// [`OpenError`]: the database does not answer, or its schema is not up to date.
pub async fn verify(
    options: &Options,
    report: &mut (dyn FnMut(Defect) + Send),
) -> Result<Verified, OpenError> {
    let read = ConsistentRead::begin(options).await?;
    let verified = rows(read.transaction(), report).await;
    let verified = match verified {
        Ok(verified) => references::verify(read.transaction(), report).await.map(|()| verified),
        failed => failed,
    };
    read.end().await;
    Ok(verified?)
}

/// Walks the accounts and their entries, page by page.
async fn rows(
    transaction: &DatabaseTransaction,
    report: &mut (dyn FnMut(Defect) + Send),
) -> Result<Verified, DbErr> {
    let mut verified = Verified::default();
    let mut after = None;
    loop {
        let page = account::Entity::find()
            .filter(Condition::all().add_option(after.map(|after| account::Column::Id.gt(after))))
            .order_by_asc(account::Column::Id)
            .limit(ACCOUNTS_PER_PAGE)
            .into_model::<Stored<User>>()
            .all(transaction)
            .await?;
        let is_last = (page.len() as u64) < ACCOUNTS_PER_PAGE;
        verified.accounts += page.len() as u64;
        let users: BTreeMap<i64, Option<User>> =
            page.into_iter().map(|row| account_of(row, report)).collect();
        let last = users.keys().next_back().copied();
        // After the last account there may be entries of missing accounts.
        let up_to = last.filter(|_| !is_last);
        verified.entries += entries(transaction, (after, up_to), &users, report).await?;
        if is_last {
            return Ok(verified);
        }
        after = last;
    }
}

/// The id and the user, or `None` if the row is unreadable.
fn account_of(row: Stored<User>, report: &mut (dyn FnMut(Defect) + Send)) -> (i64, Option<User>) {
    match row {
        Stored::Read(user) => {
            check_values(&user, report);
            (user.id, Some(user))
        }
        Stored::Unreadable(place, unreadable) => {
            let (kind, field) = defect_of(&unreadable);
            report(Defect::of_account(kind, place.id, field));
            (place.id, None)
        }
    }
}

/// Replays the entries of the accounts after `after` and up to `up_to`. Returns their number.
async fn entries(
    transaction: &DatabaseTransaction,
    (after, up_to): (Option<i64>, Option<i64>),
    users: &BTreeMap<i64, Option<User>>,
    report: &mut (dyn FnMut(Defect) + Send),
) -> Result<u64, DbErr> {
    let user_id = change_log::Column::UserId;
    let range = Condition::all()
        .add_option(after.map(|after| user_id.gt(after)))
        .add_option(up_to.map(|up_to| user_id.lte(up_to)));
    let entries = change_log::Entity::find()
        .filter(range)
        .order_by_asc(user_id)
        .order_by_asc(change_log::Column::Id)
        .into_model::<Stored<LoggedChange>>()
        .stream(transaction)
        .await?;
    let mut entries = pin!(entries);
    let mut count = 0;
    let mut current: Option<(i64, Replay)> = None;
    while let Some(row) = entries.try_next().await? {
        count += 1;
        let entry = match row {
            Stored::Read(entry) => entry,
            Stored::Unreadable(id, unreadable) => {
                let (kind, field) = defect_of(&unreadable);
                report(Defect::of_entry(kind, id, field));
                continue;
            }
        };
        if entry.unknown_changes > 0 {
            report(Defect::of_entry(DefectKind::Unreadable, entry.id, "changes"));
        }
        if !users.contains_key(&entry.user_id) {
            report(Defect::of_entry(DefectKind::NoAccount, entry.id, "user_id"));
            continue;
        }
        match &mut current {
            Some((user_id, replay)) if *user_id == entry.user_id => replay.add(entry),
            _ => {
                compare(current.take(), users, report);
                let (user_id, mut replay) = (entry.user_id, Replay::default());
                replay.add(entry);
                current = Some((user_id, replay));
            }
        }
    }
    compare(current, users, report);
    Ok(count)
}

fn compare(
    replayed: Option<(i64, Replay)>,
    users: &BTreeMap<i64, Option<User>>,
    report: &mut (dyn FnMut(Defect) + Send),
) {
    let Some((user_id, replay)) = replayed else { return };
    if let Some(Some(user)) = users.get(&user_id) {
        replay.compare(user, report);
    }
}

/// The kind of an unreadable row, and its column if known.
fn defect_of(unreadable: &Unreadable) -> (DefectKind, String) {
    let (is_not_allowed, column) = unreadable.column();
    let kind = if is_not_allowed { DefectKind::NotAllowed } else { DefectKind::Unreadable };
    (kind, column.to_owned())
}
