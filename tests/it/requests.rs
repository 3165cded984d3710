//! The places for the parameters of a legacy call.

use ::http::{Method, StatusCode};

use crate::support::{
    app::{PATH, TestApp, hash, target},
    database::TestDatabase,
    on_every_engine,
};

on_every_engine!(
    parameters_stand_in_query_form_multipart_or_json,
    the_query_string_wins_and_the_last_of_two,
    percent_and_plus_are_decoded_as_utf8,
    json_values_are_read_as_their_text,
    deep_json_is_a_nested_value,
    repeated_slashes_count_as_one,
);

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const MULTIPART: (&str, &str) = ("content-type", "multipart/form-data; boundary=XX");

fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

async fn city(app: &TestApp) -> String {
    app.read(3).await.address.unwrap().city.unwrap()
}

async fn parameters_stand_in_query_form_multipart_or_json(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash("admin", "3");
    let form = |city: &str| format!("u=admin&user_id=3&hash={hash}&city={city}");
    let json = format!(
        r#"{{"u": "admin", "user_id": 3, "hash": "{hash}", "city": "json", "hidden": true}}"#
    );
    let multipart = [
        part("u", "admin"),
        part("user_id", "3"),
        part("hash", &hash),
        part("city", "multipart\r\nwith lines"),
        // A file is not a text part.
        part("state\"; filename=\"x", "file"),
        "--XX--\r\n".to_owned(),
    ]
    .concat();
    for (headers, body, expected) in [
        (vec![FORM], form("form"), "form"),
        (
            vec![("content-type", "Application/X-WWW-Form-Urlencoded; charset")],
            form("sloppy"),
            "sloppy",
        ),
        (vec![], form("untyped"), "untyped"),
        (vec![JSON], json, "json"),
        (vec![MULTIPART], multipart, "multipart\r\nwith lines"),
    ] {
        let answer = app.send(Method::POST, PATH, &headers, body).await;
        assert!(answer.body.contains("successfully"), "{expected}: {}", answer.body);
        assert_eq!(city(&app).await, expected);
    }
    let user = app.read(3).await;
    assert_eq!(user.general.unwrap().hidden, Some(true));
    assert_eq!(user.address.unwrap().state.as_deref(), Some("Vilnius"));
    // Both paths, with and without a trailing slash.
    for path in [PATH, "/api/user_details_update"] {
        for slash in ["", "/"] {
            let answer =
                app.send(Method::POST, &format!("{path}{slash}?{}", form(path)), &[], "").await;
            assert!(answer.body.contains("successfully"));
            assert_eq!(city(&app).await, path);
        }
    }
}

async fn the_query_string_wins_and_the_last_of_two(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let in_query = target("admin", "3", "city=first&city=query");
    app.send(Method::POST, &in_query, &[FORM], "city=body&county=one&county=two").await;
    assert_eq!(city(&app).await, "query");
    assert_eq!(app.read(3).await.address.unwrap().county.as_deref(), Some("two"));
    let twice = r#"{"city": "one", "city": "two", "county": "x", "county": null, "u": "nobody"}"#;
    let answer = app.send(Method::POST, &target("admin", "3", ""), &[JSON], twice).await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
    assert_eq!(city(&app).await, "two");
    assert_eq!(app.read(3).await.address.unwrap().county.as_deref(), Some("two"));
    let parts = [part("city", "one"), part("city", "last"), "--XX--\r\n".to_owned()].concat();
    app.send(Method::POST, &target("admin", "3", ""), &[MULTIPART], parts).await;
    assert_eq!(city(&app).await, "last");
}

async fn percent_and_plus_are_decoded_as_utf8(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for (sent, stored) in [
        ("New+York%20City", "New York City"),
        ("a%2Bb%26c%3Dd", "a+b&c=d"),
        ("%C5%A0iauliai%F0%9F%93%9E", "Šiauliai📞"),
        ("100%", "100%"),
        ("a%zzb%4", "a%zzb%4"),
        ("x=y", "x=y"),
        ("tab%09line%0D%0A", "tab\tline\r\n"),
        ("", ""),
    ] {
        let answer = app.call("admin", "3", &format!("city={sent}")).await;
        assert!(answer.body.contains("successfully"), "{sent}: {}", answer.body);
        assert_eq!(city(&app).await, stored);
    }
    assert!(app.call("admin", "3", "%63ity=named").await.body.contains("successfully"));
    assert_eq!(city(&app).await, "named");
    // A parameter without `=` is empty.
    app.call("admin", "3", "city").await;
    assert_eq!(city(&app).await, "");
    let answer = app.call("admin", "3", "city=%ff&county=ok").await;
    assert!(answer.body.contains("<message>city must be encoded"), "{}", answer.body);
}

async fn json_values_are_read_as_their_text(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let target = target("admin", "3", "");
    let send = |body: &'static str| app.send(Method::POST, &target, &[JSON], body);
    let answer = send(
        r#"{"hidden": true, "generate_invoice": false, "call_limit": 42, "tax1_value": 19.950000,
            "warning_email_balance": -999999999999.999999, "city": 7e2, "county": "\u00e9", "comment": null}"#,
    )
    .await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
    let user = app.read(3).await;
    let address = user.address.unwrap();
    assert_eq!((address.city.as_deref(), address.county.as_deref()), (Some("7e2"), Some("é")));
    assert_eq!(user.general.unwrap().call_limit, Some(42));
    assert_eq!(user.taxes.unwrap().tax1_value.as_deref(), Some("19.95"));
    let balance = user.warning_balance.unwrap().warning_email_balance;
    assert_eq!(balance.as_deref(), Some("-999999999999.999999"));
    assert_eq!(user.comment.unwrap().comment.as_deref(), Some("Pays on time."));

    let answer =
        send(r#"{"city": ["a"], "county": {"a": 1}, "call_limit": 1.5, "state": "ok"}"#).await;
    let messages = ["call_limit must", "city must", "county must"];
    let found: Vec<_> =
        answer.body.lines().filter_map(|line| line.trim().strip_prefix("<message>")).collect();
    assert_eq!(found.len(), messages.len(), "{}", answer.body);
    assert!(found.iter().zip(messages).all(|(found, message)| found.starts_with(message)));
    // A nested value has no text to hash.
    let nested = format!(r#"{{"u": ["admin"], "user_id": 3, "hash": "{}"}}"#, hash("admin", "3"));
    let answer = app.send(Method::POST, PATH, &[JSON], nested).await;
    assert!(answer.body.contains("Incorrect hash"));
}

async fn deep_json_is_a_nested_value(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let deep = format!("{{\"city\": {}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let answer = app.send(Method::POST, &target("admin", "3", ""), &[JSON], deep).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("<message>city must be text of"), "{}", answer.body);
}

async fn repeated_slashes_count_as_one(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let query = target("admin", "3", "").replace(PATH, "");
    for (number, path) in [
        "//billing/api/user_details_update",
        "//api/user_details_update",
        "/billing//api///user_details_update//",
        "/api/user_details_update/",
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("{path}{query}&city=Town{number}");
        let answer = app.send(Method::POST, &target, &[], "").await;
        assert!(answer.body.contains("successfully"), "{path}: {}", answer.body);
        assert_eq!(city(&app).await, format!("Town{number}"));
    }
}
