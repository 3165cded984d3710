//! A step of the schema.

use sea_orm_migration::sea_query::{ColumnDef, IndexCreateStatement, TableCreateStatement};

/// One step: a name that never changes, and one DDL statement.
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) name: &'static str,
    pub(crate) ddl: Ddl,
    /// Why the step is incompatible with older programs.
    pub(crate) incompatible: Option<&'static str>,
}

/// The DDL statement of a step.
#[derive(Clone, Debug)]
pub(crate) enum Ddl {
    CreateTable(TableCreateStatement),
    CreateIndex {
        table: &'static str,
        name: &'static str,
        index: IndexCreateStatement,
    },
    AddColumn {
        table: &'static str,
        column: ColumnDef,
    },
    Postgres(&'static str),
    /// `replaces`: drops each trigger before.
    Triggers {
        triggers: Vec<Trigger>,
        replaces: bool,
    },
}

/// A trigger of `accounts`, in the SQL of each engine.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    pub(crate) name: &'static str,
    pub(crate) sqlite: String,
    /// The function and the trigger: PostgreSQL rolls both back.
    pub(crate) postgres: String,
    pub(crate) mysql: String,
}

impl Step {
    /// Creates a table.
    pub fn table(name: &'static str, table: TableCreateStatement) -> Self {
        Self::new(name, Ddl::CreateTable(table))
    }

    /// Creates an index; `index_name` is its name in the database.
    pub fn index(
        name: &'static str,
        table: &'static str,
        index_name: &'static str,
        mut index: IndexCreateStatement,
    ) -> Self {
        index.name(index_name).table(table);
        Self::new(name, Ddl::CreateIndex { table, name: index_name, index })
    }

    /// Runs an idempotent statement on PostgreSQL only.
    pub fn postgres(name: &'static str, ddl: &'static str) -> Self {
        Self::new(name, Ddl::Postgres(ddl))
    }

    /// Creates triggers.
    pub(crate) fn triggers(name: &'static str, triggers: Vec<Trigger>) -> Self {
        Self::new(name, Ddl::Triggers { triggers, replaces: false })
    }

    /// Replaces the triggers of `accounts`: they then know every field of the field table. The step
    /// follows the step of a new field's column.
    pub fn replace_triggers(name: &'static str) -> Self {
        Self::new(name, Ddl::Triggers { triggers: Vec::new(), replaces: true })
    }

    /// The triggers of a step that replaces them. Empty until [`crate::steps`] fills them in.
    pub(crate) fn replaced_triggers(&mut self) -> Option<&mut Vec<Trigger>> {
        match &mut self.ddl {
            Ddl::Triggers { triggers, replaces: true } => Some(triggers),
            _ => None,
        }
    }

    /// The column that the step adds to `accounts`.
    pub(crate) fn column_of_accounts(&self) -> Option<String> {
        match &self.ddl {
            Ddl::AddColumn { table: "accounts", column } => Some(column.get_column_name()),
            _ => None,
        }
    }

    /// Adds a column, which must allow NULL or have a default.
    pub fn column(name: &'static str, table: &'static str, column: ColumnDef) -> Self {
        Self::new(name, Ddl::AddColumn { table, column })
    }

    fn new(name: &'static str, ddl: Ddl) -> Self {
        Self { name, ddl, incompatible: None }
    }

    /// Marks the step as incompatible with programs that do not know it. Operators read `reason`,
    /// at most 255 characters.
    #[must_use]
    pub fn incompatible(self, reason: &'static str) -> Self {
        Self { incompatible: Some(reason), ..self }
    }

    /// Why programs that do not know the step cannot run on it; `None` if they can.
    pub fn incompatible_reason(&self) -> Option<&'static str> {
        self.incompatible
    }

    /// Whether the step creates a trigger, for which a server may demand a privilege of its own.
    pub fn is_trigger(&self) -> bool {
        matches!(self.ddl, Ddl::Triggers { .. })
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}
