//! The demo data: the same accounts on every database.

use chrono::NaiveDate;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DbBackend, DbErr, EntityTrait, QuerySelect,
};

use super::sql::{
    columns,
    entities::{
        account, currency, direction, manager_group, manager_group_right, number_pool, setting,
    },
};
use crate::{
    domain::value::{ListMode, Value},
    fields::{Field, Kind},
};

const CURRENCIES: [&str; 7] = ["EUR", "USD", "GBP", "PLN", "SEK", "CHF", "JPY"];
const DIRECTIONS: [&str; 7] =
    ["Lithuania", "Germany", "United Kingdom", "Poland", "Sweden", "Switzerland", "Japan"];
const NUMBER_POOLS: [&str; 2] = ["fraud sources", "partner destinations"];

/// 2026-01-01 00:00:00 UTC, in microseconds.
const CREATED: i64 = 1_767_225_600_000_000;

/// The details of alice, bob and carol. An empty text means a cleared field.
const DETAILS: &[(Field, [&str; 3])] = &[
    (Field::currency_id, ["1", "2", "3"]),
    (Field::call_limit, ["10", "25", "100"]),
    (Field::hidden, ["false", "true", "false"]),
    (Field::responsible_manager_id, ["2", "6", ""]),
    (Field::hide_non_answered_calls, ["true", "false", "true"]),
    (Field::blocked, ["false", "false", "true"]),
    (Field::block_date, ["2027-03-31", "2028-02-29", "2026-12-31"]),
    (Field::block_conditional_use, ["true", "false", "true"]),
    (Field::vat_number, ["LT100001234567", "DE123456789", "GB987654321"]),
    (Field::clientid, ["C-1003", "C-1004", "C-1005"]),
    (Field::first_name, ["Alice", "Bob GmbH", "Carol"]),
    (Field::last_name, ["Kazlauskienė", "Müller", "O'Neill"]),
    (Field::accounting_number, ["4000-03", "4000-04", "4000-05"]),
    (Field::agreement_number, ["A-2024/17", "A-2025/02", "A-2025/33"]),
    (Field::language, ["lt", "de", "en_GB"]),
    (Field::agreement_date, ["2024-05-17", "2025-01-02", "2025-09-30"]),
    (Field::taxation_country, ["1", "2", "3"]),
    (Field::address, ["Gedimino pr. 9", "Lindenstraße 4", "12 High Street"]),
    (Field::city, ["Vilnius", "Köln", "Leeds"]),
    (Field::postcode, ["LT-01103", "50674", "LS1 4AP"]),
    (Field::county, ["Vilniaus", "Rheinland", "West Yorkshire"]),
    (Field::state, ["Vilnius", "NRW", "England"]),
    (Field::mob_phone, ["+37060000003", "+4915100000004", "+447700900005"]),
    (Field::phone, ["+37052000003", "+492210000004", "+441134960005"]),
    (Field::fax, ["+37052000093", "+492210000094", "+441134960095"]),
    (Field::direction_id, ["1", "2", "3"]),
    (Field::email, ["alice@example.com", "bob@example.org", "carol@example.net"]),
    (Field::warning_email_active, ["true", "false", "true"]),
    (Field::warning_email_balance, ["25.5", "-100", "19.95"]),
    (Field::warning_email_hour, ["8", "12", "23"]),
    (Field::tax1_name, ["PVM", "MwSt", "VAT"]),
    (Field::tax2_name, ["Regional", "Gemeinde", "Levy"]),
    (Field::tax3_name, ["Fund", "Fonds", "Duty"]),
    (Field::tax4_name, ["Other", "Sonstige", "Misc"]),
    (Field::tax1_value, ["21", "19", "20"]),
    (Field::tax2_value, ["1.5", "2.25", "0.5"]),
    (Field::tax3_value, ["0.75", "0.1", "1"]),
    (Field::tax4_value, ["3", "4.125", "2.000001"]),
    (Field::tax2_enabled, ["true", "false", "true"]),
    (Field::tax3_enabled, ["false", "true", "false"]),
    (Field::tax4_enabled, ["false", "false", "true"]),
    (Field::generate_invoice, ["true", "true", "false"]),
    (Field::enable_static_source_list, ["blacklist", "no", "whitelist"]),
    (Field::enable_static_list, ["whitelist", "blacklist", "no"]),
    (Field::static_source_list_id, ["1", "2", "1"]),
    (Field::static_list_id, ["2", "1", "2"]),
    (Field::comment, ["Pays on time.", "Call before\nblocking.", "Moved in 2025."]),
];

/// The accounts: id, username, type, and remarks.
pub const ACCOUNTS: [(i64, &str, &str, &str); 8] = [
    (1, "admin", "admin", ""),
    (2, "manager", "manager", "may change users"),
    (3, "alice", "user", "responsible manager 2"),
    (4, "bob", "user", "responsible manager 6"),
    (5, "carol", "user", "no responsible manager"),
    (6, "assigned", "manager", "may change the users that it is responsible for"),
    (7, "auditor", "manager", "may read users"),
    (8, "locked", "manager", "blocked"),
];

/// The settings row that marks a database with demo data.
pub(super) const MARK: &str = "demo";

/// Fills a database without accounts, within a transaction. Leaves existing demo data unchanged.
/// Returns false if other data exists: the demo data's secret key is public.
pub(super) async fn fill<C: ConnectionTrait>(connection: &C) -> Result<bool, DbErr> {
    if setting::Entity::find_by_id(MARK).one(connection).await?.is_some() {
        return Ok(true);
    }
    let id = account::Entity::find().select_only().column(account::Column::Id);
    if id.into_tuple::<i64>().one(connection).await?.is_some() {
        return Ok(false);
    }
    rows(connection).await?;
    let mark = setting::ActiveModel { name: Set(MARK.to_owned()), value: Set("on".to_owned()) };
    setting::Entity::insert(mark).exec_without_returning(connection).await?;
    Ok(true)
}

async fn rows<C: ConnectionTrait>(connection: &C) -> Result<(), DbErr> {
    macro_rules! reference {
        ($entity:ident, $names:expr) => {
            let rows = (1..)
                .zip($names)
                .map(|(id, name)| $entity::ActiveModel { id: Set(id), name: Set(name.to_owned()) });
            $entity::Entity::insert_many(rows).exec_without_returning(connection).await?;
        };
    }
    reference!(currency, CURRENCIES);
    reference!(direction, DIRECTIONS);
    reference!(number_pool, NUMBER_POOLS);
    reference!(manager_group, ["account managers", "auditors"]);
    for (group, level) in [(1, "edit"), (2, "read")] {
        let right = manager_group_right::ActiveModel {
            manager_group_id: Set(group),
            name: Set("users".to_owned()),
            level: Set(level.to_owned()),
        };
        manager_group_right::Entity::insert(right).exec_without_returning(connection).await?;
    }

    // Users refer to their managers.
    let is_user = |(_, _, kind, _): &&(i64, &str, &str, &str)| *kind == "user";
    for (id, username, kind, _) in ACCOUNTS.iter().filter(|account| !is_user(account)) {
        let mut row = account(*id, username, kind);
        match *username {
            "manager" => row.manager_group_id = Set(Some(1)),
            "assigned" => {
                row.manager_group_id = Set(Some(1));
                row.show_only_assigned_users = Set(true);
            }
            "auditor" => row.manager_group_id = Set(Some(2)),
            "locked" => {
                row.manager_group_id = Set(Some(1));
                row.blocked = Set(true);
            }
            _ => {}
        }
        row.insert(connection).await?;
    }
    for (index, (id, username, kind, _)) in ACCOUNTS.iter().filter(is_user).enumerate() {
        let mut row = account(*id, username, kind);
        for (field, texts) in DETAILS {
            let value = parse(*field, texts[index])
                .ok_or_else(|| DbErr::Custom(format!("demo data: {}", field.path())))?;
            columns::set(&mut row, *field, &value)
                .map_err(|error| DbErr::Custom(error.to_string()))?;
        }
        row.insert(connection).await?;
    }
    // Explicit ids do not advance PostgreSQL's sequences.
    if connection.get_database_backend() == DbBackend::Postgres {
        for table in ["accounts", "currencies", "directions", "number_pools", "manager_groups"] {
            let set = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            );
            connection.execute_unprepared(&set).await?;
        }
    }
    Ok(())
}

/// An account with every detail cleared.
fn account(id: i64, username: &str, account_type: &str) -> account::ActiveModel {
    account::ActiveModel {
        id: Set(id),
        username: Set(username.to_owned()),
        account_type: Set(account_type.to_owned()),
        version: Set(1),
        create_time: Set(CREATED),
        update_time: Set(CREATED),
        comment: Set(String::new()),
        ..<account::ActiveModel as Default>::default()
    }
}

fn parse(field: Field, text: &str) -> Option<Value> {
    if text.is_empty() {
        return Some(Value::cleared(field));
    }
    match field.kind() {
        Kind::Id(_) => Value::id(field, text.parse().ok()?),
        Kind::Count | Kind::Hour => Value::integer(field, text.parse().ok()?),
        Kind::Flag { .. } => Some(Value::Flag(text.parse().ok()?)),
        Kind::List { .. } => ListMode::from_word(text).map(Value::List),
        Kind::Date { .. } => Some(Value::Date(text.parse::<NaiveDate>().ok()?)),
        Kind::Text | Kind::Comment | Kind::Language | Kind::Email | Kind::Decimal { .. } => {
            Value::text(field, text.to_owned())
        }
    }
}
