//! The statements of steps, as text for the database's own client.

use sea_orm_migration::sea_orm::{DatabaseConnection, DbBackend, DbErr};

use crate::{
    apply::{created, extended, is_concurrent},
    step::{Ddl, Step, Trigger},
};

impl Step {
    /// The statements that [`Self::apply`] runs, as a script for `sqlite3`, `psql` or `mariadb`. `None`
    /// if the engine needs none. A new database has no connection.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn script(
        &self,
        backend: DbBackend,
        connection: Option<&DatabaseConnection>,
    ) -> Result<Option<String>, DbErr> {
        let statement = match &self.ddl {
            Ddl::CreateTable(table) => backend.build(&created(table, backend)),
            Ddl::CreateIndex { table, index, .. } => match connection {
                Some(connection) if is_concurrent(connection, table).await? => {
                    backend.build(&index.clone().concurrently().take())
                }
                _ => backend.build(index),
            },
            Ddl::AddColumn { table, column } => backend.build(&extended(table, column)),
            Ddl::Postgres(ddl) => {
                return Ok((backend == DbBackend::Postgres).then(|| format!("{ddl};")));
            }
            Ddl::Triggers { triggers, replaces } => {
                let statements =
                    triggers.iter().flat_map(|trigger| trigger.statements(backend, *replaces));
                return Ok(script(backend, &statements.collect::<Vec<_>>()));
            }
        };
        Ok(Some(format!("{statement};")))
    }
}

impl Trigger {
    /// The statements that create the trigger. An external change between `DROP` and `CREATE` has no
    /// entry in the change log where the engine cannot roll back DDL.
    pub(crate) fn statements(&self, backend: DbBackend, replaces: bool) -> Vec<String> {
        let (create, table) = match backend {
            DbBackend::Postgres => (&self.postgres, " ON accounts"),
            DbBackend::MySql => (&self.mysql, ""),
            _ => (&self.sqlite, ""),
        };
        let drop = format!("DROP TRIGGER IF EXISTS {}{table}", self.name);
        replaces.then_some(drop).into_iter().chain([create.clone()]).collect()
    }
}

fn script(backend: DbBackend, statements: &[String]) -> Option<String> {
    if statements.is_empty() {
        return None;
    }
    // The client of MariaDB ends a statement at each semicolon. A trigger keeps the client's encoding.
    let (begin, terminator, end) = match backend {
        DbBackend::MySql => ("SET NAMES utf8mb4;\nDELIMITER //\n", "\n//", "\nDELIMITER ;"),
        _ => ("", ";", ""),
    };
    let statements: Vec<_> =
        statements.iter().map(|statement| format!("{statement}{terminator}")).collect();
    Some(format!("{begin}{}{end}", statements.join("\n")))
}
