//! Limits of watches: memory of clients that do not read, watches per caller, and tokens of
//! positions with many gaps.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use futures_util::future::join_all;
use m4_user_details::{
    domain::watch::WatchBudget,
    proto::{
        Comment, UpdateUserDetailsRequest, UserDetails, WatchUserDetailsResponse,
        user_details_service_client::UserDetailsServiceClient,
    },
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Streaming, transport::Endpoint};
use tonic_types::StatusExt;

use crate::{
    support::{
        app::{TestApp, reason},
        database::TestDatabase,
        on_servers, on_sqlite,
    },
    watch::{Watch, behind, everything, set_city},
};

on_sqlite!(
    clients_that_do_not_read_take_bounded_memory,
    a_caller_that_does_not_read_leaves_room_for_the_responses_of_others,
    a_caller_has_a_quarter_of_the_places,
);
on_servers!(a_position_with_many_gaps_has_a_small_token_that_loses_nothing);

/// Timeout of every wait in these tests.
const TIMEOUT: Duration = Duration::from_secs(60);
const COMMENT_BYTES: usize = 60_000;

/// Waits until a condition holds.
async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not become so");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn set_comment(app: &TestApp, number: usize) {
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    let comment = Comment { comment: Some(letter.to_string().repeat(COMMENT_BYTES)) };
    let comment = Some(comment.into());
    let user_details = Some(UserDetails { comment, ..UserDetails::default() });
    let request = UpdateUserDetailsRequest { user_id: 3, user_details, ..Default::default() };
    app.update(request).await.unwrap();
}

fn endpoint(app: &TestApp) -> Endpoint {
    Endpoint::from_shared(format!("http://{}", app.grpc)).unwrap()
}

/// A watch on its own connection. The client reads nothing.
async fn unread(app: &TestApp, token: &str) -> Option<Streaming<WatchUserDetailsResponse>> {
    unread_at(endpoint(app), token).await
}

/// Like [`unread`], on a connection with custom settings.
async fn unread_at(endpoint: Endpoint, token: &str) -> Option<Streaming<WatchUserDetailsResponse>> {
    let mut client = UserDetailsServiceClient::new(endpoint.connect().await.unwrap());
    match client.watch_user_details(behind(token)).await {
        Ok(stream) => Some(stream.into_inner()),
        Err(status) => {
            let refused = (status.code(), reason(&status));
            assert_eq!(refused, (Code::ResourceExhausted, "OVERLOADED".to_owned()));
            assert!(status.get_details_retry_info().is_some());
            None
        }
    }
}

async fn clients_that_do_not_read_take_bounded_memory(database: TestDatabase) {
    const CHANGES: usize = 40;
    const CLIENTS: usize = 200;
    /// Data that is being read when the limit is reached, in bytes.
    const OVERSHOOT: usize = 2 << 20;
    let app = TestApp::start(&database).await;
    let mut healthy = Watch::start(&app, everything()).await.unwrap();
    let before = healthy.token.clone();
    for number in 0..CHANGES {
        set_comment(&app, number).await;
        healthy.change().await.unwrap();
    }
    let budget = app.watch_budget.clone();
    let mut largest = 0;
    let unread = join_all((0..CLIENTS).map(|_| unread(&app, &before)));
    tokio::pin!(unread);
    let streams = loop {
        tokio::select! {
            streams = &mut unread => break streams,
            () = sleep(Duration::from_millis(1)) => largest = largest.max(budget.used()),
        }
    };
    // Small changes arrive while other clients do not read.
    for number in 0..CHANGES {
        set_comment(&app, number).await;
        set_city(&app, 4, &number.to_string()).await;
        largest = largest.max(budget.used());
    }
    until(|| {
        largest = largest.max(budget.used());
        budget.used() < WatchBudget::LIMIT
    })
    .await;
    assert!(largest > 10 << 20, "{largest}: the clients did not fill anything");
    assert!(largest < WatchBudget::LIMIT + OVERSHOOT, "{largest}");
    let mut cities = Watch::start(&app, everything()).await.unwrap();
    set_city(&app, 4, "during").await;
    let change = timeout(TIMEOUT, cities.change()).await.unwrap().unwrap();
    assert_eq!(change.details.unwrap().address.unwrap().city.unwrap(), "during");
    // The memory is released when the clients go.
    drop((streams, healthy, cities));
    until(|| budget.used() == 0).await;
    // A client that reads gets every change from its position on.
    let mut resumed = Watch::start(&app, behind(&before)).await.unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..CHANGES * 3 + 1 {
        assert!(ids.insert(resumed.change().await.unwrap().change_id));
    }
}

async fn a_caller_that_does_not_read_leaves_room_for_the_responses_of_others(
    database: TestDatabase,
) {
    /// Their responses exceed the memory of all callers.
    const CLIENTS: usize = 200;
    const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    /// Smaller than two responses.
    const WINDOW: u32 = 65_535;
    let app = TestApp::start(&database).await;
    let mut healthy = Watch::start(&app, everything()).await.unwrap();
    let greedy = endpoint(&app).local_address(Some(GREEDY.into()));
    let greedy = greedy.initial_stream_window_size(WINDOW);
    let streams = join_all((0..CLIENTS).map(|_| unread_at(greedy.clone(), ""))).await;
    assert!(streams.iter().all(Option::is_some));
    let budget = app.watch_budget.clone();
    for number in 0..20 {
        set_comment(&app, number).await;
        healthy.change().await.unwrap();
        if number == 2 {
            // The first responses fill the windows of their clients; the next responses wait.
            until(|| budget.responses_used() > 3 << 20).await;
        }
    }
    drop(streams);
}

async fn a_caller_has_a_quarter_of_the_places(database: TestDatabase) {
    const SHARE: usize = 256;
    // Each watch has a connection of its own, all from one address.
    let app = TestApp::start_with(&database, &[("connections.max_per_address", "0")]).await;
    let mut streams = Vec::new();
    for _ in 0..SHARE / 16 {
        let some = join_all((0..16).map(|_| unread(&app, ""))).await;
        streams.extend(some.into_iter().map(Option::unwrap));
    }
    // Another connection: one connection has no more streams.
    assert!(unread(&app, "").await.is_none());
    drop(streams.pop());
    let deadline = Instant::now() + TIMEOUT;
    while unread(&app, "").await.is_none() {
        assert!(Instant::now() < deadline, "the place does not come back");
    }
}

async fn a_position_with_many_gaps_has_a_small_token_that_loses_nothing(database: TestDatabase) {
    const GAPS: i64 = 50_000;
    let app = TestApp::start(&database).await;
    let insert = async |ids: &[i64]| {
        for ids in ids.chunks(5000) {
            let row = |id: &i64| format!("({id}, 5, {id}, 1800000000000000, 'grpc', '[]')");
            let rows: Vec<_> = ids.iter().map(row).collect();
            database
                .execute(&format!(
                    "INSERT INTO change_log (id, user_id, version, change_time, door, changes) VALUES {}",
                    rows.join(", ")
                ))
                .await;
        }
    };
    // Irregular distances, so that equal gaps are not merged.
    let visible: Vec<_> = (0..GAPS).map(|number| 2 + 3 * number + number % 2).collect();
    insert(&visible).await;
    let mut watch = Watch::start(&app, everything()).await.unwrap();
    let token = watch.token.clone();
    assert!((1000..4096).contains(&token.len()), "{}", token.len());
    // Entries that commit late: within the gaps that a token lists, and above them.
    let late = [101, 50_001, 99_999];
    insert(&late).await;
    for id in late {
        assert_eq!(watch.change().await.unwrap().change_id, id);
        assert!(watch.token.len() < 4096);
    }
    let mut resumed = Watch::start(&app, behind(&token)).await.unwrap();
    let mut seen = BTreeSet::new();
    while !late.iter().all(|id| seen.contains(id)) {
        let id = resumed.change().await.unwrap().change_id;
        assert!(seen.insert(id), "{id} came twice in one stream");
    }
    // Only entries above the gaps that the token lists may repeat.
    let again = seen.iter().filter(|id| !late.contains(id)).min().unwrap();
    assert!(*again > 1000, "{again}");
}
