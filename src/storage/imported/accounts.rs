//! Accounts.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryResult, QuerySelect, QueryTrait, Statement,
};

use super::{Copy, RowInsert, ranges};
use crate::{
    domain::{
        account::{AccountType, User},
        call_context::CallContext,
        epoch::VERSIONS_PER_EPOCH,
        error::Error,
        imported::{Clash, ImportedAccount, StoredAccount},
        listing::Cursor,
        snapshot::LoadPlan,
        value::Value,
    },
    fields::{FIELDS, Field, Reference},
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

/// The columns of an account that are no details.
const COLUMNS: [&str; 8] = [
    "id",
    "username",
    "account_type",
    "manager_group_id",
    "show_only_assigned_users",
    "version",
    "create_time",
    "update_time",
];
/// Accounts per statement: SQLite takes 32,766 parameters, MariaDB and MySQL take 65,535.
const MAX_SQLITE_ROWS: usize = 500;
const MAX_MYSQL_ROWS: usize = 1000;
/// Bytes of texts per statement: servers limit the size of a statement.
const TEXT_BYTES_PER_INSERT: usize = 2 << 20;

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
        let columns: Vec<_> = COLUMNS.into_iter().chain(FIELDS.map(Field::name)).collect();
        let insert = |accounts: &[ImportedAccount]| {
            let mut rows = accounts.iter().map(|account| row(account, version, now));
            Ok(match self.engine() {
                Engine::Postgres => {
                    let mut copy = Copy::new("accounts", &columns);
                    rows.try_for_each(|row| copy.push(row))?;
                    RowInsert::Copy(copy)
                }
                Engine::Sqlite | Engine::MySql => {
                    let one = format!("({})", vec!["?"; columns.len()].join(", "));
                    let rows_text = vec![&*one; accounts.len()].join(", ");
                    let columns = columns.join(", ");
                    let insert = format!("INSERT INTO accounts ({columns}) VALUES {rows_text}");
                    let values = rows.flatten();
                    let backend = backend(self.engine());
                    RowInsert::Statement(Statement::from_sql_and_values(backend, insert, values))
                }
            })
        };
        let limit = match self.engine() {
            Engine::Sqlite => MAX_SQLITE_ROWS,
            Engine::MySql => MAX_MYSQL_ROWS,
            Engine::Postgres => usize::MAX,
        };
        let bytes = |account: &ImportedAccount| -> usize {
            account.details.iter().map(|(_, value)| Value::text_bytes(value)).sum()
        };
        let ranges = ranges(accounts, (limit, TEXT_BYTES_PER_INSERT), bytes);
        self.insert_all("accounts", accounts, ranges, insert).await
    }
}

/// The values of [`COLUMNS`] and of all details.
fn row(
    account: &ImportedAccount,
    version: i64,
    now: DateTime<Utc>,
) -> impl Iterator<Item = sea_orm::Value> {
    let now = now.timestamp_micros();
    let own: [sea_orm::Value; COLUMNS.len()] = [
        account.id.into(),
        account.username.as_str().into(),
        account.account_type.unwrap_or(AccountType::User).as_str().into(),
        account.manager_group_id.flatten().into(),
        account.show_only_assigned_users.unwrap_or(false).into(),
        version.into(),
        now.into(),
        now.into(),
    ];
    let mut details = account.details.iter().peekable();
    let details =
        FIELDS.into_iter().map(move |field| match details.next_if(|(own, _)| *own == field) {
            Some((_, value)) => columns::parameter(field, value),
            None => columns::parameter(field, &Value::cleared(field)),
        });
    own.into_iter().chain(details)
}
