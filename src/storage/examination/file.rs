//! The file of a SQLite database, and its folder.

use std::path::Path;

use rustix::fs::statvfs;
use sea_orm::{DatabaseConnection, DbErr};

use super::answer::{DATABASE, first};
use crate::{
    finding::Finding,
    storage::{
        connect::Options,
        sqlite_connection::LOG_BYTES,
        sqlite_url::{SqliteFile, check_file},
    },
};

const DISK: &str = "free disk space";

/// Free bytes below which an operator should act: 1 GiB.
const LOW_SPACE: u64 = 1 << 30;

/// Examines the file and its folder. Returns whether the file exists and can be used.
pub(super) fn examine(options: &Options, findings: &mut Vec<Finding>) -> bool {
    let file = match SqliteFile::from_url(&options.url) {
        Ok(file) => file,
        Err(error) => {
            findings.push(Finding::error(DATABASE, error.to_string(), ""));
            return false;
        }
    };
    findings.push(space(file.folder()));
    if let Err(error) = check_file(&options.url) {
        let remedy = "give the user of the service write access to the file and its folder";
        findings.push(Finding::error(DATABASE, error.to_string(), remedy));
        return false;
    }
    if file.path().exists() {
        return true;
    }
    let found = format!("{} does not exist yet", file.path().display());
    findings.push(if file.create {
        Finding::warning(DATABASE, found, "run `migrate`; `serve` creates the file")
    } else {
        Finding::error(DATABASE, found, "put the file there, or remove `mode=rw` from the URL")
    });
    false
}

/// The free space of the folder, for processes without privileges.
fn space(folder: &Path) -> Finding {
    let free = match statvfs(folder) {
        Ok(system) => system.f_bavail.saturating_mul(system.f_frsize),
        Err(error) => {
            let error = std::io::Error::from(error).kind();
            let found = format!("{}: {error}", folder.display());
            return Finding::error(DISK, found, "create the folder of the database");
        }
    };
    let found = format!("{} MB in {}", free / 1_000_000, folder.display());
    let remedy = "free space, or move the database to a larger disk";
    match free {
        // The write-ahead log alone may take this much.
        free if free < LOG_BYTES => Finding::error(DISK, found, remedy),
        free if free < LOW_SPACE => Finding::warning(DISK, found, remedy),
        _ => Finding::ok(DISK, found),
    }
}

/// The version, the encoding, and the settings of the file that durability hangs on.
pub(super) async fn settings(connection: &DatabaseConnection) -> Result<[Finding; 2], DbErr> {
    let version: String = first(connection, "SELECT sqlite_version()").await?;
    // The first read of the file.
    let mode: String = first(connection, "SELECT journal_mode FROM pragma_journal_mode").await?;
    let encoding: String = first(connection, "SELECT encoding FROM pragma_encoding").await?;
    let found = format!("SQLite {version}, encoding {encoding}");
    let database = if encoding == "UTF-8" {
        Finding::ok(DATABASE, found)
    } else {
        Finding::error(DATABASE, found, "create the database with PRAGMA encoding = 'UTF-8'")
    };
    let found = format!("journal_mode {mode}; the service sets WAL and synchronous = FULL");
    Ok([database, Finding::ok("durability", found)])
}
