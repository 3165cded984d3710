//! Request heads: long query strings, and refusals before the router.

use std::fmt::Write;

use ::http::Method;
use m4_user_details::proto::ExplainLegacyCallRequest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    app::{PATH, TestApp, target},
    database::TestDatabase,
    on_sqlite, raw,
};

on_sqlite!(
    a_comment_of_any_allowed_size_may_stand_in_the_url,
    a_long_query_string_is_only_its_own_requests,
    a_long_query_string_is_explained_as_the_door_answers,
    heads_are_refused_in_xml,
    the_answer_to_a_refused_head_has_its_method_and_version,
);

async fn comment(app: &TestApp) -> String {
    app.read(3).await.comment.unwrap().comment.unwrap()
}

/// Percent-encodes every byte.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

async fn a_comment_of_any_allowed_size_may_stand_in_the_url(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let plain = "x".repeat(65_535);
    let long = "é".repeat(32_767) + "\n";
    let base = target("admin", "3", "comment=").len();
    let longest_uri = "y".repeat(65_534 - base);
    for (sent, stored) in [
        (plain.clone(), &plain),
        (encoded(&long), &long),
        (longest_uri.clone(), &longest_uri),
        (longest_uri.clone() + "y", &(longest_uri.clone() + "y")),
    ] {
        for start in ["", "http://any.host"] {
            let target = target("admin", "3", &format!("comment={sent}&city={}", sent.len()));
            let request =
                format!("POST {start}{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = raw::exchange(app.http, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{} {answer}", sent.len());
            assert!(answer.contains("successfully"), "{} {answer}", sent.len());
            assert_eq!(&comment(&app).await, stored);
            assert_eq!(app.read(3).await.address.unwrap().city, Some(sent.len().to_string()));
        }
    }
    // With one more byte the value is at fault, not the request.
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        target("admin", "3", &format!("comment={plain}x"))
    );
    let answer = raw::exchange(app.http, request.as_bytes()).await;
    assert!(answer.contains("<message>comment must be text"), "{answer}");
}

async fn a_long_query_string_is_only_its_own_requests(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let request = |parameters: &str, fields: &str, body: &str| {
        let target = target("admin", "3", parameters);
        format!("POST {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}")
    };
    let long = "c".repeat(65_535);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let all = [
        request("city=One", "", ""),
        request(&format!("comment={long}"), "Content-Length: 8\r\n", "county=A"),
        request("state=Two", chunked, "5\r\nfax=1\r\n0\r\n\r\n"),
        request(&format!("postcode=9&comment={}", encoded(&long)), chunked, "0\r\n\r\n"),
        request("phone=4", "Connection: close\r\n", ""),
    ]
    .concat();
    let answer = raw::exchange(app.http, all.as_bytes()).await;
    assert_eq!(answer.matches("successfully").count(), 5, "{answer}");
    let address = app.read(3).await.address.unwrap();
    let [city, county, state, fax, postcode, phone] =
        [address.city, address.county, address.state, address.fax, address.postcode, address.phone]
            .map(Option::unwrap);
    assert_eq!([city, county, state, fax, postcode, phone], ["One", "A", "Two", "1", "9", "4"]);
    assert_eq!(comment(&app).await, long);
}

async fn a_long_query_string_is_explained_as_the_door_answers(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for comment in ["x".repeat(65_535), "x".repeat(65_536)] {
        let url = target("admin", "3", &format!("comment={comment}"));
        let explain = ExplainLegacyCallRequest {
            url: url.clone(),
            acting_username: "admin".to_owned(),
            ..ExplainLegacyCallRequest::default()
        };
        let explained = app.legacy().explain_legacy_call(explain).await.unwrap().into_inner();
        let request = format!("POST {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(app.http, request.as_bytes()).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{}", explained.xml)), "{answer}");
    }
}

async fn heads_are_refused_in_xml(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let line = format!("POST {} HTTP/1.1\r\n", target("admin", "3", "city=Never"));
    let long = "x".repeat(300_000);
    for (head, status, error) in [
        (format!("{line}{}\r\n", "A: b\r\n".repeat(150)), "413", "Request is too large"),
        (format!("POST {PATH}?comment={long} HTTP/1.1\r\n\r\n"), "413", "Request is too large"),
        (format!("POST /{long} HTTP/1.1\r\n\r\n"), "413", "Request is too large"),
        (format!("{line}Cookie: {long}\r\n\r\n"), "413", "Request is too large"),
        (format!("POST {PATH}?city=<x> HTTP/1.1\r\n\r\n"), "400", "Bad request"),
        (format!("POST {PATH}?city=a b HTTP/1.1\r\n\r\n"), "400", "Bad request"),
        (format!("POST {PATH}?city=\u{1} HTTP/1.1\r\n\r\n"), "400", "Bad request"),
        (format!("{line}no field\r\n\r\n"), "400", "Bad request"),
        (format!("{line}Content-Length: many\r\n\r\n"), "400", "Bad request"),
        (format!("{line}Transfer-Encoding: gzip\r\n\r\n"), "400", "Bad request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400", "Bad request"),
        ("POST /\r\n".to_owned(), "400", "Bad request"),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), "400", "Bad request"),
    ] {
        let shown = &head[..head.len().min(90)];
        for answer in [
            raw::exchange(app.http, head.as_bytes()).await,
            raw::exchange_and_close(app.http, head.as_bytes()).await,
        ] {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
            assert!(answer.contains("content-type: text/xml; charset=utf-8\r\n"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(
                answer.ends_with(&format!("\n<status>\n  <error>{error}</error>\n</status>\n")),
                "{shown:?}: {answer}"
            );
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    // An incomplete head is not refused.
    let mut stream = TcpStream::connect(app.http).await.unwrap();
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.write_all(b"Connection: cl").await.unwrap();
    assert!(app.call("admin", "3", "").await.body.contains("successfully"));
    stream.write_all(b"ose\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("successfully"), "{answer}");
}

async fn the_answer_to_a_refused_head_has_its_method_and_version(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let head = raw::exchange(app.http, b"HEAD /< HTTP/1.1\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 ") && head.ends_with("\r\n\r\n"), "{head}");
    let old = raw::exchange(app.http, b"GET /< HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 400 "), "{old}");
    // A client cannot forge the internal marks of the head reader.
    let answer = app.send(Method::POST, "/", &[("refusal", "400"), ("long-query", "x")], "").await;
    assert_eq!(answer.status.as_u16(), 404);
}
