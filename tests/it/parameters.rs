//! Parameters: valid values are stored and read back over gRPC exactly. Invalid values are reported
//! and change nothing.

use std::collections::BTreeSet;

use m4_user_details::{
    fields::{FIELDS, Field},
    proto::{Date, Leaf, ListMode},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::{app::TestApp, database::TestDatabase, on_every_engine};

on_every_engine!(
    good_values_are_stored_and_read_back_exactly,
    bad_values_are_told_and_change_nothing,
    dates_take_missing_parts_from_the_stored_date,
    lists_need_their_pools,
    decimals_are_exact,
);

const TEXTS: &[&str] = &[
    "vat_number",
    "clientid",
    "first_name",
    "last_name",
    "accounting_number",
    "agreement_number",
    "address",
    "city",
    "postcode",
    "county",
    "state",
    "mob_phone",
    "phone",
    "fax",
    "tax1_name",
    "tax2_name",
    "tax3_name",
    "tax4_name",
    "comment",
];
const FLAGS: &[&str] = &[
    "hidden",
    "hide_non_answered_calls",
    "block_conditional_use",
    "warning_email_active",
    "tax2_enabled",
    "tax3_enabled",
    "tax4_enabled",
    "generate_invoice",
];
const IDS: &[&str] =
    &["currency_id", "taxation_country", "direction_id", "static_source_list_id", "static_list_id"];
const LISTS: &[&str] = &["enable_static_source_list", "enable_static_list"];
const TAXES: &[&str] = &["tax1_value", "tax2_value", "tax3_value", "tax4_value"];
const DATES: [(Field, [&str; 3]); 2] =
    [(Field::block_date, ["by", "bm", "bd"]), (Field::agreement_date, ["ay", "am", "ad"])];

fn field(name: &str) -> Field {
    FIELDS.into_iter().find(|field| field.name() == name).unwrap()
}

/// Parameters with valid values and the stored value.
fn good() -> Vec<(&'static str, String, Leaf)> {
    let mut good = Vec::new();
    let mut add = |name, text: &str, leaf| good.push((name, text.to_owned(), leaf));
    let longest = "ž".repeat(255);
    for &name in TEXTS {
        for text in ["plain", "  Ünï + 100% & <b>\"'📞  ", "tab\tcr\rlf\n", &longest, ""] {
            add(name, text, Leaf::Text(text.to_owned()));
        }
    }
    let comment = "é".repeat(32_767) + "x";
    add("comment", &comment, Leaf::Text(comment.clone()));
    for &name in FLAGS {
        for (text, flag) in [("1", true), ("0", false), (" 1 ", true)] {
            add(name, text, Leaf::Bool(flag));
        }
    }
    for (text, flag) in [("1", true), ("2", false), (" 1", true), ("2 ", false)] {
        add("blocked", text, Leaf::Bool(flag));
    }
    for &name in IDS {
        for (text, id) in [("2", 2), (" 1 ", 1), ("0002", 2)] {
            add(name, text, Leaf::Int64(id));
        }
    }
    for (text, id) in [("2", 2), (" 06 ", 6), ("8", 8)] {
        add("responsible_manager_id", text, Leaf::Int64(id));
    }
    for (text, number) in [("0", 0), ("2147483647", i32::MAX), (" 007 ", 7)] {
        add("call_limit", text, Leaf::Int32(number));
    }
    for (text, number) in [("1", 1), ("23", 23), (" 09 ", 9), ("-1", -1), (" -1 ", -1)] {
        add("warning_email_hour", text, Leaf::Int32(number));
    }
    for text in ["lt", "en_GB", "zh-Hant-TW", ""] {
        add("language", text, Leaf::Text(text.to_owned()));
    }
    let long_email = format!("{}@example.com", "a".repeat(243));
    for text in
        ["a@b", "first.last+tag@sub.example.com", "!#$%&'*+/=?^_`{|}~-@x-y.z", &long_email, ""]
    {
        add("email", text, Leaf::Text(text.to_owned()));
    }
    let decimals = [
        ("19.95", "19.95"),
        ("19,95", "19.95"),
        ("0", "0"),
        ("-0", "0"),
        ("000000000001", "1"),
        (" 1.500000 ", "1.5"),
        ("999999999999.999999", "999999999999.999999"),
        ("0.000001", "0.000001"),
    ];
    for name in TAXES.iter().copied().chain(["warning_email_balance"]) {
        for (text, stored) in decimals {
            add(name, text, Leaf::Text(stored.to_owned()));
        }
    }
    for (text, stored) in [("-999999999999.999999", "-999999999999.999999"), ("-0,5", "-0.5")] {
        add("warning_email_balance", text, Leaf::Text(stored.to_owned()));
    }
    for &name in LISTS {
        for (text, mode) in [
            ("blacklist", ListMode::Blacklist),
            ("whitelist", ListMode::Whitelist),
            ("no", ListMode::No),
        ] {
            add(name, text, Leaf::Int32(mode as i32));
        }
    }
    good
}

/// Parameters with invalid values. Texts are percent-encoded.
fn bad() -> Vec<(&'static str, String)> {
    let mut bad = Vec::new();
    let mut add = |name, values: &[&str]| {
        bad.extend(values.iter().map(|text| (name, (*text).to_owned())));
    };
    let too_long = "x".repeat(256);
    let control = ["%00", "a%01", "%1f", "%7f", "%C2%80", "%C2%9F", "%0b", "%ff", "a%c3"];
    for name in TEXTS.iter().copied().chain(["language", "email"]) {
        add(name, &control);
    }
    for name in TEXTS.iter().copied().filter(|name| *name != "comment") {
        add(name, &[&too_long, &"%C5%BE".repeat(256)]);
    }
    add("comment", &[&"x".repeat(65_536), &"%C3%A9".repeat(32_768)]);
    add("language", &["l", "abcdefghijk", "en1", "en+GB", "l%C5%B3"]);
    add(
        "email",
        &[
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a@b..c",
            "a@-b",
            "a@b-",
            "a+b@c",
            "%20a@b",
            "a@b.",
            "a@%C5%BE.lt",
            &format!("{}@example.com", "a".repeat(244)),
            &format!("a@{}", "b".repeat(64)),
        ],
    );
    for &name in FLAGS {
        add(name, &["2", "", "01", "10", "true", "yes", "-1", "%ff", "1.0"]);
    }
    add("blocked", &["0", "", "3", "02", "true", "%ff"]);
    let no_number = ["", "abc", "1.0", "%2B1", "0x1", "%EF%BC%91", "1e2", "1+1", "%091", "%ff"];
    for &name in IDS {
        add(name, &no_number);
        add(name, &["0", "999", "-1", "9223372036854775807", "9223372036854775808"]);
    }
    add("call_limit", &no_number);
    add("call_limit", &["-1", "2147483648", "99999999999999999999"]);
    add("warning_email_hour", &no_number);
    add("warning_email_hour", &["0", "24", "-2", "2147483648"]);
    let no_decimal = [
        "",
        "abc",
        ".5",
        "5.",
        "1.1234567",
        "1234567890123",
        "1e5",
        "%2B1",
        "1.2.3",
        "1,2,3",
        "NaN",
        "inf",
        "--1",
        "1%20000",
        "0x1",
        "%EF%BC%91",
        "%ff",
        "-",
    ];
    for name in TAXES.iter().copied().chain(["warning_email_balance"]) {
        add(name, &no_decimal);
    }
    for &name in TAXES {
        add(name, &["-1", "-0.000001"]);
    }
    for &name in LISTS {
        add(name, &["", "No", "BLACKLIST", "+no", "0", "greylist", "unspecified", "%ff"]);
    }
    for (_, [year, month, day]) in DATES {
        add(year, &["1899", "10000", "abc", "-1", "", "99999999999", "%ff"]);
        add(month, &["0", "13", "abc", "", "1.0"]);
        add(day, &["0", "32", "abc", "", "%2B1"]);
    }
    bad
}

async fn good_values_are_stored_and_read_back_exactly(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (name, text, leaf) in good() {
        seen.insert(name);
        let encoded = utf8_percent_encode(&text, NON_ALPHANUMERIC);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let target = crate::support::app::target("admin", "3", "");
        let body = format!("{name}={encoded}");
        let answer = app.send(::http::Method::POST, &target, &form, body).await;
        assert!(answer.body.contains("successfully"), "{name}={text}: {}", answer.body);
        assert_eq!(app.read(3).await.take(field(name)), Some(leaf), "{name}={text}");
    }
    app.call("admin", "3", "responsible_manager_id=-1").await;
    assert_eq!(app.read(3).await.take(Field::responsible_manager_id), None);
    for (field, [year, month, day]) in DATES {
        seen.extend([year, month, day]);
        let parameters = format!("{year}=+02028&{month}=02&{day}=29+");
        let answer = app.call("admin", "3", &parameters).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        let date = Date { year: Some(2028), month: Some(2), day: Some(29) };
        assert_eq!(app.read(3).await.take(field), Some(Leaf::Date(date)));
    }
    let all: BTreeSet<&str> = FIELDS.into_iter().flat_map(Field::parameters).collect();
    assert_eq!(seen, all);
}

async fn bad_values_are_told_and_change_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(4).await;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (name, value) in bad() {
        seen.insert(name);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let target = crate::support::app::target("admin", "4", "");
        // A valid parameter beside the invalid value must not be stored either.
        let beside = if name == "clientid" { "county" } else { "clientid" };
        let body = format!("{name}={value}&{beside}=beside");
        let answer = app.send(::http::Method::POST, &target, &form, body).await;
        let messages: Vec<_> =
            answer.body.lines().filter(|line| line.contains("<message>")).collect();
        assert!(
            answer.body.contains("<error>User was not updated</error>"),
            "{name}={value}: {}",
            answer.body
        );
        assert_eq!(messages.len(), 1, "{name}={value}: {}", answer.body);
        assert!(messages[0].starts_with(&format!("    <message>{name} must ")), "{}", messages[0]);
        assert_eq!(app.read(4).await, before, "{name}={value}");
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    // The responsible manager has its own row; see `rows`.
    seen.insert("responsible_manager_id");
    let all: BTreeSet<&str> = FIELDS.into_iter().flat_map(Field::parameters).collect();
    assert_eq!(seen, all);
}

async fn dates_take_missing_parts_from_the_stored_date(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let success = "<success>User was updated successfully</success>";
    for (field, [year, month, day]) in DATES {
        let date = |y, m, d| Some(Leaf::Date(Date { year: Some(y), month: Some(m), day: Some(d) }));
        let set = format!("{year}=2024&{month}=1&{day}=31");
        let steps = [
            (set, true, date(2024, 1, 31)),
            // 31 February does not exist; the stored date stays.
            (format!("{month}=2"), false, date(2024, 1, 31)),
            (format!("{month}=2&{day}=29"), true, date(2024, 2, 29)),
            (format!("{year}=2023"), false, date(2024, 2, 29)),
            (format!("{year}=2000"), true, date(2000, 2, 29)),
            (format!("{year}=1900"), false, date(2000, 2, 29)),
            (format!("{year}=1900&{day}=1"), true, date(1900, 2, 1)),
            (format!("{year}=9999&{month}=12&{day}=31"), true, date(9999, 12, 31)),
            // One or two empty parts are invalid.
            (format!("{year}="), false, date(9999, 12, 31)),
            (format!("{year}=&{month}="), false, date(9999, 12, 31)),
            (format!("{year}=2020&{month}=&{day}="), false, date(9999, 12, 31)),
            (format!("{year}=&{month}=&{day}="), true, None),
            // No stored date supplies the missing parts.
            (format!("{year}=2020&{month}=5"), false, None),
            (format!("{day}=5"), false, None),
            (String::new(), true, None),
            (format!("{year}=&{month}=&{day}="), true, None),
        ];
        for (parameters, stored, expected) in steps {
            let answer = app.call("admin", "3", &parameters).await;
            assert_eq!(answer.body.contains(success), stored, "{parameters}: {}", answer.body);
            assert_eq!(answer.body.contains("<message>"), !stored, "{parameters}");
            assert_eq!(app.read(3).await.take(field), expected, "{parameters}");
        }
    }
}

async fn lists_need_their_pools(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    database
        .execute("UPDATE accounts SET static_source_list_id = NULL, static_list_id = NULL, enable_static_source_list = 'no', enable_static_list = 'no' WHERE id = 3")
        .await;
    for (list, pool) in [
        ("enable_static_source_list", "static_source_list_id"),
        ("enable_static_list", "static_list_id"),
    ] {
        let message = format!(
            "<message>{pool} must be set while its list is blacklist or whitelist</message>"
        );
        for mode in ["blacklist", "whitelist"] {
            let answer = app.call("admin", "3", &format!("{list}={mode}")).await;
            assert!(answer.body.contains(&message), "{}", answer.body);
        }
        let answer = app.call("admin", "3", &format!("{list}=blacklist&{pool}=9")).await;
        let unknown = format!("<message>{pool} must be the id of a number pool</message>");
        assert!(
            answer.body.contains(&unknown) && !answer.body.contains(&message),
            "{}",
            answer.body
        );
        assert!(app.call("admin", "3", &format!("{list}=no")).await.body.contains("successfully"));
        let together = format!("{list}=blacklist&{pool}=1");
        assert!(app.call("admin", "3", &together).await.body.contains("successfully"));
        assert!(
            app.call("admin", "3", &format!("{list}=whitelist"))
                .await
                .body
                .contains("successfully")
        );
    }
}

/// Exact at the limits, and for a value without an exact binary form; in the column, too.
async fn decimals_are_exact(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for (sent, micros) in [("999999999999.999999", 999_999_999_999_999_999), ("19.95", 19_950_000)]
    {
        for name in TAXES.iter().copied().chain(["warning_email_balance"]) {
            app.call("admin", "3", &format!("{name}={sent}")).await;
            assert_eq!(app.read(3).await.take(field(name)), Some(Leaf::Text(sent.to_owned())));
            let column = format!("SELECT {name} FROM accounts WHERE id = 3");
            assert_eq!(database.number(&column).await, micros);
        }
    }
}
