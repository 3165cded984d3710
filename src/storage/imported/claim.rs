//! The claim of a running import. It ends with the process.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
};

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::time::timeout;

use crate::{
    domain::error::Error,
    storage::{
        SqlStore,
        connect::{ACQUIRE_TIMEOUT, Engine, OpenError, single},
        failure::unanswered,
        sqlite_url::SqliteFile,
    },
};

/// The key is any number that other programs are unlikely to use.
const POSTGRES_CLAIM: &str = "SELECT CAST(pg_try_advisory_lock(7233451094662812) AS int)::bigint";
/// Names are of the whole server, and have at most 64 characters.
const MYSQL_CLAIM: &str =
    "SELECT CAST(GET_LOCK(CONCAT('m4-import ', MD5(DATABASE())), 0) AS SIGNED)";

/// Keeps other imports out of a database until drop.
#[derive(Debug)]
pub(crate) enum ImportClaim {
    /// The lock of a session.
    Session { _connection: DatabaseConnection },
    /// The lock of a file beside the database: SQLite's own locks would stop all writers.
    File { _file: File },
}

impl SqlStore {
    /// Claims the database for an import. `None` if another import runs. On a Galera cluster, the
    /// claim holds on one node.
    ///
    /// # Errors
    /// [`Error::Unavailable`] of the storage.
    pub(crate) async fn claim_import(&self) -> Result<Option<ImportClaim>, Error> {
        let unavailable = |error: OpenError| Error::Unavailable(error.into());
        let claim = match self.engine() {
            Engine::Sqlite => {
                let file = SqliteFile::from_url(&self.options().url);
                let file = file.map_err(|error| unavailable(error.into()))?;
                let mut path = file.path().as_os_str().to_owned();
                path.push("-import");
                return claim_file(path.into());
            }
            Engine::Postgres => POSTGRES_CLAIM,
            Engine::MySql => MYSQL_CLAIM,
        };
        let claimed = timeout(ACQUIRE_TIMEOUT, self.claim_session(claim)).await;
        claimed.map_err(|_| unanswered())?.map_err(unavailable)
    }

    async fn claim_session(&self, claim: &str) -> Result<Option<ImportClaim>, OpenError> {
        let connection = single(self.options()).await?;
        let claim = Statement::from_string(connection.get_database_backend(), claim);
        let row = connection.query_one_raw(claim).await?;
        let is_claimed = row.map(|row| row.try_get_by_index::<i64>(0)).transpose()? == Some(1);
        Ok(is_claimed.then_some(ImportClaim::Session { _connection: connection }))
    }
}

fn claim_file(path: PathBuf) -> Result<Option<ImportClaim>, Error> {
    let unavailable = |error: std::io::Error| Error::Unavailable(error.into());
    let file = File::options().create(true).append(true).open(path).map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(ImportClaim::File { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}
