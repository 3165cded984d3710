//! The points of metrics at a real OTLP receiver, each with all its attributes.

use std::collections::BTreeMap;

use http::StatusCode;
use m4_user_details::proto::WatchUserDetailsRequest;
use tonic::Code;

use crate::{
    program::Program,
    receiver::{Points, Receiver, attributes, named},
    support::{
        app::PATH,
        database::{Kind, TestDatabase},
        on_every_engine, on_sqlite,
    },
};

on_every_engine!(each_kind_of_call_has_its_points, one_that_is_given_up_has_its_points);

on_sqlite!(a_door_of_its_own_has_its_points);

const UPDATE: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";
const WATCH: &str = "m4.userdetails.v1.UserDetailsService/WatchUserDetails";

fn points<const N: usize>(expected: [(&[(&str, &str)], u64); N]) -> Points {
    expected.into_iter().map(|(own, count)| (attributes(own), count)).collect()
}

/// The attributes of a call with a status code, which may be an error on this side.
fn rpc<'a>(method: &'a str, code: &'a str, is_error: bool) -> Vec<(&'a str, &'a str)> {
    let mut own = vec![
        ("rpc.system.name", "grpc"),
        ("rpc.method", method),
        ("rpc.response.status_code", code),
    ];
    own.extend(is_error.then_some(("error.type", code)));
    own
}

/// The attributes of an answered legacy call.
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
    // While the watch is open.
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
                // A client error is an error on the client's side only.
                (&rpc(UPDATE, "NOT_FOUND", true), 1),
            ]),
        ),
        (
            "rpc.server.call.duration",
            points([
                (&rpc(UPDATE, "OK", false), 1),
                (&rpc(UPDATE, "NOT_FOUND", false), 1),
                (&rpc(UPDATE, "ABORTED", false), 1),
                // The watch ended because the service stopped.
                (&rpc(WATCH, "UNAVAILABLE", true), 1),
            ]),
        ),
        (
            "m4.calls.failed",
            points([
                (&[("rpc.method", UPDATE), ("outcome", "USER_NOT_FOUND")], 1),
                (&[("rpc.method", UPDATE), ("outcome", "ETAG_MISMATCH")], 1),
                (&[("rpc.method", WATCH), ("outcome", "UNAVAILABLE")], 1),
            ]),
        ),
        ("m4.legacy.calls", points([(&[("row", "7")], 1), (&[("row", "10")], 1)])),
        ("m4.legacy.failed_hashes", points([])),
        ("m4.legacy.new_clients", points([])),
        ("m4.legacy.blocks", points([])),
        (
            "m4.updates",
            points([
                (&[("door", "legacy"), ("group", "address")], 1),
                (&[("door", "legacy"), ("group", "comment")], 1),
            ]),
        ),
        ("m4.writer.batch", points([(&[], 1)])),
        ("m4.watch.lag", lag),
        ("m4.calls.shed", points([])),
        ("m4.door.unanswered", points([])),
        ("m4.ready", points([(&[], 1)])),
        ("m4.not_ready", points([])),
        ("m4.calls.in_flight", points([])),
        ("db.client.connection.timeouts", points([])),
        ("db.client.connection.pending_requests", points([])),
    ] {
        assert_eq!(receiver.happened(name), expected, "{name}");
    }
    // Counters start at 0, before their first event.
    for (name, expected) in [
        ("m4.legacy.calls", 20),
        ("m4.legacy.failed_hashes", 1),
        ("m4.legacy.new_clients", 1),
        ("m4.legacy.blocks", 2),
        ("m4.updates", 2 * 9),
        ("m4.calls.shed", 2),
        ("m4.door.unanswered", 1),
        ("m4.calls.in_flight", 1),
        ("m4.telemetry.exports", 2),
        ("db.client.connection.timeouts", 1),
        (
            "db.client.connection.pending_requests",
            if database.kind == Kind::Sqlite { 2 } else { 1 },
        ),
    ] {
        assert_eq!(receiver.points(name).len(), expected, "{name}");
    }
    let sent = attributes(&[("signal", "metrics"), ("outcome", "ok")]);
    assert!(receiver.points("m4.telemetry.exports")[&sent] >= 1);
    let pool = if database.kind == Kind::Sqlite { "read" } else { "all" };
    let pool = attributes(&[("db.client.connection.pool.name", pool)]);
    for name in ["db.client.connection.wait_time", "db.client.connection.use_time"] {
        // The connections of a server also write.
        let least = if database.kind == Kind::Sqlite { 1 } else { 3 };
        let used = receiver.points(name);
        assert!(used.len() == 1 && used[&pool] >= least, "{name}: {used:?}");
    }
    for name in ["process.memory.usage", "process.unix.file_descriptor.count"] {
        assert!(receiver.points(name)[&attributes(&[])] > 10, "{name}");
    }

    let system = match database.kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgresql",
        Kind::MariaDb => "mariadb",
    };
    let statements = receiver.points("db.client.operation.duration");
    let at = named(&database.url).into_iter().map(|(key, value)| (key, value.to_string()));
    let at: Vec<_> = at.collect();
    // The log reader may query once more while the service stops, and find no connection.
    let at_the_end = |own: &&BTreeMap<String, String>| {
        own["db.query.summary"] == "SELECT change_log" && own.contains_key("error.type")
    };
    for own in statements.keys().filter(|own| !at_the_end(own)) {
        let operation = &*own["db.operation.name"];
        let collection = own.get("db.collection.name");
        let mut summary =
            collection.map_or(operation.to_owned(), |own| format!("{operation} {own}"));
        // A statement on two tables has no collection.
        let join = "SELECT accounts manager_group_rights";
        if own["db.query.summary"] == join {
            join.clone_into(&mut summary);
        }
        let mut expected = vec![
            ("db.system.name", system),
            ("db.operation.name", operation),
            ("db.query.summary", &*summary),
        ];
        expected.extend(collection.map(|own| ("db.collection.name", &**own)));
        expected.extend(at.iter().map(|(key, value)| (*key, &**value)));
        assert_eq!(*own, attributes(&expected));
    }
    let count = |summary: &str| {
        let found = statements.iter().find(|(own, _)| own["db.query.summary"] == summary);
        found.map_or(0, |(_, count)| *count)
    };
    // The other calls were refused before they changed anything. The clients are counted apart.
    let of_clients = count("INSERT legacy_clients") + count("UPDATE legacy_clients");
    assert!(of_clients >= 1, "{statements:?}");
    for (summary, expected) in
        [("UPDATE accounts", 1), ("INSERT change_log", 1), ("COMMIT", 1 + of_clients)]
    {
        assert_eq!(count(summary), expected, "{summary}: {statements:?}");
    }
    assert!(count("SELECT accounts") >= 3, "{statements:?}");
    assert!(count("SELECT accounts manager_group_rights") >= 3, "{statements:?}");
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
    assert_eq!(receiver.happened("m4.calls.shed"), points([(&[("reason", "deadline")], 1)]));
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
    let port = service.grpc.unwrap().port().to_string();
    let to = |mut call: Vec<_>| {
        call.extend([("server.address", "127.0.0.1"), ("server.port", &*port)]);
        call
    };
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
                (&to(rpc(UPDATE, "OK", false)), 1),
                (&to(rpc(UPDATE, "NOT_FOUND", true)), 1),
                (&to(rpc(UPDATE, "UNAVAILABLE", true)), 1),
            ]),
        ),
        ("m4.legacy.calls", points(rows)),
        // Refused calls were answered.
        ("m4.door.unanswered", points([(&[], 1)])),
        // A standalone gateway has no service and no database.
        ("rpc.server.call.duration", points([])),
        ("db.client.operation.duration", points([])),
        ("db.client.connection.count", points([])),
        ("m4.updates", points([])),
        ("m4.ready", points([])),
    ] {
        assert_eq!(receiver.happened(name), expected, "{name}");
    }
}
