//! Detects deleted, replaced and overwritten files of an open SQLite database. SQLite keeps writing
//! to unlinked files, and to its log of an overwritten file: these updates are lost. The format of
//! the files is in <https://www.sqlite.org/walformat.html>.

use std::{
    fs::{self, File},
    io,
    mem::ManuallyDrop,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::sqlite_url::{LOG_SUFFIXES, SqliteFile};
use crate::domain::error::Error;

/// Another program changed a file while it was open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Displaced {
    #[error("{} was deleted or replaced: put it back, or restart", .0.display())]
    Moved(PathBuf),
    #[error("{} was overwritten: stop the service and restore the database", .0.display())]
    Overwritten(PathBuf),
}

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
    opened: OnceLock<Opened>,
}

/// The files of the first connection.
#[derive(Debug)]
struct Opened {
    files: [Identity; 3],
    log: File,
    /// The end of the log at the last check.
    log_end: Mutex<Option<LogEnd>>,
    /// The log's index. Never closed: that would release the locks of SQLite in this process.
    index: ManuallyDrop<File>,
    /// The database file after the last known checkpoint.
    content: Mutex<Option<Content>>,
    /// An overwritten file stays overwritten, whatever a later checkpoint writes.
    is_overwritten: AtomicBool,
}

/// Identifies the content of the database file. With a write-ahead log, only checkpoints write to
/// the database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    checkpoints: Checkpoints,
}

/// The state of checkpoints in the log's index. A checkpoint sets `attempted`, writes to the database
/// file, and then sets `copied`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checkpoints {
    /// Changes when the log restarts.
    salt: [u8; 8],
    copied: [u8; 4],
    attempted: [u8; 4],
}

impl Checkpoints {
    fn read(index: &File) -> io::Result<Self> {
        let mut found = Self::default();
        index.read_exact_at(&mut found.salt, 32)?;
        index.read_exact_at(&mut found.copied, 96)?;
        index.read_exact_at(&mut found.attempted, 128)?;
        Ok(found)
    }
}

/// The end of the log as its index records it. SQLite appends to the log first, and restarts it
/// last.
#[derive(Clone, Copy, Debug)]
struct LogEnd {
    /// The number of pages in the log.
    pages: u32,
    page_bytes: u64,
    checksum: [u8; 8],
    salt: [u8; 8],
}

impl LogEnd {
    /// The index has this header twice.
    const INDEX_HEADER: usize = 48;
    const LOG_HEADER: u64 = 32;
    const PAGE_HEADER: u64 = 24;

    /// Reads the index. `None` for an empty log, and while SQLite writes the header.
    fn read(index: &File) -> io::Result<Option<Self>> {
        let mut headers = [0; Self::INDEX_HEADER * 2];
        index.read_exact_at(&mut headers, 0)?;
        let (header, copy) = headers.split_at(Self::INDEX_HEADER);
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let half = u16::from_ne_bytes([header[14], header[15]]);
        let pages = word(16);
        if header != copy || pages == 0 {
            return Ok(None);
        }
        let mut checksum = [0; 8];
        checksum[..4].copy_from_slice(&word(24).to_be_bytes());
        checksum[4..].copy_from_slice(&word(28).to_be_bytes());
        let mut salt = [0; 8];
        salt.copy_from_slice(&header[32..40]);
        // 65,536 is stored as 1.
        let page_bytes = if half == 1 { 65_536 } else { u64::from(half) };
        Ok(Some(Self { pages, page_bytes, checksum, salt }))
    }

    /// Whether the log begins and ends as SQLite wrote it.
    fn is_in(&self, log: &File) -> io::Result<bool> {
        let last =
            Self::LOG_HEADER + u64::from(self.pages - 1) * (Self::PAGE_HEADER + self.page_bytes);
        let (mut first, mut end) = ([0; 8], [0; 16]);
        let read = log.read_exact_at(&mut first, 16);
        let read = read.and_then(|()| log.read_exact_at(&mut end, last + 8));
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => {
                read?;
                Ok(first == self.salt && end[..8] == self.salt && end[8..] == self.checksum)
            }
        }
    }
}

impl Opened {
    /// Whether another program has written to the log: its last page, or that of the check before, is
    /// gone.
    fn is_log_overwritten(&self) -> io::Result<bool> {
        let Some(end) = LogEnd::read(&self.index)? else { return Ok(false) };
        let before = self.log_end.lock().unwrap_or_else(PoisonError::into_inner).replace(end);
        let mut is_there = end.is_in(&self.log)?;
        if let Some(before) = before.filter(|before| before.salt == end.salt) {
            is_there &= before.is_in(&self.log)?;
        }
        // Another process may have restarted the log meanwhile.
        let is_overwritten =
            !is_there && LogEnd::read(&self.index)?.is_some_and(|later| later.salt == end.salt);
        self.is_overwritten.fetch_or(is_overwritten, Ordering::Relaxed);
        Ok(is_overwritten)
    }

    /// Whether the database file has ever changed without a checkpoint. During a checkpoint it
    /// cannot be seen.
    fn is_overwritten(&self, database: &PathBuf) -> io::Result<bool> {
        let checkpoints = Checkpoints::read(&self.index)?;
        let file = fs::metadata(database)?;
        let is_settled = checkpoints.copied == checkpoints.attempted
            && checkpoints == Checkpoints::read(&self.index)?;
        if !is_settled {
            return Ok(self.is_overwritten.load(Ordering::Relaxed));
        }
        let modified = (file.mtime(), file.mtime_nsec());
        let content = Content { bytes: file.len(), modified, checkpoints };
        let mut last = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let is_overwritten =
            last.is_some_and(|last| last != content && last.checkpoints == checkpoints);
        *last = Some(content);
        self.is_overwritten.fetch_or(is_overwritten, Ordering::Relaxed);
        Ok(self.is_overwritten.load(Ordering::Relaxed))
    }
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
            let files = [self.identity(0)?, self.identity(1)?, self.identity(2)?];
            if files[0] != before {
                return Err(Displaced::Moved(self.paths[0].clone()));
            }
            let open = |index: usize| {
                let path = &self.paths[index];
                File::open(path).map_err(|_| Displaced::Moved(path.clone()))
            };
            let (log, index) = (open(1)?, ManuallyDrop::new(open(2)?));
            let _ = self.opened.set(Opened {
                files,
                log,
                log_end: Mutex::new(None),
                index,
                content: Mutex::new(None),
                is_overwritten: AtomicBool::new(false),
            });
        }
        self.check().map(drop)
    }

    /// Checks that the recorded files are in place and only SQLite has written to the database.
    /// Passes before the first connection. Returns the size of the log in bytes.
    pub(super) fn check(&self) -> Result<u64, Displaced> {
        let Some(opened) = self.opened.get() else { return Ok(0) };
        let mut bytes = [0; 3];
        for (index, opened) in opened.files.iter().enumerate() {
            let path = &self.paths[index];
            let found = fs::metadata(path).ok().filter(|found| Identity::of(found) == *opened);
            bytes[index] = found.ok_or_else(|| Displaced::Moved(path.clone()))?.len();
        }
        let [database, log, index] = &self.paths;
        let checks = || Ok((opened.is_log_overwritten()?, opened.is_overwritten(database)?));
        match checks().map_err(|_: io::Error| Displaced::Moved(index.clone()))? {
            (true, _) => Err(Displaced::Overwritten(log.clone())),
            (false, true) => Err(Displaced::Overwritten(database.clone())),
            (false, false) => Ok(bytes[1]),
        }
    }

    /// Whether the database is in place, and its log is missing, or is a new connection's empty log.
    pub(super) fn lacks_log(&self) -> bool {
        let is_there = |opened: &Opened| self.identity(0).is_ok_and(|file| file == opened.files[0]);
        let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        self.opened.get().is_some_and(is_there)
            && fs::metadata(&self.paths[1]).map_or_else(is_missing, |log| log.len() == 0)
    }

    fn identity(&self, index: usize) -> Result<Identity, Displaced> {
        identity(&self.paths[index]).map_err(|_| Displaced::Moved(self.paths[index].clone()))
    }
}

/// Does not open the file: a close would release the locks of SQLite in this process.
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
            fs::write(path(name), [0; 136]).unwrap();
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
            assert_eq!(place.lacks_log(), name == "a.db-wal", "a new connection's empty log");
            fs::write(path(name), [0; 136]).unwrap();
            assert!(place.check().is_err(), "replaced");
            assert!(!place.lacks_log());
            fs::rename(path("aside"), path(name)).unwrap();
            assert!(place.check().is_ok(), "put back");
        }
        fs::write(path("a.db"), [1; 136]).unwrap();
        assert!(place.check().unwrap_err().to_string().contains("was overwritten"));
        let other = Place::new(&SqliteFile::from_url(&url).unwrap());
        let before = other.database().unwrap();
        fs::write(path("new"), "").unwrap();
        fs::rename(path("new"), path("a.db")).unwrap();
        assert!(other.settle(before).is_err(), "replaced while it was opened");
    }
}
