//! The triggers on MariaDB and MySQL. They run as the user that created them.

use m4_user_details_fields::Kind;

use super::{
    checks::{Dialect::MySql, any_refused, first_refused, refused, refused_change},
    sql::{DOOR, REFUSAL, any, covered, join},
};
use crate::details::Detail;

pub(super) fn checked_insert(details: &[Detail]) -> String {
    let (any, refused) = (any_refused(MySql, details), first_refused(refused(MySql, details)));
    let refuse = refuse();
    // MariaDB prepares each expression anew for each row: the outer condition is the short one.
    format!(
        "CREATE TRIGGER accounts_checked_insert BEFORE INSERT ON accounts FOR EACH ROW
IF {any} THEN
BEGIN
  DECLARE refused varchar(64) DEFAULT {refused};
  DECLARE message varchar(128);
  {refuse}
END;
END IF"
    )
}

pub(super) fn external_change(details: &[Detail]) -> String {
    let refused = first_refused(refused_change(MySql, details, changed));
    let refuse = refuse();
    let is_changed = any(covered(details).map(changed));
    let changes = join(details.iter().map(change), ",\n      ");
    // The time of the server in UTC, whatever the time zone of the session.
    let now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    format!(
        "CREATE TRIGGER accounts_external_change BEFORE UPDATE ON accounts FOR EACH ROW
IF NEW.version = OLD.version THEN
BEGIN
  DECLARE refused varchar(64) DEFAULT {refused};
  DECLARE message varchar(128);
  {refuse}
  IF 'user' IN (OLD.account_type, NEW.account_type) AND ({is_changed}) THEN
    SET NEW.version = OLD.version + 1;
    SET NEW.update_time = GREATEST(OLD.update_time, {now});
    INSERT INTO change_log (user_id, version, change_time, door, address, identity, changes)
    VALUES (NEW.id, NEW.version, NEW.update_time, '{DOOR}',
      LEFT(SUBSTRING_INDEX(USER(), '@', -1), 64),
      LEFT(USER(), CHAR_LENGTH(USER()) - LOCATE('@', REVERSE(USER()))),
      CONCAT('[', SUBSTRING(CONCAT(
      {changes}
      ), 2), ']'));
  END IF;
END;
END IF"
    )
}

/// The statement that refuses a row. It names no value. 4025 is the error of a CHECK of MariaDB.
fn refuse() -> String {
    format!(
        "IF refused IS NOT NULL THEN
    SET message = CONCAT('accounts.', refused, ' {REFUSAL}');
    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 4025, MESSAGE_TEXT = message;
  END IF;"
    )
}

/// Texts are compared as bytes: `=` ignores trailing spaces.
fn changed(column: &str) -> String {
    format!("NOT (CAST(OLD.{column} AS BINARY) <=> CAST(NEW.{column} AS BINARY))")
}

/// The JSON of a change, or an empty text.
fn change(detail: &Detail) -> String {
    let [old, new] = ["OLD", "NEW"].map(|row| json(row, detail));
    let (changed, path) = (changed(detail.column()), detail.path);
    format!(
        "IF({changed}, CONCAT(',{{\"field\":\"{path}\",\"old\":', {old}, ',\"new\":', {new}, '}}'), '')"
    )
}

/// The JSON of a value.
fn json(row: &str, detail: &Detail) -> String {
    let value = format!("{row}.{}", detail.column());
    match detail.kind {
        Kind::Id(_) => format!("COALESCE({value}, 'null')"),
        Kind::Count | Kind::Hour => value,
        Kind::Flag { .. } => format!("IF({value}, 'true', 'false')"),
        Kind::Text | Kind::Comment | Kind::Language | Kind::Email | Kind::List { .. } => {
            format!("JSON_QUOTE({value})")
        }
        Kind::Decimal { .. } => format!(
            "JSON_QUOTE(TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {value} * 0.000001)))"
        ),
        Kind::Date { .. } => format!("COALESCE(JSON_QUOTE(CAST({value} AS CHAR)), 'null')"),
    }
}
