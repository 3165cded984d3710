//! The session settings that the service needs, whatever the server's defaults are.

use sea_orm::sqlx::{self, Executor, MySqlConnection, PgConnection};

use super::engine::learn_galera;

/// Commits are durable before they are acknowledged. Statements time out. A client that vanished
/// loses its locks two seconds after its last statement: the service never pauses that long within a
/// transaction.
const POSTGRES: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
    SET client_min_messages = 'warning';
    SET standard_conforming_strings = on;
    SET lock_timeout = '5s';
    SET statement_timeout = '10s';
    SET idle_in_transaction_session_timeout = '2s';
    SET tcp_keepalives_idle = 30;
    SET tcp_keepalives_interval = 10;
    SET tcp_keepalives_count = 3;
    SET default_transaction_isolation = 'read committed'";

/// Autocommit is on. A locked row is read as of now, not as of the transaction's first statement. A
/// value that does not fit is an error, and is never truncated.
const MYSQL: &str = "
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION autocommit = 1,
        sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT',
        default_storage_engine = InnoDB, completion_type = 'NO_CHAIN', foreign_key_checks = 1, unique_checks = 1,
        innodb_lock_wait_timeout = 5, lock_wait_timeout = 5
        /*M!100300 , idle_transaction_timeout = 2 */ /*M!100100 , max_statement_time = 10 */";

/// Whether the server is a node of a Galera cluster.
const GALERA: &str = "SHOW SESSION VARIABLES WHERE variable_name = 'wsrep_on' AND value = 'ON'";

/// A read waits for the updates that other nodes have acknowledged: an update without changes must
/// see the newest row.
const GALERA_SESSION: &str = "SET SESSION wsrep_sync_wait = 1";

/// Sets up a session of PostgreSQL.
pub(super) async fn postgres(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(POSTGRES).await.map(drop)
}

/// Sets up a session of MariaDB or MySQL.
pub(super) async fn mysql(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute(MYSQL).await?;
    if connection.fetch_optional(GALERA).await?.is_some() {
        learn_galera();
        connection.execute(GALERA_SESSION).await?;
    }
    Ok(())
}
