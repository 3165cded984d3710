//! Reads of whole tables from one snapshot, however long they take.

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, IsolationLevel,
    TransactionTrait,
};
use tokio::time::timeout;

use super::{
    connect::{ACQUIRE_TIMEOUT, Engine, OpenError, Options, UrlError, read_only},
    migrate::{StepState, plan},
};

/// The reader may pause for longer than the timeouts of a call.
const POSTGRES_READ: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
const MYSQL_READ: &str = "SET SESSION net_write_timeout = 3600 \
                          /*M!100300 , idle_transaction_timeout = 0 */ \
                          /*M!100100 , max_statement_time = 0 */";

/// A read-only transaction that sees one snapshot. Blocks no writer. On SQLite, the write-ahead log
/// grows until the end of the transaction.
pub(super) struct ConsistentRead {
    connection: DatabaseConnection,
    transaction: DatabaseTransaction,
}

impl ConsistentRead {
    /// Begins on a database whose schema is up to date. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn begin(options: &Options) -> Result<Self, OpenError> {
        let engine = Engine::from_url(&options.url).ok_or(UrlError::Scheme)?;
        let steps = plan(options).await?;
        let pending = steps.iter().filter(|step| step.state == StepState::Pending).count();
        if pending > 0 {
            return Err(OpenError::Pending(pending));
        }
        let connection = read_only(options).await?;
        let transaction = match engine {
            Engine::Sqlite => connection.begin().await?,
            Engine::Postgres | Engine::MySql => {
                let session = if engine == Engine::Postgres { POSTGRES_READ } else { MYSQL_READ };
                connection.execute_unprepared(session).await?;
                let (level, mode) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
                connection.begin_with_config(Some(level), Some(mode)).await?
            }
        };
        Ok(Self { connection, transaction })
    }

    /// The transaction.
    pub(super) fn transaction(&self) -> &DatabaseTransaction {
        &self.transaction
    }

    /// Ends the transaction. A failure does not change what was read.
    pub(super) async fn end(self) {
        let Self { connection, transaction } = self;
        let end = async {
            let _ = transaction.rollback().await;
            let _ = connection.close().await;
        };
        let _ = timeout(ACQUIRE_TIMEOUT, end).await;
    }
}
