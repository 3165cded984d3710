//! The rows without which updates or calls are refused.

use sea_orm::DatabaseConnection;

use super::answer::first;
use crate::finding::Finding;

const ADMINS: &str =
    "SELECT count(*) FROM accounts WHERE account_type = 'admin' AND blocked = FALSE";
const CLIENT_KEYS: &str = "SELECT count(*) FROM legacy_keys WHERE revoke_time IS NULL";

/// Examines the rows. A table that is missing is skipped: its step is pending. Returns the number
/// of client keys that are not revoked.
pub(super) async fn examine(connection: &DatabaseConnection, findings: &mut Vec<Finding>) -> i64 {
    let count = async |sql: &str| first::<i64>(connection, sql).await.ok();
    let currencies = count("SELECT count(*) FROM currencies").await;
    let directions = count("SELECT count(*) FROM directions").await;
    if let (Some(currencies), Some(directions)) = (currencies, directions) {
        let found = format!("{currencies} currencies, {directions} directions");
        findings.push(if currencies == 0 || directions == 0 {
            let remedy =
                "import the reference data: until then, updates of these fields are refused";
            Finding::warning("reference data", found, remedy)
        } else {
            Finding::ok("reference data", found)
        });
    }
    if let Some(admins) = count(ADMINS).await {
        let found = format!("{admins} admin accounts that are not blocked");
        findings.push(if admins == 0 {
            Finding::warning("admin", found, "import an account of the type `admin`, or unblock it")
        } else {
            Finding::ok("admin", found)
        });
    }
    count(CLIENT_KEYS).await.unwrap_or_default()
}
