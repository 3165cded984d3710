//! The limits on wrong hashes, and the blocks of addresses and usernames.

use std::time::Duration;

use ::http::{Method, StatusCode};
use futures_util::future::join_all;
use m4_user_details::{
    app::Environment,
    proto::{
        AddLegacyBlockRequest, ExplainLegacyCallRequest, LegacyBlock, LegacyCheck,
        LiftLegacyBlockRequest, ListAdministrationLogRequest, ListLegacyBlocksRequest, Settings,
        UpdateSettingsRequest, legacy_block::Target, lift_legacy_block_request as lift,
    },
};
use prost_types::Timestamp;

use crate::support::{
    app::{Answer, PATH, TestApp, reason, target},
    database::TestDatabase,
    on_every_engine, until,
};

on_every_engine!(
    an_address_gets_its_limit_of_wrong_hashes_and_is_blocked_on_every_replica,
    a_username_that_many_addresses_guess_stays_open_to_known_clients,
    operators_block_list_and_lift,
    an_explanation_names_the_block_and_counts_nothing,
    limits_out_of_range_are_refused,
);

const CLIENT: &str = "192.0.2.1";
const ATTACKER: &str = "198.51.100.7";

/// Starts a replica behind a trusted proxy. It reads known clients often.
async fn start(database: &TestDatabase) -> TestApp {
    let keys = [("http.trusted_proxies", "127.0.0.1")];
    let clients_interval = Duration::from_millis(20);
    let environment = Environment { clients_interval, ..Environment::default() };
    TestApp::start_in(database, &keys, environment).await
}

async fn set(app: &TestApp, settings: Settings) -> Result<Settings, tonic::Status> {
    let request = UpdateSettingsRequest {
        settings: Some(settings),
        acting_username: "admin".to_owned(),
        ..UpdateSettingsRequest::default()
    };
    Ok(app.settings().update_settings(request).await?.into_inner().settings.unwrap())
}

async fn limit(app: &TestApp, per_address: i32, per_username: i32) {
    let settings = Settings {
        failed_hashes_per_address: Some(per_address),
        failed_hashes_per_username: Some(per_username),
        block_seconds: Some(600),
        ..Settings::default()
    };
    set(app, settings).await.unwrap();
}

async fn from(app: &TestApp, address: &str, target: &str) -> Answer {
    app.send(Method::POST, target, &[("x-forwarded-for", address)], "").await
}

async fn is_right_call_answered(app: &TestApp, address: &str) -> bool {
    from(app, address, &target("admin", "3", "")).await.body.contains("successfully")
}

/// Sends a right call with two headers that name different addresses.
async fn is_hidden_call_answered(app: &TestApp) -> bool {
    let headers = [("x-forwarded-for", "192.0.2.8"), ("forwarded", "for=192.0.2.9")];
    let answer = app.send(Method::POST, &target("admin", "3", ""), &headers, "").await;
    assert!(matches!(answer.status, StatusCode::OK | StatusCode::TOO_MANY_REQUESTS));
    answer.body.contains("successfully")
}

/// Makes the address a known client: a call of it is stored.
async fn become_known(app: &TestApp, address: &str) {
    assert!(is_right_call_answered(app, address).await);
}

fn wrong(username: &str, number: usize) -> String {
    format!("{PATH}?u={username}&user_id=3&hash={number:040x}")
}

async fn blocks(app: &TestApp) -> Vec<LegacyBlock> {
    let mut request = ListLegacyBlocksRequest {
        page_size: 1,
        acting_username: "admin".to_owned(),
        ..ListLegacyBlocksRequest::default()
    };
    let mut blocks = Vec::new();
    loop {
        let page = app.legacy().list_legacy_blocks(request.clone()).await.unwrap().into_inner();
        blocks.extend(page.blocks);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return blocks;
        }
    }
}

async fn lift(app: &TestApp, target: lift::Target) -> Result<(), tonic::Status> {
    let request =
        LiftLegacyBlockRequest { target: Some(target), acting_username: "admin".to_owned() };
    app.legacy().lift_legacy_block(request).await.map(drop)
}

async fn add(
    app: &TestApp,
    target: Option<Target>,
    expire_time: Option<Timestamp>,
) -> Result<LegacyBlock, tonic::Status> {
    let block = Some(LegacyBlock { target, expire_time, ..LegacyBlock::default() });
    let request = AddLegacyBlockRequest { block, acting_username: "admin".to_owned() };
    Ok(app.legacy().add_legacy_block(request).await?.into_inner().block.unwrap())
}

async fn explain(app: &TestApp, url: String, address: &str) -> (LegacyCheck, i32, String) {
    let request = ExplainLegacyCallRequest {
        url,
        address: address.to_owned(),
        acting_username: "admin".to_owned(),
        ..ExplainLegacyCallRequest::default()
    };
    let explained = app.legacy().explain_legacy_call(request).await.unwrap().into_inner();
    (explained.check(), explained.http_status, explained.explanation)
}

async fn an_address_gets_its_limit_of_wrong_hashes_and_is_blocked_on_every_replica(
    database: TestDatabase,
) {
    let (one, other) = (start(&database).await, start(&database).await);
    limit(&one, 20, 0).await;
    become_known(&one, CLIENT).await;
    let (mut checked, mut blocked) = (0, 0);
    for round in 0..20 {
        let calls = (0..16).map(|number| {
            let username = format!("user{round}-{number}");
            let app = &one;
            async move { from(app, ATTACKER, &wrong(&username, number)).await }
        });
        for answer in join_all(calls).await {
            if answer.status == StatusCode::OK {
                assert!(answer.body.contains("<error>Incorrect hash</error>"));
                checked += 1;
            } else {
                assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
                assert!(answer.body.contains("<error>Too many requests</error>"));
                let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((500..=600).contains(&seconds), "{seconds}");
                blocked += 1;
            }
        }
    }
    // Half of the limit is the burst: a minute has no more than the limit.
    assert_eq!((checked, blocked), (10, 310));
    until("the block is stored", async || !blocks(&other).await.is_empty()).await;
    let block = &blocks(&other).await[0];
    assert_eq!(block.target, Some(Target::Address(ATTACKER.to_owned())));
    assert!(block.automatic && block.identity.is_empty());
    let seconds = block.expire_time.unwrap().seconds - block.create_time.unwrap().seconds;
    assert_eq!(seconds, 600);
    until("the other replica honours it", async || !is_right_call_answered(&other, ATTACKER).await)
        .await;
    // A known client is not blocked, though it sends wrong hashes.
    for number in 0..30 {
        from(&one, CLIENT, &wrong("admin", number)).await;
    }
    assert!(is_right_call_answered(&one, CLIENT).await);
    until("the other replica knows it, too", async || {
        let block = blocks(&other).await.len() == 2;
        block && is_right_call_answered(&other, CLIENT).await
    })
    .await;
    // A block that is lifted on one replica is lifted on the other.
    lift(&other, lift::Target::Address(ATTACKER.to_owned())).await.unwrap();
    for app in [&one, &other] {
        until("the block is lifted", async || is_right_call_answered(app, ATTACKER).await).await;
    }
    let status = lift(&one, lift::Target::Address(ATTACKER.to_owned())).await.unwrap_err();
    assert_eq!(reason(&status), "BLOCK_NOT_FOUND");
}

async fn a_username_that_many_addresses_guess_stays_open_to_known_clients(database: TestDatabase) {
    let (one, other) = (start(&database).await, start(&database).await);
    limit(&one, 0, 40).await;
    become_known(&one, CLIENT).await;
    let mut answered = 0;
    for round in 0..50 {
        let calls = (0..20).map(|number| {
            let address = format!("10.1.{round}.{number}");
            let app = &one;
            async move { from(app, &address, &wrong("admin", number)).await }
        });
        for answer in join_all(calls).await {
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.body.contains("<error>Incorrect hash</error>"));
        }
        // The known client keeps all of its right calls.
        answered += usize::from(is_right_call_answered(&one, CLIENT).await);
    }
    assert_eq!(answered, 50);
    until("the known clients are read: until then, every client is known", async || {
        explain(&one, target("admin", "3", ""), "10.2.0.1").await.0 == LegacyCheck::IncorrectHash
    })
    .await;
    // A right guess is not told from a wrong one.
    let right = from(&one, "10.2.0.1", &target("admin", "3", "")).await;
    let guess = from(&one, "10.2.0.2", &wrong("admin", 0)).await;
    assert_eq!((right.status, &right.body), (guess.status, &guess.body));
    assert!(guess.body.contains("<error>Incorrect hash</error>"));
    until("the block is stored", async || !blocks(&other).await.is_empty()).await;
    assert_eq!(blocks(&other).await[0].target, Some(Target::Username("admin".to_owned())));
    until("the other replica honours it", async || {
        !is_right_call_answered(&other, "10.2.0.3").await
    })
    .await;
    until("the other replica spares the client", async || {
        is_right_call_answered(&other, CLIENT).await
    })
    .await;
    let manager = target("manager", "3", "");
    assert!(from(&one, "10.2.0.4", &manager).await.body.contains("successfully"));
    lift(&one, lift::Target::Username("admin".to_owned())).await.unwrap();
    for app in [&one, &other] {
        until("the block is lifted", async || is_right_call_answered(app, "10.2.0.5").await).await;
    }
}

async fn operators_block_list_and_lift(database: TestDatabase) {
    let (one, other) = (start(&database).await, start(&database).await);
    become_known(&one, CLIENT).await;
    become_known(&other, CLIENT).await;
    // Clients without a known address have a name.
    assert!(is_hidden_call_answered(&one).await);
    add(&one, Some(Target::Address("unknown".to_owned())), None).await.unwrap();
    until("the block holds", async || !is_hidden_call_answered(&one).await).await;
    assert!(is_right_call_answered(&one, CLIENT).await);
    lift(&one, lift::Target::Address("unknown".to_owned())).await.unwrap();
    until("the block is lifted", async || is_hidden_call_answered(&one).await).await;
    let by_address = Some(Target::Address("192.0.2.1".to_owned()));
    let added = add(&one, by_address.clone(), None).await.unwrap();
    assert!(!added.automatic && added.expire_time.is_none());
    let ipv6 = Target::Address("2001:db8::7".to_owned());
    let in_an_hour = Timestamp { seconds: added.create_time.unwrap().seconds + 3600, nanos: 0 };
    let added = add(&one, Some(ipv6), Some(in_an_hour)).await.unwrap();
    assert_eq!(added.target, Some(Target::Address("2001:db8::/64".to_owned())));
    assert_eq!(added.expire_time, Some(in_an_hour));
    // Known clients are not spared.
    for app in [&one, &other] {
        until("the block holds", async || !is_right_call_answered(app, CLIENT).await).await;
        let answer = from(app, CLIENT, &target("admin", "3", "")).await;
        assert_eq!(answer.headers["retry-after"], "3600");
        assert!(is_right_call_answered(app, ATTACKER).await);
    }
    let ipv6 = from(&one, "2001:db8::9", &target("admin", "3", "")).await;
    assert_eq!(ipv6.status, StatusCode::TOO_MANY_REQUESTS);
    // A blocked client cannot hide its address.
    assert!(!is_hidden_call_answered(&one).await);
    // A second block of the same address replaces the first one.
    add(&other, by_address, Some(in_an_hour)).await.unwrap();
    add(&other, Some(Target::Username("admin".to_owned())), None).await.unwrap();
    let listed = blocks(&one).await;
    assert_eq!(listed.len(), 3);
    until("the username is blocked", async || !is_right_call_answered(&one, ATTACKER).await).await;
    let answer = from(&one, ATTACKER, &target("admin", "3", "")).await;
    assert!(answer.body.contains("<error>Incorrect hash</error>"));

    lift(&one, lift::Target::Address("2001:db8::1".to_owned())).await.unwrap();
    lift(&one, lift::Target::Username("admin".to_owned())).await.unwrap();
    let request = ListAdministrationLogRequest {
        acting_username: "admin".to_owned(),
        ..ListAdministrationLogRequest::default()
    };
    let entries = one.administration().list_administration_log(request).await.unwrap();
    let entries = entries.into_inner().entries;
    let entries: Vec<_> = entries.iter().filter(|entry| entry.object == "legacy_block").collect();
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let (client, network) = ("address 192.0.2.1", "address 2001:db8::/64");
    let unknown = "address unknown";
    let expected =
        ["username admin", network, "username admin", client, network, client, unknown, unknown];
    assert_eq!(names, expected);
    let values = |index: usize| {
        let entry = entries[index];
        (entry.old_value.as_deref(), entry.new_value.as_deref())
    };
    assert_eq!(values(0), (Some("blocked"), None));
    assert_eq!(values(2), (None, Some("blocked")));
    assert!(values(3).1.unwrap().starts_with("blocked until 20"));
    assert_eq!(values(3).0, Some("blocked"));
    assert!(entries.iter().all(|entry| entry.acting_username == "admin"));

    let past = Timestamp { seconds: 1, nanos: 0 };
    for (block, expire_time) in [
        (None, None),
        (Some(Target::Address("crm.internal".to_owned())), None),
        (Some(Target::Address("192.0.2.9/64".to_owned())), None),
        (Some(Target::Username("\n".to_owned())), None),
        (Some(Target::Address("192.0.2.9".to_owned())), Some(past)),
    ] {
        let status = add(&one, block, expire_time).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
    }
    let request = ListLegacyBlocksRequest {
        acting_username: "manager".to_owned(),
        ..ListLegacyBlocksRequest::default()
    };
    let status = one.legacy().list_legacy_blocks(request).await.unwrap_err();
    assert_eq!(reason(&status), "ACCESS_DENIED");
}

async fn an_explanation_names_the_block_and_counts_nothing(database: TestDatabase) {
    let app = start(&database).await;
    limit(&app, 4, 4).await;
    for number in 0..4 {
        from(&app, ATTACKER, &wrong("nobody", number)).await;
    }
    let right = target("admin", "3", "");
    until("the known clients are read: until then, every client is known", async || {
        explain(&app, right.clone(), ATTACKER).await.0 == LegacyCheck::AddressBlocked
    })
    .await;
    let (_, http, why) = explain(&app, right.clone(), ATTACKER).await;
    assert_eq!(http, 429);
    assert!(why.contains("blocked"), "{why}");
    // Explaining wrong hashes blocks nobody.
    for number in 0..10 {
        let (check, ..) = explain(&app, wrong("admin", number), "203.0.113.1").await;
        assert_eq!(check, LegacyCheck::IncorrectHash);
    }
    let (check, ..) = explain(&app, right.clone(), "203.0.113.1").await;
    assert_eq!(check, LegacyCheck::Passed);
    add(&app, Some(Target::Username("admin".to_owned())), None).await.unwrap();
    let (check, http, why) = explain(&app, right, "203.0.113.1").await;
    assert_eq!((check, http), (LegacyCheck::IncorrectHash, 200));
    assert!(why.contains("u is blocked"), "{why}");
}

async fn limits_out_of_range_are_refused(database: TestDatabase) {
    let app = start(&database).await;
    let stored = set(&app, Settings::default()).await.unwrap();
    assert_eq!(stored.failed_hashes_per_address, Some(600));
    assert_eq!(stored.failed_hashes_per_username, Some(600));
    assert_eq!(stored.block_seconds, Some(300));
    for (address, username, seconds) in [(1, 2, 60), (2, -1, 60), (2, 1_000_001, 60), (2, 2, 59)] {
        let settings = Settings {
            failed_hashes_per_address: Some(address),
            failed_hashes_per_username: Some(username),
            block_seconds: Some(seconds),
            ..Settings::default()
        };
        let status = set(&app, settings).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
    }
    let settings = Settings {
        failed_hashes_per_address: Some(0),
        failed_hashes_per_username: Some(1_000_000),
        block_seconds: Some(86_400),
        ..Settings::default()
    };
    let stored = set(&app, settings).await.unwrap();
    assert_eq!(stored.failed_hashes_per_address, Some(0));
    assert_eq!(stored.block_seconds, Some(86_400));
    // Without a limit, nobody is blocked.
    for number in 0..700 {
        let answer = from(&app, ATTACKER, &wrong("nobody", number)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}
