//! Copies of a SQLite database: backup beside a running service, and restore.

mod error;
mod file;
mod restore;

use std::{io, path::Path};

use rusqlite::{Connection, OpenFlags};
use tempfile::NamedTempFile;

use self::file::{sqlite_file, sync, sync_folder};
pub use self::{error::BackupError, restore::restore};
use super::{
    connect::{ACQUIRE_TIMEOUT, Options},
    sqlite_url::folder,
};

/// Copies the database into a new file, and returns its size in bytes. The copy is one snapshot,
/// and durable on return. Writers are not blocked.
///
/// `VACUUM INTO` reads in one transaction and writes a single file without a write-ahead log. The
/// backup API of SQLite would copy the flag of the log. Then each reader of the copy creates a log
/// beside the copy.
///
/// # Errors
/// [`BackupError`]. A failed copy leaves no file.
pub fn backup(options: &Options, target: &Path) -> Result<u64, BackupError> {
    let database = sqlite_file(options, error::DUMP_TOOLS)?;
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let path = database.path();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(path, flags);
    let source = source.map_err(|error| BackupError::of_database(path, &error))?;
    // Readable by this user only, and deleted after a failure.
    let copy = NamedTempFile::new_in(folder(target)).map_err(BackupError::of_file(target))?;
    let copy_path = copy.path().to_str().ok_or_else(|| BackupError::Encoding(target.to_owned()))?;
    let copied = source
        .busy_timeout(ACQUIRE_TIMEOUT)
        .and_then(|()| source.execute("VACUUM INTO ?1", [copy_path]));
    copied.map_err(|error| BackupError::of_database(path, &error))?;
    let bytes = sync(copy.as_file()).map_err(BackupError::of_file(target))?;
    copy.persist_noclobber(target).map_err(|failed| match failed.error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(target.to_owned()),
        _ => BackupError::of_file(target)(failed.error),
    })?;
    sync_folder(target).map_err(BackupError::of_file(target))?;
    Ok(bytes)
}
