//! Statistics of PostgreSQL's planner, while the table grows.

use sea_orm::ConnectionTrait;

use crate::{
    domain::error::Error,
    storage::{SqlStore, connect::Engine, query_telemetry::own_statement},
    trace::Span,
};

impl SqlStore {
    /// Has PostgreSQL analyse the accounts. Its sessions keep the plans of foreign key checks: plans
    /// for a small table read the whole table for each check. Without privileges, nothing happens.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn analyze_accounts(&self) -> Result<(), Error> {
        if self.engine() != Engine::Postgres {
            return Ok(());
        }
        let (database, span) = (self.prepared()?, Span::default());
        let (_room, lease) = database.own_writing().await?;
        let analyze = lease.execute_unprepared("ANALYZE accounts");
        let analyzed =
            own_statement(database.engine(), &span, "ANALYZE", "accounts", analyze).await;
        lease.note(analyzed)?;
        lease.done();
        Ok(())
    }
}
