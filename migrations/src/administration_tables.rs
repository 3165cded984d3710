//! The tables for the administration of the legacy call.

use sea_orm_migration::sea_query::{ColumnDef, Table, TableCreateStatement};

use crate::columns::{flag, id, micros_of_time, text};

/// Changes of settings, tokens and keys. Values are without secrets.
pub(crate) fn administration_log() -> TableCreateStatement {
    Table::create()
        .table("administration_log")
        .col(id())
        .col(micros_of_time("change_time"))
        .col(text("identity", 255))
        .col(text("acting_username", 255))
        .col(text("address", 64))
        .col(ColumnDef::new("object").string_len(32).not_null())
        .col(ColumnDef::new("name").string_len(255).not_null())
        .col(ColumnDef::new("old_value").text())
        .col(ColumnDef::new("new_value").text())
        .take()
}

/// Client keys of legacy calls, with sealed secrets. `networks`, `fields` and `recipes` are words
/// separated by spaces; NULL does not bind.
pub(crate) fn legacy_keys() -> TableCreateStatement {
    Table::create()
        .table("legacy_keys")
        .col(ColumnDef::new("id").string_len(16).not_null().primary_key())
        .col(ColumnDef::new("name").string_len(255).not_null())
        .col(ColumnDef::new("sealed_secret").string_len(255).not_null())
        .col(ColumnDef::new("username").string_len(255))
        .col(ColumnDef::new("networks").text())
        .col(ColumnDef::new("fields").text())
        .col(ColumnDef::new("recipes").string_len(255))
        .col(micros_of_time("create_time"))
        .col(ColumnDef::new("expire_time").big_integer())
        .col(ColumnDef::new("revoke_time").big_integer())
        .take()
}

/// Clients of legacy calls. `id` is a digest of key, network and username. `fields` are words separated
/// by spaces.
pub(crate) fn legacy_clients() -> TableCreateStatement {
    let count =
        |name: &'static str| ColumnDef::new(name).big_integer().not_null().default(0).take();
    Table::create()
        .table("legacy_clients")
        .col(ColumnDef::new("id").string_len(64).not_null().primary_key())
        .col(ColumnDef::new("key_name").string_len(255).not_null())
        .col(ColumnDef::new("network").string_len(64).not_null())
        .col(ColumnDef::new("username").string_len(255).not_null())
        .col(micros_of_time("first_time"))
        .col(micros_of_time("last_time"))
        .col(count("calls"))
        .col(count("refused"))
        .col(count("gets"))
        .col(count("failed_hashes"))
        .col(ColumnDef::new("recipe").string_len(32).not_null())
        .col(ColumnDef::new("fields").text().not_null())
        .take()
}

/// Blocks of legacy calls. `id` is a digest of `kind` (`address` or `username`), `value` and
/// `is_automatic`. Without `expire_time`, a block has no end.
pub(crate) fn legacy_blocks() -> TableCreateStatement {
    Table::create()
        .table("legacy_blocks")
        .col(ColumnDef::new("id").string_len(64).not_null().primary_key())
        .col(ColumnDef::new("kind").string_len(16).not_null())
        .col(ColumnDef::new("value").string_len(255).not_null())
        .col(flag("is_automatic"))
        .col(text("identity", 255))
        .col(micros_of_time("create_time"))
        .col(ColumnDef::new("expire_time").big_integer())
        .take()
}
