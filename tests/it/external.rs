//! Rows that another program writes: checked, logged, and visible to etags and watches.

use m4_user_details::{
    domain::value::{Value, micros_to_text},
    fields::{FIELDS, Field, Kind as FieldKind, Reference},
    proto::{
        ListUserDetailsChangesRequest, RevertUserDetailsChangeRequest, UpdateUserDetailsRequest,
        UserDetails, UserDetailsChange, WatchUserDetailsRequest,
    },
    storage::{OpenError, migrate},
};
use sea_orm::ConnectionTrait;
use tonic::Code;

use crate::{
    support::{
        app::{TestApp, reason, set_city},
        database::{Kind, TestDatabase},
        on_engine, on_every_engine,
    },
    watch::{Watch, everything},
};

on_every_engine!(
    a_change_of_every_field_is_logged_and_can_be_reverted,
    an_etag_from_before_an_external_change_is_refused,
    what_is_no_external_change_is_not_logged,
    many_rows_are_logged_one_by_one,
    a_value_is_accepted_as_the_service_accepts_it,
    a_value_that_no_field_allows_is_refused_by_name,
    an_old_bad_value_may_stay,
);

mod only_mariadb {
    use super::a_user_that_may_not_create_triggers_is_told;
    super::on_engine!(mariadb, MariaDb, a_user_that_may_not_create_triggers_is_told);
}

/// A text as an SQL literal.
fn literal(database: &TestDatabase, text: &str) -> String {
    let text = text.replace('\'', "''");
    let text = if database.kind == Kind::MariaDb { text.replace('\\', "\\\\") } else { text };
    format!("'{text}'")
}

/// Tries a statement as another program.
async fn attempt(database: &TestDatabase, sql: &str) -> Result<(), String> {
    let connection = database.connect().await;
    let done = connection.execute_unprepared(sql).await;
    connection.close().await.unwrap();
    done.map(drop).map_err(|error| error.to_string())
}

async fn changes(app: &TestApp) -> Vec<UserDetailsChange> {
    let request = ListUserDetailsChangesRequest::default();
    app.users().list_user_details_changes(request).await.unwrap().into_inner().changes
}

/// The details alone.
fn details(user: UserDetails) -> UserDetails {
    UserDetails {
        user_id: 0,
        username: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..user
    }
}

/// A value that differs from alice's, as SQL.
fn other(database: &TestDatabase, field: Field) -> String {
    match (field.kind(), field) {
        (FieldKind::Id(Reference::Currency), _) => "3".to_owned(),
        (FieldKind::Id(Reference::Direction), _) => "2".to_owned(),
        (FieldKind::Id(Reference::Manager), _) => "6".to_owned(),
        (_, Field::static_source_list_id) => "2".to_owned(),
        (FieldKind::Id(_), _) => "1".to_owned(),
        (FieldKind::Count, _) => i32::MAX.to_string(),
        (FieldKind::Hour, _) => "-1".to_owned(),
        (FieldKind::Flag { .. }, _) => format!("NOT {}", field.name()),
        (FieldKind::Language, _) => "'de-AT'".to_owned(),
        (FieldKind::Email, _) => "'x@example.org'".to_owned(),
        (_, Field::tax1_value) => "999999999999999999".to_owned(),
        (_, Field::tax2_value) => "100000000".to_owned(),
        (_, Field::tax3_value) => "0".to_owned(),
        (FieldKind::Decimal { negative: true }, _) => "-500000".to_owned(),
        (FieldKind::Decimal { .. }, _) => "1050001".to_owned(),
        (_, Field::enable_static_list) => "'blacklist'".to_owned(),
        (FieldKind::List { .. }, _) => "'whitelist'".to_owned(),
        (FieldKind::Date { .. }, _) => "'1999-12-31'".to_owned(),
        (FieldKind::Text | FieldKind::Comment, _) => {
            literal(database, &format!("{} 'x' \"y\" \\ \tü 😀 ", field.name()))
        }
    }
}

async fn a_change_of_every_field_is_logged_and_can_be_reverted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    let only = WatchUserDetailsRequest { doors: vec!["external".to_owned()], ..everything() };
    let mut external = Watch::start(&app, only).await.unwrap();
    let set = FIELDS.map(|field| format!("{} = {}", field.name(), other(&database, field)));
    database.execute(&format!("UPDATE accounts SET {} WHERE id = 3", set.join(", "))).await;

    let after = app.read(3).await;
    let logged = changes(&app).await.remove(0);
    assert_eq!((&*logged.door, &*logged.etag), ("external", &*after.etag));
    assert_eq!((logged.actor_id, &*logged.service), (None, ""));
    assert_eq!(logged.changed_fields.clone().unwrap().paths, FIELDS.map(Field::path));
    assert_eq!(logged.previous_details, Some(details(before.clone())));
    assert_eq!(logged.details, Some(details(after.clone())));
    assert_eq!(logged.change_time, after.update_time);
    assert!(after.update_time.unwrap().seconds > before.update_time.unwrap().seconds);
    let taxes = after.taxes.clone().unwrap();
    assert_eq!(taxes.tax1_value.unwrap(), micros_to_text(999_999_999_999_999_999));
    if database.kind == Kind::Sqlite {
        assert_eq!(logged.identity, "");
    } else {
        assert!(!logged.identity.is_empty() && !logged.identity.contains('@'), "{logged:?}");
    }
    assert_eq!(watch.change().await.unwrap(), logged);
    assert_eq!(external.change().await.unwrap(), logged);

    // NULL and empty, and back.
    let cleared =
        "UPDATE accounts SET block_date = NULL, currency_id = NULL, city = '' WHERE id = 3";
    database.execute(cleared).await;
    let entry = changes(&app).await.remove(1);
    let (old, new) = (entry.previous_details.unwrap(), entry.details.unwrap());
    assert_eq!(old.blocking.unwrap().block_date.unwrap().year, Some(1999));
    assert_eq!((new.blocking, new.general), (None, None));
    assert_eq!(new.address.unwrap().city.as_deref(), Some(""));
    let revert = |change_id, etag: String| RevertUserDetailsChangeRequest {
        change_id,
        etag,
        ..RevertUserDetailsChangeRequest::default()
    };
    let request = revert(entry.change_id, String::new());
    app.users().revert_user_details_change(request).await.unwrap();
    // That revert has touched the same fields.
    let request = revert(logged.change_id, String::new());
    let refused = app.users().revert_user_details_change(request).await.unwrap_err();
    assert_eq!(reason(&refused), "CHANGED_SINCE");
    let request = revert(logged.change_id, app.read(3).await.etag);
    app.users().revert_user_details_change(request).await.unwrap();
    assert_eq!(details(app.read(3).await), details(before));
}

async fn an_etag_from_before_an_external_change_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let guarded = |etag: &str| {
        let update = set_city(3, "York");
        let user = UserDetails { etag: etag.to_owned(), ..update.user_details.unwrap() };
        UpdateUserDetailsRequest { user_details: Some(user), user_id: 3, ..Default::default() }
    };
    for statement in ["city = 'Bonn'", "username = 'alice2'", "city = 'Bonn '"] {
        let etag = app.read(3).await.etag;
        database.execute(&format!("UPDATE accounts SET {statement} WHERE id = 3")).await;
        let refused = app.update(guarded(&etag)).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::Aborted, "ETAG_MISMATCH"));
    }
    app.update(guarded(&app.read(3).await.etag)).await.unwrap();
    let doors: Vec<_> = changes(&app).await.into_iter().map(|change| change.door).collect();
    assert_eq!(doors, ["external", "external", "external", "grpc"]);
}

async fn what_is_no_external_change_is_not_logged(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let etag = app.read(3).await.etag;
    for statement in [
        "UPDATE accounts SET city = city, update_time = update_time + 1 WHERE id = 3",
        "UPDATE accounts SET show_only_assigned_users = TRUE WHERE id = 2",
        "UPDATE accounts SET city = 'Bonn' WHERE account_type <> 'user'",
        "UPDATE accounts SET version = version + 4294967296",
    ] {
        database.execute(statement).await;
        assert_eq!(changes(&app).await, [], "{statement}");
    }
    assert_ne!(app.read(3).await.etag, etag);
    // The service logs its own updates once.
    app.update(set_city(3, "York")).await.unwrap();
    assert!(app.call("admin", "4", "city=York").await.body.contains("success"));
    let doors: Vec<_> = changes(&app).await.into_iter().map(|change| change.door).collect();
    assert_eq!(doors, ["grpc", "legacy"]);
}

async fn many_rows_are_logged_one_by_one(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let rows: Vec<_> =
        (100..200).map(|id| format!("({id}, 'user{id}', 'user', 1, 1, '')")).collect();
    let columns = "id, username, account_type, create_time, update_time, comment";
    database.execute(&format!("INSERT INTO accounts ({columns}) VALUES {}", rows.join(", "))).await;
    database.execute("UPDATE accounts SET call_limit = id WHERE account_type = 'user'").await;
    let logged = "SELECT COUNT(*) FROM change_log WHERE door = 'external' AND user_id >= 100";
    assert_eq!(database.number(logged).await, 100);
    // A rolled back change is not logged.
    let other = database.begin().await;
    other.execute("UPDATE accounts SET city = 'Bonn'").await;
    other.execute("ROLLBACK").await;
    assert_eq!(database.number("SELECT COUNT(*) FROM change_log").await, 103);
    app.update(set_city(150, "York")).await.unwrap();
}

async fn a_value_is_accepted_as_the_service_accepts_it(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let long = |length| format!("{}@b", "x".repeat(length));
    let (fits, too_long) = (long(253), long(254));
    let emails = [
        "",
        "a@b",
        "a@b.c",
        "a.b+c@d-e.f",
        "A!#$%&'*+/=?^_`{|}~-@b",
        "a@b-",
        "a@-b",
        "a@b..c",
        "a@.b",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b\n",
        "ä@b",
        "a@b_c",
        "a@b.",
        "hush",
        &fits,
    ];
    let languages = ["", "x", "en", "en_GB", "e1", "en\n", "abcdefghij", "ö-"];
    let texts =
        ["\t\r\n", "\u{1}", "\u{8}", "\u{b}", "\u{1f}", "\u{7f}", "\u{9f}", "\u{a0}", "]^-"];
    let values = emails.map(|text| (Field::email, text)).into_iter();
    let values = values.chain(languages.map(|text| (Field::language, text)));
    let values = values.chain(texts.map(|text| (Field::city, text)));
    let values = values.chain(texts.map(|text| (Field::comment, text)));
    for (field, text) in values {
        let (name, literal) = (field.name(), literal(&database, text));
        let sql = format!("UPDATE accounts SET {name} = {literal} WHERE id = 3");
        let accepted = attempt(&database, &sql).await.is_ok();
        assert_eq!(accepted, Value::text(field, text.to_owned()).is_some(), "{name} {text:?}");
    }
    let sql = format!("UPDATE accounts SET email = '{too_long}' WHERE id = 3");
    assert!(attempt(&database, &sql).await.is_err());
    for (column, numbers) in [
        ("call_limit", &["-1", "0", "2147483647"] as &[_]),
        ("warning_email_hour", &["-2", "-1", "0", "1", "23", "24"]),
    ] {
        let field = FIELDS.into_iter().find(|field| field.name() == column).unwrap();
        for number in numbers {
            let sql = format!("UPDATE accounts SET {column} = {number} WHERE id = 3");
            let accepted = attempt(&database, &sql).await.is_ok();
            let fits = Value::Integer(number.parse().unwrap()).fits(field);
            assert_eq!(accepted, fits, "{column} {number}");
        }
    }
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("]^-"));
}

async fn a_value_that_no_field_allows_is_refused_by_name(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut bad = vec![
        ("currency_id", "0"),
        ("call_limit", "-1"),
        ("warning_email_hour", "0"),
        ("block_date", "'1899-12-31'"),
        ("language", "'hush1'"),
        ("email", "'hush'"),
        ("tax1_value", "-1"),
        ("warning_email_balance", "1000000000000000000"),
        ("warning_email_balance", "-1000000000000000000"),
        ("enable_static_list", "'hush'"),
        ("account_type", "'hush'"),
        ("username", "''"),
        ("create_time", "9000000000000000000"),
    ];
    match database.kind {
        Kind::Sqlite => bad.extend([
            ("hidden", "2"),
            ("call_limit", "'hush'"),
            ("call_limit", "2147483648"),
            ("currency_id", "'hush'"),
            ("city", "x'6875'"),
            ("city", "'hu' || char(0)"),
            ("city", "replace(hex(zeroblob(128)), '0', 'h')"),
            ("comment", "replace(hex(zeroblob(32768)), '0', 'h')"),
            ("block_date", "'2026-02-30'"),
            ("block_date", "'hush'"),
        ]),
        Kind::Postgres => {
            bad.extend([("block_date", "'infinity'"), ("comment", "repeat('h', 65536)")]);
        }
        Kind::MariaDb => bad.extend([("hidden", "2"), ("city", "CONCAT('hu', CHAR(0))")]),
    }
    for (column, value) in bad {
        let update = format!("UPDATE accounts SET {column} = {value} WHERE id = 3");
        let columns = "id, account_type, create_time, update_time, comment, username, call_limit";
        let row = [
            ("account_type", "'user'"),
            ("create_time", "1"),
            ("update_time", "1"),
            ("comment", "''"),
            ("username", "'new'"),
            ("call_limit", "1"),
        ];
        let row = row.map(|(name, usual)| if name == column { value } else { usual }).join(", ");
        let is_inserted = columns.split(", ").any(|name| name == column);
        let (more, last) =
            if is_inserted { ("", String::new()) } else { (column, format!(", {value}")) };
        let comma = if is_inserted { "" } else { ", " };
        let insert =
            format!("INSERT INTO accounts ({columns}{comma}{more}) VALUES (50, {row}{last})");
        for statement in [update, insert] {
            let refused = attempt(&database, &statement).await.unwrap_err();
            assert!(
                refused.contains(&format!("accounts.{column} holds")),
                "{statement}: {refused}"
            );
            assert!(!refused.contains("hush"), "{refused}");
        }
    }
    let pool = attempt(&database, "UPDATE accounts SET static_list_id = NULL WHERE id = 3").await;
    assert!(pool.unwrap_err().contains("accounts.enable_static_list holds"));
    assert_eq!(app.read(3).await.etag, "3-1");
    assert_eq!(changes(&app).await, []);
}

async fn an_old_bad_value_may_stay(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let bad = "UPDATE accounts SET email = 'hush' WHERE id = 3";
    database.execute_without_triggers(bad).await;
    migrate_again(&database).await;
    database.execute("UPDATE accounts SET city = 'Bonn' WHERE id = 3").await;
    app.update(set_city(3, "York")).await.unwrap();
    database.execute("UPDATE accounts SET email = 'a@b' WHERE id = 3").await;
    let entries = changes(&app).await;
    assert_eq!(
        entries[2].previous_details.as_ref().unwrap().address.as_ref().unwrap().email(),
        "hush"
    );
    // The bad value does not come back.
    let revert =
        RevertUserDetailsChangeRequest { change_id: entries[2].change_id, ..Default::default() };
    let refused = app.users().revert_user_details_change(revert).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_DETAILS");
}

/// Creates missing triggers.
async fn migrate_again(database: &TestDatabase) {
    if database.kind != Kind::Postgres {
        let steps = "DELETE FROM schema_steps WHERE name LIKE 'm004%_accounts_%'";
        database.execute(steps).await;
        migrate(&database.options(), false).await.unwrap();
    }
}

async fn a_user_that_may_not_create_triggers_is_told(database: TestDatabase) {
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let scheme_end = server.find("://").unwrap() + 3;
    let host = server.rsplit_once('@').map_or(&server[scheme_end..], |(_, host)| host);
    let user = format!("u_{name}");
    database.execute(&format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'hush'")).await;
    let grant = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES";
    database.execute(&format!("GRANT {grant} ON {name}.* TO {user}@'127.0.0.1'")).await;
    let url = format!("{}{user}:hush@{host}/{name}", &server[..scheme_end]);
    let limited = TestDatabase { url, ..database.clone() };
    let refused = migrate(&limited.options(), false).await.unwrap_err();
    let OpenError::Prepare(cause) = refused else { panic!("{refused}") };
    let told = cause.to_string();
    assert!(told.contains("GRANT TRIGGER") && told.contains("m0044"), "{told}");
    database.execute(&format!("GRANT TRIGGER ON {name}.* TO {user}@'127.0.0.1'")).await;
    migrate(&limited.options(), false).await.unwrap();
    database.execute(&format!("DROP USER {user}@'127.0.0.1'")).await;
}
