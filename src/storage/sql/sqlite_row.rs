//! Reads rows of SQLite without SeaORM's drivers.

use chrono::NaiveDate;
use rusqlite::{Row, types::Type};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ColumnType, EntityTrait, Iterable, ModelTrait, TryIntoModel,
    Value,
};
use serde_json::Value as Json;

/// A type that is read from a row of SQLite.
pub(in crate::storage) trait FromSqliteRow: Sized {
    fn from_sqlite_row(row: &Row<'_>) -> rusqlite::Result<Self>;
}

/// A statement selects all columns of a model, in their order.
impl<M: ModelTrait> FromSqliteRow for M
where
    <M::Entity as EntityTrait>::ActiveModel: TryIntoModel<M>,
{
    fn from_sqlite_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut model = <<M::Entity as EntityTrait>::ActiveModel as ActiveModelTrait>::default();
        for (index, column) in <M::Entity as EntityTrait>::Column::iter().enumerate() {
            let value = value(row, index, column.def().get_column_type())?;
            model.try_set(column, value).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(index, Type::Null, error.into())
            })?;
        }
        model.try_into_model().map_err(|_| rusqlite::Error::InvalidQuery)
    }
}

/// The value of a column. SQLite's columns hold values of any type: another type is an error.
fn value(row: &Row<'_>, index: usize, column: &ColumnType) -> rusqlite::Result<Value> {
    Ok(match column {
        ColumnType::Boolean => row.get::<_, Option<bool>>(index)?.into(),
        ColumnType::Integer => row.get::<_, Option<i32>>(index)?.into(),
        ColumnType::BigInteger => row.get::<_, Option<i64>>(index)?.into(),
        ColumnType::Date => row.get::<_, Option<NaiveDate>>(index)?.into(),
        ColumnType::Json | ColumnType::JsonBinary => row.get::<_, Option<Json>>(index)?.into(),
        _ => row.get::<_, Option<String>>(index)?.into(),
    })
}
