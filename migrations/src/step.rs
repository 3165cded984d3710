//! One step of the schema.

use sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait, DbBackend, DbErr},
    sea_query::{ColumnDef, IndexCreateStatement, Table, TableCreateStatement},
};

/// One step: a name that never changes, and one DDL statement.
pub(crate) struct Step {
    name: &'static str,
    ddl: Ddl,
}

enum Ddl {
    CreateTable(TableCreateStatement),
    CreateIndex { table: &'static str, name: &'static str, index: IndexCreateStatement },
    AddColumn { table: &'static str, column: ColumnDef },
    Postgres(&'static str),
}

impl Step {
    /// Creates a table.
    pub(crate) fn table(name: &'static str, table: TableCreateStatement) -> Self {
        Self { name, ddl: Ddl::CreateTable(table) }
    }

    /// Creates an index; `index_name` is its name in the database.
    pub(crate) fn index(
        name: &'static str,
        table: &'static str,
        index_name: &'static str,
        mut index: IndexCreateStatement,
    ) -> Self {
        index.name(index_name).table(table);
        Self { name, ddl: Ddl::CreateIndex { table, name: index_name, index } }
    }

    /// A statement for PostgreSQL alone, which may be repeated.
    pub(crate) fn postgres(name: &'static str, ddl: &'static str) -> Self {
        Self { name, ddl: Ddl::Postgres(ddl) }
    }

    /// Adds a column, which must allow NULL or have a default.
    pub(crate) fn column(name: &'static str, table: &'static str, column: ColumnDef) -> Self {
        Self { name, ddl: Ddl::AddColumn { table, column } }
    }
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    /// Repeatable, as a crash may come between a DDL statement and the record that it was run.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match &self.ddl {
            Ddl::CreateTable(table) => {
                let mut table = table.clone();
                table.if_not_exists();
                if manager.get_database_backend() == DbBackend::MySql {
                    // Text is compared byte by byte and may hold any character, on every engine.
                    table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
                }
                manager.create_table(table).await
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
            Ddl::AddColumn { table, column } => {
                if manager.has_column(table, column.get_column_name()).await? {
                    return Ok(());
                }
                manager
                    .alter_table(Table::alter().table(*table).add_column(column.clone()).take())
                    .await
            }
        }
    }
}
