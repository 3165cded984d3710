//! The triggers on SQLite. The service's writer switches triggers off. `BEFORE` cannot change a row,
//! so the triggers run afterwards; a refusal undoes the statement.

use m4_user_details_fields::Kind;

use super::{
    checks::{Dialect::Sqlite, any_refused, refused, refused_change},
    sql::{DOOR, REFUSAL, any, covered, join},
};
use crate::details::Detail;

pub(super) fn checked_insert(details: &[Detail]) -> String {
    let (any, refusals) = (any_refused(Sqlite, details), refusals(refused(Sqlite, details)));
    format!(
        "CREATE TRIGGER IF NOT EXISTS accounts_checked_insert AFTER INSERT ON accounts
WHEN {any}
BEGIN
  {refusals}
END"
    )
}

pub(super) fn external_change(details: &[Detail]) -> String {
    let refusals = refusals(refused_change(Sqlite, details, changed));
    let is_changed = any(covered(details).map(changed));
    let changes = join(details.iter().map(change), ",\n      ");
    // Microseconds, in steps of a millisecond.
    let now = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000 \
               + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000";
    let is_logged = format!("'user' IN (OLD.account_type, NEW.account_type) AND ({is_changed})");
    format!(
        "CREATE TRIGGER IF NOT EXISTS accounts_external_change AFTER UPDATE ON accounts
WHEN NEW.version = OLD.version
BEGIN
  {refusals}
  UPDATE accounts SET version = OLD.version + 1, update_time = max(OLD.update_time, {now})
    WHERE id = NEW.id AND {is_logged};
  INSERT INTO change_log (user_id, version, change_time, door, changes)
    SELECT id, version, update_time, '{DOOR}',
      (SELECT json_group_array(
        json_object('field', column1, 'old', json(column2), 'new', json(column3))) FROM (VALUES
      {changes}
      ) WHERE column2 IS NOT column3)
    FROM accounts WHERE id = NEW.id AND {is_logged};
END"
    )
}

/// The statements that refuse a row. They name no value.
fn refusals(refused: impl Iterator<Item = (&'static str, String)>) -> String {
    let refusal = |(column, condition)| {
        format!("SELECT RAISE(ABORT, 'accounts.{column} {REFUSAL}') WHERE {condition};")
    };
    join(refused.map(refusal), "\n  ")
}

fn changed(column: &str) -> String {
    format!("OLD.{column} IS NOT NEW.{column}")
}

/// A field and its values.
fn change(detail: &Detail) -> String {
    let [old, new] = ["OLD", "NEW"].map(|row| json(row, detail));
    format!("('{}', {old}, {new})", detail.path)
}

/// The JSON of a value.
fn json(row: &str, detail: &Detail) -> String {
    let value = format!("{row}.{}", detail.column());
    match detail.kind {
        Kind::Flag { .. } => format!("iif({value}, 'true', 'false')"),
        Kind::Decimal { .. } => format!(
            "json_quote(iif({value} < 0, '-', '') || (abs({value}) / 1000000) \
             || rtrim(printf('.%06d', abs({value}) % 1000000), '.0'))"
        ),
        _ => format!("json_quote({value})"),
    }
}
