//! The rules as a table. A row has an actor, a target user, a request and the expected outcome.
//!
//! This file has the rows about rights and preconditions, [`values`] the rows about values.

mod row;
mod values;

use std::collections::BTreeSet;

use super::*;

use row::{Outcome, Row, Rule, bad, calls, moves, set, text, updates};
use row::{admin, blocked, limited, manager, named, plain_user, service};

// The ids of the stored accounts.
const CITY: Field = Field::city;
const ADMIN: i64 = 1;
const MANAGER: i64 = 2;
/// A user of [`MANAGER`].
const ALICE: i64 = 3;
/// A user of [`OTHER_MANAGER`].
const BOB: i64 = 4;
/// A user without a manager. Its update time is later than [`NOW`].
const CAROL: i64 = 5;
/// A manager whose responsible manager is [`MANAGER`].
const OTHER_MANAGER: i64 = 6;

/// The name of the acting account.
const NAME: &str = "actor";
/// The stored version of every user. The etag of alice is `3-a`.
const VERSION: i64 = 10;
const NOW: DateTime<Utc> = DateTime::<Utc>::UNIX_EPOCH;

const READ: Option<Level> = Some(Level::Read);
const EDIT: Option<Level> = Some(Level::Edit);

#[test]
fn every_row_has_its_outcome() {
    for row in rows() {
        // `Error` has no equality. Its debug text has the variant and its content.
        let actual = row.run().map_err(|error| format!("{error:?}"));
        let expected = row.expected.map_err(|error| format!("{error:?}"));
        assert_eq!(actual, expected, "{}", row.name);
    }
}

#[test]
fn every_row_has_its_own_name() {
    let mut names = BTreeSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{}", row.name);
    }
}

fn rows() -> Vec<Row> {
    let tables = [
        actors(),
        targets(),
        fields(),
        preconditions(),
        requests(),
        order(),
        reading(),
        listing(),
        settings(),
        values::rows(),
    ];
    tables.into_iter().flatten().collect()
}

fn actors() -> Vec<Row> {
    let city = [Field::city];
    vec![
        moves("an admin", admin()).stores(&city),
        moves("a limited admin", limited(admin())).stores(&city),
        moves("a manager, own user", manager(EDIT)).stores(&city),
        moves("a manager, other manager's user", manager(EDIT)).on(BOB).stores(&city),
        moves("a manager, user without manager", manager(EDIT)).on(CAROL).stores(&city),
        moves("a limited manager, own user", limited(manager(EDIT))).stores(&city),
        moves("a limited manager, other manager's user", limited(manager(EDIT)))
            .on(BOB)
            .finds_nobody(),
        moves("a limited manager, user without manager", limited(manager(EDIT)))
            .on(CAROL)
            .finds_nobody(),
        moves("a manager with the right to read", manager(READ)).fails(Error::NotAuthorized),
        moves("a manager without the right", manager(None)).fails(Error::NotAuthorized),
        moves("a limited manager without the right", limited(manager(None)))
            .fails(Error::NotAuthorized),
        moves("a plain user", plain_user()).on(BOB).refused(Refusal::PlainUser),
        moves("a plain user on itself", plain_user()).refused(Refusal::PlainUser),
        moves("a blocked admin", blocked(admin())).refused(Refusal::Blocked),
        moves("a blocked manager", blocked(manager(EDIT))).refused(Refusal::Blocked),
        moves("an unknown account", named("nobody")).refused(Refusal::Unknown),
        moves("a name in other case", named("Actor")).refused(Refusal::Unknown),
        moves("a name with a space", named("actor ")).refused(Refusal::Unknown),
        moves("a name that no account can have", named("")).refused(Refusal::Unknown),
        moves("a service", service()).stores(&city),
    ]
}

fn targets() -> Vec<Row> {
    let (manager_field, other) = (Field::responsible_manager_id, Value::Id(OTHER_MANAGER));
    vec![
        moves("an admin on itself", admin()).on(ADMIN).refused(Refusal::Itself),
        moves("a manager on itself", manager(EDIT)).on(MANAGER).refused(Refusal::Itself),
        moves("an unknown user", admin()).on(99).finds_nobody(),
        moves("a negative user id", admin()).on(-1).finds_nobody(),
        moves("user id 0", admin()).on(0).finds_nobody(),
        moves("a service, unknown user", service()).on(99).finds_nobody(),
        moves("a manager as user", admin()).on(MANAGER).finds_nobody(),
        moves("an admin as user", manager(EDIT)).on(ADMIN).finds_nobody(),
        moves("a service, admin as user", service()).on(ADMIN).finds_nobody(),
        moves("a limited manager, assigned manager as user", limited(manager(EDIT)))
            .on(OTHER_MANAGER)
            .finds_nobody(),
        updates(
            "a limited manager gives its user away",
            limited(manager(EDIT)),
            [set(manager_field, other)],
        )
        .stores(&[manager_field]),
    ]
}

/// The fields that a caller may change.
fn fields() -> Vec<Row> {
    let denied = |field| Error::NotPermitted(NotPermitted::Field(field));
    vec![
        moves("an allowed field", admin()).allowed(&["address.city"]).stores(&[CITY]),
        moves("an allowed group", admin()).allowed(&["taxes", "address"]).stores(&[CITY]),
        moves("all fields allowed", admin()).allowed(&["*"]).stores(&[CITY]),
        moves("a denied field", admin()).allowed(&["address.fax"]).fails(denied(CITY)),
        moves("no field allowed", admin()).allowed(&[]).fails(denied(CITY)),
        moves("an unknown path allowed", admin()).allowed(&["address.x"]).fails(denied(CITY)),
        moves("a service, denied field", service()).allowed(&["taxes"]).fails(denied(CITY)),
        moves("a denied field, validated only", admin())
            .allowed(&["taxes"])
            .validate_only()
            .fails(denied(CITY)),
        updates("the stored value of a denied field", admin(), [set(CITY, text("Vilnius"))])
            .allowed(&["taxes"])
            .fails(denied(CITY)),
        updates("an invalid value of a denied field", admin(), [bad(CITY)])
            .allowed(&["taxes"])
            .fails(denied(CITY)),
        updates(
            "an allowed and a denied field",
            admin(),
            [set(CITY, text("Kaunas")), set(Field::hidden, Value::Flag(true))],
        )
        .allowed(&["address"])
        .fails(denied(Field::hidden)),
        updates("no edits, no field allowed", admin(), []).allowed(&[]).checks(&[]),
    ]
}

fn preconditions() -> Vec<Row> {
    let stored = || text("Vilnius");
    vec![
        moves("the stored etag", admin()).etag("3-a").stores(&[CITY]),
        moves("the etag of an earlier version", admin()).etag("3-9").fails(Error::EtagMismatch),
        moves("the etag of another user", admin()).etag("4-a").fails(Error::EtagMismatch),
        moves("an etag in other case", admin()).etag("3-A").fails(Error::EtagMismatch),
        moves("an empty etag", admin()).etag("").fails(Error::EtagMismatch),
        moves("an earlier etag, validated only", admin())
            .etag("3-9")
            .validate_only()
            .fails(Error::EtagMismatch),
        updates("an earlier etag, no edits", admin(), []).etag("3-9").fails(Error::EtagMismatch),
        moves("an expected value", admin()).expecting(CITY, stored()).stores(&[CITY]),
        moves("an expected value that changed", admin())
            .expecting(CITY, text("York"))
            .fails(Error::ChangedSince),
        moves("a second expected value that changed", admin())
            .expecting(CITY, stored())
            .expecting(Field::call_limit, Value::Integer(11))
            .fails(Error::ChangedSince),
        moves("validated only", admin()).validate_only().checks(&[CITY]),
        moves("validated only, right to read", manager(READ))
            .validate_only()
            .fails(Error::NotAuthorized),
        updates("no edits", admin(), []).checks(&[]),
        updates("no edits, right to read", manager(READ), []).fails(Error::NotAuthorized),
        updates("the stored value", admin(), [set(CITY, stored())]).checks(&[]),
        updates("the stored value, stored etag", admin(), [set(CITY, stored())])
            .etag("3-a")
            .checks(&[]),
    ]
}

/// Request ids. The snapshot has the responses `scoped`, `unscoped` and `copy`, of content `same`.
fn requests() -> Vec<Row> {
    vec![
        moves("a new request id", admin()).request("new", "new scoped", "same").stores(&[CITY]),
        moves("a repeat", admin()).request("new", "scoped", "same").answers(),
        moves("a repeat by a service", service()).request("new", "scoped", "same").answers(),
        moves("a repeat, validated only", admin())
            .request("new", "scoped", "same")
            .validate_only()
            .checks(&[CITY]),
        moves("a reused request id", admin())
            .request("new", "scoped", "other")
            .fails(Error::RequestIdReused),
        moves("a reused request id, validated only", admin())
            .request("new", "scoped", "other")
            .validate_only()
            .checks(&[CITY]),
        moves("a repeat under an unscoped id", admin())
            .request("unscoped", "new scoped", "same")
            .answers(),
        moves("the unscoped id of another request", admin())
            .request("unscoped", "new scoped", "other")
            .stores(&[CITY]),
        moves("the copy of another response", admin())
            .request("copy", "new scoped", "same")
            .stores(&[CITY]),
    ]
}

/// Requests with several errors. The rules return the error of the first check.
fn order() -> Vec<Row> {
    let denied = Error::NotPermitted(NotPermitted::Field(CITY));
    let repeats = |row: Row| row.request("new", "scoped", "same");
    let reuses = |row: Row| row.request("new", "scoped", "other");
    let changed = |row: Row| row.expecting(CITY, text("York"));
    vec![
        moves("denied field, unknown account", named("x")).allowed(&["taxes"]).fails(denied),
        moves("plain user, blocked", blocked(plain_user())).refused(Refusal::PlainUser),
        moves("blocked, no right", blocked(manager(None))).refused(Refusal::Blocked),
        moves("no right, itself", manager(READ)).on(MANAGER).fails(Error::NotAuthorized),
        moves("no right, unknown user", manager(READ)).on(99).fails(Error::NotAuthorized),
        reuses(moves("unknown user, reused", admin())).on(99).finds_nobody(),
        repeats(moves("no right, repeat", manager(None))).fails(Error::NotAuthorized),
        repeats(moves("out of reach, repeat", limited(manager(EDIT)))).on(BOB).finds_nobody(),
        reuses(moves("reused, etag", admin())).etag("3-9").fails(Error::RequestIdReused),
        repeats(changed(updates("repeat, etag, changed, invalid", admin(), [bad(CITY)])))
            .etag("3-9")
            .answers(),
        changed(moves("etag, changed", admin())).etag("3-9").fails(Error::EtagMismatch),
        changed(updates("changed, invalid", admin(), [bad(CITY)])).fails(Error::ChangedSince),
    ]
}

fn reading() -> Vec<Row> {
    let reads = |name, account: ActingAccount| calls(name, Rule::Read, account);
    vec![
        reads("read: an admin", admin()).is(Outcome::Found(ALICE)),
        reads("read: a manager, right to read", manager(READ)).on(BOB).is(Outcome::Found(BOB)),
        reads("read: a manager, right to edit", manager(EDIT)).is(Outcome::Found(ALICE)),
        reads("read: a limited manager", limited(manager(READ))).is(Outcome::Found(ALICE)),
        reads("read: a limited manager, other manager's user", limited(manager(READ)))
            .on(BOB)
            .finds_nobody(),
        reads("read: a manager without the right", manager(None)).fails(Error::NotAuthorized),
        reads("read: itself", manager(READ)).on(MANAGER).refused(Refusal::Itself),
        reads("read: a plain user on itself", plain_user()).refused(Refusal::PlainUser),
        reads("read: a blocked admin", blocked(admin())).refused(Refusal::Blocked),
        reads("read: a manager as user", admin()).on(MANAGER).finds_nobody(),
        calls("read: a service", Rule::Read, service()).on(CAROL).is(Outcome::Found(CAROL)),
    ]
}

fn listing() -> Vec<Row> {
    let lists = |name, account: ActingAccount| calls(name, Rule::Visibility, account);
    let all = || Outcome::Visible(Visibility::All);
    let assigned = Outcome::Visible(Visibility::AssignedTo(MANAGER));
    vec![
        lists("list: an admin", admin()).is(all()),
        lists("list: a limited admin", limited(admin())).is(all()),
        lists("list: a manager", manager(READ)).is(all()),
        lists("list: a limited manager", limited(manager(READ))).is(assigned),
        lists("list: no right", limited(manager(None))).fails(Error::NotAuthorized),
        lists("list: a plain user", plain_user()).refused(Refusal::PlainUser),
        lists("list: a blocked manager", blocked(manager(READ))).refused(Refusal::Blocked),
        calls("list: a service", Rule::Visibility, service()).is(all()),
        calls("list: unknown", Rule::Visibility, named("x")).refused(Refusal::Unknown),
    ]
}

fn settings() -> Vec<Row> {
    let sets = |name, account: ActingAccount| calls(name, Rule::Administer, account);
    vec![
        sets("settings: an admin", admin()).is(Outcome::Administers),
        sets("settings: a manager", manager(EDIT)).fails(Error::AccessDenied),
        sets("settings: no right", manager(None)).fails(Error::AccessDenied),
        sets("settings: a plain user", plain_user()).refused(Refusal::PlainUser),
        sets("settings: a blocked admin", blocked(admin())).refused(Refusal::Blocked),
        sets("settings: a blocked manager", blocked(manager(EDIT))).refused(Refusal::Blocked),
        calls("settings: a service", Rule::Administer, service()).is(Outcome::Administers),
        calls("settings: unknown", Rule::Administer, named("x")).refused(Refusal::Unknown),
    ]
}
