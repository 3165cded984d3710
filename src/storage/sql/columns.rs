//! Converts values to and from columns, by the field table.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{ActiveValue::Set, DbErr, QueryResult};
use serde_json::{Value as Json, json};

use super::{entities::account, stored::FromRow};
use crate::{
    domain::{
        account::{AccountType, User},
        listing::Cursor,
        update::{Change, Updated},
        value::{ListMode, Value, Values, micros_to_text, parse_micros},
    },
    fields::{FIELDS, Field, Kind, user_fields},
    storage::{failure::Corrupt, unknown},
};

trait ColumnType: Sized {
    /// The field's value, if the column holds a valid value.
    fn read(self, field: Field) -> Option<Value>;
    /// The column's value. `None` if the types differ.
    fn write(value: &Value) -> Option<Self>;
}

impl ColumnType for Option<i64> {
    fn read(self, _: Field) -> Option<Value> {
        Some(self.map_or(Value::None, Value::Id))
    }
    fn write(value: &Value) -> Option<Self> {
        match value {
            Value::None => Some(None),
            Value::Id(id) => Some(Some(*id)),
            _ => None,
        }
    }
}

impl ColumnType for Option<NaiveDate> {
    fn read(self, _: Field) -> Option<Value> {
        Some(self.map_or(Value::None, Value::Date))
    }
    fn write(value: &Value) -> Option<Self> {
        match value {
            Value::None => Some(None),
            Value::Date(date) => Some(Some(*date)),
            _ => None,
        }
    }
}

impl ColumnType for String {
    fn read(self, field: Field) -> Option<Value> {
        match field.kind() {
            Kind::List { .. } => ListMode::from_word(&self).map(Value::List),
            _ => Some(Value::Text(self)),
        }
    }
    fn write(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            Value::List(mode) => Some(mode.as_str().to_owned()),
            _ => None,
        }
    }
}

macro_rules! plain_columns {
    ($($type:ty: $variant:ident),*) => {$(
        impl ColumnType for $type {
            fn read(self, _: Field) -> Option<Value> {
                Some(Value::$variant(self))
            }
            fn write(value: &Value) -> Option<Self> {
                if let Value::$variant(value) = value { Some(*value) } else { None }
            }
        }
    )*};
}
plain_columns!(i32: Integer, i64: Micros, bool: Flag);

macro_rules! column_access {
    ($($group:ident . $name:ident : $kind:expr;)*) => {
        fn read_values(row: account::Model) -> Result<Values, Corrupt> {
            let mut values = Values::default();
            $(values[Field::$name] =
                ColumnType::read(row.$name, Field::$name).ok_or(Corrupt(stringify!($name)))?;)*
            Ok(values)
        }

        /// Sets a field's column.
        pub(in crate::storage) fn set(
            row: &mut account::ActiveModel,
            field: Field,
            value: &Value,
        ) -> Result<(), Corrupt> {
            match field {
                $(Field::$name => {
                    row.$name =
                        Set(ColumnType::write(value).ok_or(Corrupt(stringify!($name)))?);
                })*
            }
            Ok(())
        }
    };
}
user_fields!(column_access);

/// A field's value as a parameter of a statement.
pub(in crate::storage) fn parameter(field: Field, value: &Value) -> sea_orm::Value {
    match value {
        Value::None if matches!(field.kind(), Kind::Date { .. }) => {
            sea_orm::Value::ChronoDate(None)
        }
        Value::None => sea_orm::Value::BigInt(None),
        Value::Id(number) | Value::Micros(number) => (*number).into(),
        Value::Integer(number) => (*number).into(),
        Value::Flag(flag) => (*flag).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(mode) => mode.as_str().into(),
        Value::Date(date) => (*date).into(),
    }
}

impl FromRow for User {
    const TABLE: &'static str = "accounts";
    type Row = account::Model;
    type Place = Cursor;

    fn from_row(mut row: account::Model) -> Result<Self, Corrupt> {
        let account_type = AccountType::from_word(&row.account_type);
        Ok(Self {
            id: row.id,
            username: std::mem::take(&mut row.username),
            account_type: account_type.ok_or(Corrupt("account_type"))?,
            version: row.version,
            create_time: time(row.create_time).ok_or(Corrupt("create_time"))?,
            update_time: time(row.update_time).ok_or(Corrupt("update_time"))?,
            values: read_values(row)?,
        })
    }

    fn place(&self) -> Cursor {
        let update_time = self.update_time.timestamp_micros();
        Cursor { username: self.username.clone(), update_time, id: self.id }
    }

    fn place_of_row(row: &QueryResult) -> Result<(Cursor, String), DbErr> {
        let id: i64 = row.try_get("", "id")?;
        let username = row.try_get("", "username")?;
        let update_time = row.try_get("", "update_time")?;
        Ok((Cursor { username, update_time, id }, id.to_string()))
    }
}

/// The time at microseconds since the Unix epoch.
pub(in crate::storage) fn time(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

/// Changes in the JSON format of the change log.
pub(super) fn changes_to_json(changes: &[Change]) -> Json {
    let entry = |change: &Change| {
        json!({
            "field": change.field.path(),
            "old": value_to_json(&change.old),
            "new": value_to_json(&change.new),
        })
    };
    changes.iter().map(entry).collect()
}

fn value_to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Id(id) => json!(id),
        Value::Integer(number) => json!(number),
        Value::Flag(flag) => json!(flag),
        Value::Text(text) => json!(text),
        Value::Micros(micros) => json!(micros_to_text(*micros)),
        Value::List(mode) => json!(mode.as_str()),
        Value::Date(date) => json!(date.to_string()),
    }
}

/// Reverses [`changes_to_json`]. Skips and counts changes that this version does not know.
pub(in crate::storage) fn changes_from_json(changes: &Json) -> (Vec<Change>, usize) {
    let change = |entry: &Json| {
        let field = Field::from_path(entry["field"].as_str()?)?;
        let (old, new) =
            (value_from_json(field, &entry["old"])?, value_from_json(field, &entry["new"])?);
        Some(Change { field, old, new })
    };
    let Some(entries) = changes.as_array() else { return (Vec::new(), 1) };
    let known: Vec<_> = entries.iter().filter_map(change).collect();
    let unknown = entries.len() - known.len();
    (known, unknown)
}

/// Parses a stored value. Ignores the field's limits: they may have changed since.
fn value_from_json(field: Field, value: &Json) -> Option<Value> {
    Some(match field.kind() {
        Kind::Id(_) | Kind::Date { .. } if value.is_null() => Value::None,
        Kind::Id(_) => Value::Id(value.as_i64()?),
        Kind::Date { .. } => Value::Date(value.as_str()?.parse().ok()?),
        Kind::Count | Kind::Hour => Value::Integer(i32::try_from(value.as_i64()?).ok()?),
        Kind::Flag { .. } => Value::Flag(value.as_bool()?),
        Kind::Decimal { .. } => Value::Micros(parse_micros(value.as_str()?)?),
        Kind::List { .. } => Value::List(ListMode::from_word(value.as_str()?)?),
        Kind::Text | Kind::Comment | Kind::Language | Kind::Email => {
            Value::Text(value.as_str()?.to_owned())
        }
    })
}

/// A response in the JSON format of the table `requests`.
pub(super) fn answer_to_json(Updated { user, changes }: &Updated) -> Json {
    let values = FIELDS.map(|field| (field.path().to_owned(), value_to_json(&user.values[field])));
    json!({
        "user_id": user.id,
        "username": user.username,
        "account_type": user.account_type.as_str(),
        "version": user.version,
        "create_time": user.create_time.timestamp_micros(),
        "update_time": user.update_time.timestamp_micros(),
        "values": Json::Object(values.into_iter().collect()),
        "changes": changes_to_json(changes),
    })
}

/// A response as a copy, see [`crate::domain::update::StoredResponse`].
pub(super) fn copy_to_json(updated: &Updated) -> Json {
    let mut answer = answer_to_json(updated);
    answer["is_copy"] = true.into();
    answer
}

/// Whether a stored response is a copy.
pub(super) fn is_copy(answer: &Json) -> bool {
    answer["is_copy"] == true
}

/// Reverses [`answer_to_json`]. Skips and counts fields that this version does not know.
pub(super) fn answer_from_json(answer: &Json) -> Result<Updated, Corrupt> {
    let (changes, mut unknown) = changes_from_json(&answer["changes"]);
    let mut user = || {
        let mut values = Values::default();
        for (path, value) in answer["values"].as_object()? {
            let known = Field::from_path(path)
                .and_then(|field| Some((field, value_from_json(field, value)?)));
            match known {
                Some((field, value)) => values[field] = value,
                None => unknown += 1,
            }
        }
        // Only plain users are changed. A newer version may name their account type differently.
        let account_type = AccountType::from_word(answer["account_type"].as_str()?);
        unknown += usize::from(account_type.is_none());
        let account_type = account_type.unwrap_or(AccountType::User);
        Some(User {
            id: answer["user_id"].as_i64()?,
            username: answer["username"].as_str()?.to_owned(),
            account_type,
            version: answer["version"].as_i64()?,
            create_time: time(answer["create_time"].as_i64()?)?,
            update_time: time(answer["update_time"].as_i64()?)?,
            values,
        })
    };
    let user = user().ok_or(Corrupt("answer"))?;
    unknown::count("requests", unknown);
    Ok(Updated { user, changes })
}
