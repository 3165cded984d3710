//! Every metric and label that dashboards and alerts query exists.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use m4_user_details::proto::WatchUserDetailsRequest;
use serde_json::Value;
use tokio::time::timeout;
use tonic::{Code, Request};

use crate::{
    program::Program,
    support::{
        app::{PATH, set_city, untimed_users},
        database::TestDatabase,
        on_every_engine,
    },
};

on_every_engine!(every_metric_and_label_of_a_dashboard_or_an_alert_is_there);

/// Timeout for a metric to appear.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Names that Prometheus adds, and words of its query language.
const OF_PROMETHEUS: &str =
    "ALERTS alertname alertstate and count instance job le offset or sum unless up";
/// The label of Prometheus' configuration, and the metric prefix of the collector and Jaeger.
const OF_STACK: [&str; 2] = ["database", "otelcol_"];

/// Names from OpenTelemetry's conventions that promtool rejects.
const OF_CONVENTIONS: [&str; 2] =
    ["db_client_connection_count", "process_unix_file_descriptor_count"];

/// The names of gRPC status codes.
const CODES: &str = "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND \
    ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE \
    UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED";

async fn every_metric_and_label_of_a_dashboard_or_an_alert_is_there(database: TestDatabase) {
    // No receiver listens there: failed exports are measured, too.
    let sent = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let service = Program::demo(&database, &sent).await;
    let door = Program::door(service.grpc.unwrap(), &sent).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;

    let watch = service.users().watch_user_details(WatchUserDetailsRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    for program in [&service, &door] {
        assert_eq!(program.call("admin", "4", "city=Kaunas").await.status, StatusCode::OK);
        let wrong = format!("{PATH}?u=admin&user_id=3&hash=00");
        assert_eq!(program.send(Method::POST, &wrong, &[]).await.status, StatusCode::OK);
    }
    let told = async { while watch.message().await.unwrap().unwrap().change.is_none() {} };
    timeout(RESPONSE_TIMEOUT, told).await.expect("a change is told");
    // A call that ends at its deadline.
    let lock = database.lock_alice().await;
    let mut request = Request::new(set_city(3, "York"));
    request.set_timeout(Duration::from_millis(200));
    let mut users = untimed_users(service.grpc.unwrap());
    let given_up = users.update_user_details(request).await.unwrap_err();
    assert_eq!(given_up.code(), Code::DeadlineExceeded);
    lock.release().await;
    let begun = Instant::now();
    let of_service = loop {
        let text = service.ask_admin("/metrics").await.body;
        if ["m4_change_log_length ", "m4_calls_shed_total{"].iter().all(|name| text.contains(name))
        {
            break text;
        }
        assert!(begun.elapsed() < RESPONSE_TIMEOUT, "it is never measured: {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let of_door = door.ask_admin("/metrics").await.body;

    for query in queries() {
        let mut series = Vec::new();
        if !query.contains("job=\"m4-door\"") {
            series.extend(of_service.lines());
        }
        if !query.contains("job=\"m4-user-details\"") {
            series.extend(of_door.lines());
        }
        let asked = words(&query);
        let named = |line: &&str| asked.contains(line.split(['{', ' ']).next().unwrap());
        let there: BTreeSet<_> = series.into_iter().filter(named).flat_map(words).collect();
        for word in asked {
            let known = there.contains(&word)
                || OF_PROMETHEUS.split(' ').any(|own| own == word)
                || OF_STACK.iter().any(|own| word.starts_with(own));
            assert!(known, "nothing has `{word}`, for which this asks: {query}");
        }
        for (label, value) in wanted(&query) {
            let known = match &*label {
                "job" | "alertname" => true,
                "alertstate" => value == "firing",
                "rpc_response_status_code" => CODES.split(' ').any(|own| own == value),
                _ => {
                    let told = format!("{label}=\"{value}\"");
                    of_service.contains(&told) || of_door.contains(&told)
                }
            };
            assert!(known, "nothing has {label}=\"{value}\", for which this asks: {query}");
        }
    }
    for text in [of_service, of_door] {
        check(&text);
    }
}

/// Checks scraped metrics with promtool, if it is installed.
fn check(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = match promtool.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("TEST_REQUIRE_ALL").is_none(), "there is no promtool");
            // Write to the terminal: the test runner hides the output of tests that pass.
            let _ = writeln!(std::io::stderr(), "SKIPPED promtool: there is none");
            return;
        }
        promtool => promtool.unwrap(),
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8(told).unwrap();
    // Two names of the conventions have a suffix that Prometheus reserves for histograms.
    let is_allowed = |line: &str| {
        let suffix = " non-histogram and non-summary metrics should not have \"_count\" suffix";
        line.strip_suffix(suffix).is_some_and(|name| OF_CONVENTIONS.contains(&name))
    };
    let complaints: Vec<_> = told.lines().filter(|line| !is_allowed(line)).collect();
    assert!(complaints.is_empty(), "{complaints:?}: {text}");
    assert!(output.status.success() || !told.is_empty(), "{:?}", output.status);
}

#[test]
fn every_job_of_a_dashboard_or_an_alert_is_scraped() {
    let config = read("prometheus/prometheus.yml");
    let jobs: BTreeSet<_> =
        config.lines().filter_map(|line| line.trim().strip_prefix("- job_name: ")).collect();
    let mut asked = BTreeSet::new();
    for query in queries() {
        for (_, job) in wanted(&query).into_iter().filter(|(label, _)| label == "job") {
            assert!(jobs.contains(&*job), "{job} is not scraped, for which this asks: {query}");
            asked.insert(job);
        }
    }
    assert_eq!(asked.iter().map(|job| &**job).collect::<BTreeSet<_>>(), jobs, "all are asked for");
}

#[test]
fn every_file_that_a_container_gets_is_there() {
    let compose = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let mut count = 0;
    for line in compose.lines().map(str::trim) {
        let mounted = line.strip_prefix("- ./").map(|bind| bind.split(':').next().unwrap());
        let path = mounted.or_else(|| line.strip_prefix("file: ").filter(|own| !own.contains('$')));
        if let Some(path) = path {
            assert!(root().join(path).exists(), "{path} is mounted");
            count += 1;
        }
    }
    assert!(count >= 9, "{count} were found");
    // The dashboards are mounted where Grafana's provider looks.
    let provider = read("grafana/provisioning/dashboards/dashboards.yaml");
    let folder = provider.lines().find_map(|line| line.trim().strip_prefix("path: ")).unwrap();
    assert!(compose.contains(&format!("- ./deploy/grafana/dashboards:{folder}:ro\n")), "{folder}");
    let home = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: ";
    let home = compose.lines().find_map(|line| line.trim().strip_prefix(home)).unwrap();
    let home = home.strip_prefix(&format!("{folder}/")).unwrap();
    assert!(dashboards().iter().any(|path| path.ends_with(home)), "{home}");
}

#[test]
fn every_source_of_a_dashboard_is_provisioned() {
    let sources = read("grafana/provisioning/datasources/datasources.yaml");
    for path in dashboards() {
        let dashboard = fs::read_to_string(&path).unwrap();
        let mut found = Vec::new();
        members(&serde_json::from_str(&dashboard).unwrap(), "datasource", &mut found);
        assert!(found.len() > 5, "{path:?}: {found:?}");
        for source in found {
            let named = |key: &str| source[key].as_str().unwrap().to_owned();
            let told = format!("    uid: {}\n    type: {}\n", named("uid"), named("type"));
            assert!(sources.contains(&told), "{path:?}: {source}");
        }
    }
}

#[test]
fn every_part_of_the_pipelines_is_defined_and_used() {
    ["otel-collector.yaml", "jaeger.yaml"].into_iter().for_each(pipelines_fit);
}

fn pipelines_fit(file: &str) {
    let config = read(file);
    let kinds = ["receivers", "processors", "exporters"];
    let (mut defined, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut section = "";
    for line in config.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        let Some((key, value)) = line.trim().split_once(':') else { continue };
        match indent {
            0 => section = key,
            2 if kinds.contains(&section) => {
                defined.insert((section, key));
            }
            6 if section == "service" && kinds.contains(&key) => {
                let parts = value.trim().strip_prefix('[').and_then(|own| own.strip_suffix(']'));
                used.extend(parts.unwrap().split(',').map(|part| (key, part.trim())));
            }
            _ => {}
        }
    }
    assert!(kinds.iter().all(|kind| used.iter().any(|(own, _)| own == kind)), "{used:?}");
    assert_eq!(used, defined, "{file}");
}

#[test]
fn every_name_that_prometheus_asks_for_is_one_of_a_container() {
    let compose = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let config = read("prometheus/prometheus.yml");
    let (_, names) = config.split_once("- names: [").unwrap();
    let names: Vec<_> = names.split(']').next().unwrap().split(',').map(str::trim).collect();
    assert_eq!(names.len(), 3);
    for name in names {
        assert!(compose.lines().any(|line| line.trim() == format!("- {name}")), "{name}");
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_a_test() {
    let [rules, tests] = ["prometheus/rules.yml", "prometheus/rules_test.yml"].map(read);
    let runbook = fs::read_to_string(root().join("docs/operations/runbook.md")).unwrap();
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let section = format!("runbook: docs/operations/runbook.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&section), "{name} names its section");
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has a section");
        assert!(tests.contains(&section), "a test has {name} fire");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join("deploy").join(path)).unwrap()
}

/// The paths of the dashboard files.
fn dashboards() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap();
    let paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= 2, "{paths:?}");
    paths
}

/// The queries of the dashboards and the alerts.
fn queries() -> Vec<String> {
    let mut found = Vec::new();
    for path in dashboards() {
        let dashboard = fs::read_to_string(path).unwrap();
        members(&serde_json::from_str(&dashboard).unwrap(), "expr", &mut found);
    }
    let mut queries: Vec<_> =
        found.iter().map(|query| query.as_str().unwrap().to_owned()).collect();
    let rules = read("prometheus/rules.yml");
    let alerts = rules.split("expr: ").skip(1);
    queries.extend(alerts.map(|alert| alert.split("for: ").next().unwrap().to_owned()));
    assert!(queries.len() > 30, "{queries:?}");
    queries
}

/// Collects the members with this name, at any depth.
fn members(json: &Value, name: &str, found: &mut Vec<Value>) {
    match json {
        Value::Object(own) => {
            found.extend(own.get(name).cloned());
            own.values().for_each(|member| members(member, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, name, found)),
        _ => {}
    }
}

/// The labels that a query compares, with each value. Alternatives in a pattern are separate
/// values; patterns with a `.` are skipped.
fn wanted(query: &str) -> Vec<(String, String)> {
    // Every second part is inside quotes.
    let parts: Vec<_> = query.split('"').collect();
    let mut wanted = Vec::new();
    for pair in parts.chunks_exact(2) {
        let before = pair[0].trim_end_matches(['=', '~', '!']);
        assert_ne!(before, pair[0], "text that belongs to no label: {query}");
        let label = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        let values = pair[1].split('|').filter(|value| !value.contains('.'));
        wanted.extend(values.map(|value| (label.to_owned(), value.to_owned())));
    }
    wanted
}

/// The names of metrics and labels in a query or a line of `/metrics`.
fn words(text: &str) -> BTreeSet<String> {
    // Every second part is inside quotes.
    let bare: String = text.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut words = BTreeSet::new();
    let mut rest = bare.as_str();
    while let Some(begin) = rest.find(is_of_word) {
        rest = &rest[begin..];
        let (word, after) = rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
        // Skip functions, variables of Grafana (`$`), numbers and durations.
        let called = after.trim_start().starts_with('(');
        if !called && !word.starts_with(|c: char| c == '$' || c.is_numeric()) {
            words.insert(word.to_owned());
        }
        rest = after;
    }
    words
}
