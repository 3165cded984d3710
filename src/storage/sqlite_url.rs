//! The URL of a SQLite database: `sqlite://FILE`, with `%XX` for any byte of the path.

use std::{
    ffi::OsString,
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use super::connect::Engine;

/// Characters that a path in a URL must percent-encode.
const RESERVED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// Suffixes of the write-ahead log and its index, which SQLite stores beside the database.
pub(super) const LOG_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// An error in the URL of a SQLite database, or in its file. Never repeats an option's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqliteUrlError {
    /// The path is missing.
    #[error("the SQLite URL has no file: write sqlite://FILE")]
    NoFile,
    /// The decoded path is not UTF-8 or contains a NUL byte.
    #[error("the file in the SQLite URL must be UTF-8 without NUL bytes")]
    Encoding,
    /// The database is in memory and would be lost with its first connection.
    #[error("a SQLite database in memory cannot be used: write sqlite://FILE")]
    Memory,
    /// The option does not exist.
    #[error("the SQLite URL has an unknown option `{0}`: only `mode` is known")]
    UnknownOption(String),
    /// `mode` does not allow writes.
    #[error(
        "the option `mode` of the SQLite URL must be `rw` or `rwc`: the service stores updates"
    )]
    Mode,
    /// The path is not a regular file.
    #[error("the SQLite database {0} is not a file")]
    NotAFile(String),
    /// The process has no write access.
    #[error("{path} cannot be written by the user of this process: {reason}")]
    NotWritable {
        /// The file or its folder.
        path: String,
        /// The system's error.
        reason: String,
    },
}

/// The file of a SQLite database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqliteFile {
    path: String,
    /// Whether a missing file is created.
    pub(super) create: bool,
}

impl SqliteFile {
    /// Parses a URL.
    pub(super) fn from_url(url: &str) -> Result<Self, SqliteUrlError> {
        let rest = url.strip_prefix("sqlite:").unwrap_or(url);
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut create = true;
        for (name, value) in url::form_urlencoded::parse(options.as_bytes()) {
            match (&*name, &*value) {
                ("mode", "rwc") => create = true,
                ("mode", "rw") => create = false,
                ("mode", "memory") => return Err(SqliteUrlError::Memory),
                ("mode", _) => return Err(SqliteUrlError::Mode),
                _ => return Err(SqliteUrlError::UnknownOption(name.into_owned())),
            }
        }
        let path = percent_decode_str(path).decode_utf8().map_err(|_| SqliteUrlError::Encoding)?;
        match &*path {
            "" => Err(SqliteUrlError::NoFile),
            ":memory:" => Err(SqliteUrlError::Memory),
            path if path.contains('\0') => Err(SqliteUrlError::Encoding),
            // SQLite would parse the path as a URI.
            path if path.starts_with("file:") => Ok(Self { path: format!("./{path}"), create }),
            path => Ok(Self { path: path.to_owned(), create }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The path of the database with a suffix.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(suffix);
        path.into()
    }

    /// The file as a SQLite URI, which never creates the file.
    pub(super) fn uri(&self) -> String {
        // The empty authority protects a path that begins with two slashes.
        let authority = if self.path.starts_with('/') { "//" } else { "" };
        let path = utf8_percent_encode(&self.path, RESERVED);
        format!("file:{authority}{path}?mode=rw")
    }

    /// Checks that the process may write the existing files of the database. A missing folder may
    /// appear later.
    pub(super) fn check_writable(&self) -> Result<(), SqliteUrlError> {
        match std::fs::metadata(self.path()) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(SqliteUrlError::NotAFile(self.path.clone()));
            }
            _ => {}
        }
        writable(self.path(), Access::READ_OK | Access::WRITE_OK)?;
        for suffix in LOG_SUFFIXES {
            writable(&self.beside(suffix), Access::READ_OK | Access::WRITE_OK)?;
        }
        // SQLite creates and removes its log in this folder.
        writable(self.folder(), Access::WRITE_OK | Access::EXEC_OK)
    }

    /// The folder of the database.
    pub(super) fn folder(&self) -> &Path {
        folder(self.path())
    }
}

/// The folder of a file.
pub(super) fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn writable(path: &Path, access: Access) -> Result<(), SqliteUrlError> {
    // Never opens the file: closing it releases the locks of other connections in this process.
    match accessat(CWD, path, access, AtFlags::EACCESS) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => {
            let reason = io::Error::from(error).kind().to_string();
            Err(SqliteUrlError::NotWritable { path: path.display().to_string(), reason })
        }
    }
}

/// Checks the URL of a SQLite database; other URLs pass.
///
/// # Errors
/// Returns the invalid part of the URL.
pub fn check_url(url: &str) -> Result<(), SqliteUrlError> {
    match Engine::from_url(url) {
        Some(Engine::Sqlite) => SqliteFile::from_url(url).map(drop),
        _ => Ok(()),
    }
}

/// Checks that the process may write the file of a SQLite database; other URLs pass.
pub(super) fn check_file(url: &str) -> Result<(), SqliteUrlError> {
    match Engine::from_url(url) {
        Some(Engine::Sqlite) => SqliteFile::from_url(url)?.check_writable(),
        _ => Ok(()),
    }
}

/// The URL of a SQLite database in a file.
pub fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    // Encodes bytes, so that a parser rejects a path that is not UTF-8.
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            byte => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_and_whether_to_make_it() {
        for (url, path, create) in [
            ("sqlite://m4.db", "m4.db", true),
            ("sqlite:m4.db", "m4.db", true),
            ("sqlite:///var/m4.db?mode=rw", "/var/m4.db", false),
            ("sqlite:///var/m4.db?mode=rwc", "/var/m4.db", true),
            ("sqlite:///var/a%3Fb%23c%25d e.db", "/var/a?b#c%d e.db", true),
            ("sqlite:///var/a#b.db", "/var/a#b.db", true),
            ("sqlite://file:x", "./file:x", true),
        ] {
            let file = SqliteFile::from_url(url).unwrap();
            assert_eq!((file.path(), file.create), (Path::new(path), create), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_by_its_part() {
        for (url, words) in [
            ("sqlite://", "has no file"),
            ("sqlite:", "has no file"),
            ("sqlite://?mode=rw", "has no file"),
            ("sqlite:///x?foo=bar", "unknown option `foo`"),
            ("sqlite:///x?cache=shared", "unknown option `cache`"),
            ("sqlite:///x?mode=ro", "`mode`"),
            ("sqlite:///x?mode=", "`mode`"),
            ("sqlite:///x?mode=memory", "in memory"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:///x%00y", "NUL"),
            ("sqlite:///x%FFy", "UTF-8"),
        ] {
            let refused = SqliteFile::from_url(url).unwrap_err().to_string();
            assert!(refused.contains(words), "{url}: {refused}");
        }
    }

    #[test]
    fn a_path_survives_its_url_and_its_uri() {
        for path in ["/a b/?c#d%20e&f=g/ü.db", "a.db", "//a/b", "sqlite://x", "a\\b\"c"] {
            let file = SqliteFile::from_url(&sqlite_url(Path::new(path))).unwrap();
            assert_eq!(file.path(), Path::new(path));
        }
        let uri = |path: &str| SqliteFile { path: path.to_owned(), create: true }.uri();
        assert_eq!(uri("/a?b"), "file:///a%3Fb?mode=rw");
        assert_eq!(uri("a%b"), "file:a%25b?mode=rw");
        assert_eq!(uri("//a#b"), "file:////a%23b?mode=rw");
    }

    #[test]
    fn a_folder_is_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteFile::from_url(&sqlite_url(folder.path())).unwrap();
        let refused = file.check_writable().unwrap_err();
        assert!(matches!(refused, SqliteUrlError::NotAFile(_)), "{refused}");
        let file = SqliteFile::from_url(&sqlite_url(&folder.path().join("new.db"))).unwrap();
        assert_eq!(file.check_writable(), Ok(()));
        let file = SqliteFile::from_url("sqlite:///no/such/folder/x.db").unwrap();
        assert_eq!(file.check_writable(), Ok(()));
    }
}
