//! Differences between an account of the source and a stored account.

use crate::{
    domain::{
        imported::{ImportedAccount, StoredAccount},
        value::Value,
    },
    fields::Field,
};

/// The details that differ, with the value of the source.
pub(super) fn details<'a>(
    imported: &'a ImportedAccount,
    stored: &'a StoredAccount,
) -> impl Iterator<Item = &'a (Field, Value)> {
    imported.details.iter().filter(|(field, value)| stored.user.values[*field] != *value)
}

/// The columns that differ and that no update may change, with the stored text and the text of the
/// source.
pub(super) fn fixed_columns(
    imported: &ImportedAccount,
    stored: &StoredAccount,
) -> Vec<(&'static str, String, String)> {
    let id = |id: Option<i64>| id.map_or_else(String::new, |id| id.to_string());
    let flag = |flag: bool| u8::from(flag).to_string();
    let user = &stored.user;
    let group = imported.manager_group_id.unwrap_or(stored.manager_group_id);
    let only_assigned =
        imported.show_only_assigned_users.unwrap_or(stored.show_only_assigned_users);
    let mut columns = vec![
        ("username", user.username.clone(), imported.username.as_str().to_owned()),
        (
            "account_type",
            user.account_type.as_str().to_owned(),
            imported.account_type.unwrap_or(user.account_type).as_str().to_owned(),
        ),
        ("manager_group_id", id(stored.manager_group_id), id(group)),
        ("show_only_assigned_users", flag(stored.show_only_assigned_users), flag(only_assigned)),
    ];
    columns.retain(|(_, stored, imported)| stored != imported);
    columns
}
