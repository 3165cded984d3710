//! The triggers of MariaDB and MySQL. They run with the privileges of their definer.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, QueryResult, Statement, TransactionTrait,
};

use super::answer::first;
use crate::{finding::Finding, storage::failure::Coded};

const TRIGGERS: &str = "triggers";

/// Examines whether the user may apply pending steps with triggers. `None` if that is unknown.
pub(super) async fn examine_migration(connection: &DatabaseConnection) -> Option<Finding> {
    let database = first::<String>(connection, "SELECT DATABASE()").await.ok()?;
    let version = first::<String>(connection, "SELECT VERSION()").await.ok()?;
    let grants = Statement::from_string(connection.get_database_backend(), "SHOW GRANTS");
    let grants = connection.query_all_raw(grants).await.ok()?;
    let text = |row: QueryResult| row.try_get_by_index(0);
    let grants: Vec<String> = grants.into_iter().map(text).collect::<Result<_, DbErr>>().ok()?;
    if grants.iter().any(|grant| allows_triggers(grant, &database)) {
        return Some(Finding::ok(TRIGGERS, "the user may create triggers"));
    }
    // MySQL does not list the privileges of roles.
    let has_role = grants.iter().any(|grant| !grant.contains(" ON "));
    if has_role && !version.contains("MariaDB") {
        return None;
    }
    let found = "missing: TRIGGER: the pending steps cannot be applied";
    Some(Finding::error(
        TRIGGERS,
        found,
        "GRANT TRIGGER on the database to the user of database.url",
    ))
}

/// Whether a line of `SHOW GRANTS` has the privilege to create triggers of `accounts`.
fn allows_triggers(grant: &str, database: &str) -> bool {
    let Some((privileges, rest)) = grant.split_once(" ON ") else { return false };
    let Some((scope, _)) = rest.split_once(" TO ") else { return false };
    // A name is a pattern, in backticks.
    let scope = scope.replace(['`', '\\'], "");
    let Some((schema, table)) = scope.rsplit_once('.') else { return false };
    let mut privileges = privileges.trim_start_matches("GRANT ").split(", ");
    privileges.any(|privilege| ["TRIGGER", "ALL PRIVILEGES"].contains(&privilege))
        && (schema == "*" || schema == database || schema.contains('%'))
        && ["*", "accounts"].contains(&table)
}

/// Runs the trigger for the first account, as an external change that changes nothing.
const FIRE: &str = "UPDATE accounts SET version = version ORDER BY id LIMIT 1";
/// The account of the database that created the trigger.
const DEFINER: &str = "SELECT definer FROM information_schema.triggers \
                       WHERE event_object_schema = DATABASE() \
                       AND trigger_name = 'accounts_external_change'";

/// Examines whether the triggers run: their definer may be gone, or have lost privileges. Rolls back.
/// `None` if that is unknown.
pub(super) async fn examine(connection: &DatabaseConnection) -> Option<Finding> {
    // Without the privilege to update, the trigger does not run.
    connection.execute_unprepared(&format!("EXPLAIN {FIRE}")).await.ok()?;
    let transaction = connection.begin().await.ok()?;
    let fired = transaction.execute_unprepared(FIRE).await;
    transaction.rollback().await.ok()?;
    let Err(error) = fired else {
        return Some(Finding::ok(TRIGGERS, "the definer of the triggers has its privileges"));
    };
    let definer = first::<String>(connection, DEFINER).await;
    let definer =
        definer.map_or("their definer".to_owned(), |name| format!("their definer {name}"));
    let problem = match error.code()?.as_str() {
        "1449" => "does not exist",
        "1142" | "1143" => "lacks TRIGGER, SELECT, INSERT or UPDATE on the database",
        _ => return None,
    };
    let found = format!("{definer} {problem}: every change of an account fails");
    let remedy = "create the user and GRANT it these privileges, or create the triggers again: see \
                  docs/operations/databases.md#triggers";
    Some(Finding::error(TRIGGERS, found, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_privilege_is_found_in_each_form_of_a_grant() {
        for (grant, expected) in [
            ("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION", true),
            ("GRANT SELECT, TRIGGER ON `m4\\_users`.* TO `u`@`%`", true),
            ("GRANT TRIGGER ON `m4%`.* TO `u`@`%`", true),
            ("GRANT TRIGGER ON `m4_users`.`accounts` TO `u`@`%`", true),
            ("GRANT TRIGGER ON `m4_users`.`settings` TO `u`@`%`", false),
            ("GRANT TRIGGER ON `other`.* TO `u`@`%`", false),
            ("GRANT SELECT ON `m4_users`.* TO `u`@`%`", false),
            ("GRANT `writers` TO `u`@`%`", false),
        ] {
            assert_eq!(allows_triggers(grant, "m4_users"), expected, "{grant}");
        }
    }
}
