//! Traces at a real OTLP receiver, and logs.

use std::{collections::BTreeSet, time::Duration};

use http::{Method, StatusCode};
use m4_user_details::proto::{
    ExplainLegacyCallRequest, legacy_service_client::LegacyServiceClient,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic::Request;

use crate::{
    program::Program,
    receiver::{Receiver, attribute},
    support::{
        app::{hash, target},
        database::TestDatabase,
        on_every_engine,
    },
};

on_every_engine!(one_trace_runs_from_the_http_request_to_the_database, logs_tell_no_secrets);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn one_trace_runs_from_the_http_request_to_the_database(database: TestDatabase) {
    let (receiver, collector) = Receiver::start().await;
    let endpoint = format!("http://{collector}");
    // The delay is longer than the test: the exit must flush.
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let mut service = Program::demo(&database, &variables).await;
    let mut door = Program::door(service.grpc.unwrap(), &variables).await;
    let headers = [("traceparent", &*format!("00-{TRACE}-{PARENT}-01"))];
    let call = target("admin", "3", "city=Recognisable");
    for program in [&door, &service] {
        let answer = program.send(Method::POST, &call, &headers).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
    }
    let mut request = Request::new(m4_user_details::proto::GetUserDetailsRequest {
        user_id: 3,
        acting_username: String::new(),
    });
    request.metadata_mut().insert("traceparent", headers[0].1.parse().unwrap());
    service.users().get_user_details(request).await.unwrap();
    for program in [&mut door, &mut service] {
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    }

    let spans = receiver.spans();
    let trace: Vec<_> = spans.iter().filter(|span| hex::encode(&span.trace_id) == TRACE).collect();
    let named = |name: &str| {
        let named: Vec<_> = trace.iter().filter(|span| span.name == name).copied().collect();
        named
    };
    let https = named("POST /billing/api/user_details_update");
    assert_eq!(https.len(), 2);
    let mut statements: BTreeSet<&str> = BTreeSet::new();
    for http in https {
        assert_eq!(hex::encode(&http.parent_span_id), PARENT);
        assert_eq!(http.kind(), SpanKind::Server);
        let route = attribute(http, "http.route");
        assert_eq!(route.as_deref(), Some("/billing/api/user_details_update"));
        assert_eq!(attribute(http, "http.response.status_code").as_deref(), Some("200"));
        let child = |parent: &[u8], kind| {
            let rpcs = named("m4.userdetails.v1.UserDetailsService/UpdateUserDetails");
            rpcs.into_iter().find(|rpc| rpc.parent_span_id == parent && rpc.kind() == kind).unwrap()
        };
        let client = child(&http.span_id, SpanKind::Client);
        let rpc = child(&client.span_id, SpanKind::Server);
        assert_eq!(attribute(rpc, "outcome").as_deref(), Some("OK"));
        let below = |parent: &[u8]| -> Vec<_> {
            trace.iter().filter(|span| span.parent_span_id == parent).copied().collect()
        };
        // Earlier reads, of settings and tokens, are siblings of the transaction.
        let (transactions, before): (Vec<_>, Vec<_>) =
            below(&rpc.span_id).into_iter().partition(|span| span.name == "transaction");
        assert_eq!(transactions.len(), 1);
        let within = below(&transactions[0].span_id);
        for sql in within.iter().chain(&before) {
            assert_eq!(sql.kind(), SpanKind::Client);
            assert!(attribute(sql, "db.system.name").is_some());
        }
        statements.extend(within.iter().map(|sql| &*sql.name));
    }
    for statement in ["BEGIN", "SELECT accounts", "UPDATE accounts", "INSERT change_log", "COMMIT"]
    {
        assert!(statements.contains(statement), "{statement}: {statements:?}");
    }
    let get = named("m4.userdetails.v1.UserDetailsService/GetUserDetails").remove(0);
    assert_eq!(hex::encode(&get.parent_span_id), PARENT);
    let all = format!("{spans:?}");
    for secret in ["Recognisable", "hash=", &hash("admin", "3"), "alice@example.com", "user_id=3"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

async fn logs_tell_no_secrets(database: TestDatabase) {
    let variables = [
        ("M4_LOG", "trace"),
        ("M4_GRPC_TOKEN", "hush-internal-token"),
        ("M4_GRPC_TOKEN_OWN_NAME", "true"),
        ("M4_DOOR_TOKEN", "hush-door-token"),
        ("M4_API_SECRET_KEY", "secret"),
    ];
    let mut service = Program::demo(&database, &variables).await;
    let door = Program::door(service.grpc.unwrap(), &variables).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    let calls = [
        target("admin", "3", "city=Recognisable&email=recognisable@example.com"),
        target("admin", "3", "city=Recognisable%00&hidden=Recognisable"),
        target("nobody", "3", "city=Recognisable"),
        target("admin", "3", "currency_id=77&city=Recognisable").replace("hash=", "hash=00"),
    ];
    let info = |program: &Program| {
        let log = program.log();
        log.lines().filter(|line| line.contains("\"message\":\"legacy call\"")).count()
    };
    for (number, call) in (1..).zip(&calls) {
        assert_eq!(door.send(Method::POST, call, &[]).await.status, StatusCode::OK);
        assert_eq!(service.send(Method::POST, call, &[]).await.status, StatusCode::OK);
        while info(&door) < number || info(&service) < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((info(&door), info(&service)), (number, number));
    }
    for url in &calls {
        let explain = ExplainLegacyCallRequest {
            url: url.clone(),
            include_hash: true,
            acting_username: "admin".to_owned(),
            ..ExplainLegacyCallRequest::default()
        };
        let mut explain = Request::new(explain);
        let token = "Bearer hush-internal-token".parse().unwrap();
        explain.metadata_mut().insert("authorization", token);
        let mut client = LegacyServiceClient::new(service.channel());
        let explained = client.explain_legacy_call(explain).await.unwrap().into_inner();
        let told = explained.hash.unwrap();
        assert!(told.recipes.iter().all(|recipe| recipe.hash.len() == 40));
    }
    service.signal("TERM");
    service.ended().await;
    assert!([&door, &service].iter().all(|program| program.log().contains("INCORRECT_HASH")));
    let log = door.log() + &service.log();
    assert!(log.contains("LegacyService/ExplainLegacyCall"));
    for secret in ["ecognisable", "hush", "nobody", &hash("admin", "3"), &hash("", "3"), "hash="] {
        assert!(!log.contains(secret), "{secret}");
    }
}
