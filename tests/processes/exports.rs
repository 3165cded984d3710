//! OTLP export: what the program sends, when, and its behavior without a receiver.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::{HeaderMap, Method, StatusCode as HttpStatus};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};

use tokio::net::TcpListener;
use tonic::{service::Routes, transport::server::TcpIncoming};

use crate::{
    program::{Program, run},
    receiver::{Receiver, Told, attribute, attribute_of, named, told},
    relay::{Line, Relay},
    stopping::Begun,
    support::{
        CONDITION_TIMEOUT,
        app::{hash, target},
        database::{Kind, TestDatabase},
        on_every_engine, on_sqlite,
    },
};

on_every_engine!(
    an_update_is_these_spans_in_this_order,
    what_the_caller_does_not_sample_is_not_sent,
    spans_are_sent_even_if_calls_are_dropped_at_the_end,
    a_receiver_that_is_away_holds_nothing_up,
);

on_sqlite!(
    an_exporter_that_is_slow_or_refused_never_slows_a_call,
    what_is_sent_says_who_sends_it_as_the_standard_variables_have_it,
    what_is_sent_over_http_is_compressed_if_that_is_wanted,
);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

const HTTP: &str = "POST /billing/api/user_details_update";
const RPC: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";

/// Waits until two calls through a standalone gateway have arrived. Returns their spans by time.
async fn two_calls(receiver: &Receiver) -> Vec<Span> {
    for _ in 0..3000 {
        let mut spans = receiver.spans();
        spans.retain(|span| hex::encode(&span.trace_id) == TRACE);
        // A process sends its spans in the order of their ends. An RPC has a span on each side.
        if [(HTTP, 2), (RPC, 4)]
            .iter()
            .all(|(name, count)| spans.iter().filter(|span| span.name == *name).count() == *count)
        {
            spans.sort_by_key(|span| span.start_time_unix_nano);
            return spans;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("spans are missing: {:?}", receiver.spans());
}

async fn an_update_is_these_spans_in_this_order(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let endpoint = format!("http://{address}");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let service = Program::demo(&database, &variables).await;
    let door = Program::door(service.grpc.unwrap(), &variables).await;
    let headers = [("traceparent", &*traceparent("01"))];
    // A wrong hash first, which reads the settings; then a valid call with an id that must exist.
    let wrong = target("admin", "3", "city=Recognisable").replace("hash=", "hash=f");
    door.send(Method::POST, &wrong, &headers).await;
    let right = target("admin", "3", "city=Recognisable&currency_id=2");
    assert!(door.send(Method::POST, &right, &headers).await.body.contains("successfully"));
    let spans = two_calls(&receiver).await;
    let children = |parent: &Span| {
        let own = spans.iter().filter(|span| span.parent_span_id == parent.span_id);
        own.collect::<Vec<_>>()
    };
    let calls: Vec<_> =
        spans.iter().filter(|span| hex::encode(&span.parent_span_id) == PARENT).collect();
    assert_eq!(calls.len(), 2, "{spans:?}");
    let clients = calls.iter().map(|call| children(call)).collect::<Vec<_>>();
    assert_eq!((clients[0].len(), clients[1].len()), (1, 1));
    let rpcs = clients.iter().map(|client| children(client[0])).collect::<Vec<_>>();
    assert_eq!((rpcs[0].len(), rpcs[1].len()), (1, 1));
    assert_eq!(attribute(rpcs[0][0], "outcome").as_deref(), Some("INCORRECT_HASH"));
    // A client error is not an error of the server.
    for span in [calls[0], rpcs[0][0]] {
        assert_ne!(span.status.as_ref().map_or(0, |own| own.code), StatusCode::Error as i32);
    }
    let transactions = children(rpcs[1][0]);
    let [transaction] = transactions[..] else { panic!("{transactions:?}") };
    assert_eq!((&*transaction.name, transaction.kind()), ("transaction", SpanKind::Internal));
    let statements = children(transaction);
    let names: Vec<_> = statements.iter().map(|span| &*span.name).collect();
    let expected = [
        "BEGIN",
        "SELECT accounts",
        "SELECT accounts manager_group_rights",
        "SELECT currencies",
        "UPDATE accounts",
        "INSERT change_log",
        "COMMIT",
    ];
    assert_eq!(names, expected);
    let engine = match database.kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgresql",
        Kind::MariaDb => "mariadb",
    };
    for sql in statements {
        assert_eq!(sql.kind(), SpanKind::Client);
        let words: Vec<_> = sql.name.split(' ').collect();
        let mut expected = BTreeMap::from([
            ("db.system.name", Told::from(engine)),
            ("db.operation.name", words[0].into()),
            ("db.query.summary", (&*sql.name).into()),
        ]);
        if let [_, table] = words[..] {
            expected.insert("db.collection.name", table.into());
        }
        expected.extend(named(&database.url));
        assert_eq!(told(sql), expected);
    }
    let all = format!("{:?}", receiver.spans());
    for secret in ["Recognisable", "hash=", &hash("admin", "3"), "user_id=3"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

async fn what_the_caller_does_not_sample_is_not_sent(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let endpoint = format!("http://{address}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    let mut program = Program::demo(&database, &variables).await;
    let headers = [("traceparent", &*traceparent("00"))];
    let answer = program.send(Method::POST, &target("admin", "3", "city=x"), &headers).await;
    assert!(answer.body.contains("successfully"));
    // An invalid traceparent begins a new trace.
    let headers = [("traceparent", "nonsense")];
    program.send(Method::POST, &target("admin", "3", "city=y"), &headers).await;
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    let spans = receiver.spans();
    assert!(spans.iter().all(|span| hex::encode(&span.trace_id) != TRACE), "{spans:?}");
    let own: Vec<_> = spans.iter().filter(|span| span.name.starts_with("POST ")).collect();
    assert_eq!((own.len(), own[0].parent_span_id.len()), (1, 0));

    let disabled = [variables[0], ("OTEL_SDK_DISABLED", "true")];
    let mut program = Program::demo(&database, &disabled).await;
    program.call("admin", "3", "city=z").await;
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    assert_eq!(receiver.spans().len(), spans.len());
}

async fn spans_are_sent_even_if_calls_are_dropped_at_the_end(database: TestDatabase) {
    let (receiver, address) = Receiver::start().await;
    let endpoint = format!("http://{address}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("M4_DRAIN_SECONDS", "1"),
        ("M4_DEADLINE_SECONDS", "300"),
    ];
    let mut program = Program::demo(&database, &variables).await;
    program.set_city("Before", "").await.unwrap();
    let _hanging = Begun::call(program.http, "3", "city=Never").await;
    program.signal("TERM");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    assert!(program.log().contains("cut off at the drain deadline"), "{}", program.log());
    assert!(receiver.spans().iter().any(|span| span.name == "COMMIT"), "{:?}", receiver.spans());
}

/// The default timeout of an exporter.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

async fn a_receiver_that_is_away_holds_nothing_up(database: TestDatabase) {
    let relay = Relay::to("127.0.0.1:1", Line::Cut).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, line) in
        [(relay.address, Line::Cut), (relay.address, Line::Stalled), (nobody, Line::Open)]
    {
        relay.set(line);
        let endpoint = format!("http://{address}");
        let variables =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
        let mut program = Program::demo(&database, &variables).await;
        let begun = Instant::now();
        let answer = program.call("admin", "3", &format!("city={line:?}")).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        assert!(begun.elapsed() < EXPORT_TIMEOUT, "{:?}", begun.elapsed());
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0), "{line:?}: {}", program.log());
    }
}

/// The behavior of a receiver that accepts nothing.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Silent,
    Unavailable,
}

/// A receiver that accepts nothing, over gRPC and HTTP, and its number of requests.
async fn bad_receiver(bad: Bad) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let answer = async move |headers: HeaderMap| -> Response {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_grpc = headers["content-type"] == "application/grpc";
        match bad {
            Bad::Silent => std::future::pending().await,
            Bad::Unavailable if is_grpc => {
                [("content-type", "application/grpc"), ("grpc-status", "14")].into_response()
            }
            Bad::Unavailable => HttpStatus::SERVICE_UNAVAILABLE.into_response(),
        }
    };
    let routes = Routes::from(axum::Router::new().fallback(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().accept_http1(true).add_routes(routes);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (address, asked)
}

async fn an_exporter_that_is_slow_or_refused_never_slows_a_call(database: TestDatabase) {
    for (bad, protocol) in [
        (Bad::Silent, "grpc"),
        (Bad::Silent, "http/protobuf"),
        (Bad::Unavailable, "grpc"),
        (Bad::Unavailable, "http/protobuf"),
    ] {
        let (address, asked) = bad_receiver(bad).await;
        let endpoint = format!("http://{address}");
        // Every queue is full after a few calls.
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "4"),
            ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "2"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ];
        let program = Arc::new(Program::demo(&database, &variables).await);
        let callers = (0..4).map(|caller| {
            let program = Arc::clone(&program);
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                for number in 0..50 {
                    let begun = Instant::now();
                    let city = format!("city={caller} {number}").replace(' ', "+");
                    let answer = program.call("admin", "3", &city).await;
                    assert!(answer.body.contains("successfully"), "{}", answer.body);
                    longest = longest.max(begun.elapsed());
                }
                longest
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            let longest = caller.await.unwrap();
            assert!(longest < EXPORT_TIMEOUT, "{bad:?}, {protocol}: {longest:?}");
        }
        assert!(asked.load(Ordering::Relaxed) >= 3, "each signal was to be sent");
        if matches!(bad, Bad::Unavailable) {
            // Failed exports are counted.
            for signal in ["traces", "metrics", "logs"] {
                let failed =
                    format!("m4_telemetry_exports_total{{outcome=\"failed\",signal=\"{signal}\"}}");
                let begun = Instant::now();
                loop {
                    let scraped = program.ask_admin("/metrics").await.body;
                    let line = scraped.lines().find_map(|line| line.strip_prefix(&failed));
                    if line.is_some_and(|count| count.trim() != "0") {
                        break;
                    }
                    assert!(begun.elapsed() < CONDITION_TIMEOUT, "{failed}: {scraped}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn what_is_sent_says_who_sends_it_as_the_standard_variables_have_it(database: TestDatabase) {
    let mut seen = BTreeSet::new();
    for (variables, name, environment) in [
        (vec![], "m4-user-details", None),
        (vec![("OTEL_SERVICE_NAME", "billing-7")], "billing-7", None),
        (
            vec![(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=billing-8,deployment.environment.name=test",
            )],
            "billing-8",
            Some("test"),
        ),
        (
            vec![
                ("OTEL_SERVICE_NAME", "billing-9"),
                ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ],
            "billing-9",
            Some("test"),
        ),
    ] {
        for protocol in ["grpc", "http/protobuf"] {
            let (receiver, address) = match protocol {
                "grpc" => Receiver::start().await,
                _ => Receiver::start_http().await,
            };
            let endpoint = format!("http://{address}");
            let standard = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=billing,authorization=Bearer%20token"),
            ];
            let variables = [&standard[..], &variables[..]].concat();
            let mut program = Program::demo(&database, &variables).await;
            program.call("admin", "3", "city=York").await;
            program.signal("TERM");
            assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
            let mut instances = BTreeSet::new();
            for signal in ["traces", "metrics", "logs"] {
                let sender = receiver.sender(signal).unwrap();
                let told = |key| attribute_of(&sender.resource, key);
                assert_eq!(told("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
                instances.insert(told("service.instance.id").unwrap());
                assert_eq!(told("service.name").as_deref(), Some(name), "{signal}");
                assert_eq!(told("deployment.environment.name").as_deref(), environment);
                assert_eq!(sender.headers["x-tenant"], "billing", "{signal}");
                assert_eq!(sender.headers["authorization"], "Bearer token", "{signal}");
            }
            assert!(!program.log().contains("Bearer"), "{}", program.log());
            // Each process is one separate instance.
            assert_eq!(instances.len(), 1, "{instances:?}");
            assert!(seen.insert(instances.pop_first().unwrap()));
        }
    }
}

async fn what_is_sent_over_http_is_compressed_if_that_is_wanted(database: TestDatabase) {
    for compression in ["", "gzip"] {
        let (receiver, address) = Receiver::start_http().await;
        let endpoint = format!("http://{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
        ];
        let variables = if compression.is_empty() { &variables[..2] } else { &variables[..] };
        let mut program = Program::demo(&database, variables).await;
        program.call("admin", "3", &format!("city={compression}")).await;
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
        for signal in ["traces", "metrics", "logs"] {
            // The receiver's gRPC service, which decompresses, gets this header.
            let headers = receiver.sender(signal).unwrap().headers;
            let told = headers.get("grpc-encoding").map(|told| told.to_str().unwrap());
            assert_eq!(told.unwrap_or_default(), compression, "{signal}");
        }
        assert!(receiver.spans().iter().any(|span| span.name.starts_with("POST ")));
    }
}

#[test]
fn an_endpoint_that_is_no_url_is_told() {
    // The program ends before it opens the database.
    let url = "sqlite:///no/such/folder/x.db";
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "no url"), ("M4_DATABASE_URL", url)];
    let output =
        run(&["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"], &variables);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{told}");
    assert!(told.contains("telemetry cannot be set up"), "{told}");
}
