//! Whether this version may run on a schema.

use m4_user_details_migrations::{Record, Step, newer};
use sea_orm::DatabaseConnection;

use crate::storage::connect::OpenError;

/// Rejects a schema that is incompatible with this version.
pub(super) async fn check_compatible(
    connection: &DatabaseConnection,
    steps: &[Step],
) -> Result<(), OpenError> {
    match newer(connection, steps).await? {
        None => Ok(()),
        Some(newer) => Err(OpenError::Newer { step: newer.step, reason: newer.reason }),
    }
}

/// Rejects a schema that is incompatible with this version, or lacks steps. Changes nothing.
pub(super) async fn check_up_to_date(
    connection: &DatabaseConnection,
    steps: &[Step],
) -> Result<(), OpenError> {
    check_compatible(connection, steps).await?;
    let record = Record::read(connection).await?;
    match steps.iter().filter(|step| !record.has(step)).count() {
        0 => Ok(()),
        pending => Err(OpenError::Pending(pending)),
    }
}
