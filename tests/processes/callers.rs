//! Telemetry of calls without OTLP export, and of calls whose callers go away.

use std::time::Duration;

use futures_util::StreamExt;
use http::{Method, StatusCode};
use m4_user_details::proto::{ListUserDetailsChangesRequest, WatchUserDetailsRequest};
use serde_json::Value;
use tonic::Request;

use crate::{
    program::Program,
    receiver::{Receiver, attribute},
    support::{
        app::{PATH, set_city, target},
        database::{Kind, TestDatabase},
        on_servers, on_sqlite, until,
    },
};

// SQLite readers do not wait for writers.
on_servers!(a_statement_that_nobody_waits_for_is_measured);

on_sqlite!(
    the_callers_trace_is_told_where_none_is_kept,
    the_end_of_a_watch_is_told,
    a_path_that_is_not_known_has_its_line_and_its_span,
);

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Waits for `count` log lines with a message.
async fn wait_for_lines(program: &Program, message: &str, count: usize) -> Vec<Value> {
    for _ in 0..3000 {
        let log = program.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<_> = lines.filter(|line| line["fields"]["message"] == message).collect();
        if lines.len() >= count {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("lines are missing: {}", program.log());
}

async fn the_callers_trace_is_told_where_none_is_kept(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let door = Program::door(program.grpc.unwrap(), &[]).await;
    let mut request = Request::new(set_city(3, "Bonn"));
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    program.users().update_user_details(request).await.unwrap();
    for (door, city) in [(&program, "York"), (&door, "Riga")] {
        let target = target("admin", "3", &format!("city={city}"));
        door.send(Method::POST, &target, &[("traceparent", TRACEPARENT)]).await;
    }
    program.set_city("Kaunas", "").await.unwrap();
    let lines = wait_for_lines(&program, "call", 4).await;
    let told: Vec<_> = lines.iter().map(|line| line["fields"]["trace_id"].as_str()).collect();
    assert_eq!(told, [Some(TRACE), Some(TRACE), Some(TRACE), None]);
    let request = ListUserDetailsChangesRequest {
        acting_username: "admin".to_owned(),
        ..ListUserDetailsChangesRequest::default()
    };
    let answer = program.users().list_user_details_changes(request).await.unwrap().into_inner();
    let mut kept: Vec<_> = answer.changes.iter().map(|change| &*change.trace_id).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["", TRACE, TRACE, TRACE]);
    // Log lines of the gateway's own responses have the trace, too.
    door.send(Method::PUT, PATH, &[("traceparent", TRACEPARENT)]).await;
    let lines = wait_for_lines(&door, "legacy call", 1).await;
    assert_eq!(lines[0]["fields"]["trace_id"], TRACE);
}

async fn the_end_of_a_watch_is_told(database: TestDatabase) {
    let mut program = Program::demo(&database, &[]).await;
    let request = WatchUserDetailsRequest {
        acting_username: "manager".to_owned(),
        ..WatchUserDetailsRequest::default()
    };
    let mut left = program.users().watch_user_details(request.clone()).await.unwrap().into_inner();
    left.next().await.unwrap().unwrap();
    drop(left);
    let line = &wait_for_lines(&program, "call", 1).await[0]["fields"];
    assert_eq!((&line["outcome"], &line["actor_id"]), (&"CANCELLED".into(), &2.into()));
    let method = "m4.userdetails.v1.UserDetailsService/WatchUserDetails";
    assert_eq!((&line["door"], &line["rpc.method"]), (&"grpc".into(), &method.into()));
    let ended = format!("m4_calls_failed_total{{outcome=\"CANCELLED\",rpc_method=\"{method}\"}} 1");
    // The call is measured before its line is written.
    let scraped = program.ask_admin("/metrics").await.body;
    assert!(scraped.contains(&ended), "{scraped}");

    let mut kept = program.users().watch_user_details(request).await.unwrap().into_inner();
    kept.next().await.unwrap().unwrap();
    program.signal("TERM");
    assert!(kept.next().await.unwrap().is_err());
    assert!(program.ended().await.success());
    let lines = wait_for_lines(&program, "call", 2).await;
    assert_eq!(lines[1]["fields"]["outcome"], "UNAVAILABLE");
}

async fn a_path_that_is_not_known_has_its_line_and_its_span(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let endpoint = format!("http://{address}");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let program = Program::demo(&database, &variables).await;
    let made_up = Method::from_bytes(b"A-METHOD-THAT-SOMEBODY-MADE-UP").unwrap();
    let known = target("admin", "3", "");
    for (number, (method, path, status, name)) in [
        (Method::GET, "/recognisable?u=recognisable", StatusCode::NOT_FOUND, "GET"),
        (Method::PUT, &*known, StatusCode::METHOD_NOT_ALLOWED, &*format!("PUT {PATH}")),
        (made_up, &*known, StatusCode::METHOD_NOT_ALLOWED, &*format!("HTTP {PATH}")),
    ]
    .into_iter()
    .enumerate()
    {
        let trace = format!("4bf92f3577b34da6a3ce929d0e0e{number:04x}");
        let headers = [("traceparent", &*format!("00-{trace}-00f067aa0ba902b7-01"))];
        assert_eq!(program.send(method, path, &headers).await.status, status);
        let span = receiver.wait_for(|receiver| receiver.spans_of(&trace).pop()).await;
        assert_eq!(span.name, name);
        let original = attribute(&span, "http.request.method_original");
        let expected = (number == 2).then_some("A-METHOD-THAT-SO");
        assert_eq!(original.as_deref(), expected);
        let line = &wait_for_lines(&program, "legacy call", number + 1).await[number]["fields"];
        assert_eq!(line["http.response.status_code"], status.as_u16());
        assert_eq!(line["trace_id"], *trace);
    }
    assert!(!program.log().contains("recognisable"));
}

async fn a_statement_that_nobody_waits_for_is_measured(database: TestDatabase) {
    let (lock, unlock) = match database.kind {
        Kind::MariaDb => ("LOCK TABLES change_log WRITE", "UNLOCK TABLES"),
        Kind::Sqlite | Kind::Postgres => {
            ("LOCK TABLE change_log IN ACCESS EXCLUSIVE MODE", "SELECT 1")
        }
    };
    let program = Program::demo(&database, &[]).await;
    let transaction = database.begin().await;
    transaction.execute(lock).await;
    let mut users = program.users();
    let request = ListUserDetailsChangesRequest {
        acting_username: "admin".to_owned(),
        ..ListUserDetailsChangesRequest::default()
    };
    let call = tokio::spawn(async move { users.list_user_details_changes(request).await });
    database.until_a_lock_is_waited_for().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let given_up = |line: &str| {
        line.starts_with("db_client_operation_duration_seconds_count{")
            && line.contains("db_collection_name=\"change_log\"")
            && line.contains("error_type=\"cancelled\"")
    };
    until("it is measured", || async {
        program.ask_admin("/metrics").await.body.lines().any(given_up)
    })
    .await;
    transaction.execute(unlock).await;
    transaction.commit().await;
}
