//! The schema steps, in order.

use std::collections::BTreeSet;

use sea_orm_migration::sea_query::{ColumnDef, Index, Table, TableCreateStatement};

use crate::{
    administration_tables::{administration_log, legacy_blocks, legacy_clients, legacy_keys},
    columns::{flag, id, micros_of_time, refers, text},
    details::{Detail, details},
    step::Step,
    triggers,
};

/// All steps.
pub fn steps() -> Vec<Step> {
    steps_with(&details(), later())
}

/// The steps after the first triggers. Add a new step at the end only.
fn later() -> Vec<Step> {
    Vec::new()
}

/// The steps with other details and other later steps: for tests.
#[doc(hidden)]
pub fn steps_with(details: &[Detail], mut later: Vec<Step>) -> Vec<Step> {
    let added: BTreeSet<_> = later.iter().filter_map(Step::column_of_accounts).collect();
    let mut steps = first(details.iter().filter(|detail| !added.contains(detail.column())));
    // Triggers need every column of the details, so the last step of triggers creates them.
    let triggers = vec![triggers::checked_insert(details), triggers::external_change(details)];
    let names = ["m0044_accounts_checked_insert", "m0045_accounts_external_change"];
    match later.iter_mut().rev().find_map(Step::replaced_triggers) {
        Some(last) => {
            *last = triggers;
            steps.extend(names.map(|name| Step::triggers(name, Vec::new())));
        }
        None => {
            let create = |(name, trigger)| Step::triggers(name, vec![trigger]);
            steps.extend(names.into_iter().zip(triggers).map(create));
        }
    }
    steps.extend(later);
    steps
}

/// The steps before the first triggers.
fn first<'a>(details: impl Iterator<Item = &'a Detail>) -> Vec<Step> {
    vec![
        Step::table("m0001_currencies", reference_table("currencies", 3)),
        Step::table("m0002_directions", reference_table("directions", 255)),
        Step::table("m0003_number_pools", reference_table("number_pools", 255)),
        Step::table("m0004_manager_groups", reference_table("manager_groups", 255)),
        Step::table("m0005_manager_group_rights", manager_group_rights()),
        Step::table("m0006_accounts", accounts(details)),
        Step::index(
            "m0007_accounts_responsible_manager",
            "accounts",
            "accounts_responsible_manager_idx",
            Index::create().col("responsible_manager_id").col("id").take(),
        ),
        Step::table("m0008_settings", settings()),
        Step::table("m0009_change_log", change_log()),
        Step::index(
            "m0010_change_log_user",
            "change_log",
            "change_log_user_idx",
            Index::create().col("user_id").col("id").take(),
        ),
        Step::index(
            "m0011_change_log_actor",
            "change_log",
            "change_log_actor_idx",
            Index::create().col("actor_id").col("id").take(),
        ),
        Step::column("m0012_change_log_address", "change_log", text("address", 64)),
        Step::column("m0013_change_log_reason", "change_log", text("reason", 255)),
        Step::column("m0014_change_log_request_id", "change_log", text("request_id", 36)),
        // Usernames are ordered byte by byte, as on the other engines.
        Step::postgres(
            "m0020_accounts_username_order",
            "ALTER TABLE accounts ALTER COLUMN username TYPE varchar(255) COLLATE \"C\"",
        ),
        index_of_accounts("m0021_accounts_email", "accounts_email_idx", "email"),
        index_of_accounts("m0022_accounts_blocked", "accounts_blocked_idx", "blocked"),
        index_of_accounts("m0023_accounts_hidden", "accounts_hidden_idx", "hidden"),
        index_of_accounts("m0024_accounts_update_time", "accounts_update_time_idx", "update_time"),
        Step::index(
            "m0025_change_log_time",
            "change_log",
            "change_log_time_idx",
            Index::create().col("change_time").col("id").take(),
        ),
        Step::table("m0026_requests", requests()),
        Step::index(
            "m0027_requests_time",
            "requests",
            "requests_time_idx",
            Index::create().col("answer_time").take(),
        ),
        Step::table("m0028_service_tokens", service_tokens()),
        Step::column("m0031_change_log_traceparent", "change_log", text("traceparent", 55)),
        Step::column("m0032_change_log_identity", "change_log", text("identity", 255)),
        Step::index(
            "m0033_change_log_service",
            "change_log",
            "change_log_service_idx",
            Index::create().col("service").col("id").take(),
        ),
        Step::table("m0034_token_keys", token_keys()),
        Step::table("m0035_change_log_sweeps", change_log_sweeps()),
        Step::table("m0036_administration_log", administration_log()),
        Step::table("m0037_legacy_keys", legacy_keys()),
        Step::table("m0038_legacy_clients", legacy_clients()),
        Step::index(
            "m0039_legacy_clients_network",
            "legacy_clients",
            "legacy_clients_network_idx",
            Index::create().col("network").take(),
        ),
        Step::index(
            "m0040_legacy_clients_key",
            "legacy_clients",
            "legacy_clients_key_idx",
            Index::create().col("key_name").col("network").take(),
        ),
        Step::index(
            "m0041_legacy_clients_time",
            "legacy_clients",
            "legacy_clients_time_idx",
            Index::create().col("last_time").col("id").take(),
        ),
        Step::table("m0042_legacy_blocks", legacy_blocks()),
        Step::table("m0043_database_epochs", database_epochs()),
    ]
}

/// An index for lists of accounts in the order of `column` and id.
fn index_of_accounts(name: &'static str, index: &'static str, column: &'static str) -> Step {
    Step::index(name, "accounts", index, Index::create().col(column).col("id").take())
}

/// A table with an id and a unique name.
fn reference_table(table: &'static str, longest_name: u32) -> TableCreateStatement {
    Table::create()
        .table(table)
        .col(id())
        .col(ColumnDef::new("name").string_len(longest_name).not_null().unique_key())
        .take()
}

/// Rights of a manager group: a right, such as `users`, and its level, `read` or `edit`.
fn manager_group_rights() -> TableCreateStatement {
    Table::create()
        .table("manager_group_rights")
        .col(ColumnDef::new("manager_group_id").big_integer().not_null())
        .col(ColumnDef::new("name").string_len(64).not_null())
        .col(ColumnDef::new("level").string_len(16).not_null())
        .primary_key(Index::create().col("manager_group_id").col("name"))
        .foreign_key(&mut refers("manager_group_rights", "manager_group_id", "manager_groups"))
        .take()
}

/// Accounts, with the details of users.
fn accounts<'a>(details: impl Iterator<Item = &'a Detail>) -> TableCreateStatement {
    let mut table = Table::create()
        .table("accounts")
        .col(id())
        .col(ColumnDef::new("username").string_len(255).not_null().unique_key())
        .col(ColumnDef::new("account_type").string_len(16).not_null())
        .col(ColumnDef::new("manager_group_id").big_integer())
        .col(flag("show_only_assigned_users"))
        .col(ColumnDef::new("version").big_integer().not_null().default(1))
        .col(micros_of_time("create_time"))
        .col(micros_of_time("update_time"))
        .take();
    table.foreign_key(&mut refers("accounts", "manager_group_id", "manager_groups"));
    for detail in details {
        table.col(detail.definition());
        if let Some(target) = detail.target() {
            table.foreign_key(&mut refers("accounts", detail.column(), target));
        }
    }
    table
}

/// The settings of the legacy API. A missing row means the default.
fn settings() -> TableCreateStatement {
    Table::create()
        .table("settings")
        .col(ColumnDef::new("name").string_len(64).not_null().primary_key())
        .col(ColumnDef::new("value").string_len(255).not_null())
        .take()
}

/// Changes of users: actor, time, entry point (`door`), fields.
/// `changes` is JSON: `[{"field", "old", "new"}]`.
fn change_log() -> TableCreateStatement {
    Table::create()
        .table("change_log")
        .col(id())
        .col(ColumnDef::new("user_id").big_integer().not_null())
        .col(ColumnDef::new("version").big_integer().not_null())
        .col(micros_of_time("change_time"))
        .col(ColumnDef::new("actor_id").big_integer())
        .col(ColumnDef::new("service").string_len(255))
        .col(ColumnDef::new("door").string_len(16).not_null())
        .col(ColumnDef::new("changes").json().not_null())
        .foreign_key(&mut refers("change_log", "user_id", "accounts"))
        .foreign_key(&mut refers("change_log", "actor_id", "accounts"))
        .take()
}

/// Epochs of the database, each begun after a restore. The ids of the change log jump from
/// `last_change_id` to `first_change_id`.
fn database_epochs() -> TableCreateStatement {
    Table::create()
        .table("database_epochs")
        .col(ColumnDef::new("epoch").big_integer().not_null().primary_key())
        .col(micros_of_time("begin_time"))
        .col(ColumnDef::new("last_change_id").big_integer().not_null())
        .col(ColumnDef::new("first_change_id").big_integer().not_null())
        .take()
}

/// Answered requests, by idempotency key. `answer` is JSON.
fn requests() -> TableCreateStatement {
    Table::create()
        .table("requests")
        .col(ColumnDef::new("id").string_len(36).not_null().primary_key())
        .col(ColumnDef::new("content").string_len(40).not_null())
        .col(micros_of_time("answer_time"))
        .col(ColumnDef::new("answer").json().not_null())
        .take()
}

/// Service tokens, stored as a hash. `scopes` and `fields` are words separated by spaces. A token
/// may change `fields`, or all fields if NULL.
fn service_tokens() -> TableCreateStatement {
    Table::create()
        .table("service_tokens")
        .col(ColumnDef::new("id").string_len(16).not_null().primary_key())
        .col(ColumnDef::new("name").string_len(255).not_null())
        .col(ColumnDef::new("token_hash").string_len(64).not_null())
        .col(ColumnDef::new("scopes").string_len(255).not_null())
        .col(ColumnDef::new("fields").text())
        .col(micros_of_time("create_time"))
        .col(ColumnDef::new("expire_time").big_integer())
        .col(ColumnDef::new("revoke_time").big_integer())
        .col(ColumnDef::new("last_used_time").big_integer())
        .take()
}

/// Secret keys that authenticate page and resume tokens, in hexadecimal.
fn token_keys() -> TableCreateStatement {
    Table::create()
        .table("token_keys")
        .col(ColumnDef::new("name").string_len(64).not_null().primary_key())
        .col(ColumnDef::new("secret").string_len(64).not_null())
        .take()
}

/// Change log entries with ids up to the largest `up_to` may have been deleted.
fn change_log_sweeps() -> TableCreateStatement {
    Table::create()
        .table("change_log_sweeps")
        .col(ColumnDef::new("up_to").big_integer().not_null().primary_key())
        .take()
}
