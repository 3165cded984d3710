//! Files of copies.

use std::{fs::File, io, path::Path};

use super::error::BackupError;
use crate::storage::{
    connect::{Engine, OpenError, Options},
    sqlite_url::{SqliteFile, folder},
};

/// The file of a SQLite database. `tools` are for database servers.
pub(super) fn sqlite_file(
    options: &Options,
    tools: &'static str,
) -> Result<SqliteFile, BackupError> {
    if Engine::from_url(&options.url) != Some(Engine::Sqlite) {
        return Err(BackupError::Server(tools));
    }
    SqliteFile::from_url(&options.url).map_err(|error| OpenError::from(error).into())
}

/// Syncs a file to disk, whichever descriptor wrote to it. Returns its size in bytes.
pub(super) fn sync(file: &File) -> io::Result<u64> {
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Syncs the folder of a file: its name survives a power loss.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder(file))?.sync_all()
}
