//! What dashboards and alerts ask for is there to be asked.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
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
        app::{PATH, set_city},
        database::TestDatabase,
        on_every_engine,
    },
};

on_every_engine!(every_metric_and_label_of_a_dashboard_or_an_alert_is_there);

/// How long something may take to be measured.
const PATIENCE: Duration = Duration::from_secs(20);
/// What Prometheus adds, and words of its language.
const OF_PROMETHEUS: &str =
    "ALERTS alertname alertstate and count instance job le offset or sum up";

async fn every_metric_and_label_of_a_dashboard_or_an_alert_is_there(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &[]).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;

    let watch = service.users().watch_user_details(WatchUserDetailsRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    for program in [&service, &door] {
        assert_eq!(program.call("admin", "4", "city=Kaunas").await.status, StatusCode::OK);
        let wrong = format!("{PATH}?u=admin&user_id=3&hash=00");
        assert_eq!(program.send(Method::POST, &wrong, &[]).await.status, StatusCode::OK);
    }
    let told = async { while watch.message().await.unwrap().unwrap().change.is_none() {} };
    timeout(PATIENCE, told).await.expect("a change is told");
    // One that is given up.
    let lock = database.lock_alice().await;
    let mut request = Request::new(set_city(3, "York"));
    request.set_timeout(Duration::from_millis(200));
    let given_up = service.users().update_user_details(request).await.unwrap_err();
    assert_eq!(given_up.code(), Code::DeadlineExceeded);
    lock.release().await;
    let begun = Instant::now();
    let of_service = loop {
        let text = service.ask_admin("/metrics").await.body;
        if ["m4_change_log_length ", "m4_calls_shed_total{"].iter().all(|name| text.contains(name))
        {
            break text;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never measured: {text}");
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
            let known = there.contains(&word) || OF_PROMETHEUS.split(' ').any(|own| own == word);
            assert!(known, "nothing has `{word}`, for which this asks: {query}");
        }
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_a_test() {
    let [rules, tests, runbook] =
        ["prometheus/rules.yml", "prometheus/rules_test.yml", "runbook.md"].map(read);
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let section = format!("runbook: deploy/runbook.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&section), "{name} names its section");
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has a section");
        assert!(tests.contains(&section), "a test has {name} fire");
    }
}

fn read(path: &str) -> String {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    fs::read_to_string(deploy.join(path)).unwrap()
}

/// The queries of the dashboards and the alerts.
fn queries() -> Vec<String> {
    let mut queries = Vec::new();
    for name in ["service", "door"] {
        let dashboard = read(&format!("grafana/dashboards/{name}.json"));
        expressions(&serde_json::from_str(&dashboard).unwrap(), &mut queries);
    }
    let rules = read("prometheus/rules.yml");
    let alerts = rules.split("expr: ").skip(1);
    queries.extend(alerts.map(|alert| alert.split("for: ").next().unwrap().to_owned()));
    assert!(queries.len() > 30, "{queries:?}");
    queries
}

fn expressions(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(members) => {
            found.extend(members.get("expr").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| expressions(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// The names of metrics and labels in a query or a line of `/metrics`.
fn words(text: &str) -> BTreeSet<String> {
    // Every second part stands between quotes.
    let bare: String = text.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut words = BTreeSet::new();
    let mut rest = bare.as_str();
    while let Some(begin) = rest.find(is_of_word) {
        rest = &rest[begin..];
        let (word, after) = rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
        // What a parenthesis follows is a function; `$` begins a variable of Grafana; digits begin numbers and spans of time.
        let called = after.trim_start().starts_with('(');
        if !called && !word.starts_with(|c: char| c == '$' || c.is_numeric()) {
            words.insert(word.to_owned());
        }
        rest = after;
    }
    words
}
