//! Applies a step.

use sea_orm_migration::{
    SchemaManager,
    sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait},
    sea_query::{
        ColumnDef, IndexCreateStatement, Table, TableAlterStatement, TableCreateStatement,
    },
};

use crate::{
    record,
    step::{Ddl, Step, Trigger},
};

impl Step {
    /// Applies the step and records it. Safe to retry after a failure or a crash, even between the
    /// DDL statement and the record.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn apply(&self, connection: &DatabaseConnection) -> Result<(), DbErr> {
        if let Some(reason) = self.incompatible {
            record::is_incompatible(connection, self.name, reason).await?;
        }
        if connection.get_database_backend() != DbBackend::Postgres {
            self.up(&SchemaManager::new(connection)).await?;
            return record::applied(connection, self.name).await;
        }
        if let Ddl::CreateIndex { table, name, index } = &self.ddl
            && answers_true(connection, format!("SELECT EXISTS (SELECT 1 FROM {table})")).await?
        {
            concurrently(connection, table, name, index.clone()).await?;
            return record::applied(connection, self.name).await;
        }
        let transaction = connection.begin().await?;
        self.up(&SchemaManager::new(&transaction)).await?;
        record::applied(&transaction, self.name).await?;
        transaction.commit().await
    }

    async fn up(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        match &self.ddl {
            Ddl::CreateTable(table) => {
                manager.create_table(created(table, manager.get_database_backend())).await
            }
            Ddl::CreateIndex { table, name, index } => {
                if manager.has_index(table, name).await? {
                    return Ok(());
                }
                manager.create_index(index.clone()).await
            }
            Ddl::Postgres(ddl) => {
                if manager.get_database_backend() == DbBackend::Postgres {
                    manager.get_connection().execute_unprepared(ddl).await?;
                }
                Ok(())
            }
            Ddl::Trigger(trigger) => {
                let connection = manager.get_connection();
                let backend = manager.get_database_backend();
                // PostgreSQL, and MySQL before 8.0.29, have no `IF NOT EXISTS`.
                if has_trigger(connection, trigger.name).await? {
                    return Ok(());
                }
                connection.execute_unprepared(trigger.sql(backend)).await.map(drop)
            }
            Ddl::AddColumn { table, column } => {
                if manager.has_column(table, column.get_column_name()).await? {
                    return Ok(());
                }
                manager.alter_table(extended(table, column)).await
            }
        }
    }

    /// The statement of the step; `None` if the engine needs none. On PostgreSQL, an index on a
    /// table with rows is built concurrently instead.
    pub fn sql(&self, backend: DbBackend) -> Option<String> {
        let statement = match &self.ddl {
            Ddl::CreateTable(table) => backend.build(&created(table, backend)),
            Ddl::CreateIndex { index, .. } => backend.build(index),
            Ddl::AddColumn { table, column } => backend.build(&extended(table, column)),
            Ddl::Postgres(ddl) => {
                return (backend == DbBackend::Postgres).then(|| (*ddl).to_owned());
            }
            Ddl::Trigger(trigger) => return Some(trigger.sql(backend).to_owned()),
        };
        Some(statement.to_string())
    }
}

impl Trigger {
    fn sql(&self, backend: DbBackend) -> &str {
        match backend {
            DbBackend::Postgres => &self.postgres,
            DbBackend::MySql => &self.mysql,
            _ => &self.sqlite,
        }
    }
}

/// The statement that creates a table on an engine.
fn created(table: &TableCreateStatement, backend: DbBackend) -> TableCreateStatement {
    let mut table = table.clone();
    table.if_not_exists();
    if backend == DbBackend::MySql {
        // Text is compared byte by byte and may hold any character, on every engine.
        table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
    }
    table
}

/// The statement that adds a column.
fn extended(table: &'static str, column: &ColumnDef) -> TableAlterStatement {
    Table::alter().table(table).add_column(column.clone()).take()
}

/// Creates an index on PostgreSQL without blocking writes.
async fn concurrently(
    connection: &DatabaseConnection,
    table: &str,
    name: &str,
    mut index: IndexCreateStatement,
) -> Result<(), DbErr> {
    // The build waits for older transactions and blocks nobody.
    connection.execute_unprepared("SET lock_timeout = 0").await?;
    let manager = SchemaManager::new(connection);
    if manager.has_index(table, name).await? {
        let valid =
            format!("SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass");
        if answers_true(connection, valid).await? {
            return Ok(());
        }
        // An earlier attempt failed midway.
        connection.execute_unprepared(&format!("DROP INDEX CONCURRENTLY {name}")).await?;
    }
    manager.create_index(index.concurrently().take()).await
}

/// Whether a server has a trigger. On SQLite, the statement of the trigger is idempotent.
async fn has_trigger<C: ConnectionTrait>(connection: &C, name: &str) -> Result<bool, DbErr> {
    let triggers = match connection.get_database_backend() {
        DbBackend::Postgres => "pg_trigger WHERE tgrelid = 'accounts'::regclass AND tgname",
        DbBackend::MySql => {
            "information_schema.triggers WHERE trigger_schema = DATABASE() AND trigger_name"
        }
        _ => return Ok(false),
    };
    answers_true(connection, format!("SELECT EXISTS (SELECT 1 FROM {triggers} = '{name}')")).await
}

async fn answers_true<C: ConnectionTrait>(connection: &C, query: String) -> Result<bool, DbErr> {
    let query = Statement::from_string(connection.get_database_backend(), query);
    let row = connection.query_one_raw(query).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}
