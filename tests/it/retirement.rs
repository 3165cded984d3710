//! The retirement of the legacy call: headers and brownouts.

use std::sync::Arc;

use ::http::{HeaderMap, Method, StatusCode};
use chrono::TimeDelta;
use m4_user_details::{
    app::Environment,
    domain::clock::Clock,
    proto::{BrownoutWindow, ExplainLegacyCallRequest, LegacyCheck, Settings},
};
use prost_types::Timestamp;

use crate::{
    settings::{get, set, update},
    support::{
        app::{Answer, PATH, TestApp, reason, set_city, target, violations},
        clock::TestClock,
        database::TestDatabase,
        on_every_engine, until,
    },
};

on_every_engine!(
    every_answer_of_the_service_has_the_headers,
    each_part_has_its_own_header,
    calls_are_refused_within_a_brownout_only,
    a_brownout_comes_after_the_address_and_before_get_and_hash,
    a_retirement_is_effective_on_the_other_replica,
    a_mask_clears_parts_of_the_retirement,
    a_sunset_before_the_deprecation_is_refused,
    bad_values_are_refused_by_their_field,
    unreadable_rows_open_nothing,
);

/// 2027-01-01T00:00:00Z and 2027-07-01T00:00:00Z.
const DEPRECATION: i64 = 1_798_761_600;
const SUNSET: i64 = 1_814_400_000;
const LINK: &str = "https://billing.example/migrate";

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn window(start: i64, end: i64) -> BrownoutWindow {
    BrownoutWindow { start_time: at(start), end_time: at(end) }
}

/// The dates and the link.
fn announced() -> Settings {
    Settings {
        deprecation: at(DEPRECATION),
        sunset: at(SUNSET),
        retirement_link: Some(LINK.to_owned()),
        ..Settings::default()
    }
}

async fn change(app: &TestApp, settings: Settings) {
    update(app, settings, &[], "admin").await.unwrap();
}

const NAMES: [&str; 3] = ["deprecation", "sunset", "link"];

/// The values of [`NAMES`].
fn told(headers: &HeaderMap) -> [Option<&str>; 3] {
    NAMES.map(|name| {
        assert!(headers.get_all(name).iter().count() <= 1, "{name}");
        headers.get(name).map(|value| value.to_str().unwrap())
    })
}

const ALL: [Option<&str>; 3] = [
    Some("@1798761600"),
    Some("Thu, 01 Jul 2027 00:00:00 GMT"),
    Some(
        "<https://billing.example/migrate>; rel=\"deprecation\"; type=\"text/html\", \
         <https://billing.example/migrate>; rel=\"sunset\"; type=\"text/html\"",
    ),
];

async fn every_answer_of_the_service_has_the_headers(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let wrong = format!("{PATH}?u=admin&user_id=3&hash=0");
    let calls = [
        (Method::GET, target("admin", "3", ""), "GET Requests are disabled"),
        (Method::POST, wrong, "Incorrect hash"),
        (Method::POST, target("nobody", "3", ""), "Access Denied"),
        (Method::POST, target("auditor", "3", ""), "You are not authorized"),
        (Method::POST, target("manager", "2", ""), "Access Denied"),
        (Method::POST, target("admin", "999", ""), "User was not found"),
        (Method::POST, target("admin", "3", "responsible_manager_id=3"), "Manager is invalid"),
        (Method::POST, target("admin", "3", "hidden=7"), "User was not updated"),
        (Method::POST, target("admin", "3", "city=%00"), "User was not updated"),
        (Method::POST, target("admin", "3", "city=Kaunas"), "User was updated successfully"),
    ];
    let send = async |expected: [Option<&str>; 3]| {
        let mut answers: Vec<Answer> = Vec::new();
        for (method, target, text) in &calls {
            let answer = app.send(method.clone(), target, &[], "").await;
            assert!(answer.body.contains(text), "{target}: {}", answer.body);
            assert_eq!(told(&answer.headers), expected, "{target}");
            answers.push(answer);
        }
        answers
    };
    let plain = send([None; 3]).await;
    change(&app, announced()).await;
    let others = |answer: &Answer| {
        let names = answer.headers.keys().map(ToString::to_string);
        names.filter(|name| !NAMES.contains(&&**name)).collect::<Vec<_>>()
    };
    for (with, without) in send(ALL).await.into_iter().zip(plain) {
        assert_eq!((others(&with), with.body), (others(&without), without.body));
    }
    // Rows 1 and 0.
    set(&app, Some(false), None).await;
    let disabled = app.call("admin", "3", "").await;
    assert!(disabled.body.contains("API Requests are disabled"));
    assert_eq!(told(&disabled.headers), ALL);
    let networks =
        Settings { allowed_networks: vec!["192.0.2.0/24".to_owned()], ..Settings::default() };
    change(&app, networks).await;
    let denied = app.call("admin", "3", "").await;
    assert!(denied.body.contains("Access Denied"));
    assert_eq!(told(&denied.headers), ALL);
    // The gateway alone answers these.
    for (method, path, status) in [
        (Method::POST, "/nowhere", StatusCode::NOT_FOUND),
        (Method::PUT, PATH, StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let answer = app.send(method, path, &[], "").await;
        assert_eq!((answer.status, told(&answer.headers)), (status, [None; 3]));
    }
}

async fn each_part_has_its_own_header(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let link = "<https://billing.example/migrate>; rel=\"deprecation\"; type=\"text/html\"";
    for (path, expected) in [
        ("deprecation", [ALL[0], None, None]),
        ("sunset", [None, ALL[1], None]),
        ("retirement_link", [None, None, Some(link)]),
    ] {
        update(&app, announced(), &[path], "admin").await.unwrap();
        assert_eq!(told(&app.call("admin", "3", "").await.headers), expected);
        update(&app, Settings::default(), &[path], "admin").await.unwrap();
        assert_eq!(told(&app.call("admin", "3", "").await.headers), [None; 3]);
    }
}

async fn start_with_clock(database: &TestDatabase) -> (TestApp, TestClock) {
    let clock = TestClock::at_present();
    let environment = Environment { clock: Arc::new(clock.clone()), ..Environment::default() };
    (TestApp::start_in(database, &[], environment).await, clock)
}

async fn explain(app: &TestApp) -> (LegacyCheck, String) {
    let request = ExplainLegacyCallRequest {
        url: target("admin", "3", "city=Kaunas"),
        acting_username: "admin".to_owned(),
        ..ExplainLegacyCallRequest::default()
    };
    let explained = app.legacy().explain_legacy_call(request).await.unwrap().into_inner();
    (explained.check(), explained.explanation)
}

async fn calls_are_refused_within_a_brownout_only(database: TestDatabase) {
    let (app, clock) = start_with_clock(&database).await;
    let (now, hour) = (clock.now().timestamp(), 3600);
    let windows = vec![window(now + 9 * hour, now + 10 * hour), window(now + hour, now + 2 * hour)];
    change(&app, Settings { brownouts: windows, ..Settings::default() }).await;
    assert!(app.call("admin", "3", "city=Before").await.body.contains("successfully"));
    assert_eq!(explain(&app).await.0, LegacyCheck::Passed);

    clock.advance(TimeDelta::seconds(hour));
    let refused = app.call("admin", "3", "city=Within").await;
    let disabled = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<status>\n  \
                    <error>API Requests are disabled</error>\n</status>\n";
    assert_eq!((refused.status, refused.body.as_str()), (StatusCode::OK, disabled));
    assert_eq!(app.read(3).await.address.unwrap().city(), "Before");
    let time = |seconds| {
        let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let why = format!("the brownout {}/{}", time(now + hour), time(now + 2 * hour));
    assert_eq!(explain(&app).await, (LegacyCheck::ApiDisabled, why));
    // The typed API continues.
    app.update(set_city(3, "Typed")).await.unwrap();

    clock.advance(TimeDelta::seconds(hour));
    assert!(app.call("admin", "3", "city=After").await.body.contains("successfully"));
    assert_eq!(explain(&app).await.0, LegacyCheck::Passed);
}

async fn a_brownout_comes_after_the_address_and_before_get_and_hash(database: TestDatabase) {
    let (app, clock) = start_with_clock(&database).await;
    let now = clock.now().timestamp();
    let brownout = Settings { brownouts: vec![window(now, now + 60)], ..announced() };
    change(&app, brownout).await;
    let wrong = format!("{PATH}?u=admin&user_id=3&hash=0");
    for method in [Method::GET, Method::POST] {
        let answer = app.send(method, &wrong, &[], "").await;
        assert!(answer.body.contains("API Requests are disabled"), "{}", answer.body);
        assert_eq!(told(&answer.headers), ALL);
    }
    let networks =
        Settings { allowed_networks: vec!["192.0.2.0/24".to_owned()], ..Settings::default() };
    change(&app, networks).await;
    let answer = app.send(Method::POST, &wrong, &[], "").await;
    assert!(answer.body.contains("Access Denied"), "{}", answer.body);
}

async fn a_retirement_is_effective_on_the_other_replica(database: TestDatabase) {
    let (left, right) = (TestApp::start(&database).await, TestApp::start(&database).await);
    assert_eq!(told(&right.call("admin", "3", "").await.headers), [None; 3]);
    let brownout = Settings { brownouts: vec![window(0, 253_402_300_799)], ..announced() };
    change(&left, brownout).await;
    until("the other replica announces it and is in the brownout", || async {
        let answer = right.call("admin", "3", "").await;
        told(&answer.headers) == ALL && answer.body.contains("API Requests are disabled")
    })
    .await;
}

async fn a_mask_clears_parts_of_the_retirement(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let windows: Vec<_> = (0..100).map(|hour| window(hour * 3600, hour * 3600 + 60)).collect();
    let given: Vec<_> = windows.iter().rev().copied().collect();
    change(&app, Settings { brownouts: given, ..announced() }).await;
    let stored = get(&app, "admin").await.unwrap();
    assert_eq!((stored.deprecation, stored.sunset), (at(DEPRECATION), at(SUNSET)));
    assert_eq!(stored.retirement_link.as_deref(), Some(LINK));
    assert_eq!(stored.brownouts, windows);
    // Absent settings without a path stay unchanged.
    set(&app, Some(true), None).await;
    assert_eq!(get(&app, "admin").await.unwrap(), stored);
    let one = Settings { brownouts: vec![window(60, 120)], ..Settings::default() };
    let stored = update(&app, one, &["brownouts", "sunset"], "admin").await.unwrap();
    assert_eq!((stored.deprecation, stored.sunset), (at(DEPRECATION), None));
    assert_eq!(stored.brownouts, [window(60, 120)]);
    let no_link = Settings { retirement_link: Some(String::new()), ..Settings::default() };
    let stored = update(&app, no_link, &[], "admin").await.unwrap();
    assert_eq!((stored.deprecation, stored.retirement_link), (at(DEPRECATION), None));
    let stored = update(&app, Settings::default(), &["*"], "admin").await.unwrap();
    assert_eq!((stored.deprecation, stored.brownouts.len()), (None, 0));
    let rows = "SELECT count(*) FROM settings WHERE name LIKE 'brownout%' \
                OR name IN ('deprecation', 'sunset', 'retirement_link')";
    assert_eq!(database.number(rows).await, 0);
}

async fn a_sunset_before_the_deprecation_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let dates = |deprecation, sunset| Settings { deprecation, sunset, ..Settings::default() };
    let refused = async |settings: Settings| {
        let status = update(&app, settings, &[], "admin").await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
        let problem = "must not be before deprecation (RFC 9745)";
        assert_eq!(violations(&status), [("settings.sunset".to_owned(), problem.to_owned())]);
    };
    refused(dates(at(SUNSET), at(DEPRECATION))).await;
    change(&app, dates(None, at(SUNSET))).await;
    refused(dates(at(SUNSET + 1), None)).await;
    change(&app, dates(at(SUNSET), None)).await;
    refused(dates(None, at(SUNSET - 1))).await;
    let stored = get(&app, "admin").await.unwrap();
    assert_eq!((stored.deprecation, stored.sunset), (at(SUNSET), at(SUNSET)));
}

async fn bad_values_are_refused_by_their_field(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let fraction = Some(Timestamp { seconds: DEPRECATION, nanos: 1 });
    let settings = Settings::default;
    let link = |link: &str| Settings { retirement_link: Some(link.to_owned()), ..settings() };
    let brownouts = |brownouts| Settings { brownouts, ..settings() };
    let endless = BrownoutWindow { start_time: at(0), end_time: None };
    for (field, wrong) in [
        ("deprecation", Settings { deprecation: fraction, ..settings() }),
        ("deprecation", Settings { deprecation: at(-1), ..settings() }),
        ("sunset", Settings { sunset: at(253_402_300_800), ..settings() }),
        ("retirement_link", link("/migrate")),
        ("retirement_link", link("https://billing.example/\r\nx: y")),
        ("retirement_link", link(&format!("https://billing.example/{}", "x".repeat(232)))),
        ("brownouts", brownouts(vec![window(60, 60)])),
        ("brownouts", brownouts(vec![endless])),
        ("brownouts", brownouts((0..101).map(|start| window(start, start + 1)).collect())),
    ] {
        let status = update(&app, wrong, &[], "admin").await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST", "{field}");
        assert_eq!(violations(&status)[0].0, format!("settings.{field}"));
    }
    assert_eq!(told(&app.call("admin", "3", "").await.headers), [None; 3]);
}

async fn unreadable_rows_open_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    change(&app, announced()).await;
    for (name, value) in [("deprecation", "soon"), ("retirement_link", "gopher://x")] {
        let update = format!("UPDATE settings SET value = '{value}' WHERE name = '{name}'");
        database.execute(&update).await;
    }
    until("unreadable dates and links are skipped", || async {
        let answer = app.call("admin", "3", "").await;
        assert!(answer.body.contains("successfully"));
        told(&answer.headers) == [None, ALL[1], None]
    })
    .await;
    let early = "UPDATE settings SET value = '2028-01-01T00:00:00Z' WHERE name = 'deprecation'";
    database.execute(early).await;
    until("a sunset before the deprecation is skipped", || async {
        told(&app.call("admin", "3", "").await.headers) == [Some("@1830297600"), None, None]
    })
    .await;
    let row = "INSERT INTO settings (name, value) VALUES ('brownout daily', 'on')";
    database.execute(row).await;
    until("an unreadable brownout may be now", || async {
        app.call("admin", "3", "").await.body.contains("API Requests are disabled")
    })
    .await;
    let settings = get(&app, "admin").await.unwrap();
    assert_eq!((settings.allow_api, settings.brownouts.len()), (Some(false), 0));
    assert_eq!(settings.deprecation, at(1_830_297_600));
}
