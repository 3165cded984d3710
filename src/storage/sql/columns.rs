//! Values to and from columns, by the field table.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value as Json, json};

use super::{entities::account, sea_orm::ActiveValue::Set};
use crate::{
    domain::{
        account::{AccountType, User},
        update::{Change, Updated},
        value::{ListMode, Value, Values, micros_to_text, parse_micros},
    },
    fields::{FIELDS, Field, Kind, user_fields},
    storage::failure::Corrupt,
};

/// A type of column.
trait ColumnType: Sized {
    /// What a field holds.
    fn read(self, field: Field) -> Option<Value>;
    /// How a value is stored; none where it is of another type than the column.
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

/// A row as a user.
pub(in crate::storage) fn user(mut row: account::Model) -> Result<User, Corrupt> {
    Ok(User {
        id: row.id,
        username: std::mem::take(&mut row.username),
        account_type: AccountType::from_word(&row.account_type).ok_or(Corrupt("account_type"))?,
        version: row.version,
        create_time: time(row.create_time).ok_or(Corrupt("create_time"))?,
        update_time: time(row.update_time).ok_or(Corrupt("update_time"))?,
        values: read_values(row)?,
    })
}

/// A moment.
pub(in crate::storage) fn time(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

/// Changes as the change log keeps them.
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

/// Changes as they were before [`changes_to_json`].
pub(in crate::storage) fn changes_from_json(changes: &Json) -> Result<Vec<Change>, Corrupt> {
    let change = |entry: &Json| {
        let field = Field::from_path(entry["field"].as_str()?)?;
        let (old, new) =
            (value_from_json(field, &entry["old"])?, value_from_json(field, &entry["new"])?);
        Some(Change { field, old, new })
    };
    let changes: Option<_> =
        changes.as_array().and_then(|changes| changes.iter().map(change).collect());
    changes.ok_or(Corrupt("changes"))
}

/// A value that may break today's limits of the field, as it was stored under those of its day.
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

/// An answer as it is kept for a repeat of its request.
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

/// An answer as it was before [`answer_to_json`].
pub(super) fn answer_from_json(answer: &Json) -> Result<Updated, Corrupt> {
    let changes = changes_from_json(&answer["changes"])?;
    let user = || {
        let mut values = Values::default();
        for (path, value) in answer["values"].as_object()? {
            let field = Field::from_path(path)?;
            values[field] = value_from_json(field, value)?;
        }
        Some(User {
            id: answer["user_id"].as_i64()?,
            username: answer["username"].as_str()?.to_owned(),
            account_type: AccountType::from_word(answer["account_type"].as_str()?)?,
            version: answer["version"].as_i64()?,
            create_time: time(answer["create_time"].as_i64()?)?,
            update_time: time(answer["update_time"].as_i64()?)?,
            values,
        })
    };
    Ok(Updated { user: user().ok_or(Corrupt("answer"))?, changes })
}
