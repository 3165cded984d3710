//! A standalone gateway, and the service in another process.

use http::{Method, StatusCode};
use m4_user_details::proto::{
    Settings, UpdateSettingsRequest, settings_service_client::SettingsServiceClient,
};

use crate::{
    program::Program,
    support::{
        app::{PATH, target},
        database::TestDatabase,
        on_every_engine, until,
    },
};

on_every_engine!(
    a_door_of_its_own_answers_as_the_one_in_the_service,
    a_door_proves_itself_with_a_token,
    the_switches_bind_a_door_of_its_own_too,
    a_door_of_its_own_announces_the_retirement,
);

async fn a_door_of_its_own_answers_as_the_one_in_the_service(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &[]).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    let wrong = format!("{PATH}?u=admin&user_id=3&hash=00");
    let long = format!("comment={}", "x".repeat(50_000));
    for (method, target) in [
        (Method::GET, target("admin", "3", "")),
        (Method::POST, wrong),
        (Method::POST, target("nobody", "3", "")),
        (Method::POST, target("auditor", "3", "")),
        (Method::POST, target("admin", "1", "")),
        (Method::POST, target("admin", "999", "")),
        (Method::POST, target("admin", "abc", "")),
        (Method::POST, target("admin", "3", "responsible_manager_id=1&hidden=7")),
        (
            Method::POST,
            target("admin", "3", "hidden=7&email=x&tax1_value=y&city=%00&currency_id=9"),
        ),
        (Method::POST, target("admin", "3", "city=Kaunas")),
        (Method::POST, target("admin", "3", &long)),
        (Method::DELETE, target("admin", "3", "")),
        (Method::POST, "/no/such/path".to_owned()),
    ] {
        let near = service.send(method.clone(), &target, &[]).await;
        let far = door.send(method, &target, &[]).await;
        assert_eq!((far.status, &far.body), (near.status, &near.body), "{target}");
    }
    assert_eq!(service.read(3).await.address.unwrap().city.as_deref(), Some("Kaunas"));
    assert_eq!(service.read(3).await.comment.unwrap().comment.unwrap().len(), 50_000);

    service.kill();
    let answer = door.call("admin", "3", "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains("<error>Service is temporarily unavailable</error>"));
    assert!(answer.headers.contains_key("retry-after"));
    door.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
    door.wait_for_status("/healthz", StatusCode::OK).await;
}

async fn a_door_proves_itself_with_a_token(database: TestDatabase) {
    let tokens = [("M4_GRPC_TOKEN", "internal token"), ("M4_DOOR_TOKEN", "door token")];
    let service = Program::demo(&database, &tokens).await;
    let upstream = service.grpc.unwrap();
    let door = Program::door(upstream, &[("M4_DOOR_TOKEN", "door token")]).await;
    let answer = door.call("admin", "3", "city=Kaunas").await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
    for other in [&[][..], &[("M4_DOOR_TOKEN", "wrong")], &[("M4_DOOR_TOKEN", "internal token")]] {
        let door = Program::door(upstream, other).await;
        let answer = door.call("admin", "3", "city=Wrong").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.body.contains("<status>\n  <error>User was not updated</error>"));
        // The gateway is not ready, and logs the reason once.
        for _ in 0..3 {
            let readiness = door.send(Method::GET, "/readyz", &[]).await;
            assert_eq!(readiness.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        door.wait_for_status("/healthz", StatusCode::OK).await;
        let refusals = || door.log().matches("the service refuses this gateway").count();
        until("the refusal is logged", || async { refusals() > 0 }).await;
        assert_eq!(refusals(), 1, "{}", door.log());
        assert!(door.log().contains("door.token"), "{}", door.log());
    }
    door.wait_for_status("/readyz", StatusCode::OK).await;
    // Probes of the gateway are not legacy calls.
    let metrics = service.ask_admin("/metrics").await.body;
    let failed = metrics.lines().filter(|line| line.starts_with("m4_legacy_failed_hashes_total"));
    assert!(failed.into_iter().all(|line| line.ends_with(" 0")), "{metrics}");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn the_switches_bind_a_door_of_its_own_too(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &[]).await;
    for (allow_api, allow_get_api, expected) in [
        (false, true, "API Requests are disabled"),
        (true, false, "GET Requests are disabled"),
        (true, true, "User was updated successfully"),
    ] {
        let settings = Settings {
            allow_api: Some(allow_api),
            allow_get_api: Some(allow_get_api),
            ..Settings::default()
        };
        let request = UpdateSettingsRequest { settings: Some(settings), ..Default::default() };
        SettingsServiceClient::new(service.channel()).update_settings(request).await.unwrap();
        let target = target("admin", "3", "hidden=1");
        let near = service.send(Method::GET, &target, &[]).await;
        let far = door.send(Method::GET, &target, &[]).await;
        assert!(far.body.contains(expected), "{}", far.body);
        assert_eq!((far.status, &far.body), (near.status, &near.body));
    }
    // A service without a gateway token refuses a gateway with a token.
    let door = Program::door(service.grpc.unwrap(), &[("M4_DOOR_TOKEN", "door token")]).await;
    let answer = door.call("admin", "3", "city=Wrong").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

async fn a_door_of_its_own_announces_the_retirement(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &[]).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    let told = async |program: &Program, target: &str| {
        let answer = program.send(Method::POST, target, &[]).await;
        let told = ["deprecation", "sunset", "link"]
            .map(|name| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned()));
        (told, answer.body)
    };
    let targets = [
        target("admin", "3", ""),
        target("admin", "3", "hidden=7"),
        target("nobody", "3", ""),
        format!("{PATH}?u=admin&user_id=3&hash=00"),
    ];
    for target in &targets {
        assert_eq!(told(&door, target).await.0, [None, None, None]);
    }
    let point = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let settings = Settings {
        deprecation: point(1_798_761_600),
        sunset: point(1_814_400_000),
        retirement_link: Some("https://billing.example/migrate".to_owned()),
        ..Settings::default()
    };
    let request = UpdateSettingsRequest { settings: Some(settings), ..Default::default() };
    SettingsServiceClient::new(service.channel()).update_settings(request).await.unwrap();
    for target in &targets {
        let (near, far) = (told(&service, target).await, told(&door, target).await);
        assert_eq!(far, near, "{target}");
        let [deprecation, sunset, link] = far.0;
        assert_eq!(deprecation.as_deref(), Some("@1798761600"));
        assert_eq!(sunset.as_deref(), Some("Thu, 01 Jul 2027 00:00:00 GMT"));
        assert!(
            link.unwrap().starts_with("<https://billing.example/migrate>; rel=\"deprecation\"")
        );
    }
    service.kill();
    let (headers, body) = told(&door, &targets[0]).await;
    assert!(body.contains("temporarily unavailable") && headers == [None, None, None]);
}
