//! The records of accounts and of change log entries. Columns have the names of the database.

use chrono::{DateTime, SecondsFormat, Utc};

use super::cell::{Cell, Record};
use crate::{
    domain::{
        listing::LoggedChange,
        value::{Value, micros_to_text},
    },
    fields::FIELDS,
    storage::ExportedAccount,
};

/// The record of an account.
pub(super) fn account(account: &ExportedAccount) -> Record {
    let user = &account.user;
    let mut cells = vec![
        ("id", Cell::Long(user.id)),
        ("username", Cell::Text(user.username.clone())),
        ("account_type", Cell::Text(user.account_type.as_str().to_owned())),
        ("manager_group_id", optional(account.manager_group_id)),
        ("show_only_assigned_users", Cell::Flag(account.show_only_assigned_users)),
        ("version", Cell::Long(user.version)),
        ("create_time", time(user.create_time)),
        ("update_time", time(user.update_time)),
    ];
    cells.extend(FIELDS.into_iter().map(|field| (field.name(), cell(&user.values[field]))));
    Record(cells)
}

/// The record of a change log entry.
pub(super) fn change(entry: &LoggedChange) -> Record {
    let text = |text: &str| Cell::Text(text.to_owned());
    let origin = &entry.origin;
    let changes = entry.changes.iter().map(|change| {
        Record(vec![
            ("field", text(change.field.path())),
            ("old", cell(&change.old)),
            ("new", cell(&change.new)),
        ])
    });
    Record(vec![
        ("id", Cell::Long(entry.id)),
        ("user_id", Cell::Long(entry.user_id)),
        ("version", Cell::Long(entry.version)),
        ("change_time", time(entry.time)),
        ("actor_id", optional(entry.actor_id)),
        ("service", entry.service.as_deref().map_or(Cell::None, text)),
        ("door", text(origin.door.as_str())),
        ("address", text(&origin.address)),
        ("reason", text(&origin.reason)),
        ("request_id", text(&origin.request_id)),
        ("traceparent", text(&origin.traceparent)),
        ("identity", text(&origin.identity)),
        ("changes", Cell::Records(changes.collect())),
    ])
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::None => Cell::None,
        Value::Id(id) => Cell::Long(*id),
        Value::Integer(number) => Cell::Integer(*number),
        Value::Flag(flag) => Cell::Flag(*flag),
        Value::Text(text) => Cell::Text(text.clone()),
        Value::Micros(micros) => Cell::Text(micros_to_text(*micros)),
        Value::List(mode) => Cell::Text(mode.as_str().to_owned()),
        Value::Date(date) => Cell::Text(date.to_string()),
    }
}

fn optional(id: Option<i64>) -> Cell {
    id.map_or(Cell::None, Cell::Long)
}

/// RFC 3339, in microseconds.
fn time(time: DateTime<Utc>) -> Cell {
    Cell::Text(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}
