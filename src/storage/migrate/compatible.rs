//! Whether this version may run on a schema.

use m4_user_details_migrations::{Step, newer};
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
