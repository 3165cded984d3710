//! Why a database cannot be copied.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{domain::error::Error, storage::connect::OpenError};

/// The tools that dump a database server.
pub(super) const DUMP_TOOLS: &str = "pg_dump or mariadb-dump";
/// The tools that restore such a dump.
pub(super) const RESTORE_TOOLS: &str = "pg_restore or mariadb";

/// Why a database cannot be backed up or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database is on a server.
    #[error("only a SQLite database is copied by this command: use {0} for a database server")]
    Server(&'static str),
    /// The database's URL cannot be used, or a newer version made the copy.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new epoch could not begin.
    #[error("the copy cannot begin a new epoch")]
    Epoch(#[source] Error),
    /// The target exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The path is not UTF-8.
    #[error("{} is not UTF-8", .0.display())]
    Encoding(PathBuf),
    /// A process uses the database.
    #[error("{} is in use: stop every service and program that uses it", .0.display())]
    InUse(PathBuf),
    /// The file to restore has a log of its own.
    #[error(
        "{} has a write-ahead log or a journal beside it: it is a database in use, and no backup",
        .0.display()
    )]
    HasLog(PathBuf),
    /// The file is no database of this service.
    #[error("{} is no intact database of this service: {reason}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why the file is refused.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{} cannot be copied", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// SQLite fails. Without its text, which may contain stored values.
    #[error("{} cannot be read: SQLite answers with error {code}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The extended result code.
        code: i32,
    },
}

impl BackupError {
    pub(super) fn of_file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(super) fn of_database(path: &Path, error: &rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        Self::Database { path: path.to_owned(), code }
    }
}
