//! Spans of each kind of call at a real OTLP receiver: tree, names, kinds, attributes and links.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode, Uri};
use m4_user_details::proto::{
    Address, GetUserDetailsRequest, ListUserDetailsChangesRequest, UpdateUserDetailsRequest,
    UserDetails, WatchUserDetailsRequest,
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as Outcome};
use tokio::net::TcpListener;
use tonic::{Code, Request, service::Routes, transport::server::TcpIncoming};

use crate::{
    program::{Program, run},
    receiver::{Receiver, Told, attribute, told},
    support::{
        app::{PATH, set_city, target, untimed_users},
        database::{Kind, TestDatabase},
        on_every_engine, on_sqlite,
        tls::{Authority, Files},
        until,
    },
};

on_every_engine!(
    each_row_of_the_legacy_call_is_told_on_both_sides,
    an_event_of_a_watch_links_to_the_call_that_caused_it,
    a_deadline_that_runs_out_is_the_servers_error,
    one_that_is_sampled_has_its_statements_though_others_are_not,
    of_sampled_ones_that_share_a_transaction_one_has_its_statements_and_the_other_links_to_it,
);

on_sqlite!(
    a_door_hands_on_the_trace_and_its_baggage,
    spans_and_logs_go_over_http_too,
    a_receivers_certificate_is_of_the_authority_that_is_configured,
    what_the_service_looks_at_by_itself_is_no_trace,
);

const PARENT: &str = "00f067aa0ba902b7";
const RPC: &str = "m4.userdetails.v1.UserDetailsService";

fn trace(number: usize) -> String {
    format!("4bf92f3577b34da6a3ce929d0e0e{number:04x}")
}

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{PARENT}-01")
}

fn to(address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "50".to_owned()),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, &**value)).collect()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|own| own.code() == Outcome::Error)
}

/// A request in a trace.
fn traced<T>(trace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent(trace).parse().unwrap());
    request
}

/// The server span of an RPC in a trace.
async fn server_span(receiver: &Receiver, trace: &str) -> Span {
    let find = |receiver: &Receiver| {
        let spans = receiver.spans_of(trace);
        spans.into_iter().find(|span| span.kind() == SpanKind::Server && span.name.contains(RPC))
    };
    receiver.wait_for(find).await
}

/// Changes a setting of the legacy call.
fn set(database: &TestDatabase, setting: &str) {
    let url = [("M4_DATABASE_URL", database.url.as_str())];
    assert!(run(&["settings", "set", setting], &url).status.success());
}

async fn each_row_of_the_legacy_call_is_told_on_both_sides(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let variables = to(address);
    let service = Program::demo(&database, &borrowed(&variables)).await;
    let door = Program::door(service.grpc.unwrap(), &borrowed(&variables)).await;
    let wrong = target("admin", "3", "").replace("hash=", "hash=0");
    // Without manager rights, `auditor` may change nothing.
    let rows = [
        (3, Method::POST, wrong, "UNAUTHENTICATED", "INCORRECT_HASH"),
        (4, Method::POST, target("nobody", "3", ""), "PERMISSION_DENIED", "ACCESS_DENIED"),
        (5, Method::POST, target("auditor", "3", ""), "PERMISSION_DENIED", "NOT_AUTHORIZED"),
        (6, Method::POST, target("manager", "2", ""), "PERMISSION_DENIED", "ACCESS_DENIED"),
        (7, Method::POST, target("admin", "99", ""), "NOT_FOUND", "USER_NOT_FOUND"),
        (
            8,
            Method::POST,
            target("admin", "3", "responsible_manager_id=99"),
            "INVALID_ARGUMENT",
            "MANAGER_INVALID",
        ),
        (
            9,
            Method::POST,
            target("admin", "3", "currency_id=99"),
            "INVALID_ARGUMENT",
            "INVALID_DETAILS",
        ),
        (10, Method::POST, target("admin", "3", "city=Recognisable"), "OK", "OK"),
        (2, Method::GET, target("admin", "3", ""), "FAILED_PRECONDITION", "GET_DISABLED"),
        (1, Method::POST, target("admin", "3", ""), "FAILED_PRECONDITION", "API_DISABLED"),
    ];
    for (row, method, call, code, outcome) in rows {
        match row {
            2 => set(&database, "allow_get_api=off"),
            1 => set(&database, "allow_api=off"),
            _ => {}
        }
        for (number, program) in [(row, &door), (row + 100, &service)] {
            let trace = trace(number);
            if row < 3 {
                // A setting is effective within two seconds: poll in other traces until then.
                let expected = if row == 1 { "API Requests" } else { "GET Requests" };
                while !program.send(method.clone(), &call, &[]).await.body.contains(expected) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let headers = [("traceparent", &*traceparent(&trace))];
            let answer = program.send(method.clone(), &call, &headers).await;
            assert_eq!(answer.status, StatusCode::OK);
            let name = format!("{method} {PATH}");
            let http = receiver
                .wait_for(|receiver| {
                    receiver.spans_of(&trace).into_iter().find(|span| span.name == name)
                })
                .await;
            assert_eq!(
                (http.kind(), hex::encode(&http.parent_span_id)),
                (SpanKind::Server, PARENT.to_owned())
            );
            let expected = BTreeMap::from([
                ("http.request.method", Told::from(method.as_str())),
                ("http.route", PATH.into()),
                ("http.response.status_code", 200.into()),
                ("url.scheme", "http".into()),
                ("url.path", PATH.into()),
            ]);
            assert_eq!(told(&http), expected, "{row}");
            let server = server_span(&receiver, &trace).await;
            let spans = receiver.spans_of(&trace);
            let client = spans.iter().find(|span| span.span_id == server.parent_span_id).unwrap();
            assert_eq!((client.kind(), &client.parent_span_id), (SpanKind::Client, &http.span_id));
            let method = format!("{RPC}/UpdateUserDetails");
            assert_eq!([&client.name, &server.name], [&method, &method]);
            let mut expected = BTreeMap::from([
                ("rpc.system.name", Told::from("grpc")),
                ("rpc.method", (&*method).into()),
                ("rpc.response.status_code", code.into()),
            ]);
            let mut on_server = expected.clone();
            on_server.insert("outcome", outcome.into());
            if row > 3 {
                on_server.insert("identity", "default".into());
            }
            let rules =
                BTreeMap::from([(4, "account_unknown"), (5, "group_right"), (6, "account_itself")]);
            rules.get(&row).into_iter().for_each(|rule| {
                on_server.insert("rule", (*rule).into());
            });
            assert_eq!(told(&server), on_server, "{row}");
            // A client error is an error of the client span, not of the server span.
            assert!(!is_error(&http) && !is_error(&server), "{row}");
            assert_eq!(is_error(client), code != "OK", "{row}");
            if code != "OK" {
                expected.insert("error.type", code.into());
            }
            if program.grpc.is_none() {
                // A standalone gateway has a server address.
                expected.insert("server.address", "127.0.0.1".into());
                expected.insert("server.port", i64::from(service.grpc.unwrap().port()).into());
            }
            assert_eq!(told(client), expected, "{row}");
            assert!(spans.iter().all(|span| span.events.is_empty()));
        }
    }
    let schemas = receiver.schemas();
    let conventions = "https://opentelemetry.io/schemas/1.44.0";
    assert!(!schemas.is_empty() && schemas.iter().all(|url| url == conventions), "{schemas:?}");
    let all = format!("{:?}", receiver.spans());
    for old in [
        "rpc.grpc.status_code",
        "rpc.service",
        "http.method",
        "http.status",
        "db.system\"",
        "db.statement",
    ] {
        assert!(!all.contains(old), "{old}");
    }
    assert!(!all.contains("ecognisable"));
}

async fn an_event_of_a_watch_links_to_the_call_that_caused_it(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let variables = to(address);
    let program = Program::demo(&database, &borrowed(&variables)).await;
    let watch = traced(&trace(1), WatchUserDetailsRequest::default());
    let mut watch = program.users().watch_user_details(watch).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().change, None);
    let headers = [("traceparent", &*traceparent(&trace(2)))];
    let call = target("admin", "3", "city=Recognisable");
    assert!(program.send(Method::POST, &call, &headers).await.body.contains("successfully"));
    let change = loop {
        if let Some(change) = watch.message().await.unwrap().unwrap().change {
            break change;
        }
    };
    assert_eq!(change.trace_id, trace(2));
    let listed = ListUserDetailsChangesRequest::default();
    let listed = program.users().list_user_details_changes(listed).await.unwrap().into_inner();
    assert_eq!(listed.changes, [change]);

    let cause = server_span(&receiver, &trace(2)).await;
    let event = receiver
        .wait_for(|receiver| {
            let mut spans = receiver.spans().into_iter();
            spans.find(|span| span.name == "WatchUserDetails event")
        })
        .await;
    assert_eq!(event.kind(), SpanKind::Internal);
    assert_eq!(event.links.len(), 1);
    let link = &event.links[0];
    assert_eq!((&link.trace_id, &link.span_id), (&cause.trace_id, &cause.span_id));
    let stored = database.text("SELECT traceparent FROM change_log").await;
    assert_eq!(stored, format!("00-{}-{}-01", trace(2), hex::encode(&cause.span_id)));

    // A change without a sampled trace has its trace id, too.
    let headers = [("traceparent", &*traceparent(&trace(3)).replace("-01", "-00"))];
    program.send(Method::POST, &target("admin", "3", "city=Other"), &headers).await;
    let change = watch.message().await.unwrap().unwrap().change.unwrap();
    assert_eq!(change.trace_id, trace(3));

    // The span of the watch ends with its stream.
    let of_watch = receiver.spans_of(&trace(1));
    assert!(of_watch.iter().all(|span| span.kind() != SpanKind::Server), "{of_watch:?}");
    drop(watch);
    let watched = server_span(&receiver, &trace(1)).await;
    assert_eq!(event.parent_span_id, watched.span_id);
    assert_eq!(attribute(&watched, "rpc.response.status_code").as_deref(), Some("CANCELLED"));
    assert!(watched.end_time_unix_nano >= event.end_time_unix_nano);
}

async fn a_deadline_that_runs_out_is_the_servers_error(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let variables = to(address);
    let program = Program::demo(&database, &borrowed(&variables)).await;
    let missing = GetUserDetailsRequest { user_id: 99, ..GetUserDetailsRequest::default() };
    let missing = program.users().get_user_details(traced(&trace(1), missing)).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    let span = server_span(&receiver, &trace(1)).await;
    assert_eq!(attribute(&span, "rpc.response.status_code").as_deref(), Some("NOT_FOUND"));
    assert_eq!((is_error(&span), attribute(&span, "error.type")), (false, None));
    // The statement itself succeeded.
    let statement = receiver
        .wait_for(|receiver| {
            let mut spans = receiver.spans_of(&trace(1)).into_iter();
            spans.find(|span| span.name == "SELECT accounts")
        })
        .await;
    assert_eq!((is_error(&statement), attribute(&statement, "error.type")), (false, None));

    let lock = database.lock_alice().await;
    let address =
        m4_user_details::proto::Address { city: Some("Late".to_owned()), ..Default::default() };
    let details =
        m4_user_details::proto::UserDetails { address: Some(address.into()), ..Default::default() };
    let late = UpdateUserDetailsRequest {
        user_id: 3,
        user_details: Some(details),
        ..UpdateUserDetailsRequest::default()
    };
    let mut late = traced(&trace(2), late);
    // Long enough for the statement to wait for the lock on a busy machine.
    late.set_timeout(Duration::from_secs(2));
    untimed_users(program.grpc.unwrap()).update_user_details(late).await.unwrap_err();
    let span = server_span(&receiver, &trace(2)).await;
    assert!(is_error(&span), "{span:?}");
    for key in ["rpc.response.status_code", "error.type"] {
        assert_eq!(attribute(&span, key).as_deref(), Some("DEADLINE_EXCEEDED"));
    }
    if database.kind != Kind::Sqlite {
        // The database ended the waiting statement, with its own error code.
        let failed = receiver
            .wait_for(|receiver| {
                let mut spans = receiver.spans_of(&trace(2)).into_iter();
                spans.find(|span| span.kind() == SpanKind::Client && is_error(span))
            })
            .await;
        let code = attribute(&failed, "db.response.status_code").unwrap();
        assert_eq!(code, if database.kind == Kind::Postgres { "57014" } else { "1969" });
        assert_eq!(attribute(&failed, "error.type"), Some(code));
    }
    lock.release().await;
}

/// A service that only keeps the headers of updates. A gateway also checks the health.
async fn headers_of(kept: Arc<Mutex<Vec<HeaderMap>>>) -> SocketAddr {
    let keep = async move |uri: Uri, headers: HeaderMap| {
        if uri.path().ends_with("/UpdateUserDetails") {
            kept.lock().unwrap().push(headers);
        }
        [("content-type", "application/grpc"), ("grpc-status", "14")]
    };
    let routes = Routes::from(axum::Router::new().fallback(keep));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_routes(routes);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

async fn a_door_hands_on_the_trace_and_its_baggage(_: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let variables = to(address);
    let kept = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let upstream = headers_of(Arc::clone(&kept)).await;
    let sent = traceparent(&trace(1));
    let headers = [("traceparent", &*sent), ("baggage", "tenant=Recognisable")];
    let sends = Program::door(upstream, &borrowed(&variables)).await;
    // A gateway without span export still forwards the trace context.
    let silent = Program::door(upstream, &[("M4_LOG", "trace")]).await;
    for door in [&sends, &silent] {
        let answer = door.send(Method::POST, &target("admin", "3", ""), &headers).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let client = receiver
        .wait_for(|receiver| {
            let mut spans = receiver.spans_of(&trace(1)).into_iter();
            spans.find(|span| span.kind() == SpanKind::Client)
        })
        .await;
    let kept = kept.lock().unwrap().clone();
    let told: Vec<_> =
        kept.iter().map(|headers| headers["traceparent"].to_str().unwrap()).collect();
    assert_eq!(told, [format!("00-{}-{}-01", trace(1), hex::encode(&client.span_id)), sent]);
    assert!(kept.iter().all(|headers| headers["baggage"] == "tenant=Recognisable"), "{kept:?}");
    assert!(!format!("{:?}", receiver.spans()).contains("Recognisable"));
    assert!(!(sends.log() + &silent.log()).contains("Recognisable"));
    // An unavailable service is an error of the gateway.
    let http = receiver
        .wait_for(|receiver| {
            let mut spans = receiver.spans_of(&trace(1)).into_iter();
            spans.find(|span| span.kind() == SpanKind::Server)
        })
        .await;
    assert!(is_error(&http) && is_error(&client));
    assert_eq!(attribute(&http, "error.type").as_deref(), Some("503"));
    assert_eq!(attribute(&client, "error.type").as_deref(), Some("UNAVAILABLE"));
}

async fn spans_and_logs_go_over_http_too(database: TestDatabase) {
    let (receiver, address) = Receiver::start_http().await;
    let mut variables = to(address);
    variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()));
    let mut program = Program::demo(&database, &borrowed(&variables)).await;
    let headers = [("traceparent", &*traceparent(&trace(1)))];
    program.send(Method::POST, &target("admin", "3", "city=x"), &headers).await;
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    assert!(receiver.spans_of(&trace(1)).iter().any(|span| span.name == "COMMIT"));
    let logs = receiver.logs();
    let of_call = logs.iter().filter(|(_, log)| hex::encode(&log.trace_id) == trace(1));
    assert_eq!(of_call.count(), 1, "{logs:?}");
}

async fn a_receivers_certificate_is_of_the_authority_that_is_configured(database: TestDatabase) {
    let (authority, files) = (Authority::new(), Files::new());
    let (certificate, key) = files.write_own("own", &authority.issue(&["m4.internal"]));
    let own = authority.issue(&["localhost"]);
    for (number, protocol) in [(0, "http/protobuf"), (10, "grpc")] {
        let http = protocol != "grpc";
        let (receiver, address) = Receiver::start_tls(&own, &authority, http).await;
        // With a wrong authority or no client certificate, the export fails and the call succeeds.
        for (number, authority, shows, told) in [
            (number, &Authority::new(), true, false),
            (number + 1, &authority, false, false),
            (number + 2, &authority, true, true),
        ] {
            let mut variables = to(address);
            let endpoint = format!("https://localhost:{}", address.port());
            variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
            variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()));
            let authority = files.write("authority.pem", &authority.pem());
            variables.push(("OTEL_EXPORTER_OTLP_CERTIFICATE", authority));
            variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "2000".to_owned()));
            if shows {
                variables.push(("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.clone()));
                variables.push(("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.clone()));
            }
            let mut program = Program::demo(&database, &borrowed(&variables)).await;
            let headers = [("traceparent", &*traceparent(&trace(number)))];
            let call = target("admin", "3", &format!("city={number}"));
            assert_eq!(program.send(Method::POST, &call, &headers).await.status, StatusCode::OK);
            program.signal("TERM");
            assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
            let has_told = !receiver.spans_of(&trace(number)).is_empty();
            assert_eq!(has_told, told, "{protocol} {number}: {}", program.log());
        }
        for (name, problem) in [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE cannot be read"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY cannot be read"),
        ] {
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                (name, "/nowhere"),
            ];
            let refused = run(&["serve", "--demo"], &variables);
            assert_eq!(refused.status.code(), Some(2), "{refused:?}");
            assert!(String::from_utf8_lossy(&refused.stderr).contains(problem), "{refused:?}");
        }
    }
}

async fn what_the_service_looks_at_by_itself_is_no_trace(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let variables = to(address);
    let mut program = Program::demo(&database, &borrowed(&variables)).await;
    program.wait_for_line("health").await;
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    assert_eq!(receiver.spans(), []);
}

async fn one_that_is_sampled_has_its_statements_though_others_are_not(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let mut variables = to(address);
    variables.push(("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()));
    variables.push(("OTEL_TRACES_SAMPLER_ARG", "0".to_owned()));
    variables.push(("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()));
    let service = Program::demo(&database, &borrowed(&variables)).await;
    let update = |user_id, city: String| {
        let address = Some(Box::new(Address { city: Some(city), ..Address::default() }));
        let user_details = Some(UserDetails { address, ..UserDetails::default() });
        UpdateUserDetailsRequest { user_id, user_details, ..UpdateUserDetailsRequest::default() }
    };
    for round in 0..10 {
        let lock = database.lock_alice().await;
        // These updates queue behind the update that waits for the lock, or are stored meanwhile.
        let others = (0..8).map(|number| {
            let mut users = service.users();
            let request = update(3 + number % 2, format!("{round} {number}"));
            tokio::spawn(async move { users.update_user_details(request).await.unwrap() })
        });
        let others: Vec<_> = others.collect();
        until("half of them wait", || async { service.calls_in_flight().await >= 4 }).await;
        let mut users = service.users();
        let request = traced(&trace(round), update(4, format!("sampled {round}")));
        let sampled =
            tokio::spawn(async move { users.update_user_details(request).await.unwrap() });
        // Alice's four updates wait for the lock, and the sampled update may wait behind them.
        until("the sampled one waits, or is stored", || async {
            sampled.is_finished() || service.calls_in_flight().await >= 5
        })
        .await;
        lock.release().await;
        for call in others.into_iter().chain([sampled]) {
            call.await.unwrap();
        }
        let commit = |receiver: &Receiver| {
            receiver.spans_of(&trace(round)).into_iter().find(|span| span.name == "COMMIT")
        };
        receiver.wait_for(commit).await;
    }
    let request = ListUserDetailsChangesRequest { page_size: 1000, ..Default::default() };
    let listed = service.users().list_user_details_changes(request).await.unwrap().into_inner();
    // Each change has its trace id. Most of these traces are not sampled.
    assert!(listed.changes.iter().all(|change| change.trace_id.len() == 32), "{listed:?}");
    // A sampled update that waits for a lock has its own COMMIT besides the COMMIT of the others.
    let spans = receiver.spans();
    let commits = spans.iter().filter(|span| span.name == "COMMIT");
    let kept: BTreeSet<_> = commits.map(|span| hex::encode(&span.trace_id)).collect();
    assert_eq!(kept, (0..10).map(trace).collect());
}

async fn of_sampled_ones_that_share_a_transaction_one_has_its_statements_and_the_other_links_to_it(
    database: TestDatabase,
) {
    let (receiver, address) = Receiver::start().await;
    let mut variables = to(address);
    variables.push(("OTEL_TRACES_SAMPLER", "parentbased_always_off".to_owned()));
    // On a server updates queue; on SQLite they gather while the previous transaction commits.
    variables.push(("M4_GATHER_MILLISECONDS", "100".to_owned()));
    let service = Program::demo(&database, &borrowed(&variables)).await;
    let users = service.users();
    let call = |request: Request<UpdateUserDetailsRequest>| {
        let mut users = users.clone();
        tokio::spawn(async move { users.update_user_details(request).await.unwrap() })
    };
    let mut shared = 0;
    for round in 0..100 {
        let traces = [trace(2 * round), trace(2 * round + 1)];
        let other = |number| Request::new(set_city(3, &format!("{round} {number}")));
        let sampled = [4, 5].map(|user| set_city(user, &format!("sampled {round}")));
        let mut calls: Vec<_> = (0..4).map(other).map(call).collect();
        // No other update changes these users, so nothing keeps them out of a transaction.
        calls.extend(traces.iter().zip(sampled).map(|(trace, own)| call(traced(trace, own))));
        calls.extend((4..8).map(other).map(call));
        for call in calls {
            call.await.unwrap();
        }
        let servers =
            [server_span(&receiver, &traces[0]).await, server_span(&receiver, &traces[1]).await];
        // The other spans of a call arrive before its server span.
        let has =
            |trace: &str, name: &str| receiver.spans_of(trace).iter().any(|span| span.name == name);
        let [one, other] = &servers;
        let (first, second, second_trace) =
            match [has(&traces[0], "COMMIT"), has(&traces[1], "COMMIT")] {
                [true, true] => continue,
                [true, false] => (one, other, &traces[1]),
                [false, true] => (other, one, &traces[0]),
                [false, false] => panic!("nobody has the transaction: {:?}", receiver.spans()),
            };
        for name in ["UPDATE accounts", "INSERT change_log"] {
            assert!(!has(second_trace, name), "{name}: {:?}", receiver.spans_of(second_trace));
        }
        assert_eq!(first.links, []);
        let of_first = receiver.spans_of(&hex::encode(&first.trace_id));
        let transaction = of_first.iter().find(|span| span.name == "transaction").unwrap();
        assert_eq!(transaction.parent_span_id, first.span_id);
        let links: Vec<_> =
            second.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
        assert_eq!(links, [(&transaction.trace_id, &transaction.span_id)]);
        shared += 1;
        if shared == 3 {
            return;
        }
    }
    panic!("only {shared} times did two share a transaction");
}
