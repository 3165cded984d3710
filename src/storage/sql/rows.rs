//! Rows of acting accounts and of stored responses.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use sea_orm::{ActiveValue::Set, DbErr, FromQueryResult, QueryResult};

use super::{columns, entities::request, sqlite_row::FromSqliteRow, stored::FromRow};
use crate::{
    domain::{
        account::{AccountType, ActingAccount, Level},
        snapshot,
        update::{RequestKey, StoredResponse, Updated},
    },
    storage::{
        failure::Corrupt,
        unknown::{self, Unreadable},
    },
};

/// The columns of an acting account.
#[derive(FromQueryResult)]
pub(super) struct ActingRow {
    id: i64,
    username: String,
    account_type: String,
    blocked: bool,
    show_only_assigned_users: bool,
    level: Option<String>,
}

impl FromSqliteRow for ActingRow {
    fn from_sqlite_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            username: row.get("username")?,
            account_type: row.get("account_type")?,
            blocked: row.get("blocked")?,
            show_only_assigned_users: row.get("show_only_assigned_users")?,
            level: row.get("level")?,
        })
    }
}

impl ActingRow {
    /// The account and its stored name: MariaDB ignores trailing spaces in comparisons.
    pub(super) fn account(self) -> Result<(String, ActingAccount), Unreadable> {
        let account_type = AccountType::from_word(&self.account_type);
        // An unknown level grants nothing.
        let users_level = self.level.as_deref().and_then(Level::from_word);
        if self.level.is_some() && users_level.is_none() {
            unknown::count("manager_group_rights", 1);
        }
        let unreadable = || Unreadable {
            table: "accounts",
            id: self.id.to_string(),
            cause: Corrupt("account_type").into(),
        };
        let account = ActingAccount {
            id: self.id,
            account_type: account_type.ok_or_else(unreadable)?,
            blocked: self.blocked,
            users_level,
            show_only_assigned_users: self.show_only_assigned_users,
        };
        Ok((self.username, account))
    }
}

/// The id of an existing row.
#[derive(FromQueryResult)]
pub(super) struct Id {
    pub(super) id: i64,
}

impl FromSqliteRow for Id {
    fn from_sqlite_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get("id")? })
    }
}

/// An idempotency key and its stored response.
pub(super) struct Kept(pub(super) String, pub(super) StoredResponse);

impl FromRow for Kept {
    const TABLE: &'static str = "requests";
    type Row = request::Model;
    type Place = ();

    fn from_row(row: request::Model) -> Result<Self, Corrupt> {
        let updated = columns::answer_from_json(&row.answer)?;
        let is_copy = columns::is_copy(&row.answer);
        Ok(Self(row.id, StoredResponse { content: row.content, updated: updated.into(), is_copy }))
    }

    fn place(&self) {}

    fn place_of_row(row: &QueryResult) -> Result<((), String), DbErr> {
        Ok(((), row.try_get("", "id")?))
    }
}

/// A response to store under its idempotency key.
pub(super) struct Answer<'a> {
    pub(super) key: &'a RequestKey,
    pub(super) updated: &'a Updated,
    pub(super) now: DateTime<Utc>,
    pub(super) kept: snapshot::Kept,
}

impl Answer<'_> {
    /// The rows of the response and of its copy.
    pub(super) fn rows(&self) -> impl Iterator<Item = request::ActiveModel> {
        let row = |id: &str, answer| request::ActiveModel {
            id: Set(id.to_owned()),
            content: Set(self.key.content.clone()),
            answer_time: Set(self.now.timestamp_micros()),
            answer: Set(answer),
        };
        let copy = self.kept.has_copy.then(|| columns::copy_to_json(self.updated));
        let answer = row(&self.key.scoped_id, columns::answer_to_json(self.updated));
        [Some(answer), copy.map(|copy| row(&self.key.id, copy))].into_iter().flatten()
    }
}
