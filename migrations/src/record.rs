//! The record of applied steps, and of steps that are incompatible with older programs.

use std::collections::BTreeSet;

use sea_orm_migration::{
    SchemaManager,
    sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TryGetable},
    sea_query::{ColumnDef, Expr, Table, TableCreateStatement},
};

use crate::step::Step;

/// The table in which programs up to [`LAST_SHARED_STEP`] record steps. They reject a database with
/// an unknown name here, so later steps are in [`STEPS`].
const SHARED_STEPS: &str = "seaql_migrations";
/// The last step of version 0.1.0.
const LAST_SHARED_STEP: &str = "m0033_change_log_service";
/// The table of later steps. A program ignores unknown names.
const STEPS: &str = "schema_steps";
/// The table of steps that are incompatible with older programs.
const INCOMPATIBLE: &str = "schema_incompatible";

/// The applied steps of a database.
#[derive(Clone, Debug)]
pub struct Record(BTreeSet<String>);

impl Record {
    /// Reads the record. Creates its tables in a new database.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn open(connection: &DatabaseConnection) -> Result<Self, DbErr> {
        let manager = SchemaManager::new(connection);
        for (name, table) in
            [(SHARED_STEPS, shared_steps()), (STEPS, later_steps()), (INCOMPATIBLE, incompatible())]
        {
            if !manager.has_table(name).await? {
                manager.create_table(table).await?;
            }
        }
        Self::read(connection).await
    }

    /// Reads the record. A missing table has no steps. Changes nothing.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn read(connection: &DatabaseConnection) -> Result<Self, DbErr> {
        let manager = SchemaManager::new(connection);
        let mut steps = BTreeSet::new();
        for (table, column) in [(SHARED_STEPS, "version"), (STEPS, "name")] {
            if manager.has_table(table).await? {
                steps.extend(texts(connection, table, column).await?);
            }
        }
        Ok(Self(steps))
    }

    /// The record of a database without tables.
    pub fn empty() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether a step was applied.
    pub fn has(&self, step: &Step) -> bool {
        self.0.contains(step.name())
    }

    /// The applied steps that are not in `known`: a newer version applied them.
    pub fn others<'a>(&'a self, known: &'a [Step]) -> impl Iterator<Item = &'a str> {
        let is_known = |name: &&str| known.iter().any(|step| step.name() == *name);
        self.0.iter().map(String::as_str).filter(move |name| !is_known(name))
    }
}

/// An unknown step that is incompatible with this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// The name of the step.
    pub step: String,
    /// The reason, recorded by the newer version.
    pub reason: String,
}

/// Returns the first incompatible step that is not in `known`. Changes nothing.
///
/// # Errors
/// Errors of the database.
pub async fn newer(
    connection: &DatabaseConnection,
    known: &[Step],
) -> Result<Option<Newer>, DbErr> {
    if !SchemaManager::new(connection).has_table(INCOMPATIBLE).await? {
        return Ok(None);
    }
    let steps = texts(connection, INCOMPATIBLE, "step").await?;
    let is_known = |name: &str| known.iter().any(|step| step.name() == name);
    let Some(step) = steps.into_iter().find(|name| !is_known(name)) else { return Ok(None) };
    let reason = format!("SELECT reason FROM {INCOMPATIBLE} WHERE step = {}", literal(&step));
    let reason = connection.query_one_raw(statement(connection, reason)).await?;
    let reason = reason.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
    Ok(Some(Newer { step, reason }))
}

/// Records a step, unless it is recorded already.
pub(crate) async fn applied<C: ConnectionTrait>(connection: &C, step: &str) -> Result<(), DbErr> {
    let (table, columns, time) = if step <= LAST_SHARED_STEP {
        let time = match connection.get_database_backend() {
            DbBackend::Postgres => ", CAST(extract(epoch FROM now()) AS bigint)",
            DbBackend::MySql => ", UNIX_TIMESTAMP()",
            _ => ", CAST(strftime('%s', 'now') AS INTEGER)",
        };
        (SHARED_STEPS, "version, applied_at", time)
    } else {
        (STEPS, "name", "")
    };
    insert(connection, table, columns, &format!("{}{time}", literal(step))).await
}

/// Marks a step as incompatible with older programs.
pub(crate) async fn is_incompatible<C: ConnectionTrait>(
    connection: &C,
    step: &str,
    reason: &str,
) -> Result<(), DbErr> {
    let values = format!("{}, {}", literal(step), literal(reason));
    insert(connection, INCOMPATIBLE, "step, reason", &values).await
}

async fn insert<C: ConnectionTrait>(
    connection: &C,
    table: &str,
    columns: &str,
    values: &str,
) -> Result<(), DbErr> {
    let key = columns.split(',').next().unwrap_or(columns);
    let unless_there = match connection.get_database_backend() {
        DbBackend::MySql => format!("ON DUPLICATE KEY UPDATE {key} = {key}"),
        _ => "ON CONFLICT DO NOTHING".to_owned(),
    };
    let insert = format!("INSERT INTO {table} ({columns}) VALUES ({values}) {unless_there}");
    connection.execute_raw(statement(connection, insert)).await.map(drop)
}

async fn texts<C: ConnectionTrait>(
    connection: &C,
    table: &str,
    column: &str,
) -> Result<Vec<String>, DbErr> {
    let select = format!("SELECT {column} FROM {table} ORDER BY {column}");
    let rows = connection.query_all_raw(statement(connection, select)).await?;
    rows.iter().map(|row| Ok(String::try_get_by_index(row, 0)?)).collect()
}

fn statement<C: ConnectionTrait>(connection: &C, sql: String) -> Statement {
    Statement::from_string(connection.get_database_backend(), sql)
}

/// A text of this program as an SQL string literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn shared_steps() -> TableCreateStatement {
    table(SHARED_STEPS)
        .col(ColumnDef::new("version").string().not_null().primary_key())
        .col(ColumnDef::new("applied_at").big_integer().not_null())
        .take()
}

fn later_steps() -> TableCreateStatement {
    let now = Expr::current_timestamp();
    table(STEPS)
        .col(ColumnDef::new("name").string_len(64).not_null().primary_key())
        .col(ColumnDef::new("apply_time").timestamp().not_null().default(now))
        .take()
}

fn incompatible() -> TableCreateStatement {
    table(INCOMPATIBLE)
        .col(ColumnDef::new("step").string_len(64).not_null().primary_key())
        .col(ColumnDef::new("reason").string_len(255).not_null())
        .take()
}

/// Another program may create the table meanwhile.
fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).if_not_exists().take()
}
