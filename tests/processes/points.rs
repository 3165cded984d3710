//! The points of metrics at a real OTLP receiver, each with all of its attributes.

use http::StatusCode;
use m4_user_details::proto::WatchUserDetailsRequest;
use tonic::Code;

use crate::{
    program::Program,
    receiver::{Points, Receiver, attributes},
    support::{
        app::PATH,
        database::{Kind, TestDatabase},
        on_every_engine, on_sqlite,
    },
};

on_every_engine!(each_kind_of_call_has_its_points, one_that_is_given_up_has_its_points);

mod once {
    use super::*;
    on_sqlite!(a_door_of_its_own_has_its_points);
}

const UPDATE: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";
const WATCH: &str = "m4.userdetails.v1.UserDetailsService/WatchUserDetails";

fn points<const N: usize>(expected: [(&[(&str, &str)], u64); N]) -> Points {
    expected.into_iter().map(|(own, count)| (attributes(own), count)).collect()
}

/// A call that ended with a code, which may be an error of this side.
fn rpc<'a>(method: &'a str, code: &'a str, is_error: bool) -> Vec<(&'a str, &'a str)> {
    let mut own = vec![
        ("rpc.system.name", "grpc"),
        ("rpc.method", method),
        ("rpc.response.status_code", code),
    ];
    own.extend(is_error.then_some(("error.type", code)));
    own
}

/// What a legacy call has that was answered.
const ANSWERED: [(&str, &str); 4] = [
    ("http.request.method", "POST"),
    ("http.response.status_code", "200"),
    ("http.route", PATH),
    ("url.scheme", "http"),
];

async fn each_kind_of_call_has_its_points(database: TestDatabase) {
    let (receiver, collector) = Receiver::start().await;
    let endpoint = format!("http://{collector}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &*endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ("M4_ADMIN_LISTEN", "off"),
    ];
    let mut service = Program::demo(&database, &variables).await;
    let mut users = service.users();
    let watch = users.watch_user_details(WatchUserDetailsRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().change, None);
    let stale = service.set_city("York", "stale").await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    for user_id in ["999", "3"] {
        let answer = service.call("admin", user_id, "city=York&comment=x").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    while watch.message().await.unwrap().unwrap().change.is_none() {}
    // While it watches.
    let lag = points([(&[], 1)]);
    let watchers = receiver.wait_for(|receiver| {
        (receiver.points("m4.watch.lag") == lag).then(|| receiver.points("m4.watchers"))
    });
    assert_eq!(watchers.await, points([(&[], 1)]));
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());

    for (name, expected) in [
        ("http.server.request.duration", points([(&ANSWERED, 2)])),
        (
            "rpc.client.call.duration",
            points([
                (&rpc(UPDATE, "OK", false), 1),
                // What is no error of the service is one for who asked.
                (&rpc(UPDATE, "NOT_FOUND", true), 1),
            ]),
        ),
        (
            "rpc.server.call.duration",
            points([
                (&rpc(UPDATE, "OK", false), 1),
                (&rpc(UPDATE, "NOT_FOUND", false), 1),
                (&rpc(UPDATE, "ABORTED", false), 1),
                (&rpc(WATCH, "OK", false), 1),
            ]),
        ),
        ("m4.legacy.calls", points([(&[("row", "7")], 1), (&[("row", "10")], 1)])),
        ("m4.legacy.failed_hashes", points([])),
        (
            "m4.updates",
            points([
                (&[("door", "legacy"), ("group", "address")], 1),
                (&[("door", "legacy"), ("group", "comment")], 1),
            ]),
        ),
        ("m4.writer.batch", points([(&[], 1)])),
        ("m4.watch.lag", lag),
        ("m4.watches.ended", points([(&[("outcome", "UNAVAILABLE")], 1)])),
        ("m4.calls.shed", points([])),
        ("m4.calls.in_flight", points([(&[], 0)])),
    ] {
        assert_eq!(receiver.points(name), expected, "{name}");
    }

    let system = match database.kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgresql",
        Kind::MariaDb => "mysql",
    };
    let statements = receiver.points("db.client.operation.duration");
    for own in statements.keys() {
        let operation = &*own["db.operation.name"];
        let collection = own.get("db.collection.name");
        let summary = collection.map_or(operation.to_owned(), |own| format!("{operation} {own}"));
        let mut expected = vec![
            ("db.system.name", system),
            ("db.operation.name", operation),
            ("db.query.summary", &*summary),
        ];
        expected.extend(collection.map(|own| ("db.collection.name", &**own)));
        assert_eq!(*own, attributes(&expected));
    }
    let count = |summary: &str| {
        let found = statements.iter().find(|(own, _)| own["db.query.summary"] == summary);
        found.map_or(0, |(_, count)| *count)
    };
    // The others were refused before they changed anything.
    for (summary, expected) in [("UPDATE accounts", 1), ("INSERT change_log", 1), ("COMMIT", 1)] {
        assert_eq!(count(summary), expected, "{summary}: {statements:?}");
    }
    assert!(count("SELECT accounts") >= 3, "{statements:?}");
}

async fn one_that_is_given_up_has_its_points(database: TestDatabase) {
    let (receiver, collector) = Receiver::start().await;
    let endpoint = format!("http://{collector}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &*endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
        ("M4_DEADLINE_SECONDS", "1"),
    ];
    let mut service = Program::demo(&database, &variables).await;
    let lock = database.lock_alice().await;
    let given_up = service.set_city("Late", "").await.unwrap_err();
    assert_eq!(given_up.code(), Code::DeadlineExceeded);
    lock.release().await;
    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());
    let expected = points([(&rpc(UPDATE, "DEADLINE_EXCEEDED", true), 1)]);
    assert_eq!(receiver.points("rpc.server.call.duration"), expected);
    assert_eq!(receiver.points("m4.calls.shed"), points([(&[("reason", "deadline")], 1)]));
}

async fn a_door_of_its_own_has_its_points(database: TestDatabase) {
    let (receiver, collector) = Receiver::start().await;
    let endpoint = format!("http://{collector}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &*endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
        ("M4_ADMIN_LISTEN", "off"),
    ];
    let service = Program::demo(&database, &[]).await;
    let mut door = Program::door(service.grpc.unwrap(), &variables).await;
    for user_id in ["3", "999"] {
        let answer = door.call("admin", user_id, "city=York").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    service.kill();
    let answer = door.call("admin", "3", "city=York").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    door.signal("TERM");
    assert_eq!(door.ended().await.code(), Some(0), "{}", door.log());
    let mut failed = ANSWERED.to_vec();
    failed[1].1 = "503";
    failed.push(("error.type", "503"));
    let rows = [(&[("row", "7")][..], 1), (&[("row", "10")], 1), (&[("row", "503")], 1)];
    for (name, expected) in [
        ("http.server.request.duration", points([(&ANSWERED, 2), (&failed, 1)])),
        (
            "rpc.client.call.duration",
            points([
                (&rpc(UPDATE, "OK", false), 1),
                (&rpc(UPDATE, "NOT_FOUND", true), 1),
                (&rpc(UPDATE, "UNAVAILABLE", true), 1),
            ]),
        ),
        ("m4.legacy.calls", points(rows)),
        // It has no service in it, and no database.
        ("rpc.server.call.duration", points([])),
        ("db.client.operation.duration", points([])),
        ("db.client.connection.count", points([])),
        ("m4.updates", points([])),
    ] {
        assert_eq!(receiver.points(name), expected, "{name}");
    }
}
