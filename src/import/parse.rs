//! Parses rows of a source, by the parsers of the legacy call.

use std::borrow::Cow;

use chrono::NaiveDate;

use super::{
    cell::{Cell, Record},
    rejects::Rejection,
    table::Column,
};
use crate::{
    domain::{
        account::{AccountType, Level, Username},
        imported::{GroupRight, ImportedAccount, NamedRow, NamedTable},
        value::{ListMode, PartialDate, Value},
    },
    fields::{
        Field, Kind, parse_id,
        text::{TextValue, parse_digits},
    },
};

/// The longest name of a right, in characters.
const MAX_RIGHT_NAME: usize = 64;

/// The columns and the cells of a row, and why it is rejected.
struct RowParser<'a> {
    columns: &'a [Column],
    cells: &'a [Cell],
    rejections: Vec<Rejection>,
}

impl<'a> RowParser<'a> {
    fn new(columns: &'a [Column], record: &'a Record) -> Self {
        let cells = record.cells.as_deref().unwrap_or_default();
        let rejections = match record.cells {
            Some(_) => Vec::new(),
            None => vec![Rejection::new("", "has another number of cells than the first line")],
        };
        Self { columns, cells, rejections }
    }

    /// The text of a column. NULL is empty. `None` if the column is missing or no text.
    fn text(&mut self, column: Column) -> Option<&'a str> {
        let index = self.columns.iter().position(|own| *own == column)?;
        match self.cells.get(index)? {
            Cell::Null => Some(""),
            Cell::Text(text) => Some(text),
            Cell::NotUtf8 => {
                self.reject(column, "is not UTF-8");
                None
            }
        }
    }

    /// The parsed text of a column; `None` if it is missing or rejected.
    fn parse<T>(
        &mut self,
        column: Column,
        parse: impl FnOnce(&str) -> Option<T>,
        allowed: &'static str,
    ) -> Option<T> {
        let parsed = parse(self.text(column)?);
        if parsed.is_none() {
            self.reject(column, allowed);
        }
        parsed
    }

    fn reject(&mut self, column: Column, reason: impl Into<Cow<'static, str>>) {
        self.rejections.push(Rejection::new(column.name(), reason));
    }

    fn id(&mut self) -> Option<i64> {
        self.parse(Column::Id, row_id, "must be an integer from 1")
    }

    /// The row, unless something is rejected.
    fn end<T>(self, row: Option<T>) -> Result<T, Vec<Rejection>> {
        match row {
            Some(row) if self.rejections.is_empty() => Ok(row),
            _ => Err(self.rejections),
        }
    }
}

/// The name of a row in the file of rejected rows: its id, or its line.
pub(super) fn label(columns: &[Column], record: &Record) -> String {
    let is_id = |column: &Column| match column {
        Column::Id => true,
        // Rights have no id of their own.
        Column::ManagerGroupId => !columns.contains(&Column::Id),
        _ => false,
    };
    let index = columns.iter().position(is_id);
    let cell = index.and_then(|index| record.cells.as_ref()?.get(index));
    let id = match cell {
        Some(Cell::Text(text)) => row_id(text),
        _ => None,
    };
    match (id, record.line) {
        (Some(id), _) => id.to_string(),
        (None, Some(line)) => format!("line {line}"),
        (None, None) => format!("row {}", record.row + 1),
    }
}

/// A row of a table of ids and names.
pub(super) fn named(
    table: NamedTable,
    columns: &[Column],
    record: &Record,
) -> Result<NamedRow, Vec<Rejection>> {
    let mut row = RowParser::new(columns, record);
    let allowed = match table {
        NamedTable::Currencies => "must be text of 1 to 3 characters without control characters",
        _ => "must be text of 1 to 255 characters without control characters",
    };
    let id = row.id();
    let name = row.parse(Column::Name, |text| name(text, table.max_name()), allowed);
    let named = id.zip(name).map(|(id, name)| NamedRow { id, name });
    row.end(named)
}

/// A right of a manager group.
pub(super) fn right(columns: &[Column], record: &Record) -> Result<GroupRight, Vec<Rejection>> {
    let mut row = RowParser::new(columns, record);
    let group = row.parse(Column::ManagerGroupId, row_id, "must be an integer from 1");
    let allowed = "must be text of 1 to 64 characters without control characters";
    let name = row.parse(Column::Name, |text| name(text, MAX_RIGHT_NAME), allowed);
    let level = row.parse(Column::Level, Level::from_word, "must be read or edit");
    let right = group.zip(name).zip(level).map(|((manager_group_id, name), level)| GroupRight {
        manager_group_id,
        name,
        level,
    });
    row.end(right)
}

/// The type of an account; plain user without the column. `None` if it is no type.
pub(super) fn account_type(columns: &[Column], record: &Record) -> Option<AccountType> {
    match columns.iter().position(|column| *column == Column::AccountType) {
        None => Some(AccountType::User),
        Some(index) => match record.cells.as_ref()?.get(index)? {
            Cell::Null => Some(AccountType::User),
            Cell::Text(text) => read_account_type(text),
            Cell::NotUtf8 => None,
        },
    }
}

/// An account.
pub(super) fn account(
    columns: &[Column],
    record: &Record,
) -> Result<ImportedAccount, Vec<Rejection>> {
    let mut row = RowParser::new(columns, record);
    let id = row.id();
    let allowed = "must be text of 1 to 255 characters without control characters";
    let username = row.parse(Column::Username, Username::parse, allowed);
    let account_type =
        row.parse(Column::AccountType, read_account_type, "must be admin, manager or user");
    let group = row.parse(
        Column::ManagerGroupId,
        |text| if is_empty(text) { Some(None) } else { row_id(text).map(Some) },
        "must be the id of a manager group",
    );
    let only_assigned = row.parse(Column::ShowOnlyAssignedUsers, read_flag, "must be 0 or 1");
    let mut details = Vec::with_capacity(columns.len());
    for column in columns {
        let Column::Detail(field) = *column else { continue };
        let Some(text) = row.text(*column) else { continue };
        match detail(field, text) {
            Ok(value) => details.push((field, value)),
            Err(reason) => row.reject(*column, reason),
        }
    }
    details.sort_by_key(|(field, _)| *field);
    let account = id.zip(username).map(|(id, username)| ImportedAccount {
        id,
        username,
        account_type,
        manager_group_id: group,
        show_only_assigned_users: only_assigned,
        details,
    });
    row.end(account)
}

/// The value of a detail, or why it is rejected. An empty text clears.
fn detail(field: Field, text: &str) -> Result<Value, &'static str> {
    let is_text = matches!(field.kind(), Kind::Text | Kind::Comment);
    if !is_text && is_empty(text) {
        return Ok(Value::cleared(field));
    }
    let parsed = match field.kind() {
        Kind::Date { .. } => return date(text).map(|day| day.map_or(Value::None, Value::Date)),
        // A database stores 0, or a word, for off.
        Kind::Flag { .. } => read_flag(text).map(Value::Flag).or_else(|| value(field, text)),
        Kind::Decimal { .. } => value(field, shortened(text)),
        _ => value(field, text),
    };
    parsed.ok_or_else(|| match field.kind() {
        Kind::Flag { off: "2" } => "must be 1 (blocked), or 0 or 2 (not blocked)",
        _ => field.allowed(),
    })
}

/// The value of a text that a legacy call could send, within the field's limits.
fn value(field: Field, text: &str) -> Option<Value> {
    match TextValue::read(field, text)? {
        TextValue::None => Some(Value::None),
        TextValue::Id(id) => Value::id(field, id),
        TextValue::Number(number) => Value::integer(field, number),
        TextValue::Flag(flag) => Some(Value::Flag(flag)),
        TextValue::Text(text) => Value::text(field, text.into_owned()),
        TextValue::Word(word) => ListMode::from_word(word).map(Value::List),
    }
}

/// A decimal without the zeros behind its sixth digit after the point: `DECIMAL(30,15)` has them.
fn shortened(text: &str) -> &str {
    let number = text.trim_matches(' ');
    let kept = match number.find(['.', ',']) {
        Some(point) => point + 7,
        None => return number,
    };
    match number.get(kept..) {
        Some(rest) if rest.bytes().all(|byte| byte == b'0') => &number[..kept],
        _ => number,
    }
}

/// A day; `None` for a zero date. A time of day must be midnight.
fn date(text: &str) -> Result<Option<NaiveDate>, &'static str> {
    const ALLOWED: &str = "must be a day of the years 1900 to 9999, such as 2026-12-31";
    let text = text.trim_matches(' ');
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let is_midnight = time.bytes().all(|byte| matches!(byte, b'0' | b':' | b'.'));
    let parts: Vec<_> = day.split('-').map(parse_digits).collect();
    let &[Some(year), Some(month), Some(day)] = &*parts else { return Err(ALLOWED) };
    match [year, month, day] {
        _ if !is_midnight => Err("must be a day without a time of day"),
        [0, 0, 0] => Ok(None),
        parts if parts.contains(&0) => Err("is a partial date"),
        [year, month, day] => {
            let parts = PartialDate { year: Some(year), month: Some(month), day: Some(day) };
            parts.complete(None).map(Some).ok_or(ALLOWED)
        }
    }
}

fn read_flag(text: &str) -> Option<bool> {
    match text.trim_matches(' ') {
        "1" | "true" | "t" => Some(true),
        "0" | "false" | "f" | "" => Some(false),
        _ => None,
    }
}

fn read_account_type(text: &str) -> Option<AccountType> {
    if is_empty(text) {
        return Some(AccountType::User);
    }
    AccountType::from_word(text.trim_matches(' '))
}

fn row_id(text: &str) -> Option<i64> {
    parse_id(text).filter(|id| *id > 0)
}

fn name(text: &str, max_characters: usize) -> Option<String> {
    let is_name = !text.is_empty()
        && text.chars().count() <= max_characters
        && !text.chars().any(char::is_control);
    is_name.then(|| text.to_owned())
}

fn is_empty(text: &str) -> bool {
    text.trim_matches(' ').is_empty()
}

#[cfg(test)]
mod tests;
