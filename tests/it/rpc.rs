//! The typed API: masks, presence, etags, validation only, and every reason.

use std::time::Duration;

use ::http::Method;
use futures_util::{StreamExt, stream::FuturesUnordered};
use m4_user_details::{
    credentials::LegacyCredentials,
    fields::{FIELDS, Field, Kind},
    proto::{
        Address, BatchUpdateUserDetailsRequest, Blocking, Date, Details, ExplainLegacyCallRequest,
        General, GetUserDetailsRequest, Leaf, ListMode, Lists, Taxes, UpdateUserDetailsRequest,
        UserDetails, WarningBalance, update_user_details_result::Result as UpdateResult,
    },
};
use prost_types::FieldMask;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::support::{
    app::{PATH, TestApp, config, hash, reason, target, untimed_users, violations},
    database::TestDatabase,
    on_every_engine, on_servers,
};

on_every_engine!(
    a_present_field_is_changed_and_an_absent_one_is_not,
    a_field_that_is_named_but_absent_is_cleared,
    a_mask_is_a_bound,
    a_path_that_a_mask_names_twice_is_told,
    every_field_is_cleared_by_a_star,
    validate_only_stores_nothing,
    validate_only_takes_no_lock,
    an_etag_that_is_not_the_stored_one_is_refused,
    an_update_that_changes_nothing_writes_nothing,
    every_reason_has_its_code_and_details,
    every_violation_is_told_at_once,
    a_user_id_must_be_given,
    reading_needs_the_right_to_read,
    a_token_is_required_where_one_is_configured,
    a_caller_may_act_in_its_own_name_where_its_token_says_so,
    a_legacy_call_has_its_reasons_over_grpc,
    a_deadline_that_runs_out_is_told,
    who_is_one_too_many_is_told_when_to_come_again,
);

// SQLite does not report which statements wait for its lock.
on_servers!(an_update_that_was_begun_is_finished_after_its_caller_has_gone);

const INVALID_REQUEST: (&str, Code) = ("INVALID_REQUEST", Code::InvalidArgument);

fn update(user_id: i64, details: UserDetails) -> UpdateUserDetailsRequest {
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(details),
        ..UpdateUserDetailsRequest::default()
    }
}

fn masked(user_id: i64, details: UserDetails, paths: &[&str]) -> UpdateUserDetailsRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    UpdateUserDetailsRequest { update_mask: Some(FieldMask { paths }), ..update(user_id, details) }
}

fn city(city: &str) -> UserDetails {
    let address = Address { city: Some(city.to_owned()), ..Address::default() };
    UserDetails { address: Some(address.into()), ..UserDetails::default() }
}

async fn a_present_field_is_changed_and_an_absent_one_is_not(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    let answer = app.update(update(3, city("Kaunas"))).await.unwrap();
    assert_eq!(answer.changed_fields.unwrap().paths, ["address.city"]);
    let stored = answer.user_details.unwrap();
    assert_eq!(stored, app.read(3).await);
    assert_ne!(stored.etag, before.etag);
    assert!(stored.update_time.unwrap().seconds > before.update_time.unwrap().seconds);
    let mut expected = before;
    expected.address.as_mut().unwrap().city = Some("Kaunas".to_owned());
    expected.etag.clone_from(&stored.etag);
    expected.update_time = stored.update_time;
    assert_eq!(stored, expected);
}

async fn a_field_that_is_named_but_absent_is_cleared(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let paths = ["address.email", "general.hidden", "general.currency_id", "blocking.block_date"];
    let answer = app.update(masked(4, UserDetails::default(), &paths)).await.unwrap();
    let user = answer.user_details.unwrap();
    assert_eq!(user.address.unwrap().email.as_deref(), Some(""));
    let general = user.general.unwrap();
    assert_eq!((general.hidden, general.currency_id), (Some(false), None));
    assert_eq!(user.blocking.unwrap().block_date, None);
    let changed = ["general.currency_id", "general.hidden", "blocking.block_date", "address.email"];
    assert_eq!(answer.changed_fields.unwrap().paths, changed);
}

async fn a_mask_is_a_bound(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut details = city("Kaunas");
    details.general = Some(Box::new(General { call_limit: Some(1), ..General::default() }));
    let answer = app.update(masked(3, details.clone(), &["address.city"])).await.unwrap();
    assert_eq!(answer.changed_fields.unwrap().paths, ["address.city"]);
    assert_eq!(app.read(3).await.general.unwrap().call_limit, Some(10));
    // A group in the mask clears its fields that the update does not set.
    app.update(masked(3, details, &["address"])).await.unwrap();
    let address = app.read(3).await.address.unwrap();
    assert_eq!((address.city.as_deref(), address.phone.as_deref()), (Some("Kaunas"), Some("")));
    assert_eq!(address.direction_id, None);
    for path in [
        "no_such",
        "address.no_such",
        "user_id",
        "etag",
        "address.city.x",
        "",
        "update_time",
        "blocking.block_date.year",
    ] {
        let status = app.update(masked(3, city("x"), &[path])).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_REQUEST")
        );
        let (field, problem) = violations(&status).remove(0);
        assert_eq!(field, "update_mask");
        assert!(problem.contains(path));
    }
}

async fn a_path_that_a_mask_names_twice_is_told(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for (paths, twice) in [
        (&["address.city", "address.city"][..], "address.city"),
        (&["general", "address.fax", "address", "general"], "general"),
        (&["*", "address.city", "*"], "*"),
    ] {
        let status = app.update(masked(3, city("x"), paths)).await.unwrap_err();
        let told = (status.code(), reason(&status));
        assert_eq!(told, (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));
        let problem = format!("the path {twice:?} is named twice");
        assert_eq!(violations(&status), [("update_mask".to_owned(), problem.clone())]);
        assert!(status.message().contains(&problem), "{status}");
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    // A group and one of its fields are not duplicates.
    app.update(masked(3, city("Kaunas"), &["address.city", "address"])).await.unwrap();
    assert_eq!(app.read(3).await.address.unwrap().phone.as_deref(), Some(""));
}

async fn every_field_is_cleared_by_a_star(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let answer = app.update(masked(4, UserDetails::default(), &["*"])).await.unwrap();
    assert!(answer.changed_fields.unwrap().paths.len() > 35);
    let mut user = app.read(4).await;
    for field in FIELDS {
        let cleared = match field.kind() {
            Kind::Id(_) | Kind::Date { .. } => None,
            Kind::Count => Some(Leaf::Int32(0)),
            Kind::Hour => Some(Leaf::Int32(-1)),
            Kind::Flag { .. } => Some(Leaf::Bool(false)),
            Kind::Text | Kind::Comment | Kind::Language | Kind::Email => {
                Some(Leaf::Text(String::new()))
            }
            Kind::Decimal { .. } => Some(Leaf::Text("0".to_owned())),
            Kind::List { .. } => Some(Leaf::Int32(ListMode::No as i32)),
        };
        assert_eq!(user.take(field), cleared, "{}", field.path());
    }
}

async fn validate_only_stores_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    let request = UpdateUserDetailsRequest { validate_only: true, ..update(3, city("Kaunas")) };
    let answer = app.update(request).await.unwrap();
    assert_eq!(answer.changed_fields.unwrap().paths, ["address.city"]);
    let details = answer.user_details.unwrap();
    assert_eq!((&details.etag, details.update_time), (&before.etag, before.update_time));
    assert_eq!(details.address.unwrap().city.as_deref(), Some("Kaunas"));
    assert_eq!(answer.previous_details.unwrap(), city("Vilnius"));
    let request = UpdateUserDetailsRequest { validate_only: true, ..update(3, city("\u{1}")) };
    assert_eq!(reason(&app.update(request).await.unwrap_err()), "INVALID_DETAILS");
    assert_eq!(app.read(3).await, before);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn validate_only_takes_no_lock(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let lock = database.lock_alice().await;
    let request = UpdateUserDetailsRequest { validate_only: true, ..update(3, city("Kaunas")) };
    let answer = app.update(request).await.unwrap();
    assert_eq!(answer.changed_fields.unwrap().paths, ["address.city"]);
    let url = target("admin", "3", "city=Kaunas");
    let explain = ExplainLegacyCallRequest {
        url,
        acting_username: "admin".to_owned(),
        ..ExplainLegacyCallRequest::default()
    };
    let explained = app.legacy().explain_legacy_call(explain).await.unwrap().into_inner();
    assert_eq!(explained.http_status, 200, "{}", explained.xml);
    lock.release().await;
}

async fn an_etag_that_is_not_the_stored_one_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let etag = app.read(3).await.etag;
    let other = app.read(4).await.etag;
    for wrong in ["x", &other, &format!("{etag} ")] {
        let request = update(3, UserDetails { etag: wrong.to_owned(), ..city("Kaunas") });
        let status = app.update(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    }
    let request = || update(3, UserDetails { etag: etag.clone(), ..city("Kaunas") });
    let stored = app.update(request()).await.unwrap().user_details.unwrap();
    assert_eq!(reason(&app.update(request()).await.unwrap_err()), "ETAG_MISMATCH");
    let next = update(3, UserDetails { etag: stored.etag, ..city("Vilnius") });
    app.update(next).await.unwrap();
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("Vilnius"));
}

async fn an_update_that_changes_nothing_writes_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    for request in [
        update(3, city("Vilnius")),
        update(3, UserDetails::default()),
        update(3, before.clone()),
        masked(3, before.clone(), &["*"]),
        UpdateUserDetailsRequest { user_id: 3, ..UpdateUserDetailsRequest::default() },
    ] {
        let answer = app.update(request).await.unwrap();
        assert_eq!(answer.changed_fields.unwrap().paths, [""; 0]);
        assert_eq!(answer.user_details.unwrap(), before);
    }
    assert_eq!(app.read(3).await, before);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn every_reason_has_its_code_and_details(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let as_account = |username: &str, user_id| UpdateUserDetailsRequest {
        acting_username: username.to_owned(),
        ..update(user_id, city("Kaunas"))
    };
    let manager = |id| {
        let general = General { responsible_manager_id: Some(id), ..General::default() };
        update(3, UserDetails { general: Some(general.into()), ..city("\u{7f}") })
    };
    let etag = update(3, UserDetails { etag: "x".to_owned(), ..city("Kaunas") });
    let table = [
        (as_account("nobody", 3), Code::PermissionDenied, "ACCESS_DENIED", vec![]),
        (as_account("alice", 4), Code::PermissionDenied, "ACCESS_DENIED", vec![]),
        (as_account("locked", 3), Code::PermissionDenied, "ACCESS_DENIED", vec![]),
        (as_account("\u{0}", 3), Code::PermissionDenied, "ACCESS_DENIED", vec![]),
        (as_account("manager", 2), Code::PermissionDenied, "ACCESS_DENIED", vec![]),
        (as_account("auditor", 3), Code::PermissionDenied, "NOT_AUTHORIZED", vec![]),
        (as_account("admin", 999), Code::NotFound, "USER_NOT_FOUND", vec![]),
        (as_account("admin", 2), Code::NotFound, "USER_NOT_FOUND", vec![]),
        (as_account("admin", -1), Code::NotFound, "USER_NOT_FOUND", vec![]),
        (as_account("assigned", 3), Code::NotFound, "USER_NOT_FOUND", vec![]),
        (
            manager(1),
            Code::InvalidArgument,
            "MANAGER_INVALID",
            vec!["user_details.general.responsible_manager_id", "user_details.address.city"],
        ),
        (
            manager(-1),
            Code::InvalidArgument,
            "MANAGER_INVALID",
            vec!["user_details.general.responsible_manager_id", "user_details.address.city"],
        ),
        (
            update(3, city("\u{7f}")),
            Code::InvalidArgument,
            "INVALID_DETAILS",
            vec!["user_details.address.city"],
        ),
        (etag, Code::Aborted, "ETAG_MISMATCH", vec![]),
        (
            masked(3, city("x"), &["nothing"]),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            vec!["update_mask"],
        ),
    ];
    for (request, code, expected, fields) in table {
        let status = app.update(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
        let found: Vec<_> = violations(&status).into_iter().map(|(field, _)| field).collect();
        assert_eq!(found, fields);
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    app.update(as_account("manager", 3)).await.unwrap();
    app.update(as_account("assigned", 4)).await.unwrap();
}

/// All violations fit into the default trailer limit of a gRPC client.
async fn every_violation_is_told_at_once(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut details = UserDetails::default();
    for field in FIELDS {
        let leaf = match field.kind() {
            Kind::Id(_) => Leaf::Int64(i64::MAX),
            Kind::Count | Kind::Hour => Leaf::Int32(-2),
            Kind::Flag { .. } => Leaf::Bool(true),
            Kind::Text | Kind::Comment | Kind::Language | Kind::Email | Kind::Decimal { .. } => {
                Leaf::Text("\u{0}".to_owned())
            }
            Kind::List { .. } => Leaf::Int32(0),
            Kind::Date { .. } => {
                Leaf::Date(Date { year: Some(2023), month: Some(2), day: Some(29) })
            }
        };
        details.set(field, leaf);
    }
    let status = app.update(update(3, details)).await.unwrap_err();
    assert_eq!(reason(&status), "MANAGER_INVALID");
    let found: Vec<_> = violations(&status).into_iter().map(|(field, _)| field).collect();
    let is_flag = |field: &Field| matches!(field.kind(), Kind::Flag { .. });
    let expected: Vec<_> = FIELDS
        .into_iter()
        .filter(|field| !is_flag(field))
        .map(|field| format!("user_details.{}", field.path()))
        .collect();
    assert_eq!(found, expected);
    let encoded = status.details().len().div_ceil(3) * 4;
    assert!(encoded + status.message().len() < 8 * 1024, "{encoded} bytes");
}

async fn a_user_id_must_be_given(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let given = |field: &str| vec![(field.to_owned(), "must be given".to_owned())];
    let missing = app.update(update(0, city("York"))).await.unwrap_err();
    assert_eq!((reason(&missing).as_str(), missing.code()), INVALID_REQUEST);
    assert_eq!(violations(&missing), given("user_id"));
    let read = app.users().get_user_details(GetUserDetailsRequest::default()).await;
    let missing = read.unwrap_err();
    assert_eq!((reason(&missing).as_str(), missing.code()), INVALID_REQUEST);
    assert_eq!(violations(&missing), given("user_id"));

    let requests = vec![update(3, city("Bonn")), update(0, city("York"))];
    let batch = |allow_partial| BatchUpdateUserDetailsRequest {
        requests: requests.clone(),
        allow_partial,
        ..BatchUpdateUserDetailsRequest::default()
    };
    let missing = app.users().batch_update_user_details(batch(false)).await.unwrap_err();
    assert_eq!((reason(&missing).as_str(), missing.code()), INVALID_REQUEST);
    assert_eq!(violations(&missing), given("requests[1].user_id"));
    let answer = app.users().batch_update_user_details(batch(true)).await.unwrap().into_inner();
    let Some(UpdateResult::Error(error)) = &answer.results[1].result else {
        panic!("the second update has no id");
    };
    assert_eq!(
        (error.reason.as_str(), &*error.violations[0].field),
        ("INVALID_REQUEST", "user_id")
    );

    // A negative id belongs to no user. The legacy call has its own rows.
    let unknown = app.update(update(-1, city("York"))).await.unwrap_err();
    assert_eq!(reason(&unknown), "USER_NOT_FOUND");
    for (target, error) in [
        (format!("{PATH}?u=admin&hash={}", hash("admin", "")), "User was not found"),
        (format!("{PATH}?u=admin&user_id=0&hash={}", hash("admin", "0")), "User was not found"),
        (format!("{PATH}?u=admin&hash={}", hash("admin", "3")), "Incorrect hash"),
    ] {
        let answer = app.send(Method::POST, &target, &[], "").await;
        assert!(answer.body.contains(&format!("<error>{error}</error>")), "{}", answer.body);
    }
}

async fn reading_needs_the_right_to_read(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let read = |username: &str, user_id| {
        let request = GetUserDetailsRequest { user_id, acting_username: username.to_owned() };
        let mut users = app.users();
        async move { users.get_user_details(request).await }
    };
    for (username, user_id) in
        [("admin", 3), ("", 3), ("manager", 3), ("auditor", 5), ("assigned", 4)]
    {
        let user = read(username, user_id).await.unwrap().into_inner().user_details.unwrap();
        assert_eq!(user.user_id, user_id);
    }
    for (username, user_id, expected) in [
        ("alice", 4, "ACCESS_DENIED"),
        ("locked", 3, "ACCESS_DENIED"),
        ("auditor", 7, "ACCESS_DENIED"),
        ("assigned", 3, "USER_NOT_FOUND"),
        ("admin", 2, "USER_NOT_FOUND"),
        ("admin", -1, "USER_NOT_FOUND"),
    ] {
        assert_eq!(reason(&read(username, user_id).await.unwrap_err()), expected);
    }
    database.execute("DELETE FROM manager_group_rights").await;
    assert_eq!(reason(&read("auditor", 3).await.unwrap_err()), "NOT_AUTHORIZED");
}

async fn a_token_is_required_where_one_is_configured(database: TestDatabase) {
    let app =
        TestApp::start_with(&database, &[("grpc.token", "a token of internal callers")]).await;
    let call = |authorization: Option<&str>, username: &str| {
        let message = UpdateUserDetailsRequest {
            acting_username: username.to_owned(),
            ..update(3, city("Kaunas"))
        };
        let mut request = Request::new(message);
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        }
        let mut users = app.users();
        async move { users.update_user_details(request).await }
    };
    let legacy = LegacyCredentials {
        username: "admin".to_owned(),
        user_id: "3".to_owned(),
        hash: crate::support::app::hash("admin", "3"),
        method: "POST".to_owned(),
        address: String::new(),
    };
    for authorization in [
        None,
        Some("Bearer wrong"),
        Some("Bearer a token of internal caller"),
        Some("a token of internal callers"),
        Some("Basic a token of internal callers"),
        Some("M4-Legacy x"),
        Some("M4-Legacy !.!.!.!.!"),
        // A valid hash, but not from the gateway.
        Some(legacy.to_header().as_str()),
    ] {
        let status = call(authorization, "admin").await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unauthenticated, "UNAUTHENTICATED")
        );
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    let right = Some("Bearer a token of internal callers");
    // The token does not permit acting in its own name.
    assert_eq!(reason(&call(right, "").await.unwrap_err()), "ACCESS_DENIED");
    call(right, "admin").await.unwrap();
    // The gateway in the process needs no token.
    assert!(app.call("admin", "3", "city=Vilnius").await.body.contains("successfully"));
}

async fn a_caller_may_act_in_its_own_name_where_its_token_says_so(database: TestDatabase) {
    let keys = [
        ("grpc.token", "0123456789abcdef"),
        ("grpc.token_own_name", "true"),
        ("grpc.token_name", "crm"),
    ];
    let app = TestApp::start_config(&config(&database.url, &keys), true).await;
    let mut request = Request::new(update(3, city("Kaunas")));
    let token = "bearer 0123456789abcdef".parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    app.users().update_user_details(request).await.unwrap();
    assert_eq!(database.text("SELECT service FROM change_log").await, "crm");
    assert_eq!(database.number("SELECT count(*) FROM change_log WHERE actor_id IS NULL").await, 1);
}

/// Calls like a standalone gateway, which needs no token on demo data.
async fn a_legacy_call_has_its_reasons_over_grpc(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let call = |method: &str, user_id: &str, hash: &str, target: i64| {
        let credentials = LegacyCredentials {
            username: "admin".to_owned(),
            user_id: user_id.to_owned(),
            hash: hash.to_owned(),
            method: method.to_owned(),
            address: "192.0.2.1".to_owned(),
        };
        // The acting username of the message is ignored.
        let message = UpdateUserDetailsRequest {
            acting_username: "manager".to_owned(),
            ..update(target, city("Kaunas"))
        };
        let mut request = Request::new(message);
        let authorization = credentials.to_header().parse().unwrap();
        request.metadata_mut().insert("authorization", authorization);
        let mut users = app.users();
        async move { users.update_user_details(request).await }
    };
    let right = crate::support::app::hash("admin", "3");
    for (status, code, expected) in [
        (call("POST", "3", "00", 3).await, Code::Unauthenticated, "INCORRECT_HASH"),
        (call("POST", "3", &right, 4).await, Code::Unauthenticated, "INCORRECT_HASH"),
        (call("GET", "3", &right, 3).await, Code::FailedPrecondition, "GET_DISABLED"),
        (call("HEAD", "3", &right, 3).await, Code::FailedPrecondition, "GET_DISABLED"),
    ] {
        let status = status.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
    }
    call("POST", "3", &right, 3).await.unwrap();
    assert_eq!(database.number("SELECT actor_id FROM change_log").await, 1);
    crate::settings::set(&app, Some(false), None).await;
    let status = call("POST", "3", &right, 3).await.unwrap_err();
    assert_eq!(reason(&status), "API_DISABLED");
    // The legacy credentials are valid for this one RPC only.
    let mut request = Request::new(GetUserDetailsRequest::default());
    let credentials = LegacyCredentials::from_header("M4-Legacy YQ.MQ.MDA.UE9TVA.").unwrap();
    let authorization = credentials.to_header().parse().unwrap();
    request.metadata_mut().insert("authorization", authorization);
    let status = app.users().get_user_details(request).await.unwrap_err();
    assert_eq!(reason(&status), "UNAUTHENTICATED");
}

async fn a_deadline_that_runs_out_is_told(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let lock = database.lock_alice().await;
    let mut request = Request::new(update(3, city("Late")));
    request.set_timeout(Duration::from_millis(300));
    let status = untimed_users(app.grpc).update_user_details(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "UNAVAILABLE"));
    lock.release().await;
}

async fn an_update_that_was_begun_is_finished_after_its_caller_has_gone(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let lock = database.lock_alice().await;
    let mut users = app.users();
    let call =
        tokio::spawn(async move { users.update_user_details(update(3, city("Late"))).await });
    database.until_a_lock_is_waited_for().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    lock.release().await;
    app.stop().await.unwrap();
    assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, "Late");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn who_is_one_too_many_is_told_when_to_come_again(database: TestDatabase) {
    let keys = [("max_in_flight", "1"), ("deadline_seconds", "30")];
    let app = TestApp::start_with(&database, &keys).await;
    let lock = database.lock_alice().await;
    let mut calls: FuturesUnordered<_> =
        (0..3).map(|_| app.update(update(3, city("Kaunas")))).collect();
    // One call waits for the lock; the others are refused immediately, reads included.
    let mut refused = Vec::new();
    for _ in 0..2 {
        refused.push(calls.next().await.unwrap().unwrap_err());
    }
    let request = GetUserDetailsRequest { user_id: 4, ..GetUserDetailsRequest::default() };
    refused.push(app.users().get_user_details(request).await.unwrap_err());
    for status in refused {
        let told = (status.code(), reason(&status));
        assert_eq!(told, (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        let retry = status.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
    }
    lock.release().await;
    calls.next().await.unwrap().unwrap();
    app.update(update(3, city("Vilnius"))).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 2);
}

/// Type names that clients rely on.
#[test]
fn the_contract_has_the_agreed_types() {
    let _ = General { currency_id: Some(1_i64), call_limit: Some(1_i32), ..General::default() };
    let _ =
        Blocking { blocked: Some(true), block_date: Some(Date::default()), ..Blocking::default() };
    let _ = Details { agreement_date: Some(Date::default()), ..Details::default() };
    let _ = Taxes { tax1_value: Some(String::new()), ..Taxes::default() };
    let _ = Lists { enable_static_list: Some(ListMode::No as i32), ..Lists::default() };
    let _ = WarningBalance { warning_email_hour: Some(1_i32), ..WarningBalance::default() };
}
