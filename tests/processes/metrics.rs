//! Metrics: the Prometheus endpoint, and export to a real OTLP receiver.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ::http::{Method, StatusCode};
use m4_user_details::proto::{
    GetUserDetailsRequest, Settings, UpdateSettingsRequest, WatchUserDetailsRequest,
    WatchUserDetailsResponse, settings_service_client::SettingsServiceClient,
};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    program::Program,
    receiver::{Receiver, attribute_of},
    relay::{Line, Relay},
    support::{
        CONDITION_TIMEOUT,
        app::{PATH, hash, target},
        database::{Kind, TestDatabase},
        on_every_engine, on_servers,
    },
};

on_every_engine!(
    every_row_of_the_specification_is_counted,
    calls_statements_and_connections_are_measured,
    what_is_refused_or_given_up_is_counted,
    a_legacy_call_whose_client_goes_away_is_counted,
    a_watch_is_measured,
    a_receiver_that_hangs_or_refuses_harms_no_call,
    calls_that_are_sampled_are_exemplars,
    metrics_are_sent_over_otlp,
    metrics_and_traces_are_sent_over_http,
);

on_servers!(who_waits_for_a_connection_is_seen);

/// A scrape: the value of each sample, by its name and labels.
struct Scraped {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Scraped {
    async fn of(program: &Program) -> Self {
        let answer = program.ask_admin("/metrics").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4");
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        let values = values.collect();
        Self { text: answer.body, values }
    }

    /// The sum of the samples with this name and at least these labels; 0 without any.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let is_meant = |line: &str| {
            let (own, rest) = line.split_once('{').unwrap_or((line, ""));
            own == name && labels.iter().all(|label| rest.contains(label))
        };
        self.values.iter().filter(|(line, _)| is_meant(line)).map(|(_, value)| value).sum()
    }

    /// The declared type of a metric.
    fn kind(&self, name: &str) -> &str {
        let line = format!("# TYPE {name} ");
        self.text.lines().find_map(|own| own.strip_prefix(&line)).unwrap_or_default()
    }

    fn row(&self, row: &str) -> f64 {
        self.value("m4_legacy_calls_total", &[("row", row)])
    }
}

/// Scrapes until a condition holds.
async fn until(program: &Program, is_so: impl Fn(&Scraped) -> bool) -> Scraped {
    for _ in 0..6000 {
        let scraped = Scraped::of(program).await;
        if is_so(&scraped) {
            return scraped;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never comes to that: {}", program.ask_admin("/metrics").await.body);
}

async fn allow_api(program: &Program, allow_api: bool) {
    let settings = Some(Settings { allow_api: Some(allow_api), ..Default::default() });
    let request = UpdateSettingsRequest { settings, ..Default::default() };
    SettingsServiceClient::new(program.channel()).update_settings(request).await.unwrap();
}

/// Calls, each with the row that it ends in.
fn calls() -> Vec<(&'static str, Method, String)> {
    let wrong = format!("{PATH}?u=admin&user_id=3&hash=00");
    vec![
        ("2", Method::GET, target("admin", "3", "")),
        ("3", Method::POST, wrong),
        ("4", Method::POST, target("locked", "3", "")),
        ("5", Method::POST, target("auditor", "3", "")),
        ("6", Method::POST, target("manager", "2", "")),
        ("7", Method::POST, target("admin", "999", "")),
        ("8", Method::POST, target("admin", "3", "responsible_manager_id=4&city=x")),
        ("9", Method::POST, target("admin", "3", "currency_id=77")),
        ("9", Method::POST, target("admin", "3", "hidden=7")),
        ("8", Method::POST, target("admin", "3", "hidden=7&responsible_manager_id=x")),
        ("10", Method::POST, target("admin", "3", "city=Recognisable&hidden=1&comment=%c3%a4")),
        ("10", Method::POST, target("admin", "3", "")),
        ("404", Method::POST, "/elsewhere/alice".to_owned()),
        ("405", Method::PUT, target("admin", "3", "")),
    ]
}

async fn a_legacy_call_whose_client_goes_away_is_counted(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let lock = database.lock_alice().await;
    let call = program.call("admin", "3", "city=Never");
    let begun = until(&program, |scraped| scraped.value("m4_calls_in_flight", &[]) == 1.0);
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        _ = begun => {}
    }
    // The metrics are recorded one after the other: a scrape may come between them.
    let labels = [("error_type", "client_gone"), ("http_request_method", "POST")];
    until(&program, |scraped| {
        let measured = scraped.value("http_server_request_duration_seconds_count", &labels);
        // The gateway's call to the service is recorded, too.
        let cancelled = [("rpc_response_status_code", "CANCELLED")];
        let asked = scraped.value("rpc_client_call_duration_seconds_count", &cancelled);
        (scraped.row("client_gone"), measured, asked) == (1.0, 1.0, 1.0)
    })
    .await;
    lock.release().await;
}

async fn every_row_of_the_specification_is_counted(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &[]).await;
    for program in [&service, &door] {
        let mut expected = BTreeMap::new();
        for (row, method, target) in calls() {
            program.send(method, &target, &[]).await;
            *expected.entry(row).or_insert(0.0) += 1.0;
            assert_eq!(Scraped::of(program).await.row(row), expected[row], "row {row}: {target}");
        }
        let large = format!("{PATH}?u={}", "a".repeat(50_000));
        program.send(Method::POST, &large, &[]).await;
        *expected.entry("3").or_insert(0.0) += 1.0;
        let scraped = Scraped::of(program).await;
        for (row, count) in &expected {
            assert_eq!(scraped.row(row), *count, "row {row}");
        }
        assert_eq!(scraped.value("m4_legacy_calls_total", &[]), expected.values().sum::<f64>());
        let name = "http_server_request_duration_seconds_count";
        let ok = [
            ("http_request_method", "POST"),
            ("http_response_status_code", "200"),
            ("http_route", PATH),
            ("url_scheme", "http"),
        ];
        assert!(scraped.value(name, &ok) >= 10.0, "{}", scraped.text);
        assert_eq!(scraped.value(name, &[("http_response_status_code", "404")]), 1.0);
        let rpc = [
            ("rpc_method", "m4.userdetails.v1.UserDetailsService/UpdateUserDetails"),
            ("rpc_response_status_code", "NOT_FOUND"),
            ("rpc_system_name", "grpc"),
            ("error_type", "NOT_FOUND"),
        ];
        assert_eq!(scraped.value("rpc_client_call_duration_seconds_count", &rpc), 1.0);
    }
    allow_api(&service, false).await;
    service.call("admin", "3", "").await;
    door.call("admin", "3", "").await;
    let scraped = Scraped::of(&service).await;
    assert_eq!(scraped.row("1"), 1.0);
    // The service counts the failed hashes of both gateways.
    assert_eq!(scraped.value("m4_legacy_failed_hashes_total", &[]), 4.0);
    // The calls through the other process repeat the same values and change nothing.
    let group = |group| scraped.value("m4_updates_total", &[("door", "legacy"), ("group", group)]);
    assert_eq!(["address", "general", "comment", "taxes"].map(group), [1.0, 1.0, 1.0, 0.0]);
    let door_metrics = Scraped::of(&door).await;
    assert_eq!(door_metrics.row("1"), 1.0);
    drop(service);
    // The service is down.
    door.call("admin", "3", "").await;
    let scraped = Scraped::of(&door).await;
    assert_eq!(scraped.row("503"), 1.0);
    let failed = [("error_type", "503"), ("http_response_status_code", "503")];
    assert_eq!(scraped.value("http_server_request_duration_seconds_count", &failed), 1.0);
    assert_bounded(&scraped);
}

/// No label has a value that a caller could choose.
fn assert_bounded(scraped: &Scraped) {
    let values: BTreeSet<_> = scraped
        .values
        .keys()
        .filter_map(|line| line.split_once('{'))
        .flat_map(|(_, labels)| labels.trim_end_matches('}').split("\",").map(str::to_owned))
        .collect();
    for value in &values {
        let (name, value) = value.split_once("=\"").unwrap();
        for secret in
            ["admin", "alice", "manager", "Recognisable", "elsewhere", &hash("admin", "3"), "999"]
        {
            let is_own =
                ["group", "listener", "process_name", "server_port", "service_instance_id"]
                    .contains(&name)
                    || name.starts_with("db_");
            assert!(is_own || !value.contains(secret), "{name}: {value}");
        }
    }
    let old = ["rpc_server_duration", "rpc_grpc_status_code", "rpc.server.duration"];
    assert!(old.iter().all(|name| !scraped.text.contains(name)));
}

async fn calls_statements_and_connections_are_measured(database: TestDatabase) {
    let earlier = Program::demo(&database, &[]).await;
    earlier.set_city("Bath", "").await.unwrap();
    earlier.kill();
    let service = Program::demo(&database, &[]).await;
    service.set_city("York", "").await.unwrap();
    let stale = service.set_city("Leeds", "stale").await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let request = GetUserDetailsRequest { user_id: 999, acting_username: String::new() };
    service.users().get_user_details(request).await.unwrap_err();
    let length = |scraped: &Scraped| scraped.value("m4_change_log_length", &[]);
    let scraped = until(&service, |scraped| length(scraped) > 0.0).await;

    let calls = |method, code| {
        let method = format!("m4.userdetails.v1.UserDetailsService/{method}");
        let labels = [("rpc_method", &*method), ("rpc_response_status_code", code)];
        scraped.value("rpc_server_call_duration_seconds_count", &labels)
    };
    assert_eq!(calls("UpdateUserDetails", "OK"), 1.0);
    assert_eq!(calls("UpdateUserDetails", "ABORTED"), 1.0);
    assert_eq!(calls("GetUserDetails", "NOT_FOUND"), 1.0);
    let clients = [("error_type", "NOT_FOUND")];
    assert_eq!(scraped.value("rpc_server_call_duration_seconds_count", &clients), 0.0);
    assert_eq!(scraped.value("m4_calls_in_flight", &[]), 0.0);
    assert_eq!(scraped.value("m4_updates_total", &[("door", "grpc"), ("group", "address")]), 1.0);
    assert_eq!(scraped.value("m4_updates_total", &[]), 1.0);
    assert_eq!(scraped.value("m4_writer_batch_count", &[]), 1.0);
    assert_eq!(scraped.value("m4_writer_batch_sum", &[]), 1.0);
    let system = match database.kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgresql",
        Kind::MariaDb => "mariadb",
    };
    for (operation, collection, summary) in [
        ("SELECT", "accounts", "SELECT accounts"),
        ("UPDATE", "accounts", "UPDATE accounts"),
        ("INSERT", "change_log", "INSERT change_log"),
        ("COMMIT", "", "COMMIT"),
    ] {
        let mut labels = vec![
            ("db_system_name", system),
            ("db_operation_name", operation),
            ("db_query_summary", summary),
        ];
        labels.extend((!collection.is_empty()).then_some(("db_collection_name", collection)));
        let count = scraped.value("db_client_operation_duration_seconds_count", &labels);
        assert!(count >= 1.0, "{summary}: {}", scraped.text);
    }
    let pool = if database.kind == Kind::Sqlite { "read" } else { "all" };
    let connections = |state| {
        let labels =
            [("db_client_connection_pool_name", pool), ("db_client_connection_state", state)];
        scraped.value("db_client_connection_count", &labels)
    };
    assert!(connections("idle") + connections("used") >= 1.0, "{}", scraped.text);
    let most =
        scraped.value("db_client_connection_max", &[("db_client_connection_pool_name", pool)]);
    assert_eq!(most, if database.kind == Kind::Sqlite { 4.0 } else { 10.0 });
    for (name, kind) in [
        ("rpc_server_call_duration_seconds", "histogram"),
        ("db_client_operation_duration_seconds", "histogram"),
        ("m4_writer_batch", "histogram"),
        ("m4_updates_total", "counter"),
        ("m4_calls_in_flight", "gauge"),
        ("m4_change_log_length", "gauge"),
        ("db_client_connection_count", "gauge"),
        ("db_client_connection_max", "gauge"),
        ("target_info", "gauge"),
    ] {
        assert_eq!(scraped.kind(name), kind, "{name}");
        assert!(scraped.text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    for bound in ["0.005", "10", "+Inf"] {
        let bucket = [("le", bound), ("rpc_response_status_code", "OK")];
        let name = "rpc_server_call_duration_seconds_bucket";
        assert!(scraped.text.contains(&format!("le=\"{bound}\"")), "{bound}");
        assert!(scraped.value(name, &bucket) <= scraped.value(name, &[("le", "+Inf")]));
    }
    assert_bounded(&scraped);

    let admin = service.admin.unwrap();
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/elsewhere", 404)] {
        assert_eq!(service.ask_admin(path).await.status.as_u16(), status, "{admin}{path}");
    }
    // The legacy listener does not serve it.
    let answer = service.send(Method::GET, "/metrics", &[]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

async fn who_waits_for_a_connection_is_seen(database: TestDatabase) {
    // Four connections: two for writers, one for reads, one for updates that wait for a lock.
    let service = Program::demo(&database, &[("M4_DATABASE_MAX_CONNECTIONS", "4")]).await;
    let lock = database.lock_alice().await;
    let calls = async { tokio::join!(service.set_city("One", ""), service.set_city("Two", "")) };
    let pool = [("db_client_connection_pool_name", "all")];
    let pending = |scraped: &Scraped| scraped.value("db_client_connection_pending_requests", &pool);
    let waited =
        |scraped: &Scraped| scraped.value("db_client_connection_wait_time_seconds_sum", &pool);
    let look = async {
        let scraped = until(&service, |scraped| pending(scraped) == 1.0).await;
        let (before, begun) = (waited(&scraped), Instant::now());
        while begun.elapsed() < Duration::from_millis(200) {
            assert_eq!(pending(&Scraped::of(&service).await), 1.0);
        }
        let held = begun.elapsed().as_secs_f64();
        lock.release().await;
        (before, held)
    };
    let ((one, two), (before, held)) = tokio::join!(calls, look);
    one.unwrap();
    two.unwrap();
    let scraped = until(&service, |scraped| pending(scraped) == 0.0).await;
    assert!(waited(&scraped) >= before + held, "{}", scraped.text);
    // Meanwhile the other update held the connection for as long.
    assert!(scraped.value("db_client_connection_use_time_seconds_sum", &pool) >= held);
    assert_eq!(scraped.value("db_client_connection_timeouts_total", &pool), 0.0);
}

async fn what_is_refused_or_given_up_is_counted(database: TestDatabase) {
    let variables = [("M4_MAX_IN_FLIGHT", "1"), ("M4_DEADLINE_SECONDS", "3")];
    let service = Program::demo(&database, &variables).await;
    let lock = database.lock_alice().await;
    // Either call may get the permit first, but only the update that waits for the lock keeps it.
    let given_up = async {
        loop {
            let status = service.set_city("Late", "").await.unwrap_err();
            if status.code() != Code::ResourceExhausted {
                return status;
            }
        }
    };
    let refused = async {
        let mut users = service.users();
        let get = GetUserDetailsRequest { user_id: 4, ..Default::default() };
        while users.get_user_details(get.clone()).await.is_ok() {}
        assert!(Scraped::of(&service).await.value("m4_calls_in_flight", &[]) >= 1.0);
        let answer = service.call("admin", "4", "").await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    };
    let (status, ()) = tokio::join!(given_up, refused);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    lock.release().await;
    let shed =
        |scraped: &Scraped, reason| scraped.value("m4_calls_shed_total", &[("reason", reason)]);
    let scraped = until(&service, |scraped| shed(scraped, "deadline") == 1.0).await;
    assert!(shed(&scraped, "overloaded") >= 2.0, "{}", scraped.text);
    assert_eq!(scraped.row("429"), 1.0);
    let late =
        [("rpc_response_status_code", "DEADLINE_EXCEEDED"), ("error_type", "DEADLINE_EXCEEDED")];
    assert_eq!(scraped.value("rpc_server_call_duration_seconds_count", &late), 1.0);
    assert_eq!(scraped.kind("m4_calls_shed_total"), "counter");
}

async fn a_receiver_that_hangs_or_refuses_harms_no_call(database: TestDatabase) {
    for line in [Line::Stalled, Line::Cut] {
        let (_, collector) = Receiver::start().await;
        let endpoint = format!("http://{}", Relay::to(collector, line).await.address);
        for protocol in ["grpc", "http/protobuf"] {
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
                ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ];
            let service = Program::demo(&database, &variables).await;
            let begun = Instant::now();
            for number in 0..20 {
                let answer = service.call("admin", "3", &format!("city={number}")).await;
                assert!(answer.body.contains("successfully"), "{}", answer.body);
            }
            // Twenty export timeouts would take far longer.
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(60), "{line:?}, {protocol}: {took:?}");
            assert_eq!(Scraped::of(&service).await.row("10"), 20.0);
        }
    }
}

async fn a_watch_is_measured(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let mut users = service.users();
    let request = WatchUserDetailsRequest::default();
    let mut stream = users.watch_user_details(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    assert_eq!(Scraped::of(&service).await.value("m4_watchers", &[]), 1.0);
    service.set_city("York", "").await.unwrap();
    let change = async |stream: &mut tonic::Streaming<WatchUserDetailsResponse>| loop {
        let told = stream.message().await.unwrap().unwrap();
        if told.change.is_some() {
            return told.resume_token;
        }
    };
    let token = timeout(CONDITION_TIMEOUT, change(&mut stream)).await.unwrap();
    let lag = |scraped: &Scraped| scraped.value("m4_watch_lag_seconds_count", &[]);
    let scraped = until(&service, |scraped| lag(scraped) == 1.0).await;
    assert!(scraped.value("m4_watch_lag_seconds_sum", &[]) < 20.0);
    drop(stream);
    until(&service, |scraped| scraped.value("m4_watchers", &[]) == 0.0).await;

    // A resumed watch records no lag for missed changes, but may record lag for later changes.
    service.set_city("Missed", "").await.unwrap();
    let request = WatchUserDetailsRequest { resume_token: token, ..Default::default() };
    let mut stream = users.watch_user_details(request).await.unwrap().into_inner();
    timeout(CONDITION_TIMEOUT, change(&mut stream)).await.unwrap();
    service.set_city("Live", "").await.unwrap();
    timeout(CONDITION_TIMEOUT, change(&mut stream)).await.unwrap();
    until(&service, |scraped| lag(scraped) == 2.0).await;
}

async fn calls_that_are_sampled_are_exemplars(database: TestDatabase) {
    let (_, collector) = Receiver::start().await;
    let endpoint = format!("http://{collector}");
    let service = Program::demo(
        &database,
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ],
    )
    .await;
    service.call("admin", "3", "city=York").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let sampled = format!("00-{trace}-00f067aa0ba902b7-01");
    let target = target("admin", "999", "");
    service.send(Method::POST, &target, &[("traceparent", &*sampled)]).await;

    let accepted =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    let answer = service.ask_admin_with("/metrics", &[("accept", accepted)]).await;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.headers["content-type"], media_type);
    let text = answer.body;
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let of = |series: &str| -> Vec<&str> {
        text.lines().filter(|line| line.starts_with(series)).collect()
    };
    // An exemplar is in one bucket, with the outcome of its call, and its value fits the bucket.
    for (name, label) in [
        ("http_server_request_duration_seconds_bucket{", "http_response_status_code=\"200\""),
        ("rpc_server_call_duration_seconds_bucket{", "rpc_response_status_code=\"NOT_FOUND\""),
    ] {
        let exemplars: Vec<_> = of(name).into_iter().filter(|line| line.contains(" # ")).collect();
        let [line] = exemplars[..] else { panic!("{name}: {exemplars:?} {text}") };
        let (series, exemplar) = line.split_once(" # ").unwrap();
        assert!(series.contains(label), "{line}");
        let bound = series.split_once("le=\"").unwrap().1.split_once('"').unwrap().0;
        let (labels, values) = exemplar.rsplit_once("} ").unwrap();
        assert!(labels.starts_with(&format!("{{trace_id=\"{trace}\",span_id=\"")), "{line}");
        let value: f64 = values.split_once(' ').unwrap().0.parse().unwrap();
        assert!(bound == "+Inf" || value <= bound.parse::<f64>().unwrap(), "{line}");
    }
    // Otherwise both formats agree, once the periodic metrics exist.
    until(&service, |scraped| scraped.text.contains("m4_change_log_length ")).await;
    let text = service.ask_admin_with("/metrics", &[("accept", accepted)]).await.body;
    let of = |series: &str| -> Vec<&str> {
        text.lines().filter(|line| line.starts_with(series)).collect()
    };
    assert_eq!(of("# TYPE m4_updates ").len(), 1);
    assert_eq!(
        of("m4_updates_total{door=\"legacy\",group=\"address\"} 1"),
        of("m4_updates_total{door=\"legacy\",group=\"address\"}")
    );
    let plain = Scraped::of(&service).await;
    let named = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names = lines.map(|line| line.split_once(' ').unwrap().0.trim_end_matches("_total"));
        names.map(str::to_owned).collect()
    };
    assert_eq!(named(&text), named(&plain.text));
    assert!(!plain.text.contains(trace));
}

async fn metrics_are_sent_over_otlp(database: TestDatabase) {
    let (receiver, collector) = Receiver::start().await;
    let endpoint = format!("http://{collector}");
    // The interval is longer than the test: the exit must flush.
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &*endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
        ("M4_ADMIN_LISTEN", "off"),
    ];
    let mut service = Program::demo(&database, &variables).await;
    assert_eq!(service.admin, None);
    for (_, method, target) in calls() {
        service.send(method, &target, &[]).await;
    }
    let mut stream = service
        .users()
        .watch_user_details(WatchUserDetailsRequest::default())
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    service.set_city("York", "stale").await.unwrap_err();
    allow_api(&service, false).await;
    service.call("admin", "3", "").await;
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());

    assert!(receiver.spans().is_empty(), "only metrics have an endpoint");
    let metrics = receiver.metrics();
    let named = |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap();
    let counted = |name: &str| match named(name).data.as_ref().unwrap() {
        Data::Sum(sum) => sum.data_points.clone(),
        other => panic!("{name} is {other:?}"),
    };
    let rows: BTreeMap<_, _> = counted("m4.legacy.calls")
        .into_iter()
        .map(|point| {
            let Some(Value::AsInt(count)) = point.value else { panic!("{point:?}") };
            (attribute_of(&point.attributes, "row").unwrap(), count)
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut expected = BTreeMap::from([("1".to_owned(), 1)]);
    for (row, ..) in calls() {
        *expected.entry(row.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(rows, expected);
    let calls = match named("rpc.server.call.duration").data.as_ref().unwrap() {
        Data::Histogram(histogram) => histogram.data_points.clone(),
        other => panic!("{other:?}"),
    };
    let call = |method: &str, code: &str| {
        let method = format!("m4.userdetails.v1.UserDetailsService/{method}");
        let found = calls.iter().find(|point| {
            attribute_of(&point.attributes, "rpc.method").as_ref() == Some(&method)
                && attribute_of(&point.attributes, "rpc.response.status_code").as_deref()
                    == Some(code)
        });
        found.map_or(0, |point| point.count)
    };
    assert_eq!(call("UpdateUserDetails", "ABORTED"), 1);
    assert_eq!(call("UpdateUserDetails", "UNAUTHENTICATED"), 1);
    assert_eq!(call("WatchUserDetails", "UNAVAILABLE"), 1);
    assert_eq!(named("rpc.server.call.duration").unit, "s");
    let all = format!("{metrics:?}");
    for secret in ["Recognisable", &hash("admin", "3"), "alice", "locked"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

async fn metrics_and_traces_are_sent_over_http(database: TestDatabase) {
    let (receiver, collector) = Receiver::start_http().await;
    let endpoint = format!("http://{collector}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    let mut service = Program::demo(&database, &variables).await;
    service.call("admin", "3", "city=York").await;
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());
    assert!(receiver.spans().iter().any(|span| span.name == "COMMIT"));
    assert!(receiver.metrics().iter().any(|metric| metric.name == "m4.legacy.calls"));
}
