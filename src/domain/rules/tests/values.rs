//! The stored data, and the rows about values. The actor of every row is an admin.

use std::sync::Arc;

use chrono::NaiveDate;

use super::{row::FieldEdit, *};
use crate::domain::{
    error::Problem::{NotAllowed, PoolMissing},
    update::StoredResponse,
    value::PartialDate,
};

/// A calendar day.
fn day(year: i32, month: u32, day: u32) -> Value {
    Value::Date(NaiveDate::from_ymd_opt(year, month, day).unwrap())
}

/// A stored plain user.
fn user(id: i64, manager: Option<i64>) -> User {
    let mut values = Values::default();
    values[Field::currency_id] = Value::Id(1);
    values[Field::call_limit] = Value::Integer(10);
    values[Field::responsible_manager_id] = manager.map_or(Value::None, Value::Id);
    values[Field::block_date] = day(2027, 3, 31);
    values[Field::city] = text("Vilnius");
    values[Field::email] = text("user@example.com");
    User {
        id,
        username: format!("user{id}"),
        account_type: AccountType::User,
        version: VERSION,
        create_time: DateTime::<Utc>::MIN_UTC,
        update_time: DateTime::<Utc>::MIN_UTC,
        values,
    }
}

/// The stored data, with the acting account.
pub(super) fn snapshot(account: Option<&ActingAccount>) -> Snapshot {
    let alice = user(ALICE, Some(MANAGER));
    let mut bob = user(BOB, Some(OTHER_MANAGER));
    bob.values[Field::enable_static_list] = Value::List(ListMode::Blacklist);
    bob.values[Field::static_list_id] = Value::Id(21);
    bob.values[Field::block_date] = day(2028, 2, 29);
    let mut carol = User { update_time: DateTime::<Utc>::MAX_UTC, ..user(CAROL, None) };
    carol.values[Field::enable_static_source_list] = Value::List(ListMode::Whitelist);
    let staff = |id, account_type| User { account_type, ..user(id, Some(MANAGER)) };
    let admin = staff(ADMIN, AccountType::Admin);
    let managers = [MANAGER, OTHER_MANAGER].map(|id| staff(id, AccountType::Manager));
    let field = Field::call_limit;
    let change = Change { field, old: Value::Integer(5), new: Value::Integer(10) };
    let earlier = User { version: VERSION - 1, ..alice.clone() };
    let updated = Arc::new(Updated { user: earlier, changes: vec![change] });
    let response = |(id, is_copy): (&str, bool)| {
        let (content, updated) = ("same".to_owned(), Arc::clone(&updated));
        (id.to_owned(), StoredResponse { content, updated, is_copy })
    };
    let responses = [("scoped", false), ("unscoped", false), ("copy", true)];
    let users = [alice, bob, carol, admin].into_iter().chain(managers);
    Snapshot {
        actors: account.map(|account| (NAME.to_owned(), account.clone())).into_iter().collect(),
        users: users.map(|user| (user.id, user)).collect(),
        unreadable: Default::default(),
        requests: responses.into_iter().map(response).collect(),
        references: BTreeMap::from([
            (Reference::Currency, BTreeSet::from([1, 2])),
            (Reference::Direction, BTreeSet::from([11, 12])),
            (Reference::Manager, BTreeSet::from([MANAGER, OTHER_MANAGER])),
            (Reference::NumberPool, BTreeSet::from([21, 22])),
        ]),
    }
}

fn id(field: Field, id: i64) -> FieldEdit {
    (field, Value::id(field, id).map(Edit::Set))
}

fn number(field: Field, number: i32) -> FieldEdit {
    (field, Value::integer(field, number).map(Edit::Set))
}

fn parsed(field: Field, text: &str) -> FieldEdit {
    (field, Value::text(field, text.to_owned()).map(Edit::Set))
}

fn list(field: Field, mode: ListMode) -> FieldEdit {
    set(field, Value::List(mode))
}

fn clear(field: Field) -> FieldEdit {
    set(field, Value::cleared(field))
}

/// A date whose absent parts come from the stored date.
fn date(field: Field, [year, month, day]: [Option<i32>; 3]) -> FieldEdit {
    (field, Some(Edit::Date(PartialDate { year, month, day })))
}

fn edits(name: &'static str, edits: impl IntoIterator<Item = FieldEdit>) -> Row {
    updates(name, admin(), edits)
}

/// An update that changes one field.
fn accepted(name: &'static str, edit: FieldEdit) -> Row {
    let field = edit.0;
    edits(name, [edit]).stores(&[field])
}

/// An update that is refused because of its only value.
fn rejected(name: &'static str, edit: FieldEdit) -> Row {
    let field = edit.0;
    edits(name, [edit]).invalid(&[(field, NotAllowed)])
}

pub(super) fn rows() -> Vec<Row> {
    [scalars(), texts(), dates(), lists(), several()].into_iter().flatten().collect()
}

fn scalars() -> Vec<Row> {
    vec![
        accepted("a currency", id(Field::currency_id, 2)),
        rejected("an unknown currency", id(Field::currency_id, 3)),
        rejected("the id of a currency for a direction", id(Field::direction_id, 1)),
        accepted("a direction", id(Field::direction_id, 11)),
        rejected("id 0 for a currency", id(Field::currency_id, 0)),
        accepted("no currency", clear(Field::currency_id)),
        accepted("another responsible manager", id(Field::responsible_manager_id, OTHER_MANAGER)),
        accepted("no responsible manager", clear(Field::responsible_manager_id)),
        rejected("an admin as responsible manager", id(Field::responsible_manager_id, ADMIN)),
        rejected("a user as responsible manager", id(Field::responsible_manager_id, BOB)),
        accepted("the lowest count", number(Field::call_limit, 0)),
        accepted("the highest count", number(Field::call_limit, i32::MAX)),
        rejected("a count below 0", number(Field::call_limit, -1)),
        accepted("the first hour", number(Field::warning_email_hour, 1)),
        accepted("the last hour", number(Field::warning_email_hour, 23)),
        rejected("hour 0", number(Field::warning_email_hour, 0)),
        rejected("hour 24", number(Field::warning_email_hour, 24)),
        edits("the stored hour", [number(Field::warning_email_hour, -1)]).checks(&[]),
        accepted("a flag", set(Field::hidden, Value::Flag(true))),
        edits("the stored flag", [set(Field::hidden, Value::Flag(false))]).checks(&[]),
        accepted("a decimal", parsed(Field::tax1_value, "20.5"))
            .holding(Field::tax1_value, Value::Micros(20_500_000)),
        rejected("a negative tax", parsed(Field::tax1_value, "-1")),
        accepted("a negative balance", parsed(Field::warning_email_balance, "-0.000001"))
            .holding(Field::warning_email_balance, Value::Micros(-1)),
        rejected("7 digits after the point", parsed(Field::tax1_value, "0.0000001")),
        rejected("13 digits before the point", parsed(Field::tax1_value, "1000000000000")),
    ]
}

fn texts() -> Vec<Row> {
    vec![
        accepted("the longest text", parsed(Field::city, &"é".repeat(255))),
        rejected("a text that is too long", parsed(Field::city, &"é".repeat(256))),
        accepted("a text with a line break", parsed(Field::address, "a\r\nb")),
        rejected("a control character", parsed(Field::address, "a\u{7f}b")),
        accepted("an empty text", parsed(Field::city, "")),
        accepted("the longest comment", parsed(Field::comment, &"x".repeat(65_535))),
        rejected("a comment with too many bytes", parsed(Field::comment, &"é".repeat(32_768))),
        accepted("a language", parsed(Field::language, "en_GB")),
        rejected("a language of one letter", parsed(Field::language, "e")),
        accepted("an e-mail address", parsed(Field::email, "a@example.org")),
        rejected("two e-mail addresses", parsed(Field::email, "a@example.org,b@example.org")),
        accepted("no e-mail address", parsed(Field::email, "")),
    ]
}

/// The stored block date of alice is 2027-03-31. She has no agreement date.
fn dates() -> Vec<Row> {
    let (block, agreement) = (Field::block_date, Field::agreement_date);
    vec![
        accepted("a new date", date(agreement, [Some(2028), Some(2), Some(29)]))
            .holding(agreement, day(2028, 2, 29)),
        accepted("a year for a stored date", date(block, [Some(2028), None, None]))
            .holding(block, day(2028, 3, 31)),
        accepted("a month for a stored date", date(block, [None, Some(5), None]))
            .holding(block, day(2027, 5, 31)),
        accepted("a day for a stored date", date(block, [None, None, Some(1)]))
            .holding(block, day(2027, 3, 1)),
        rejected("a month without the stored day", date(block, [None, Some(4), None])),
        rejected("29 February in another year", date(block, [Some(2027), None, None])).on(BOB),
        rejected("a month for no stored date", date(agreement, [None, Some(5), None])),
        rejected("no part for no stored date", date(agreement, [None; 3])),
        edits("no part for a stored date", [date(block, [None; 3])]).checks(&[]),
        accepted("the first year", date(block, [Some(1900), None, None])),
        rejected("a year before the first", date(block, [Some(1899), None, None])),
        accepted("the last year", date(block, [Some(9999), None, None])),
        rejected("a year after the last", date(block, [Some(10_000), None, None])),
        rejected("month 0", date(block, [None, Some(0), None])),
        rejected("day -1", date(block, [None, None, Some(-1)])),
        accepted("no date", clear(block)),
    ]
}

/// The list of bob has pool 21. The source list of carol has no pool.
fn lists() -> Vec<Row> {
    let (mode, pool) = (Field::enable_static_list, Field::static_list_id);
    let (source, source_pool) = (Field::enable_static_source_list, Field::static_source_list_id);
    vec![
        edits("a list with a pool", [list(mode, ListMode::Whitelist), id(pool, 22)])
            .stores(&[mode, pool]),
        edits("a list without a pool", [list(mode, ListMode::Whitelist)])
            .invalid(&[(pool, PoolMissing)]),
        edits("a list with an unknown pool", [list(mode, ListMode::Whitelist), id(pool, 1)])
            .invalid(&[(pool, NotAllowed)]),
        edits(
            "two lists without pools",
            [source, mode].map(|field| list(field, ListMode::Blacklist)),
        )
        .invalid(&[(source_pool, PoolMissing), (pool, PoolMissing)]),
        accepted("a pool without a list", id(pool, 21)),
        accepted("another mode of a list with a pool", list(mode, ListMode::Whitelist)).on(BOB),
        accepted("another pool of a list", id(pool, 22)).on(BOB),
        edits("no pool of a list", [clear(pool)]).on(BOB).invalid(&[(pool, PoolMissing)]),
        edits("no pool and no list", [clear(pool), clear(mode)]).on(BOB).stores(&[mode, pool]),
        accepted("no list, but its pool", clear(mode)).on(BOB),
        edits("no pool and a bad mode", [clear(pool), bad(mode)])
            .on(BOB)
            .invalid(&[(mode, NotAllowed), (pool, PoolMissing)]),
        accepted("another field with a missing pool", parsed(Field::city, "York")).on(CAROL),
        edits("the stored mode with a missing pool", [list(source, ListMode::Whitelist)])
            .on(CAROL)
            .invalid(&[(source_pool, PoolMissing)]),
        accepted("the missing pool", id(source_pool, 21)).on(CAROL),
        accepted("no list with a missing pool", clear(source)).on(CAROL),
    ]
}

fn several() -> Vec<Row> {
    let (currency, agreement) = (Field::currency_id, Field::agreement_date);
    let (place, mail) = (Field::city, Field::email);
    vec![
        edits("several fields", [parsed(mail, ""), parsed(place, "York"), id(currency, 2)])
            .stores(&[currency, place, mail]),
        edits("a new and a stored value", [id(currency, 2), parsed(place, "Vilnius")])
            .stores(&[currency]),
        edits("a valid and an invalid value", [parsed(place, "York"), id(currency, 3)])
            .invalid(&[(currency, NotAllowed)]),
        edits("an invalid value, validated only", [id(currency, 3)])
            .validate_only()
            .invalid(&[(currency, NotAllowed)]),
        edits("several invalid values", [bad(place), date(agreement, [None; 3]), id(currency, 3)])
            .invalid(&[(currency, NotAllowed), (agreement, NotAllowed), (place, NotAllowed)]),
    ]
}
