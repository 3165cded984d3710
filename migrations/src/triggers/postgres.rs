//! The triggers on PostgreSQL. `WHEN` is short, because each update of the service parses it.

use m4_user_details_fields::Kind;

use super::{
    checks::{Dialect::Postgres, any_refused, first_refused, refused, refused_change},
    sql::{DOOR, REFUSAL, any, covered, join},
};
use crate::details::Detail;

pub(super) fn checked_insert(details: &[Detail]) -> String {
    let (any, refused) =
        (any_refused(Postgres, details), first_refused(refused(Postgres, details)));
    let refuse = refuse();
    format!(
        "CREATE OR REPLACE FUNCTION accounts_checked_insert() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  refused text := CASE WHEN {any} THEN {refused} END;
BEGIN
  {refuse}
  RETURN NEW;
END $$;
CREATE TRIGGER accounts_checked_insert BEFORE INSERT ON accounts
FOR EACH ROW EXECUTE FUNCTION accounts_checked_insert()"
    )
}

/// The function runs as its owner: others need no privilege on the change log. Its `search_path`
/// and the REVOKE keep them from using it for tables of their own.
pub(super) fn external_change(details: &[Detail]) -> String {
    let refused = first_refused(refused_change(Postgres, details, changed));
    let refuse = refuse();
    let is_changed = any(covered(details).map(changed));
    let changes = join(details.iter().enumerate().map(change), ",\n      ");
    format!(
        "CREATE OR REPLACE FUNCTION accounts_external_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  refused text := {refused};
  changes json;
BEGIN
  {refuse}
  IF 'user' NOT IN (OLD.account_type, NEW.account_type) OR NOT ({is_changed}) THEN
    RETURN NEW;
  END IF;
  NEW.version := OLD.version + 1;
  NEW.update_time :=
    GREATEST(OLD.update_time, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
  SELECT COALESCE(json_agg(json_build_object('field', field, 'old', before, 'new', after) ORDER BY place),
    '[]')
    INTO changes FROM (VALUES
      {changes}
    ) AS detail (place, field, before, after)
    WHERE before::text IS DISTINCT FROM after::text;
  EXECUTE format('INSERT INTO %I.change_log
    (user_id, version, change_time, door, address, identity, changes)
    VALUES ($1, $2, $3, ''{DOOR}'', $4, $5, $6)', TG_TABLE_SCHEMA)
    USING NEW.id, NEW.version, NEW.update_time,
      left(COALESCE(host(inet_client_addr()), ''), 64), left(session_user, 255), changes;
  RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION accounts_external_change() FROM PUBLIC;
CREATE TRIGGER accounts_external_change BEFORE UPDATE ON accounts
FOR EACH ROW WHEN (NEW.version = OLD.version) EXECUTE FUNCTION accounts_external_change()"
    )
}

/// The statement that refuses a row. It names no value.
fn refuse() -> String {
    format!(
        "IF refused IS NOT NULL THEN
    RAISE EXCEPTION 'accounts.% {REFUSAL}', refused
      USING ERRCODE = 'check_violation', TABLE = 'accounts', COLUMN = refused;
  END IF;"
    )
}

fn changed(column: &str) -> String {
    format!("OLD.{column} IS DISTINCT FROM NEW.{column}")
}

/// A field and its values.
fn change((place, detail): (usize, &Detail)) -> String {
    let [old, new] = ["OLD", "NEW"].map(|row| json(row, detail));
    format!("({place}, '{}', {old}, {new})", detail.path)
}

fn json(row: &str, detail: &Detail) -> String {
    let value = format!("{row}.{}", detail.column());
    match detail.kind {
        Kind::Decimal { .. } => format!("to_json(trim_scale({value} * 0.000001)::text)"),
        _ => format!("to_json({value})"),
    }
}
