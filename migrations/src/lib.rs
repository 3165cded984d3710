//! The schema of m4-user-details, on SQLite, PostgreSQL and MariaDB/MySQL.
//!
//! Each step is one DDL statement, because only PostgreSQL can take back a failed step. Steps are forward-only, import no entities, and
//! are safe while the previous version of the service still runs: add what may be missing, never rename or drop what
//! it reads. To change the schema, add a step at the end of `tables::steps`.

mod step;
mod tables;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// Brings a database to the schema that this version of the service needs.
#[derive(Clone, Copy, Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        tables::steps().into_iter().map(|step| Box::new(step) as Box<dyn MigrationTrait>).collect()
    }
}
