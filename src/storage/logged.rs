//! Change log entries, read from rows.

use chrono::DateTime;
use sea_orm::{DbErr, FromQueryResult, QueryResult, TryGetable};
use serde_json::Value as Json;

use super::{
    failure::Corrupt,
    sql::{columns, stored::FromRow},
    unknown,
};
use crate::domain::{
    listing::LoggedChange,
    update::{EntryPoint, Origin},
};

/// A row of the change log. Every column except the ids may hold an unknown value.
pub(super) struct Row {
    entry: LoggedChange,
    /// The number of unknown values in the entry.
    unknown: usize,
}

impl FromQueryResult for Row {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let mut unknown = 0;
        let id = row.try_get(prefix, "id")?;
        let user_id = row.try_get(prefix, "user_id")?;
        let mut columns = Columns { row, prefix, unknown: &mut unknown };
        let door = EntryPoint::from_word(&columns.text("door")).unwrap_or_else(|| {
            *columns.unknown += 1;
            EntryPoint::Unknown
        });
        let time = columns::time(columns.get("change_time").unwrap_or_default());
        let time = time.unwrap_or_else(|| {
            *columns.unknown += 1;
            DateTime::UNIX_EPOCH
        });
        let changes = columns.get::<Json>("changes");
        let (changes, unknown_changes) =
            changes.map_or((Vec::new(), 1), |changes| columns::changes_from_json(&changes));
        let entry = LoggedChange {
            id,
            user_id,
            version: columns.get("version").unwrap_or_default(),
            time,
            actor_id: columns.get::<Option<i64>>("actor_id").flatten(),
            service: columns.get::<Option<String>>("service").flatten(),
            origin: Origin {
                door,
                address: columns.text("address"),
                reason: columns.text("reason"),
                request_id: columns.text("request_id"),
                traceparent: columns.text("traceparent"),
                identity: columns.text("identity"),
            },
            changes,
            unknown_changes,
        };
        Ok(Self { entry, unknown: unknown + unknown_changes })
    }
}

/// The columns of a row. Counts unreadable values.
struct Columns<'a> {
    row: &'a QueryResult,
    prefix: &'a str,
    unknown: &'a mut usize,
}

impl Columns<'_> {
    fn get<T: TryGetable>(&mut self, name: &str) -> Option<T> {
        let value = self.row.try_get(self.prefix, name).ok();
        *self.unknown += usize::from(value.is_none());
        value
    }

    fn text(&mut self, name: &str) -> String {
        self.get(name).unwrap_or_default()
    }
}

impl FromRow for LoggedChange {
    const TABLE: &'static str = "change_log";
    type Row = Row;
    type Place = i64;

    fn from_row(Row { entry, unknown }: Row) -> Result<Self, Corrupt> {
        unknown::count(Self::TABLE, unknown);
        Ok(entry)
    }

    fn place(&self) -> i64 {
        self.id
    }

    fn place_of_row(row: &QueryResult) -> Result<(i64, String), DbErr> {
        let id: i64 = row.try_get("", "id")?;
        Ok((id, id.to_string()))
    }
}
