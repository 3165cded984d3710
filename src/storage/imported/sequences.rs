//! Sequences of ids, after rows with explicit ids.

use sea_orm::ConnectionTrait;

use crate::{
    domain::{error::Error, imported::NamedTable},
    storage::{SqlStore, connect::Engine, query_telemetry::own_statement},
    trace::Span,
};

impl SqlStore {
    /// Advances the sequences of PostgreSQL to the largest ids. MariaDB and SQLite do so themselves.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn advance_sequences(&self) -> Result<(), Error> {
        if self.engine() != Engine::Postgres {
            return Ok(());
        }
        let (database, span) = (self.prepared()?, Span::default());
        let (_room, lease) = database.own_writing().await?;
        for table in NamedTable::ALL.map(NamedTable::as_str).into_iter().chain(["accounts"]) {
            // Never back: another program may have taken ids meanwhile.
            let advance = format!(
                "SELECT setval(name, largest) FROM \
                 (SELECT pg_get_serial_sequence('{table}', 'id') AS name, \
                 (SELECT max(id) FROM {table}) AS largest) AS sequence \
                 WHERE largest > coalesce(pg_sequence_last_value(name::regclass), 0)"
            );
            let advance = lease.execute_unprepared(&advance);
            let advanced = own_statement(database.engine(), &span, "SELECT", table, advance).await;
            lease.note(advanced)?;
        }
        lease.done();
        Ok(())
    }
}
