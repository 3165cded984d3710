//! Reads of the service itself.

use sea_orm::{EntityTrait, FromQueryResult, Select};

use super::{Database, again};
use crate::{domain::error::Error, storage::query_telemetry::own_statement, trace::Span};

impl Database {
    /// All rows of a statement on a table. Reads once more if the connection was unusable.
    pub(in crate::storage) async fn own_rows<E, T>(
        &self,
        span: &Span,
        table: &'static str,
        select: Select<E>,
    ) -> Result<Vec<T>, Error>
    where
        E: EntityTrait,
        T: FromQueryResult + Send + Sync,
    {
        let read = || async {
            let (_room, lease) = self.own_work().await?;
            let rows = select.clone().into_model::<T>().all(&*lease);
            let rows = own_statement(self.engine(), span, "SELECT", table, rows).await;
            let rows = lease.note(rows)?;
            lease.done();
            Ok(rows)
        };
        again(read).await
    }
}
