//! Brings accounts and their reference data in from CSV files or another database, and compares
//! them with the stored rows.
//!
//! [`mapping`] is the file that names the source. [`source`] reads its rows as text, [`parse`]
//! parses them by the field table, and [`run`] inserts and updates. [`compare`] uses the same source
//! and parsers.

mod accounts;
mod cell;
pub(crate) mod compare;
mod csv_file;
mod difference;
pub(crate) mod drift;
mod error;
mod id_set;
mod inserts;
pub(crate) mod mapping;
mod named;
mod parse;
mod planned;
pub(crate) mod progress;
mod query;
mod references;
pub(crate) mod rejects;
pub(crate) mod report;
mod rights;
pub(crate) mod run;
pub(crate) mod sample;
mod source;
mod table;
mod updates;

pub(crate) use error::ImportError;
