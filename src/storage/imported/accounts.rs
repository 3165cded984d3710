//! Accounts.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryResult, QuerySelect,
    QueryTrait, Statement,
};

use crate::{
    domain::{
        account::{AccountType, User},
        call_context::CallContext,
        epoch::VERSIONS_PER_EPOCH,
        error::Error,
        imported::{Clash, ImportedAccount, StoredAccount},
        listing::Cursor,
        snapshot::LoadPlan,
        value::{Value, Values},
    },
    fields::{FIELDS, Reference},
    storage::{
        SqlStore,
        connect::Engine,
        database::again,
        failure::Corrupt,
        query_telemetry::own_statement,
        sql::{
            columns, entities::account, executor::Executor, statements::padded, stored::FromRow,
        },
        texts::backend,
        unknown::Unreadable,
    },
    trace::Span,
};

/// Accounts per statement: databases limit the number of parameters.
const ACCOUNTS_PER_INSERT: usize = 500;
/// Bytes of texts per statement: servers limit the size of a statement.
const TEXT_BYTES_PER_INSERT: usize = 1 << 20;

impl FromRow for StoredAccount {
    const TABLE: &'static str = "accounts";
    type Row = account::Model;
    type Place = Cursor;

    fn from_row(row: account::Model) -> Result<Self, Corrupt> {
        let account::Model { manager_group_id, show_only_assigned_users, .. } = row;
        Ok(Self { user: User::from_row(row)?, manager_group_id, show_only_assigned_users })
    }

    fn place(&self) -> Cursor {
        self.user.place()
    }

    fn place_of_row(row: &QueryResult) -> Result<(Cursor, String), DbErr> {
        User::place_of_row(row)
    }
}

impl SqlStore {
    /// The accounts with these ids. `None` for a row that holds an invalid value.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn accounts(
        &self,
        ids: &[i64],
    ) -> Result<BTreeMap<i64, Option<StoredAccount>>, Error> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (database, span) = (self.prepared()?, Span::default());
        let select = account::Entity::find()
            .filter(account::Column::Id.is_in(padded(ids.iter().copied())))
            .build(backend(database.engine()));
        let read = || async {
            let (_room, lease) = database.own_work().await?;
            let rows = Executor::read::<StoredAccount>(&*lease, select.clone());
            let rows = own_statement(database.engine(), &span, "SELECT", "accounts", rows).await;
            let rows = lease.note(rows)?;
            lease.done();
            Ok(rows)
        };
        let rows = again(read).await?;
        let row = |row: Result<StoredAccount, Unreadable>| match row {
            Ok(account) => Some((account.user.id, Some(account))),
            Err(Unreadable { id, .. }) => Some((id.parse().ok()?, None)),
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// The ids of the accounts with these usernames, by [`Self::username_key`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn account_ids(&self, usernames: &[&str]) -> Result<BTreeMap<String, i64>, Error> {
        if usernames.is_empty() {
            return Ok(BTreeMap::new());
        }
        let select = account::Entity::find()
            .select_only()
            .columns([account::Column::Id, account::Column::Username])
            .filter(account::Column::Username.is_in(padded(usernames.iter().copied())))
            .build(backend(self.engine()));
        let row = |row: QueryResult| -> Result<_, DbErr> {
            let username: String = row.try_get("", "username")?;
            Ok((self.username_key(&username).to_owned(), row.try_get("", "id")?))
        };
        let rows = self.rows("accounts", select).await?;
        Ok(rows.into_iter().map(row).collect::<Result<_, _>>()?)
    }

    /// The part of a username that is unique: MariaDB ignores trailing spaces in comparisons.
    pub fn username_key<'a>(&self, username: &'a str) -> &'a str {
        match self.engine() {
            Engine::MySql => username.trim_end_matches(' '),
            Engine::Sqlite | Engine::Postgres => username,
        }
    }

    /// The subset of ids that a reference may name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn existing_references(
        &self,
        references: BTreeMap<Reference, BTreeSet<i64>>,
    ) -> Result<BTreeMap<Reference, BTreeSet<i64>>, Error> {
        let plan = LoadPlan { references, ..LoadPlan::default() };
        Ok(self.prepared()?.load(&CallContext::default(), &plan).await?.references)
    }

    /// Inserts accounts as of `now`. Returns the refused accounts by index.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn insert_accounts(
        &self,
        accounts: &[ImportedAccount],
        now: DateTime<Utc>,
    ) -> Result<Vec<(usize, Clash)>, Error> {
        // A row that a restore has lost had a version of an earlier epoch.
        let epochs = self.prepared()?.epochs(&Span::default()).await?;
        let version = epochs.last().map_or(0, |last| last.epoch) * VERSIONS_PER_EPOCH + 1;
        let statements = |accounts: &[ImportedAccount]| -> Result<Vec<Statement>, Error> {
            let portions = portions(accounts).into_iter();
            let insert = |portion: &[ImportedAccount]| -> Result<_, Error> {
                let rows = portion.iter().map(|account| row(account, version, now));
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                Ok(account::Entity::insert_many(rows).build(backend(self.engine())))
            };
            portions.map(insert).collect()
        };
        self.insert_all("accounts", accounts, statements).await
    }
}

/// The accounts of each statement.
fn portions(mut accounts: &[ImportedAccount]) -> Vec<&[ImportedAccount]> {
    let mut portions = Vec::new();
    while !accounts.is_empty() {
        let (mut rows, mut bytes) = (0, 0);
        for account in accounts.iter().take(ACCOUNTS_PER_INSERT) {
            let texts = account.details.iter().map(|(_, value)| Value::text_bytes(value));
            bytes += texts.sum::<usize>();
            if rows > 0 && bytes > TEXT_BYTES_PER_INSERT {
                break;
            }
            rows += 1;
        }
        let (portion, rest) = accounts.split_at(rows);
        portions.push(portion);
        accounts = rest;
    }
    portions
}

fn row(
    account: &ImportedAccount,
    version: i64,
    now: DateTime<Utc>,
) -> Result<account::ActiveModel, Corrupt> {
    let now = now.timestamp_micros();
    let mut row = account::ActiveModel {
        id: Set(account.id),
        username: Set(account.username.as_str().to_owned()),
        account_type: Set(account.account_type.unwrap_or(AccountType::User).as_str().to_owned()),
        manager_group_id: Set(account.manager_group_id.flatten()),
        show_only_assigned_users: Set(account.show_only_assigned_users.unwrap_or(false)),
        version: Set(version),
        create_time: Set(now),
        update_time: Set(now),
        ..<account::ActiveModel as Default>::default()
    };
    let values = account.values(Values::default());
    for field in FIELDS {
        columns::set(&mut row, field, &values[field])?;
    }
    Ok(row)
}
