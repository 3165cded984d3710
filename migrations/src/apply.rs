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
    step::{Ddl, Step},
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
            && is_concurrent(connection, table).await?
        {
            concurrently(connection, table, name, index).await?;
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
            Ddl::Triggers { triggers, replaces } => {
                let connection = manager.get_connection();
                let backend = manager.get_database_backend();
                for trigger in triggers {
                    // PostgreSQL, and MySQL before 8.0.29, have no `IF NOT EXISTS`.
                    if !replaces && has_trigger(connection, trigger.name).await? {
                        continue;
                    }
                    for statement in trigger.statements(backend, *replaces) {
                        connection.execute_unprepared(&statement).await?;
                    }
                }
                Ok(())
            }
            Ddl::AddColumn { table, column } => {
                if manager.has_column(table, column.get_column_name()).await? {
                    return Ok(());
                }
                manager.alter_table(extended(table, column)).await
            }
        }
    }
}

/// The statement that creates a table on an engine.
pub(crate) fn created(table: &TableCreateStatement, backend: DbBackend) -> TableCreateStatement {
    let mut table = table.clone();
    table.if_not_exists();
    if backend == DbBackend::MySql {
        // Text is compared byte by byte and may hold any character, on every engine.
        table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
    }
    table
}

/// The statement that adds a column.
pub(crate) fn extended(table: &'static str, column: &ColumnDef) -> TableAlterStatement {
    Table::alter().table(table).add_column(column.clone()).take()
}

/// Whether an index is built without blocking writes: on PostgreSQL, if the table has rows.
pub(crate) async fn is_concurrent(
    connection: &DatabaseConnection,
    table: &str,
) -> Result<bool, DbErr> {
    Ok(connection.get_database_backend() == DbBackend::Postgres
        && SchemaManager::new(connection).has_table(table).await?
        && answers_true(connection, format!("SELECT EXISTS (SELECT 1 FROM {table})")).await?)
}

/// Creates an index on PostgreSQL without blocking writes.
async fn concurrently(
    connection: &DatabaseConnection,
    table: &str,
    name: &str,
    index: &IndexCreateStatement,
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
    manager.create_index(index.clone().concurrently().take()).await
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
