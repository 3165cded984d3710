//! The rows of checks of a legacy call, in order, byte for byte.

use ::http::{Method, StatusCode};

use crate::support::{
    app::{Answer, PATH, TestApp, hash, target},
    database::TestDatabase,
    on_every_engine,
};

on_every_engine!(
    the_vendors_sample_is_answered_as_its_hash_deserves,
    row_1_api_is_disabled,
    row_2_get_is_disabled,
    row_3_the_hash_is_incorrect,
    row_4_the_acting_account_may_not_act,
    row_5_the_managers_group_lacks_the_right,
    row_6_nobody_changes_itself,
    row_7_the_user_is_not_found,
    row_8_the_manager_is_invalid,
    row_9_every_invalid_value_is_told,
    row_10_everything_is_stored,
    earlier_rows_come_first,
);

const SUCCESS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<page>\n  <status>\n    \
     <success>User was updated successfully</success>\n  </status>\n</page>\n";

/// A response without `<page>`.
fn bare(error: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<status>\n  <error>{error}</error>\n</status>\n"
    )
}

/// A response with `<page>`.
fn page(error: &str, messages: &[&str]) -> String {
    let messages: String =
        messages.iter().map(|text| format!("    <message>{text}</message>\n")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<page>\n  <status>\n    <error>{error}</error>\n\
         {messages}  </status>\n</page>\n"
    )
}

fn assert_answer(answer: &Answer, body: &str) {
    assert_eq!(answer.body, body);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

async fn the_vendors_sample_is_answered_as_its_hash_deserves(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let post = |query: &'static str| {
        let target = format!("{PATH}?{query}");
        let app = &app;
        async move { app.send(Method::POST, &target, &[], "").await }
    };
    let printed = "u=admin&user_id=3&hidden=1&hash=80ea571b1932bfecb937013966849154cb995e05";
    assert_answer(&post(printed).await, &bare("Incorrect hash"));
    assert_eq!(app.read(3).await.general.unwrap().hidden, Some(false));
    let its_user = "u=admin&user_id=5&hidden=1&hash=80ea571b1932bfecb937013966849154cb995e05";
    assert_answer(&post(its_user).await, SUCCESS);
    assert_eq!(app.read(5).await.general.unwrap().hidden, Some(true));
    let its_hash = "u=admin&user_id=3&hidden=1&hash=09574460be862d62efd300117fcee3328a10b48a";
    assert_answer(&post(its_hash).await, SUCCESS);
    assert_eq!(app.read(3).await.general.unwrap().hidden, Some(true));
}

async fn row_1_api_is_disabled(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    set(&app, Some(false), Some(true)).await;
    assert_answer(&app.call("admin", "3", "hidden=1").await, &bare("API Requests are disabled"));
    let get = app.send(Method::GET, &target("admin", "3", ""), &[], "").await;
    assert_answer(&get, &bare("API Requests are disabled"));
    set(&app, Some(true), Some(false)).await;
    assert_answer(&app.call("admin", "3", "hidden=1").await, SUCCESS);
    app.stop().await.unwrap();

    // Without a secret key the API is disabled, too.
    let config = crate::support::app::config(&database.url, &[]);
    let app = TestApp::start_config(&config, false).await;
    assert_answer(&app.call("admin", "3", "hidden=1").await, &bare("API Requests are disabled"));
}

async fn row_2_get_is_disabled(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let get = |hash: &'static str| {
        let target = format!("{PATH}?u=admin&user_id=3&hidden=1&hash={hash}");
        let app = &app;
        async move { app.send(Method::GET, &target, &[], "").await }
    };
    let right = "09574460be862d62efd300117fcee3328a10b48a";
    assert_answer(&get(right).await, &bare("GET Requests are disabled"));
    assert_answer(&get("wrong").await, &bare("GET Requests are disabled"));
    let head = app.send(Method::HEAD, &target("admin", "3", "hidden=1"), &[], "").await;
    assert_answer(&head, "");
    assert_eq!(app.read(3).await.general.unwrap().hidden, Some(false));
    set(&app, None, Some(true)).await;
    assert_answer(&get("wrong").await, &bare("Incorrect hash"));
    assert_answer(&get(right).await, SUCCESS);
}

async fn row_3_the_hash_is_incorrect(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let right = hash("admin", "3");
    for parameters in [
        "u=admin&user_id=3".to_owned(),
        "u=admin&user_id=3&hash=".to_owned(),
        format!("u=admin&user_id=3&hash={}", &right[..39]),
        format!("u=admin&user_id=3&hash={right}0"),
        format!("u=admin&user_id=3&hash={}", right.replace('0', "g")),
        format!("u=admin&user_id=3&hash=%20{right}"),
        format!("u=admin&user_id=4&hash={right}"),
        format!("u=Admin&user_id=3&hash={right}"),
        format!("u=admin&user_id=03&hash={right}"),
        format!("u=admin&user_id=3&hash={}", hash("", "3")),
        // Bytes that are not UTF-8 are not part of any hash.
        format!("u=%ff&user_id=3&hash={}", hash("\u{fffd}", "3")),
        format!("u=admin&user_id=%ff&hash={}", hash("admin", "")),
        "u=admin&user_id=3&hash=%ff".to_owned(),
        String::new(),
    ] {
        let answer =
            app.send(Method::POST, &format!("{PATH}?{parameters}&hidden=1"), &[], "").await;
        assert_answer(&answer, &bare("Incorrect hash"));
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);

    let upper = format!("{PATH}?u=admin&user_id=3&hash={}", right.to_uppercase());
    assert_answer(&app.send(Method::POST, &upper, &[], "").await, SUCCESS);
    // The legacy scheme concatenates without a separator: this collision is its known weakness.
    let same = format!("{PATH}?u=admin&user_id=13&hash={}", hash("admin1", "3"));
    let answer = app.send(Method::POST, &same, &[], "").await;
    assert_answer(&answer, &page("User was not found", &[]));
}

async fn row_4_the_acting_account_may_not_act(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    // Unknown, other case, with a space, a plain user, blocked, empty; and invalid usernames.
    let long = "a".repeat(300);
    for username in
        ["nobody", "Admin", "admin%20", "ADMIN", "alice", "locked", "", "%00", "a%0db", &long]
    {
        let text = percent_encoding::percent_decode_str(username).decode_utf8().unwrap();
        let target = format!("{PATH}?u={username}&user_id=3&hidden=1&hash={}", hash(&text, "3"));
        let answer = app.send(Method::POST, &target, &[], "").await;
        assert_answer(&answer, &page("Access Denied", &[]));
    }
    assert_eq!(app.read(3).await.general.unwrap().hidden, Some(false));
}

async fn row_5_the_managers_group_lacks_the_right(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let denied = page("You are not authorized to view this page", &[]);
    assert_answer(&app.call("auditor", "3", "hidden=1").await, &denied);
    // Row 5 comes before rows 6 and 7.
    assert_answer(&app.call("auditor", "7", "").await, &denied);
    assert_answer(&app.call("auditor", "999", "").await, &denied);
    database.execute("DELETE FROM manager_group_rights WHERE manager_group_id = 1").await;
    assert_answer(&app.call("manager", "3", "hidden=1").await, &denied);
    database.execute("UPDATE accounts SET manager_group_id = NULL WHERE id = 2").await;
    assert_answer(&app.call("manager", "3", "hidden=1").await, &denied);
}

async fn row_6_nobody_changes_itself(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let denied = page("Access Denied", &[]);
    assert_answer(&app.call("admin", "1", "hidden=1").await, &denied);
    assert_answer(&app.call("manager", "2", "hidden=1").await, &denied);
    assert_answer(&app.call("manager", "%20002%20", "").await, &bare("Incorrect hash"));
    let spaced = format!("{PATH}?u=manager&user_id=+002+&hash={}", hash("manager", " 002 "));
    assert_answer(&app.send(Method::POST, &spaced, &[], "").await, &denied);
}

async fn row_7_the_user_is_not_found(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let unknown = page("User was not found", &[]);
    for user_id in [
        "",
        "abc",
        "3.0",
        "+3",
        "-3",
        "0x3",
        "3abc",
        "999",
        "0",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999999",
        "３",
    ] {
        let encoded: String =
            percent_encoding::utf8_percent_encode(user_id, percent_encoding::NON_ALPHANUMERIC)
                .collect();
        let target =
            format!("{PATH}?u=admin&user_id={encoded}&hidden=1&hash={}", hash("admin", user_id));
        assert_answer(&app.send(Method::POST, &target, &[], "").await, &unknown);
    }
    let without = format!("{PATH}?u=admin&hidden=1&hash={}", hash("admin", ""));
    assert_answer(&app.send(Method::POST, &without, &[], "").await, &unknown);
    // Managers and admins are not users. A manager with assigned users only finds no others.
    for (username, user_id) in
        [("admin", "2"), ("manager", "1"), ("assigned", "3"), ("assigned", "5")]
    {
        assert_answer(&app.call(username, user_id, "hidden=1").await, &unknown);
    }
    assert_answer(&app.call("assigned", "4", "hidden=1").await, SUCCESS);
    assert_answer(&app.call("manager", "4", "hidden=0").await, SUCCESS);
    // An id may have leading zeros and surrounding spaces; the hash covers the text as sent.
    let spaced = format!("{PATH}?u=admin&user_id=+0003+&hash={}", hash("admin", " 0003 "));
    assert_answer(&app.send(Method::POST, &spaced, &[], "").await, SUCCESS);
}

async fn row_8_the_manager_is_invalid(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for manager in ["1", "3", "999", "0", "abc", "", "-2", "1.0", "99999999999999999999", "%ff"] {
        let parameters = format!("hidden=1&responsible_manager_id={manager}");
        let answer = app.call("admin", "3", &parameters).await;
        assert_answer(&answer, &page("Manager is invalid", &[]));
    }
    // The messages of other invalid parameters follow.
    for manager in ["1", "abc"] {
        let parameters =
            format!("hidden=7&call_limit=x&currency_id=99&responsible_manager_id={manager}");
        let answer = app.call("admin", "3", &parameters).await;
        assert_answer(
            &answer,
            &page(
                "Manager is invalid",
                &[
                    "currency_id must be the id of a currency",
                    "call_limit must be an integer from 0 to 2147483647",
                    "hidden must be 0 or 1",
                ],
            ),
        );
    }
    let user = app.read(3).await;
    assert_eq!(user.general.unwrap().responsible_manager_id, Some(2));
    assert_eq!(user.etag, "3-1");
}

async fn row_9_every_invalid_value_is_told(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let parameters = "comment=%00&enable_static_list=&tax1_value=-1&email=a@b@c&bd=32&hidden=2&city=ok&blocked=0\
                      &direction_id=77&call_limit=-1";
    let answer = app.call("admin", "3", parameters).await;
    assert_answer(
        &answer,
        &page(
            "User was not updated",
            &[
                "call_limit must be an integer from 0 to 2147483647",
                "hidden must be 0 or 1",
                "blocked must be 1 (blocked) or 2 (not blocked)",
                "bd must make a day of the years 1900 to 9999 with the date's other parts",
                "direction_id must be the id of a direction",
                "email must be empty or one e-mail address of at most 255 characters",
                "tax1_value must be a decimal, not negative, of at most 12 digits before and 6 after the point",
                "enable_static_list must be no, blacklist or whitelist",
                "comment must be text of at most 65535 bytes, without control characters except tab, CR and LF",
            ],
        ),
    );
    assert_eq!(app.read(3).await.etag, "3-1");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn row_10_everything_is_stored(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    assert_answer(&app.call("admin", "3", "").await, SUCCESS);
    assert_eq!(app.read(3).await.etag, "3-1");
    assert_answer(&app.call("admin", "3", "no_such_parameter=1&HIDDEN=1").await, SUCCESS);
    assert_eq!(app.read(3).await.etag, "3-1");
    assert_answer(&app.call("admin", "3", "city=Kaunas&hidden=1").await, SUCCESS);
    let user = app.read(3).await;
    assert_eq!(user.etag, "3-2");
    assert_eq!(user.address.unwrap().city.as_deref(), Some("Kaunas"));
    assert_eq!(user.general.unwrap().hidden, Some(true));
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

/// If several rows would refuse a call, the first of them answers.
async fn earlier_rows_come_first(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let invalid = "hidden=7&responsible_manager_id=abc";
    assert_answer(&app.call("nobody", "abc", invalid).await, &page("Access Denied", &[]));
    let denied = page("You are not authorized to view this page", &[]);
    assert_answer(&app.call("auditor", "7", invalid).await, &denied);
    assert_answer(&app.call("manager", "2", invalid).await, &page("Access Denied", &[]));
    assert_answer(&app.call("admin", "abc", invalid).await, &page("User was not found", &[]));
    let message = ["hidden must be 0 or 1"];
    assert_answer(&app.call("admin", "3", invalid).await, &page("Manager is invalid", &message));
}

async fn set(app: &TestApp, allow_api: Option<bool>, allow_get_api: Option<bool>) {
    crate::settings::set(app, allow_api, allow_get_api).await;
}
