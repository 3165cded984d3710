//! The schema of m4-user-details, on SQLite, PostgreSQL and MariaDB/MySQL.
//!
//! Each step is one DDL statement, because only PostgreSQL can take back a failed step. Steps are forward-only, import no
//! entities, and are safe while the previous version of the service still runs: add what may be missing, never rename or
//! drop what it reads. To change the schema, add a step at the end of `tables::steps`. A step that older programs cannot run
//! on is marked with [`Step::incompatible`].
//!
//! No step stops the world: a step waits for a lock for two seconds only and is then tried again, so it must be a statement
//! that is quick once it has its lock. On PostgreSQL, an index of a table with rows is built concurrently. A constraint of
//! an existing table is added as `NOT VALID` in one step and validated in the next.

mod record;
mod step;
mod tables;

pub use record::{Newer, Record, newer};
pub use step::Step;
pub use tables::steps;
