//! Bodies of legacy calls: content codings, faults, and limits.

use std::io::Write;

use ::http::{Method, StatusCode};
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use crate::support::{
    app::{Answer, PATH, TestApp, hash, target},
    database::TestDatabase,
    on_sqlite, raw,
};

on_sqlite!(
    compressed_bodies_are_decoded,
    a_compressed_body_has_the_limit_of_its_decoded_size,
    a_body_that_cannot_be_read_is_never_absent,
    a_fault_of_the_body_comes_after_every_other_row,
    a_byte_order_mark_is_skipped,
    a_body_has_a_limited_number_of_parameters,
    broken_chunks_and_bodies_that_end_early_are_bad_requests,
    a_slow_body_is_given_up_at_the_deadline,
    inexact_json_numbers_are_explained,
    text_that_is_not_utf8_has_its_own_message,
    a_comma_is_a_decimal_point_and_no_thousands_separator,
);

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");
const MULTIPART: (&str, &str) = ("content-type", "multipart/form-data; boundary=XX");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

async fn city(app: &TestApp) -> String {
    app.read(3).await.address.unwrap().city.unwrap()
}

fn messages(answer: &Answer) -> Vec<&str> {
    let lines = answer.body.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix("<message>")?.strip_suffix("</message>")).collect()
}

async fn compressed_bodies_are_decoded(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(b"city=zlib").unwrap();
    let mut raw_deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    raw_deflate.write_all(b"city=raw").unwrap();
    for (coding, body, stored) in [
        ("gzip", gzip(b"city=GZ"), "GZ"),
        ("X-Gzip", gzip(b"city=old+name"), "old name"),
        ("deflate", zlib.finish().unwrap(), "zlib"),
        ("deflate", raw_deflate.finish().unwrap(), "raw"),
        ("identity", b"city=plain".to_vec(), "plain"),
    ] {
        let headers = [FORM, ("content-encoding", coding)];
        let answer = app.send(Method::POST, &target("admin", "3", ""), &headers, body).await;
        assert!(answer.body.contains("successfully"), "{coding}: {}", answer.body);
        assert_eq!(city(&app).await, stored);
    }
    // Credentials may be in the body, too.
    let json = format!(
        r#"{{"u": "admin", "user_id": 3, "hash": "{}", "city": "json"}}"#,
        hash("admin", "3")
    );
    app.send(Method::POST, PATH, &[JSON, GZIP], gzip(json.as_bytes())).await;
    assert_eq!(city(&app).await, "json");
}

async fn a_compressed_body_has_the_limit_of_its_decoded_size(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let target = target("admin", "3", "city=Bomb");
    let largest = format!("x={}", "x".repeat(262_144 - 2));
    let answer = app.send(Method::POST, &target, &[FORM, GZIP], gzip(largest.as_bytes())).await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
    let before = city(&app).await;
    let bomb = gzip(&vec![b'x'; 100_000_000]);
    assert!(bomb.len() < 262_144);
    for body in [gzip((largest + "x").as_bytes()), bomb] {
        let target = target.replace("Bomb", "Other");
        let answer = app.send(Method::POST, &target, &[FORM, GZIP], body).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(answer.body.contains("<error>Request is too large</error>"), "{}", answer.body);
        assert_eq!(city(&app).await, before);
    }
}

async fn a_body_that_cannot_be_read_is_never_absent(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let target = target("admin", "3", "county=Never");
    let no_boundary = ("content-type", "multipart/form-data");
    // The parser must not search for this boundary: the time grows with its length.
    let long_boundary = format!("multipart/form-data; boundary={}", "-".repeat(60_000));
    let cut_gzip = gzip(b"city=x")[..12].to_vec();
    let log = "SELECT count(*) FROM change_log";
    for (headers, body, fault) in [
        (vec![JSON], br#"{"city": "x""#.to_vec(), "the JSON is cut off"),
        (vec![JSON], br#"["city"]"#.to_vec(), "the JSON is not an object"),
        (vec![JSON], br#""hash""#.to_vec(), "the JSON is not an object"),
        (vec![JSON], b"{\"city\":\n \"x\"} tail".to_vec(), "broken at line 2, column 7"),
        (vec![JSON], b"{\"city\": \"\xff\"}".to_vec(), "the JSON is broken"),
        (vec![JSON], b"city=x".to_vec(), "the JSON is broken"),
        (vec![("content-type", "text/plain")], b"city=x".to_vec(), "the type text/plain is"),
        (vec![("content-type", "Text/XML; a=b")], b"<city/>".to_vec(), "the type Text/XML is"),
        (vec![("content-type", "<no type>")], b"city=x".to_vec(), "the type that was sent is"),
        (vec![no_boundary], part("city", "x").into_bytes(), "has no boundary"),
        (vec![("content-type", &long_boundary)], part("city", "x").into_bytes(), "has no boundary"),
        (vec![MULTIPART], part("city", "x").into_bytes(), "the multipart body is broken"),
        (vec![MULTIPART], (part("city", "x") + "--YY").into_bytes(), "the multipart body is"),
        (vec![MULTIPART], b"--XX\r\nContent-Disp".to_vec(), "the multipart body is broken"),
        (vec![MULTIPART], b"city=x".to_vec(), "the multipart body is broken"),
        (vec![FORM, ("content-encoding", "br")], b"city=x".to_vec(), "the content coding br is"),
        (vec![FORM, ("content-encoding", "gzip, br")], b"city=x".to_vec(), "the content coding"),
        (vec![FORM, GZIP], b"city=x".to_vec(), "not valid gzip"),
        (vec![FORM, GZIP], cut_gzip, "not valid gzip, or cut off"),
        (vec![FORM, ("content-encoding", "deflate")], b"city=x".to_vec(), "not valid deflate"),
    ] {
        let answer = app.send(Method::POST, &target, &headers, body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.contains("<error>User was not updated</error>"), "{}", answer.body);
        let messages = messages(&answer);
        assert_eq!(messages.len(), 1, "{}", answer.body);
        assert!(messages[0].starts_with("body could not be read: "), "{}", messages[0]);
        assert!(messages[0].contains(fault), "{fault}: {}", messages[0]);
        assert_eq!(database.number(log).await, 0, "{headers:?}");
    }
    // An empty body counts as absent, whatever its headers say.
    for headers in [vec![JSON], vec![MULTIPART, GZIP], vec![("content-type", "text/plain")]] {
        let answer = app.send(Method::POST, &target, &headers, "").await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
    }
}

async fn a_fault_of_the_body_comes_after_every_other_row(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let send = async |target: &str| app.send(Method::POST, target, &[JSON], "{").await;
    let credentials = format!("u=admin&user_id=3&hash={}", hash("admin", "3"));
    let in_body = app.send(Method::POST, PATH, &[("content-type", "text/x")], credentials).await;
    assert!(in_body.body.contains("<error>Incorrect hash</error>"), "{}", in_body.body);
    for (target, error) in [
        (target("nobody", "3", ""), "Access Denied"),
        (target("auditor", "7", ""), "You are not authorized to view this page"),
        (target("manager", "2", ""), "Access Denied"),
        (target("admin", "999", ""), "User was not found"),
    ] {
        let answer = send(&target).await;
        assert!(answer.body.contains(&format!("<error>{error}</error>")), "{}", answer.body);
        assert!(messages(&answer).is_empty(), "{}", answer.body);
    }
    let answer = send(&target("admin", "3", "responsible_manager_id=x&hidden=7")).await;
    assert!(answer.body.contains("<error>Manager is invalid</error>"), "{}", answer.body);
    assert_eq!(
        messages(&answer),
        ["body could not be read: the JSON is cut off", "hidden must be 0 or 1"]
    );
    let answer = send(&target("admin", "3", "currency_id=77")).await;
    assert!(answer.body.contains("<error>User was not updated</error>"), "{}", answer.body);
    assert_eq!(
        messages(&answer),
        ["body could not be read: the JSON is cut off", "currency_id must be the id of a currency"]
    );
}

async fn a_byte_order_mark_is_skipped(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let parts = part("city", "parts") + "--XX--\r\n";
    for (header, body, stored) in [
        (FORM, "city=form".to_owned(), "form"),
        (JSON, r#"{"city": "json"}"#.to_owned(), "json"),
        (MULTIPART, parts, "parts"),
    ] {
        let body = format!("\u{feff}{body}");
        let answer = app.send(Method::POST, &target("admin", "3", ""), &[header], body).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        assert_eq!(city(&app).await, stored);
    }
}

async fn a_body_has_a_limited_number_of_parameters(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let json = |count: usize| {
        let others: String = (1..count).map(|number| format!("\"x{number}\":[],")).collect();
        (JSON, format!("{{{others}\"city\":\"json\"}}"))
    };
    let multipart = |count: usize| {
        let others: String = (1..count).map(|number| part(&format!("x{number}"), "")).collect();
        (MULTIPART, others + &part("city", "parts") + "--XX--\r\n")
    };
    for (stored, [most, more]) in
        [("json", [1000, 1001].map(json)), ("parts", [1000, 1001].map(multipart))]
    {
        let target = target("admin", "3", "");
        let answer = app.send(Method::POST, &target, &[most.0], most.1).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        assert_eq!(city(&app).await, stored);
        let answer = app.send(Method::POST, &target, &[more.0], more.1).await;
        let message = "body could not be read: it has more than 1000 parameters";
        assert_eq!(messages(&answer), [message]);
    }
}

async fn broken_chunks_and_bodies_that_end_early_are_bad_requests(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\n", target("admin", "3", "county=Never"));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for body in [
        "zz\r\ncity=x\r\n0\r\n\r\n",
        "6\r\ncity=xx\r\n0\r\n\r\n",
        "6\r\ncity=x\n0\r\n\r\n",
        "-6\r\ncity=x\r\n0\r\n\r\n",
        "fffffffffffffffff\r\ncity=x",
        "6\r\ncity=x\r\n0\r\nX",
        "6\r\ncity=x\r\n",
        "6\r\ncit",
    ] {
        let answer = raw::exchange_and_close(app.http, format!("{chunked}{body}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{body:?}: {answer}");
        assert!(answer.contains("<error>Bad request</error>"), "{body:?}: {answer}");
        assert!(answer.contains("content-type: text/xml; charset=utf-8\r\n"), "{answer}");
    }
    let cut = format!("{head}Content-Length: 100\r\n\r\ncity=x");
    let answer = raw::exchange_and_close(app.http, cut.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    let whole = format!(
        "{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;a=b\r\ncit\r\n3\r\ny=x\r\n0\r\nA: b\r\n\r\n"
    );
    let answer = raw::exchange(app.http, whole.as_bytes()).await;
    assert!(answer.contains("successfully"), "{answer}");
    assert_eq!(city(&app).await, "x");
}

async fn a_slow_body_is_given_up_at_the_deadline(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("deadline_seconds", "1")]).await;
    let slow = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\ncity=x",
        target("admin", "3", "")
    );
    let answer = raw::exchange(app.http, slow.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("<error>Bad request</error>"), "{answer}");
}

async fn inexact_json_numbers_are_explained(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let send = async |body: &'static str| {
        app.send(Method::POST, &target("admin", "3", ""), &[JSON], body).await
    };
    // PHP before 7.1 encodes 19.95 like the first value.
    for body in [
        r#"{"tax1_value": 19.949999999999999}"#,
        r#"{"tax1_value": 1e2}"#,
        r#"{"warning_email_balance": -0.1234567}"#,
    ] {
        let answer = send(body).await;
        let messages = messages(&answer);
        assert_eq!(messages.len(), 1, "{body}: {}", answer.body);
        assert!(messages[0].contains("send it as text"), "{body}: {}", messages[0]);
    }
    for body in [r#"{"tax1_value": -1}"#, r#"{"tax1_value": "1e2"}"#, r#"{"call_limit": 1.5}"#] {
        let answer = send(body).await;
        let messages = messages(&answer);
        assert_eq!(messages.len(), 1, "{body}: {}", answer.body);
        assert!(!messages[0].contains("as text"), "{body}: {}", messages[0]);
    }
    let answer = send(r#"{"tax1_value": "19.95", "tax2_value": 19.95}"#).await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
}

async fn text_that_is_not_utf8_has_its_own_message(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for (parameters, message) in [
        ("city=M%FCnchen", "city must be encoded in UTF-8"),
        ("call_limit=%FF", "call_limit must be encoded in UTF-8"),
        ("by=2026&bm=%FF&bd=1", "bm must be encoded in UTF-8"),
    ] {
        let answer = app.call("admin", "3", parameters).await;
        assert_eq!(messages(&answer), [message]);
    }
    let answer = app.send(Method::POST, &target("admin", "3", ""), &[FORM], "city=%FC").await;
    assert_eq!(messages(&answer), ["city must be encoded in UTF-8"]);
    let half = r#"{"city": "\ud800"}"#;
    let answer = app.send(Method::POST, &target("admin", "3", ""), &[JSON], half).await;
    assert_eq!(messages(&answer), ["city must be encoded in UTF-8"]);
    let answer = app.call("admin", "3", "city=%00").await;
    assert!(messages(&answer)[0].contains("control characters"), "{}", answer.body);
}

async fn a_comma_is_a_decimal_point_and_no_thousands_separator(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let answer = app.call("admin", "3", "warning_email_balance=1,000").await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
    let balance = app.read(3).await.warning_balance.unwrap().warning_email_balance;
    assert_eq!(balance.as_deref(), Some("1"));
    let answer = app.call("admin", "3", "warning_email_balance=1,000.00").await;
    assert!(answer.body.contains("User was not updated"), "{}", answer.body);
}
