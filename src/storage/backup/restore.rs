//! Puts a backup in place of the database.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, fcntl_lock};
use tempfile::NamedTempFile;

use super::{
    error::{BackupError, RESTORE_TOOLS},
    file::{sqlite_file, sync, sync_folder},
};
use crate::{
    domain::{administration::Administrator, call_context::CallContext},
    storage::{
        connect::Options,
        migrate::migrate,
        sqlite_url::{LOG_SUFFIXES, SqliteFile, sqlite_url},
        store::SqlStore,
    },
};

/// The suffix of the journal of a database without a write-ahead log.
const JOURNAL_SUFFIX: &str = "-journal";

/// The tables that every version of the service has.
const OWN_TABLES: &str = "SELECT count(*) FROM sqlite_master WHERE type = 'table' \
                          AND name IN ('accounts', 'change_log', 'seaql_migrations')";

/// Replaces the database by a copy of `backup` with a new epoch and the newest schema. Returns its size in
/// bytes. At every moment, the path has the old or the new database, complete.
///
/// # Errors
/// [`BackupError`]: above all, if a process uses the database, or `backup` is no intact database of
/// this service. Then the old database stays.
pub async fn restore(
    options: &Options,
    backup: &Path,
    by: (&Administrator, DateTime<Utc>),
) -> Result<u64, BackupError> {
    let database = sqlite_file(options, RESTORE_TOOLS)?;
    if side_files(backup).any(|path| path.metadata().is_ok_and(|file| file.len() > 0)) {
        return Err(BackupError::HasLog(backup.to_owned()));
    }
    let copy = copy_beside(&database, backup)?;
    check(copy.path(), backup)?;
    begin_epoch(&Options::of(sqlite_url(copy.path())), by).await?;
    // Moves the log into the copy, too.
    check(copy.path(), backup)?;
    let bytes = sync(copy.as_file()).map_err(BackupError::of_file(database.path()))?;
    replace(&database, copy)?;
    Ok(bytes)
}

/// Begins the new epoch in the copy.
async fn begin_epoch(
    copy: &Options,
    by: (&Administrator, DateTime<Utc>),
) -> Result<(), BackupError> {
    migrate(copy, false).await?;
    let store = SqlStore::open_existing(copy.clone()).await?;
    let begun = store.begin_epoch(&CallContext::default(), by).await;
    store.close().await;
    begun.map(drop).map_err(BackupError::Epoch)
}

/// The files that SQLite may have beside a database.
fn side_files(database: &Path) -> impl Iterator<Item = PathBuf> {
    let suffixes = LOG_SUFFIXES.into_iter().chain([JOURNAL_SUFFIX]);
    suffixes.map(|suffix| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

/// Copies the backup into the folder of the database, with the owner and the mode of the old file.
fn copy_beside(database: &SqliteFile, backup: &Path) -> Result<NamedTempFile, BackupError> {
    let mut source = File::open(backup).map_err(BackupError::of_file(backup))?;
    let mut copy = || {
        let mut copy = NamedTempFile::new_in(database.folder())?;
        io::copy(&mut source, copy.as_file_mut())?;
        if let Ok(old) = fs::metadata(database.path()) {
            let new = copy.as_file().metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                chown(copy.path(), Some(old.uid()), Some(old.gid()))?;
            }
            copy.as_file().set_permissions(old.permissions())?;
        }
        Ok(copy)
    };
    copy().map_err(BackupError::of_file(database.path()))
}

/// Checks that the copy is an intact database of the service. Removes a copied flag of the
/// write-ahead log: with the flag, SQLite creates a log beside the copy.
fn check(copy: &Path, backup: &Path) -> Result<(), BackupError> {
    let foreign =
        |reason: &str| BackupError::Foreign { path: backup.to_owned(), reason: reason.to_owned() };
    let checks = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(copy, flags)?;
        let text = |sql| connection.query_row(sql, [], |row| row.get::<_, String>(0));
        text("PRAGMA journal_mode = DELETE")?;
        let tables = connection.query_row(OWN_TABLES, [], |row| row.get::<_, i64>(0))?;
        Ok((text("PRAGMA quick_check(1)")?, tables))
    };
    match checks().map_err(|error: rusqlite::Error| error.sqlite_error_code()) {
        Err(Some(ErrorCode::NotADatabase)) => Err(foreign("it is no SQLite database")),
        Err(_) => Err(foreign("it is damaged")),
        Ok((_, tables)) if tables < 3 => Err(foreign("it lacks the service's tables")),
        Ok((intact, _)) if intact != "ok" => Err(foreign("it is damaged")),
        Ok(_) => Ok(()),
    }
}

/// Renames the copy to the database while no process uses the database.
fn replace(database: &SqliteFile, copy: NamedTempFile) -> Result<(), BackupError> {
    let path = database.path();
    // Held until the end. Closing any other descriptor of the file would release its lock.
    let _old = if path.exists() {
        remove_log(path)?;
        let old = File::options().read(true).write(true).open(path);
        let old = old.map_err(BackupError::of_file(path))?;
        lock(&old, path)?;
        Some(old)
    } else {
        None
    };
    // A service that starts meanwhile waits until the old log is gone.
    lock(copy.as_file(), path)?;
    for file in side_files(path) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackupError::of_file(&file)(error));
            }
            _ => {}
        }
    }
    let _copy = copy.persist(path).map_err(|failed| BackupError::of_file(path)(failed.error))?;
    sync_folder(path).map_err(BackupError::of_file(path))
}

/// Has SQLite move the log of the old database into its file, and remove the log: if the restore is
/// interrupted, no old log may be beside a new database. SQLite refuses while any process has a
/// connection. A damaged database keeps its log.
fn remove_log(path: &Path) -> Result<(), BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let removed = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(Duration::ZERO)?;
        connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0))
    });
    match removed.map_err(|error| error.sqlite_error_code()) {
        Err(Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
            Err(BackupError::InUse(path.to_owned()))
        }
        Ok(mode) if mode == "wal" => Err(BackupError::InUse(path.to_owned())),
        _ => Ok(()),
    }
}

/// Locks all bytes of a file. Each connection of SQLite with a write-ahead log holds a lock on some
/// of them: <https://www.sqlite.org/lockingv3.html>.
fn lock(file: &File, path: &Path) -> Result<(), BackupError> {
    fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| BackupError::InUse(path.to_owned()))
}
