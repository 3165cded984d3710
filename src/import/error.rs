//! Why an import or a comparison ends early.

use std::{io, path::PathBuf};

use crate::{
    domain::error::{Error, chain},
    storage::SourceError,
};

/// Why an import or a comparison ends early. Rejected rows are no error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// The mapping file is wrong.
    #[error("{file}: {problem}")]
    Mapping { file: String, problem: String },
    /// A file cannot be read or written.
    #[error("{file}: {error}")]
    File { file: PathBuf, error: io::Error },
    /// The columns of a table are wrong.
    #[error("{table}: {problem}")]
    Columns { table: &'static str, problem: String },
    /// A source cannot be read.
    #[error("{table}: the source cannot be read: {error}")]
    Source { table: &'static str, error: SourceError },
    /// A CSV file cannot be read.
    #[error("{table}: the file cannot be read: {error}")]
    Csv { table: &'static str, error: csv::Error },
    /// A quotation mark of a CSV file is not closed.
    #[error("{table}: line {line} has a cell with line breaks: is a quotation mark not closed?")]
    Quote { table: &'static str, line: u64 },
    /// Another import runs on the database.
    #[error("another import runs on this database: wait until it ends")]
    OtherImport,
    /// All rows are imported, but a later insert without an id would fail.
    #[error(
        "the rows are imported, but the sequences of ids were not advanced: {}: grant USAGE and UPDATE \
         on the sequences, and run the import again",
        chain(.0)
    )]
    Sequences(Error),
    /// The database of the service fails.
    #[error(transparent)]
    Store(#[from] Error),
}
