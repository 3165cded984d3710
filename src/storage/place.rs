//! Detects deleted or replaced files of an open SQLite database. SQLite keeps writing to the
//! unlinked files, and these updates are lost.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf, sync::OnceLock};

use super::sqlite_url::{LOG_SUFFIXES, SqliteFile};
use crate::domain::error::Error;

/// A file was deleted or replaced while it was open.
#[derive(Debug, thiserror::Error)]
#[error("{} was deleted or replaced: put it back, or restart", .0.display())]
pub(super) struct Displaced(PathBuf);

impl From<Displaced> for Error {
    fn from(displaced: Displaced) -> Self {
        Self::Unavailable(displaced.into())
    }
}

/// A file's identity: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// The database, its write-ahead log and the log's index. They stay the same files while a
/// connection is open. The writer keeps a connection open until the process ends.
#[derive(Debug)]
pub(super) struct Place {
    paths: [PathBuf; 3],
    opened: OnceLock<[Identity; 3]>,
}

impl Place {
    pub(super) fn new(file: &SqliteFile) -> Self {
        let [log, index] = LOG_SUFFIXES.map(|suffix| file.beside(suffix));
        Self { paths: [file.path().to_owned(), log, index], opened: OnceLock::new() }
    }

    /// The file that now has the database's path.
    pub(super) fn database(&self) -> Result<Identity, Displaced> {
        self.identity(0)
    }

    /// Records the files of the first connection. `before` is the database file before that
    /// connection was opened. Later connections must use the same files.
    pub(super) fn settle(&self, before: Identity) -> Result<(), Displaced> {
        if self.opened.get().is_none() {
            let now = [self.identity(0)?, self.identity(1)?, self.identity(2)?];
            if now[0] != before {
                return Err(Displaced(self.paths[0].clone()));
            }
            let _ = self.opened.set(now);
        }
        self.check().map(drop)
    }

    /// Checks that the recorded files are in place. Passes before the first connection. Returns the
    /// size of the log in bytes.
    pub(super) fn check(&self) -> Result<u64, Displaced> {
        let Some(opened) = self.opened.get() else { return Ok(0) };
        let mut bytes = [0; 3];
        for (index, opened) in opened.iter().enumerate() {
            let path = &self.paths[index];
            let found = fs::metadata(path).ok().filter(|found| Identity::of(found) == *opened);
            bytes[index] = found.ok_or_else(|| Displaced(path.clone()))?.len();
        }
        Ok(bytes[1])
    }

    /// Whether the database is in place and its log is missing.
    pub(super) fn lacks_log(&self) -> bool {
        let is_there = self
            .opened
            .get()
            .is_some_and(|opened| self.identity(0).is_ok_and(|database| database == opened[0]));
        let log = identity(&self.paths[1]);
        is_there && log.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    fn identity(&self, index: usize) -> Result<Identity, Displaced> {
        identity(&self.paths[index]).map_err(|_| Displaced(self.paths[index].clone()))
    }
}

/// Never opens the file: closing it releases the locks of other connections in this process.
fn identity(path: &PathBuf) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| Identity::of(&metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_deleted_or_replaced_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            fs::write(path(name), "").unwrap();
        }
        let url = crate::storage::sqlite_url(&path("a.db"));
        let place = Place::new(&SqliteFile::from_url(&url).unwrap());
        assert!(place.check().is_ok());
        place.settle(place.database().unwrap()).unwrap();
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            fs::rename(path(name), path("aside")).unwrap();
            assert!(place.check().unwrap_err().to_string().contains(name), "deleted");
            assert_eq!(place.lacks_log(), name == "a.db-wal");
            fs::write(path(name), "").unwrap();
            assert!(place.check().is_err(), "replaced");
            assert!(!place.lacks_log());
            fs::rename(path("aside"), path(name)).unwrap();
            assert!(place.check().is_ok(), "put back");
        }
        let other = Place::new(&SqliteFile::from_url(&url).unwrap());
        let before = other.database().unwrap();
        fs::write(path("new"), "").unwrap();
        fs::rename(path("new"), path("a.db")).unwrap();
        assert!(other.settle(before).is_err(), "replaced while it was opened");
    }
}
