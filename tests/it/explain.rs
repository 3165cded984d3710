//! `ExplainLegacyCall`: the explanation matches the gateway's response, and nothing is stored.

use ::http::Method;
use m4_user_details::proto::{
    ExplainLegacyCallRequest, ExplainLegacyCallResponse, HashRecipe, LegacyCheck,
    LegacyHashVerdict, LegacyParameterUse, Settings, UpdateSettingsRequest,
};
use tonic::Code;

use crate::{
    bodies::gzip,
    support::{
        app::{PATH, TestApp, config, hash, reason, target, violations},
        database::TestDatabase,
        on_every_engine,
    },
};

on_every_engine!(
    every_check_is_explained_as_the_door_answers,
    switches_are_explained_as_the_door_answers,
    bodies_are_read_as_the_door_reads_them,
    nothing_is_stored_and_what_would_be_is_told,
    parameters_that_are_ignored_are_told,
    invalid_parameters_are_told_whichever_check_decides,
    a_hash_is_explained_and_told_only_where_asked_for,
    keys_that_are_being_retired_and_recipes_that_are_off_are_told,
    only_admins_may_ask,
    what_cannot_be_sent_is_refused,
);

fn request(url: &str) -> ExplainLegacyCallRequest {
    ExplainLegacyCallRequest {
        url: url.to_owned(),
        acting_username: "admin".to_owned(),
        ..ExplainLegacyCallRequest::default()
    }
}

async fn explain(app: &TestApp, request: ExplainLegacyCallRequest) -> ExplainLegacyCallResponse {
    app.legacy().explain_legacy_call(request).await.unwrap().into_inner()
}

/// Explains a call, then makes it. Both results must match.
async fn compare(app: &TestApp, request: ExplainLegacyCallRequest) -> ExplainLegacyCallResponse {
    let explained = explain(app, request.clone()).await;
    let method = match &*request.method {
        "" => Method::POST,
        method => method.parse().unwrap(),
    };
    let content_type = request.content_type.iter().map(|own| ("content-type", own.as_str()));
    let coding = request.content_encoding.iter().map(|own| ("content-encoding", own.as_str()));
    let headers: Vec<_> = content_type.chain(coding).collect();
    let body = [request.body.as_bytes(), &request.binary_body].concat();
    let answer = app.send(method, &request.url, &headers, body).await;
    assert_eq!(i32::from(answer.status.as_u16()), explained.http_status, "{}", request.url);
    assert_eq!(answer.body, explained.xml, "{}", request.url);
    explained
}

async fn every_check_is_explained_as_the_door_answers(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let wrong = target("admin", "3", "").replace("hash=", "hash=0");
    for (url, check, why) in [
        ("/nowhere?u=admin".to_owned(), LegacyCheck::NoSuchApi, "path"),
        (format!("{PATH}/x?u=admin"), LegacyCheck::NoSuchApi, "path"),
        (format!("/{PATH}//?u=admin"), LegacyCheck::IncorrectHash, "no hash"),
        (
            target("admin", "3", "").replace('&', "&amp;"),
            LegacyCheck::IncorrectHash,
            "separated by `&amp;`",
        ),
        (target("admin", "3", "&amp;city=York"), LegacyCheck::Passed, "separated by `&amp;`"),
        (wrong, LegacyCheck::IncorrectHash, "no SHA-1"),
        (format!("{PATH}?u=admin&user_id=3"), LegacyCheck::IncorrectHash, "no hash"),
        (format!("{PATH}?u=%ff&hash={}", hash("", "")), LegacyCheck::IncorrectHash, "UTF-8"),
        (
            format!("{PATH}?u=admin&user_id=3&hash={}", hash("admin", "5")),
            LegacyCheck::IncorrectHash,
            "another user_id",
        ),
        (
            format!("{PATH}?u={}&user_id=3&hash=00", "a".repeat(9000)),
            LegacyCheck::IncorrectHash,
            "8 KiB",
        ),
        (target("nobody", "abc", "hidden=7"), LegacyCheck::ActingAccount, "no account"),
        (target("alice", "3", ""), LegacyCheck::ActingAccount, "plain user"),
        (target("locked", "3", ""), LegacyCheck::ActingAccount, "blocked"),
        (target("auditor", "7", "hidden=7"), LegacyCheck::NotAuthorized, "right users"),
        (target("manager", "2", "hidden=7"), LegacyCheck::Itself, "itself"),
        (target("admin", "abc", "hidden=7"), LegacyCheck::UserNotFound, "no number"),
        (target("manager", "1", ""), LegacyCheck::UserNotFound, "no plain user's"),
        (target("admin", "999", ""), LegacyCheck::UserNotFound, "no plain user's"),
        (target("assigned", "3", ""), LegacyCheck::UserNotFound, "assigned"),
        (
            target("admin", "3", "responsible_manager_id=3&hidden=7"),
            LegacyCheck::ManagerInvalid,
            "responsible_manager_id",
        ),
        (
            target("admin", "3", "responsible_manager_id=x&hidden=7"),
            LegacyCheck::ManagerInvalid,
            "hidden",
        ),
        (target("admin", "3", "hidden=7"), LegacyCheck::InvalidDetails, "hidden"),
        (target("admin", "3", "currency_id=77&bm=2"), LegacyCheck::InvalidDetails, "currency_id"),
        (target("admin", "3", "city=%00"), LegacyCheck::InvalidDetails, "city"),
        (target("admin", "3", ""), LegacyCheck::Passed, "differ: 0"),
        (target("assigned", "4", "city=Here&fax=1"), LegacyCheck::Passed, "differ: 2"),
    ] {
        let explained = compare(&app, request(&url)).await;
        assert_eq!(explained.check(), check, "{url}");
        assert!(explained.explanation.contains(why), "{url}: {}", explained.explanation);
        assert_eq!(explained.update.is_some(), check == LegacyCheck::Passed, "{url}");
    }
    let method =
        ExplainLegacyCallRequest { method: "PUT".to_owned(), ..request(&target("x", "3", "")) };
    assert_eq!(compare(&app, method).await.check(), LegacyCheck::MethodNotAllowed);
    let large = ExplainLegacyCallRequest {
        body: format!("city={}", "x".repeat(262_144)),
        ..request(&target("admin", "3", "county=y"))
    };
    let explained = compare(&app, large).await;
    assert_eq!(explained.check(), LegacyCheck::TooLarge);
    assert!(explained.parameters.iter().all(|parameter| !parameter.in_body));
}

async fn switches_are_explained_as_the_door_answers(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let get = || ExplainLegacyCallRequest {
        method: "GET".to_owned(),
        ..request(&target("admin", "3", "hidden=1").replace("hash=", "hash=0"))
    };
    let explained = compare(&app, get()).await;
    assert_eq!(explained.check(), LegacyCheck::GetDisabled);
    assert!(explained.explanation.contains("allow_get_api"));
    crate::settings::set(&app, None, Some(true)).await;
    assert_eq!(compare(&app, get()).await.check(), LegacyCheck::IncorrectHash);
    crate::settings::set(&app, Some(false), None).await;
    let explained = compare(&app, get()).await;
    assert_eq!(explained.check(), LegacyCheck::ApiDisabled);
    assert!(explained.explanation.contains("allow_api"));
    app.stop().await.unwrap();

    // Without a secret key the API is disabled, too, and no hash can be computed.
    let keys = [("grpc.token", "internal"), ("grpc.token_own_name", "true")];
    let app = TestApp::start_config(&config(&database.url, &keys), false).await;
    let mut settings = tonic::Request::new(UpdateSettingsRequest {
        settings: Some(Settings { allow_api: Some(true), ..Settings::default() }),
        ..UpdateSettingsRequest::default()
    });
    settings.metadata_mut().insert("authorization", "Bearer internal".parse().unwrap());
    app.settings().update_settings(settings).await.unwrap();
    let mut own_name = tonic::Request::new(ExplainLegacyCallRequest {
        include_hash: true,
        acting_username: String::new(),
        ..get()
    });
    own_name.metadata_mut().insert("authorization", "Bearer internal".parse().unwrap());
    let explained = app.legacy().explain_legacy_call(own_name).await.unwrap().into_inner();
    assert_eq!(explained.check(), LegacyCheck::ApiDisabled);
    assert!(explained.explanation.contains("no secret key"));
    let told = explained.hash.unwrap();
    assert_eq!(told.verdict(), LegacyHashVerdict::NoSecretKey);
    assert!(told.recipes.iter().all(|recipe| recipe.hash.is_empty()));
}

async fn bodies_are_read_as_the_door_reads_them(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let right = hash("admin", "3");
    let form = format!("u=admin&user_id=3&hash={right}&city=form");
    let json = format!(r#"{{"u": "admin", "user_id": 3, "hash": "{right}", "city": "json"}}"#);
    let part = |name: &str, value: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts = [("u", "admin"), ("user_id", "3"), ("hash", &*right), ("city", "parts")];
    let multipart: String = parts.iter().map(|(name, value)| part(name, value)).collect();
    for (content_type, body, ignored) in [
        (None, form.clone(), false),
        (Some("application/x-www-form-urlencoded"), form.clone(), false),
        (Some("application/json"), json.clone(), false),
        (Some("multipart/form-data; boundary=XX"), multipart + "--XX--\r\n", false),
        (Some("text/plain"), form, true),
        (Some("application/json"), json + "tail", true),
    ] {
        let call = ExplainLegacyCallRequest {
            content_type: content_type.map(str::to_owned),
            body,
            ..request(PATH)
        };
        let explained = compare(&app, call).await;
        let expected = if ignored { LegacyCheck::IncorrectHash } else { LegacyCheck::Passed };
        assert_eq!(explained.explanation.contains("body could not be read"), ignored);
        assert_eq!(explained.check(), expected, "{content_type:?}");
        assert_eq!(explained.body_ignored, ignored);
        assert_eq!(explained.parameters.len(), if ignored { 0 } else { 4 });
        assert!(explained.parameters.iter().all(|parameter| parameter.in_body));
    }
    let coded = |coding: &str, body: &[u8]| ExplainLegacyCallRequest {
        content_encoding: Some(coding.to_owned()),
        binary_body: body.to_vec(),
        ..request(&target("admin", "3", "city=York"))
    };
    let form = gzip(b"hidden=1");
    let explained = compare(&app, coded("gzip", &form)).await;
    assert_eq!((explained.check(), explained.parameters.len()), (LegacyCheck::Passed, 5));
    for broken in
        [coded("gzip", &form[..10]), coded("br", &form), coded("identity", b"hidden=\xff")]
    {
        let explained = compare(&app, broken).await;
        assert_eq!(explained.check(), LegacyCheck::InvalidDetails);
    }
    let bomb = compare(&app, coded("gzip", &gzip(&vec![b'x'; 10_000_000]))).await;
    assert_eq!(bomb.http_status, 413);
    let broken = ExplainLegacyCallRequest {
        content_type: Some("application/json".to_owned()),
        body: "{".to_owned(),
        ..request(&target("admin", "3", "city=York"))
    };
    let explained = compare(&app, broken).await;
    assert_eq!(explained.check(), LegacyCheck::InvalidDetails);
    assert!(explained.explanation.contains("the JSON is cut off"), "{}", explained.explanation);
    assert!(explained.update.is_none() && explained.body_ignored);
}

async fn nothing_is_stored_and_what_would_be_is_told(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    let explained = explain(&app, request(&target("admin", "3", "city=Kaunas&hidden=1"))).await;
    let update = explained.update.unwrap();
    assert_eq!(update.changed_fields.unwrap().paths, ["general.hidden", "address.city"]);
    let old = update.previous_details.unwrap();
    assert_eq!(old.address.unwrap().city, before.address.as_ref().unwrap().city);
    let new = update.user_details.unwrap();
    assert_eq!(new.address.unwrap().city.as_deref(), Some("Kaunas"));
    assert_eq!(new.etag, before.etag);
    assert_eq!(app.read(3).await, before);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn parameters_that_are_ignored_are_told(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let call = ExplainLegacyCallRequest {
        content_type: Some("application/json".to_owned()),
        body: r#"{"city": "a", "county": "b", "county": "c", "state": null, "no": 1}"#.to_owned(),
        ..request(&target("admin", "3", "city=one&City=x&city=two&by=2030"))
    };
    let explained = compare(&app, call).await;
    let told: Vec<_> = explained
        .parameters
        .iter()
        .map(|own| (own.name.as_str(), own.in_body, own.r#use(), own.field.as_str()))
        .collect();
    use LegacyParameterUse::{Overridden, Read, Unknown};
    assert_eq!(
        told,
        [
            ("u", false, Read, ""),
            ("user_id", false, Read, ""),
            ("hash", false, Read, ""),
            ("city", false, Overridden, "address.city"),
            ("City", false, Unknown, ""),
            ("city", false, Read, "address.city"),
            ("by", false, Read, "blocking.block_date"),
            ("city", true, Overridden, "address.city"),
            ("county", true, Overridden, "address.county"),
            ("county", true, Read, "address.county"),
            ("no", true, Unknown, ""),
        ]
    );
}

async fn invalid_parameters_are_told_whichever_check_decides(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let told = |explained: &ExplainLegacyCallResponse| {
        let invalid = explained.invalid_parameters.iter();
        invalid.map(|own| (own.name.clone(), own.field.clone())).collect::<Vec<_>>()
    };
    // Faults that the gateway finds, faults in a value alone, and faults that need stored data.
    let parameters = "bd=x&hidden=7&city=%00&currency_id=77&state=ok";
    let own = |name: &str, field: &str| (name.to_owned(), field.to_owned());
    let wrong = target("admin", "3", parameters).replace("hash=", "hash=0");
    let explained = compare(&app, request(&wrong)).await;
    assert_eq!(explained.check(), LegacyCheck::IncorrectHash);
    let alone = [
        own("hidden", "general.hidden"),
        own("bd", "blocking.block_date"),
        own("city", "address.city"),
    ];
    assert_eq!(told(&explained), alone);
    assert_eq!(explained.invalid_parameters[0].allowed, "must be 0 or 1");
    let explained = compare(&app, request(&target("admin", "3", parameters))).await;
    assert_eq!(explained.check(), LegacyCheck::InvalidDetails);
    let all: Vec<_> =
        [own("currency_id", "general.currency_id")].into_iter().chain(alone).collect();
    assert_eq!(told(&explained), all);
}

async fn a_hash_is_explained_and_told_only_where_asked_for(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let right = hash("admin", "3");
    let query = format!("u=admin&user_id=3&hash={}", hash("admin", "5"));
    let explained = explain(&app, request(&query)).await;
    let text = format!("{explained:?}");
    assert!(!text.contains(&right) && !text.contains(&hash("", "3")), "{text}");
    let told = explained.hash.unwrap();
    assert_eq!(told.verdict(), LegacyHashVerdict::OtherUserId);
    assert_eq!(told.made_for_user_id, "5");
    let recipes: Vec<_> = told
        .recipes
        .iter()
        .map(|own| (own.recipe(), own.accepted, own.hashed.as_str(), own.hash.as_str()))
        .collect();
    assert_eq!(
        recipes,
        [
            (HashRecipe::UUserId, true, "admin3<secret key>", ""),
            (HashRecipe::UserId, false, "3<secret key>", ""),
        ]
    );
    let asked = ExplainLegacyCallRequest { include_hash: true, ..request(&query) };
    let told = explain(&app, asked).await.hash.unwrap();
    assert_eq!(told.recipes[0].hash, right);
    assert_eq!(told.recipes[1].hash, hash("", "3"));
    for (sent, verdict) in [
        (right.as_str(), LegacyHashVerdict::Right),
        ("", LegacyHashVerdict::Missing),
        ("1234", LegacyHashVerdict::NoSha1),
        (&"0".repeat(40), LegacyHashVerdict::Wrong),
    ] {
        // The scheme and the host of the URL are optional.
        for before in ["https://billing.example", "billing.example", ""] {
            let url = format!("{before}{PATH}?u=admin&user_id=3&hash={sent}#fragment");
            let told = explain(&app, request(&url)).await.hash.unwrap();
            assert_eq!(told.verdict(), verdict, "{url}");
        }
    }
}

async fn keys_that_are_being_retired_and_recipes_that_are_off_are_told(database: TestDatabase) {
    let keys = [("api.secret_key", "newer"), ("api.secret_key_previous", "secret")];
    let keys = [keys.as_slice(), &[("grpc.token", "internal")]].concat();
    let mut config = config(&database.url, &keys);
    config.internal = None;
    let app = TestApp::start_config(&config, true).await;
    let explained = explain(&app, request(&target("admin", "3", ""))).await;
    let told = explained.hash.clone().unwrap();
    assert_eq!((told.verdict(), told.previous_key), (LegacyHashVerdict::Right, true));
    assert_eq!((explained.check(), told.recipe()), (LegacyCheck::Passed, HashRecipe::UUserId));
    let other = format!("u=admin&user_id=3&hash={}", hash("", "3"));
    let explained = explain(&app, request(&other)).await;
    assert_eq!(explained.check(), LegacyCheck::IncorrectHash);
    assert!(explained.explanation.contains("hash_recipes"), "{}", explained.explanation);
    let told = explained.hash.unwrap();
    assert_eq!(told.verdict(), LegacyHashVerdict::NotAccepted);
    assert_eq!(told.recipe(), HashRecipe::UserId);
}

async fn only_admins_may_ask(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for username in ["manager", "auditor", "locked", "alice", "nobody"] {
        let call = ExplainLegacyCallRequest {
            acting_username: username.to_owned(),
            ..request(&target("admin", "3", ""))
        };
        let status = app.legacy().explain_legacy_call(call).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(reason(&status), "ACCESS_DENIED");
    }
}

async fn what_cannot_be_sent_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let good = || request(&target("admin", "3", ""));
    for (field, call) in [
        ("url", request("u=admin&city=New York")),
        ("url", request(&format!("{PATH}?city={}", "x".repeat(300_000)))),
        ("method", ExplainLegacyCallRequest { method: "A B".to_owned(), ..good() }),
        (
            "content_type",
            ExplainLegacyCallRequest { content_type: Some("a\nb".to_owned()), ..good() },
        ),
        (
            "content_encoding",
            ExplainLegacyCallRequest { content_encoding: Some("a\nb".to_owned()), ..good() },
        ),
        (
            "binary_body",
            ExplainLegacyCallRequest { body: "a".to_owned(), binary_body: vec![b'a'], ..good() },
        ),
        ("address", ExplainLegacyCallRequest { address: "somewhere".to_owned(), ..good() }),
    ] {
        let status = app.legacy().explain_legacy_call(call).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert_eq!(violations(&status)[0].0, field);
    }
    let from = ExplainLegacyCallRequest { address: "192.0.2.7".to_owned(), ..good() };
    assert_eq!(explain(&app, from).await.check(), LegacyCheck::Passed);
}
