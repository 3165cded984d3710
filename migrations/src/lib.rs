//! The schema of m4-user-details, on SQLite, PostgreSQL and MariaDB/MySQL.
//!
//! Each step is one DDL statement, because only PostgreSQL can roll back a failed step. Steps are
//! forward-only, import no entities, and are safe while the previous version of the service runs.
//! Add only optional columns and tables. Never rename or drop anything that the previous version
//! reads. To change the schema, add a step at the end of `tables::later`. Mark a step that older
//! programs cannot run on with [`Step::incompatible`].
//!
//! A step waits two seconds for its lock and is then retried, so its statement must be quick once
//! it holds the lock. On PostgreSQL, an index on a table with rows is built concurrently. Add a
//! constraint on an existing table as `NOT VALID`, and validate it in the next step.

mod administration_tables;
mod apply;
mod columns;
mod details;
mod record;
mod script;
mod step;
mod tables;
mod triggers;

pub use details::{Detail, details};
pub use record::{Newer, Record, newer};
pub use step::Step;
pub use tables::{steps, steps_with};
