//! The privileges of the database user. `EXPLAIN` checks them, and runs nothing.

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::answer::first;
use crate::finding::Finding;

const PRIVILEGES: &str = "privileges";

/// Each table with a column, and the statements that the service runs on the table.
const NEEDED: [(&str, &str, &[&str]); 16] = [
    ("accounts", "id", &["SELECT", "UPDATE"]),
    ("administration_log", "id", &["SELECT", "INSERT"]),
    ("change_log", "id", &["SELECT", "INSERT", "DELETE"]),
    ("change_log_sweeps", "up_to", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("currencies", "id", &["SELECT"]),
    ("database_epochs", "epoch", &["SELECT", "INSERT"]),
    ("directions", "id", &["SELECT"]),
    ("legacy_blocks", "id", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("legacy_clients", "id", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("legacy_keys", "id", &["SELECT", "INSERT", "UPDATE"]),
    ("manager_group_rights", "name", &["SELECT"]),
    ("number_pools", "id", &["SELECT"]),
    ("requests", "id", &["SELECT", "INSERT", "DELETE"]),
    ("service_tokens", "id", &["SELECT", "INSERT", "UPDATE"]),
    ("settings", "name", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("token_keys", "name", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
];

/// Examines the privileges on a schema that is up to date.
pub(super) async fn examine(connection: &DatabaseConnection) -> Finding {
    let mut missing = Vec::new();
    for (table, column, operations) in NEEDED {
        for operation in operations {
            let explain = format!("EXPLAIN {}", statement(operation, table, column));
            if connection.execute_unprepared(&explain).await.is_err() {
                missing.push(format!("{operation} on {table}"));
            }
        }
    }
    if missing.is_empty() {
        return Finding::ok(PRIVILEGES, "the service may read and change its tables");
    }
    let remedy = "GRANT them to the user of database.url";
    Finding::error(PRIVILEGES, format!("missing: {}", missing.join(", ")), remedy)
}

/// Whether the user of PostgreSQL may create tables in the schema.
const MAY_CREATE: &str = "SELECT COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)";
/// Whether the user of PostgreSQL owns the existing tables.
const OWNS_TABLES: &str = "SELECT NOT EXISTS (SELECT 1 FROM pg_tables \
                           WHERE schemaname = current_schema() AND tablename = 'accounts' \
                           AND NOT pg_has_role(tableowner, 'USAGE'))";

/// Examines on PostgreSQL whether the user may apply the pending steps.
pub(super) async fn examine_migration(connection: &DatabaseConnection) -> Finding {
    for (check, missing, remedy) in [
        (MAY_CREATE, "CREATE on the schema", "GRANT it to the user of database.url"),
        (OWNS_TABLES, "the ownership of the tables", "migrate as the owner of the tables"),
    ] {
        if !first(connection, check).await.unwrap_or(false) {
            let found = format!("missing: {missing}: the pending steps cannot be applied");
            return Finding::error(PRIVILEGES, found, remedy);
        }
    }
    Finding::ok(PRIVILEGES, "the user may apply the pending steps")
}

/// A statement that matches no row.
fn statement(operation: &str, table: &str, column: &str) -> String {
    match operation {
        "INSERT" => format!("INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"),
        "UPDATE" => format!("UPDATE {table} SET {column} = {column} WHERE 1 = 0"),
        "DELETE" => format!("DELETE FROM {table} WHERE 1 = 0"),
        _ => format!("SELECT 1 FROM {table} WHERE 1 = 0"),
    }
}
