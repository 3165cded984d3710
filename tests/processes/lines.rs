//! Log lines: one for each call, also over OTLP, and reloading of the log level.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, StatusCode, uri::PathAndQuery};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use m4_user_details::proto::{
    Address, BatchUpdateUserDetailsRequest, Comment, GetUserDetailsRequest,
    UpdateUserDetailsRequest, UserDetails, user_details_service_client::UserDetailsServiceClient,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;
use tonic::{Code, Request};

use crate::{
    program::Program,
    receiver::{Receiver, Told, attribute_of, text, told},
    support::{
        app::{PATH, target},
        database::TestDatabase,
        on_every_engine, on_sqlite, raw, until,
    },
};

on_every_engine!(
    each_call_has_one_line_that_says_who_acted,
    the_line_of_a_refused_call_says_why_without_a_value,
    a_caller_that_goes_away_leaves_its_line,
);

on_sqlite!(
    lines_are_sent_with_their_trace_and_nothing_of_libraries,
    a_call_that_no_method_answers_has_its_line_and_is_measured,
    a_call_that_the_gateway_refuses_has_a_line_that_says_why,
    the_program_says_that_it_serves_once_it_is_ready,
    a_refused_head_has_its_line_and_is_measured,
    a_signal_may_be_switched_off,
    what_is_logged_is_read_anew_at_a_signal,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PLAIN_USER: &str = "account_plain_user";
const UNKNOWN: &str = "account_unknown";
const BLOCKED: &str = "account_blocked";
const ITSELF: &str = "account_itself";
const UPDATE: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";

/// Placeholder for the address of a receiver.
const ENDPOINT: &str = "ENDPOINT";

/// The log lines of calls, at info and above.
fn lines(program: &Program) -> Vec<Value> {
    let log = program.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_calls = lines.filter(|line| {
        let message = &line["fields"]["message"];
        line["level"] != "DEBUG" && (message == "call" || message == "legacy call")
    });
    of_calls.collect()
}

/// Waits until there are `count` lines.
async fn wait_for_lines(program: &Program, count: usize) -> Vec<Value> {
    for _ in 0..6000 {
        let lines = lines(program);
        if lines.len() >= count {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("lines are missing: {}", program.log());
}

async fn a_refused_head_has_its_line_and_is_measured(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let many = format!("GET /secret HTTP/1.1\r\n{}\r\n", "A: secret\r\n".repeat(150));
    let broken = format!("PUT {PATH}?hash=secret<> HTTP/1.1\r\n\r\n");
    for (number, (head, method, status, outcome)) in [
        (many, "GET", 413, "TOO_LARGE"),
        (broken, "PUT", 400, "BAD_REQUEST"),
        ("secret\r\n\r\n".to_owned(), "_OTHER", 400, "BAD_REQUEST"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = raw::exchange(program.http, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let line = &wait_for_lines(&program, number + 1).await[number]["fields"];
        assert_eq!(line["http.response.status_code"], status);
        assert_eq!(line["outcome"], outcome);
        let metrics = program.ask_admin("/metrics").await.body;
        let is_counted = |line: &str| {
            line.starts_with("http_server_request_duration_seconds_count{")
                && line.contains(&format!("http_request_method=\"{method}\""))
                && line.contains(&format!("http_response_status_code=\"{status}\""))
                && line.ends_with(" 1")
        };
        assert!(metrics.lines().any(is_counted), "{metrics}");
        let row = format!("m4_legacy_calls_total{{row=\"{status}\"");
        let count = metrics.lines().find(|line| line.starts_with(&row)).unwrap();
        assert!(count.ends_with(if number < 2 { " 1" } else { " 2" }), "{count}");
        assert!(!metrics.contains("secret") && !program.log().contains("secret"));
    }
    // The admin listener refuses such requests, too.
    let answer = raw::exchange(program.admin.unwrap(), b"GET /< HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(program.ask_admin("/elsewhere").await.status, StatusCode::NOT_FOUND);
}

async fn each_call_has_one_line_that_says_who_acted(database: TestDatabase) {
    let variables = [
        ("M4_LOG", "m4_user_details=debug,info"),
        ("M4_GRPC_TOKEN", "internal token"),
        ("M4_GRPC_TOKEN_NAME", "billing"),
        ("M4_GRPC_TOKEN_OWN_NAME", "true"),
        ("M4_DOOR_TOKEN", "door token"),
    ];
    let service = Program::demo(&database, &variables).await;
    let door = Program::door(service.grpc.unwrap(), &variables).await;
    // The service logs every call that it answers, from both gateways.
    let right = target("manager", "3", "city=Recognisable");
    let wrong = target("nobody", "3", "city=Recognisable");
    for program in [&service, &door] {
        program.send(Method::POST, &right, &[]).await;
        program.send(Method::POST, &wrong, &[]).await;
    }
    let with_token = |message| {
        let mut request = Request::new(message);
        let token = "Bearer internal token".parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        request
    };
    let mut client = UserDetailsServiceClient::new(service.channel());
    for acting_username in ["admin", ""] {
        let request =
            GetUserDetailsRequest { user_id: 3, acting_username: acting_username.to_owned() };
        client.get_user_details(with_token(request)).await.unwrap();
    }
    let request = GetUserDetailsRequest::default();
    client.get_user_details(request).await.unwrap_err();
    let told: Vec<_> = wait_for_lines(&service, 7)
        .await
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            assert!(fields["milliseconds"].as_f64().unwrap() > 0.0);
            let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            let method = text("rpc.method");
            let method = method.rsplit_once('/').unwrap().1.to_owned();
            (text("door"), method, text("outcome"), fields["actor_id"].as_i64(), text("service"))
        })
        .collect();
    let line = |door: &str, method: &str, outcome: &str, actor_id, service: &str| {
        let [door, method, outcome, service] =
            [door, method, outcome, service].map(ToOwned::to_owned);
        (door, method, outcome, actor_id, service)
    };
    let by_door = [
        line("legacy", "UpdateUserDetails", "OK", Some(2), ""),
        line("legacy", "UpdateUserDetails", "ACCESS_DENIED", None, ""),
    ];
    let over_grpc = [
        line("grpc", "GetUserDetails", "OK", Some(1), ""),
        line("grpc", "GetUserDetails", "OK", None, "billing"),
        line("grpc", "GetUserDetails", "UNAUTHENTICATED", None, ""),
    ];
    assert_eq!(told, [&by_door[..], &by_door[..], &over_grpc[..]].concat());
    assert_eq!(lines(&door), Vec::<Value>::new(), "{}", door.log());

    // The gateway logs calls that it answers itself.
    for program in [&service, &door] {
        let before = lines(program).len();
        let answer = program.send(Method::PUT, &right, &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        let all = wait_for_lines(program, before + 1).await;
        let fields = &all[before]["fields"];
        assert_eq!((&fields["door"], &fields["http.route"]), (&"legacy".into(), &PATH.into()));
        assert_eq!(fields["http.response.status_code"], 405);
        assert_eq!(all.len(), before + 1);
    }

    // A stored change is logged without its values.
    let log = service.log();
    let stored: Vec<Value> = log
        .lines()
        .filter(|line| line.contains("a change is stored"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(stored.len(), 1, "{log}");
    let fields = &stored[0]["fields"];
    assert_eq!((&fields["user_id"], &fields["actor_id"]), (&3.into(), &2.into()));
    assert_eq!(fields["fields"], "address.city");
    for secret in ["ecognisable", "internal token", "door token", "\"manager\"", "nobody"] {
        assert!(!(log.clone() + &door.log()).contains(secret), "{secret}");
    }
}

async fn the_line_of_a_refused_call_says_why_without_a_value(database: TestDatabase) {
    let variables = [
        ("M4_LOG", "m4_user_details=debug,info"),
        ("M4_GRPC_TOKEN", "internal token"),
        ("M4_GRPC_TOKEN_NAME", "billing"),
    ];
    let service = Program::demo(&database, &variables).await;
    let mut users = UserDetailsServiceClient::new(service.channel());
    let as_account = |acting_username: &str, user_id, user_details| UpdateUserDetailsRequest {
        acting_username: acting_username.to_owned(),
        user_id,
        user_details: Some(user_details),
        ..UpdateUserDetailsRequest::default()
    };
    let city = |city: &str| {
        let address = Address { city: Some(city.to_owned()), ..Address::default() };
        let address = Some(Box::new(address));
        UserDetails { address, ..UserDetails::default() }
    };
    let invalid = || {
        let comment = Some(Box::new(Comment { comment: Some("Recognisable\u{1}".to_owned()) }));
        UserDetails { comment, ..city("Recognisable\u{1}") }
    };
    let fields = "user_details.address.city, user_details.comment.comment";
    let mut expected = Vec::new();
    for (acting, user_id, details, code, outcome, rule, refused_fields) in [
        ("admin", 3, invalid(), Code::InvalidArgument, "INVALID_DETAILS", "", fields),
        ("alice", 3, city("Bonn"), Code::PermissionDenied, "ACCESS_DENIED", PLAIN_USER, ""),
        ("nobody", 3, city("Bonn"), Code::PermissionDenied, "ACCESS_DENIED", UNKNOWN, ""),
        ("locked", 3, city("Bonn"), Code::PermissionDenied, "ACCESS_DENIED", BLOCKED, ""),
        ("manager", 2, city("Bonn"), Code::PermissionDenied, "ACCESS_DENIED", ITSELF, ""),
        ("auditor", 3, city("Bonn"), Code::PermissionDenied, "NOT_AUTHORIZED", "group_right", ""),
        ("", 3, city("Bonn"), Code::PermissionDenied, "ACCESS_DENIED", "own_name", ""),
    ] {
        let mut request = Request::new(as_account(acting, user_id, details));
        let token = "Bearer internal token".parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        assert_eq!(users.update_user_details(request).await.unwrap_err().code(), code);
        expected.push((outcome, rule, refused_fields, user_id));
    }
    // A batch names the user and the fields of the first refused update.
    let requests = vec![as_account("", 3, city("Bonn")), as_account("", 4, invalid())];
    let acting_username = "admin".to_owned();
    let mut request = Request::new(BatchUpdateUserDetailsRequest {
        acting_username,
        requests,
        ..BatchUpdateUserDetailsRequest::default()
    });
    let token = "Bearer internal token".parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    users.batch_update_user_details(request).await.unwrap_err();
    let fields = "requests[1].user_details.address.city, requests[1].user_details.comment.comment";
    expected.push(("INVALID_DETAILS", "", fields, 4));

    let lines = wait_for_lines(&service, expected.len()).await;
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            assert_eq!((&fields["identity"], &fields["door"]), (&"billing".into(), &"grpc".into()));
            assert_eq!(fields["client.address"], "127.0.0.1");
            let code = fields["rpc.response.status_code"].as_str().unwrap();
            assert!(["INVALID_ARGUMENT", "PERMISSION_DENIED"].contains(&code), "{code}");
            let text = |name: &str| fields[name].as_str().unwrap_or_default();
            let user_id = fields["user_id"].as_i64().unwrap();
            // Whole microseconds.
            let micros = fields["milliseconds"].as_f64().unwrap() * 1000.0;
            assert!((micros - micros.round()).abs() < 1e-6, "{micros}");
            (text("outcome"), text("rule"), text("refused_fields"), user_id)
        })
        .collect();
    assert_eq!(told, expected);
    let log = service.log();
    for secret in ["ecognisable", "Bonn", "internal token", "alice", "nobody", "auditor", "Some("] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

async fn a_call_that_the_gateway_refuses_has_a_line_that_says_why(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &[]).await;
    let invalid = target("admin", "3", "hidden=Recognisable&city=Recognisable");
    for program in [&service, &door] {
        let answer = program.send(Method::POST, &invalid, &[]).await;
        assert!(answer.body.contains("User was not updated"), "{}", answer.body);
        until("the gateway has logged the call", || async {
            lines(program).iter().any(|line| line["fields"]["message"] == "legacy call")
        })
        .await;
        let lines = lines(program);
        let line = lines.iter().find(|line| line["fields"]["message"] == "legacy call").unwrap();
        let fields = &line["fields"];
        assert_eq!(
            (&line["level"], &fields["outcome"]),
            (&"INFO".into(), &"INVALID_DETAILS".into())
        );
        assert_eq!((&fields["row"], &fields["user_id"]), (&"9".into(), &3.into()));
        assert_eq!(fields["refused_fields"], "user_details.general.hidden");
        assert_eq!(fields["client.address"], "127.0.0.1");
        assert_eq!(fields["rpc.response.status_code"], "OK");
        assert!(!program.log().contains("ecognisable"), "{}", program.log());
    }
    // The service logs the address of the legacy client, not of the gateway's connection.
    let call = wait_for_lines(&service, 2).await;
    let call = call.iter().find(|line| line["fields"]["message"] == "call").unwrap();
    assert_eq!(call["fields"]["client.address"], "127.0.0.1");
}

async fn the_program_says_that_it_serves_once_it_is_ready(database: TestDatabase) {
    let serves = |program: &Program| program.log().contains("\"message\":\"serving\"");
    let unreachable = [("M4_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")];
    let mut waiting = Program::serve(&["--demo"], &unreachable).await;
    let mut door = Program::door(waiting.grpc.unwrap(), &[]).await;
    waiting.wait_for_line("the database could not be prepared; retrying").await;
    assert!(!serves(&waiting), "{}", waiting.log());
    assert!(!serves(&door), "{}", door.log());
    door.signal("TERM");
    door.ended().await;
    let mut service = Program::demo(&database, &[]).await;
    let serving = service.wait_for_line("serving").await;
    assert_eq!(serving["fields"]["http"], service.http.to_string());
    let mut door = Program::door(service.grpc.unwrap(), &[]).await;
    door.wait_for_line("serving").await;
}

async fn a_caller_that_goes_away_leaves_its_line(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let lock = database.lock_alice().await;
    for _ in 0..2 {
        let begun =
            until("the call is in flight", || async { program.calls_in_flight().await == 1 });
        tokio::select! {
            answer = program.set_city("Never", "") => panic!("{answer:?}"),
            () = begun => {}
        }
        until("the call has ended", || async { program.calls_in_flight().await == 0 }).await;
    }
    let lines = wait_for_lines(&program, 2).await;
    lock.release().await;
    assert!(lines.iter().all(|line| line["fields"]["outcome"] == "CANCELLED"), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

async fn a_call_that_no_method_answers_has_its_line_and_is_measured(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let endpoint = format!("http://{address}");
    let variables = [
        ("M4_GRPC_MESSAGE_LIMIT", "2097152"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let program = Program::demo(&database, &variables).await;
    let mut client = tonic::client::Grpc::new(program.channel());
    client.ready().await.unwrap();
    let nothing = PathAndQuery::from_static("/m4.userdetails.v1.UserDetailsService/Recognisable");
    let codec = tonic_prost::ProstCodec::<UserDetails, UserDetails>::default();
    let mut request = Request::new(UserDetails::default());
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    let error = client.unary(request, nothing, codec).await;
    assert_eq!(error.unwrap_err().code(), Code::Unimplemented);
    let comment = Some(Box::new(Comment { comment: Some("x".repeat(3 << 20)) }));
    let user_details = Some(UserDetails { comment, ..UserDetails::default() });
    let large = UpdateUserDetailsRequest { user_details, ..UpdateUserDetailsRequest::default() };
    let error = program.users().update_user_details(large).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let watch = "m4.userdetails.v1.UserDetailsService/WatchUserDetails";
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let plain = http::Request::post(format!("http://{}/{watch}", program.grpc.unwrap()));
    let plain = plain.header("content-type", "text/plain").body("Recognisable".to_owned()).unwrap();
    assert_eq!(http.request(plain).await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = http::Request::post(format!("http://{}/{watch}", program.grpc.unwrap()));
    let large = large.header("x", "x".repeat(17 << 10)).body(String::new()).unwrap();
    let refused = http.request(large).await.unwrap().status();
    assert_eq!(refused, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let lines = wait_for_lines(&program, 3).await;
    let outcomes: Vec<_> = lines.iter().map(|line| &line["fields"]["outcome"]).collect();
    assert_eq!(outcomes, ["UNIMPLEMENTED", "INVALID_REQUEST", "NOT_GRPC"]);
    let methods: Vec<_> = lines.iter().map(|line| &line["fields"]["rpc.method"]).collect();
    assert_eq!(methods, ["_OTHER", UPDATE, watch]);
    let scraped = program.ask_admin("/metrics").await.body;
    for (method, code) in
        [("_OTHER", "UNIMPLEMENTED"), (UPDATE, "INVALID_ARGUMENT"), (watch, "INVALID_ARGUMENT")]
    {
        let counted = |line: &&str| {
            line.starts_with("rpc_server_call_duration_seconds_count{")
                && line.contains(&format!("rpc_method=\"{method}\""))
                && line.contains(code)
        };
        assert!(
            scraped.lines().find(counted).is_some_and(|line| line.ends_with(" 1")),
            "{scraped}"
        );
    }
    assert!(!(program.log() + &scraped).contains("Recognisable"));
    assert_eq!(lines[0]["fields"]["trace_id"], TRACE);
    assert_ne!(lines[1]["fields"]["trace_id"], TRACE);

    let span = receiver.wait_for(|receiver| receiver.spans_of(TRACE).pop()).await;
    assert_eq!((&*span.name, span.kind()), ("grpc", SpanKind::Server));
    let expected = BTreeMap::from([
        ("rpc.system.name", Told::from("grpc")),
        ("rpc.method", "_OTHER".into()),
        ("rpc.response.status_code", "UNIMPLEMENTED".into()),
        ("outcome", "UNIMPLEMENTED".into()),
        ("error.type", "UNIMPLEMENTED".into()),
    ]);
    assert_eq!(told(&span), expected);
}

async fn lines_are_sent_with_their_trace_and_nothing_of_libraries(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let endpoint = format!("http://{address}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BLRP_SCHEDULE_DELAY", "20"),
        ("M4_LOG", "trace"),
    ];
    let mut program = Program::demo(&database, &variables).await;
    let headers = [("traceparent", TRACEPARENT), ("baggage", "tenant=Recognisable")];
    let call = target("admin", "3", "city=Recognisable");
    program.send(Method::POST, &call, &headers).await;
    program.send(Method::POST, &target("nobody", "3", "city=Recognisable"), &headers).await;
    let hidden = UpdateUserDetailsRequest {
        user_id: 3,
        user_details: Some(UserDetails::default()),
        ..UpdateUserDetailsRequest::default()
    };
    program.users().update_user_details(hidden).await.unwrap();
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    let logs = receiver.logs();
    let calls: Vec<_> = logs
        .iter()
        .filter(|(_, log)| log.body.as_ref().and_then(text).as_deref() == Some("call"))
        .map(|(_, log)| {
            let attribute = |key| attribute_of(&log.attributes, key).unwrap_or_default();
            assert_eq!(attribute("rpc.method"), UPDATE);
            assert_eq!(log.severity_text, "INFO");
            let trace = hex::encode(&log.trace_id);
            assert_eq!(attribute("trace_id"), trace);
            (trace, attribute("door"), attribute("outcome"), attribute("actor_id"))
        })
        .collect();
    let line = |door: &str, outcome: &str, actor: &str| {
        (TRACE.to_owned(), door.to_owned(), outcome.to_owned(), actor.to_owned())
    };
    assert_eq!(calls[..2], [line("legacy", "OK", "1"), line("legacy", "ACCESS_DENIED", "")]);
    // A call without a trace begins a trace.
    assert_eq!((calls.len(), &*calls[2].1), (3, "grpc"));
    assert!(calls[2].0.len() == 32 && calls[2].0 != TRACE);
    let stored = logs
        .iter()
        .find(|(_, log)| log.body.as_ref().and_then(text).as_deref() == Some("a change is stored"));
    assert_eq!(hex::encode(&stored.unwrap().1.trace_id), TRACE);
    assert!(logs.iter().all(|(target, _)| target.starts_with("m4_user_details")), "{logs:?}");
    let all = format!("{logs:?}");
    for secret in ["ecognisable", "hash=", "nobody", "secret"] {
        assert!(!all.contains(secret), "{secret}");
    }
    // The export of logs does not log itself without end.
    assert!(logs.len() < 100, "{}", logs.len());
}

async fn a_signal_may_be_switched_off(database: TestDatabase) {
    for (variables, expected) in [
        (vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], vec![]),
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)], vec!["traces", "metrics", "logs"]),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT), ("OTEL_LOGS_EXPORTER", "none")],
            vec!["traces", "metrics"],
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT), ("OTEL_TRACES_EXPORTER", "none")],
            vec!["metrics", "logs"],
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT), ("OTEL_METRICS_EXPORTER", "none")],
            vec!["traces", "logs"],
        ),
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT), ("OTEL_SDK_DISABLED", "true")], vec![]),
        (vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ENDPOINT)], vec!["traces"]),
        (vec![("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ENDPOINT)], vec!["metrics"]),
        (vec![("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", ENDPOINT)], vec!["logs"]),
    ] {
        let (receiver, address) = Receiver::start().await;
        let endpoint = format!("http://{address}");
        let own: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, if *value == ENDPOINT { &*endpoint } else { *value }))
            .collect();
        let mut program = Program::demo(&database, &own).await;
        program.call("admin", "3", "city=x").await;
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
        let mut sent = vec![];
        sent.extend((!receiver.spans().is_empty()).then_some("traces"));
        sent.extend((!receiver.metrics().is_empty()).then_some("metrics"));
        sent.extend((!receiver.logs().is_empty()).then_some("logs"));
        assert_eq!(sent, expected, "{variables:?}");
    }
}

async fn what_is_logged_is_read_anew_at_a_signal(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m4.toml");
    std::fs::write(&file, "log = 'info'").unwrap();
    let variables = [("M4_DATABASE_URL", database.url.as_str())];
    let arguments = ["--demo", "--config", file.to_str().unwrap()];
    let mut program = Program::serve(&arguments, &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    program.call("admin", "3", "city=First").await;
    assert!(!program.log().contains("a change is stored"));
    std::fs::write(&file, "log = 'm4_user_details=debug,info'").unwrap();
    program.signal("HUP");
    let line = program.wait_for_line("log filter reloaded").await;
    assert_eq!(line["fields"]["filter"], "m4_user_details=debug,info");
    program.call("admin", "3", "city=Second").await;
    program.wait_for_line("a change is stored").await;
    // An invalid level changes nothing.
    std::fs::write(&file, "log = 'm4_user_details=loud'").unwrap();
    program.signal("HUP");
    program.wait_for_line("log filter not reloaded: the current filter stays in use").await;
    program.call("admin", "3", "city=Third").await;
    for _ in 0..3000 {
        if program.log().matches("a change is stored").count() == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the level has changed: {}", program.log());
}
