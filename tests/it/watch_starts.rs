//! Where a watch begins, and what it leaves out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use m4_user_details::{
    app::Environment,
    domain::clock::{Clock, SystemClock},
    proto::{
        Address, ListUserDetailsRequest, UpdateUserDetailsRequest, UserDetails, UserDetailsChange,
        WatchUserDetailsRequest, watch_user_details_request::Start,
    },
};
use prost_types::{FieldMask, Timestamp};
use tonic::Status;

use crate::{
    support::{
        app::{TestApp, reason, set_city},
        clock::TestClock,
        database::TestDatabase,
        on_every_engine, until,
    },
    watch::{Watch, everything},
};

on_every_engine!(
    a_watch_begins_at_the_earliest_entry_an_id_or_a_time,
    a_start_that_the_log_does_not_have_is_refused,
    a_list_and_its_watch_give_the_final_state_under_sixteen_writers,
    a_watch_leaves_out_other_fields_doors_and_identities,
);

fn from(start: Start) -> WatchUserDetailsRequest {
    WatchUserDetailsRequest { start: Some(start), ..everything() }
}

/// The new cities that a watch tells, up to the city `End`.
async fn cities(app: &TestApp, request: WatchUserDetailsRequest) -> Vec<String> {
    let mut watch = Watch::start(app, request).await.unwrap();
    let mut cities = Vec::new();
    loop {
        let change = watch.change().await.unwrap();
        let city = change.details.and_then(|details| details.address?.city);
        match city {
            Some(city) if city == "End" => return cities,
            city => cities.push(city.unwrap_or_default()),
        }
    }
}

async fn a_watch_begins_at_the_earliest_entry_an_id_or_a_time(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for number in 0..20 {
        app.update(set_city(3 + number % 2, &format!("City {number}"))).await.unwrap();
    }
    let middle = SystemClock.now();
    let second = Timestamp {
        seconds: middle.timestamp(),
        nanos: i32::try_from(middle.timestamp_subsec_nanos()).unwrap(),
    };
    for number in 20..40 {
        app.update(set_city(3 + number % 2, &format!("City {number}"))).await.unwrap();
    }
    app.update(set_city(5, "End")).await.unwrap();
    let expected = |numbers: std::ops::Range<i64>| {
        numbers.map(|number| format!("City {number}")).collect::<Vec<_>>()
    };
    assert_eq!(cities(&app, from(Start::StartEarliest(true))).await, expected(0..40));
    assert_eq!(cities(&app, from(Start::StartTime(second))).await, expected(20..40));
    let mut watch = Watch::start(&app, from(Start::StartEarliest(true))).await.unwrap();
    for _ in 0..10 {
        watch.change().await.unwrap();
    }
    let tenth = watch.change().await.unwrap().change_id;
    let after = from(Start::StartAfterChangeId(tenth));
    assert_eq!(cities(&app, after.clone()).await, expected(11..40));
    // One user: the others' entries do not come.
    let own = WatchUserDetailsRequest { user_id: Some(4), ..from(Start::StartEarliest(true)) };
    let mut watch = Watch::start(&app, own).await.unwrap();
    for number in (1..40).step_by(2) {
        let change = watch.change().await.unwrap();
        let city = change.details.unwrap().address.unwrap().city;
        assert_eq!((change.user_id, city), (4, Some(format!("City {number}"))));
    }
    // A token of such a watch resumes with another start, or without a start.
    let mut watch = Watch::start(&app, after).await.unwrap();
    watch.change().await.unwrap();
    let resumed = WatchUserDetailsRequest { resume_token: watch.token, ..everything() };
    assert_eq!(cities(&app, resumed).await, expected(12..40));
    // Without a start: only entries that are stored from now on.
    let mut watch = Watch::start(&app, from(Start::StartEarliest(false))).await.unwrap();
    app.update(set_city(5, "Now")).await.unwrap();
    assert_eq!(watch.change().await.unwrap().user_id, 5);
}

async fn a_start_that_the_log_does_not_have_is_refused(database: TestDatabase) {
    let clock = TestClock::at_present();
    let environment = Environment {
        clock: Arc::new(clock.clone()),
        sweep_interval: Duration::from_millis(20),
        ..Environment::default()
    };
    let keys = [("change_log.days", "1")];
    let app = TestApp::start_in(&database, &keys, environment).await;
    for city in ["Old", "Older"] {
        app.update(set_city(3, city)).await.unwrap();
    }
    let first = database.number("SELECT MIN(id) FROM change_log").await;
    let start = async |start| Watch::start(&app, from(start)).await.map(drop);
    let refused = |status: Result<(), Status>, word: &str| {
        let status = status.unwrap_err();
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert!(status.message().contains(word), "{}", status.message());
    };
    for beyond in [-1, first + 100, i64::MAX] {
        let refusal = start(Start::StartAfterChangeId(beyond)).await;
        refused(refusal, "start_after_change_id: is not the id");
    }
    let no_time = Timestamp { seconds: 0, nanos: -1 };
    refused(start(Start::StartTime(no_time)).await, "start_time: is no time");
    let before = Timestamp { seconds: 0, nanos: 0 };
    start(Start::StartTime(before)).await.unwrap();
    start(Start::StartAfterChangeId(first)).await.unwrap();
    // A sweep deletes the entries.
    clock.advance(TimeDelta::days(3));
    app.update(set_city(3, "New")).await.unwrap();
    until("old entries are deleted", async || {
        database.number("SELECT COUNT(*) FROM change_log").await == 1
    })
    .await;
    refused(start(Start::StartTime(before)).await, "start_time: is older");
    refused(start(Start::StartAfterChangeId(first)).await, "start_after_change_id: is older");
    app.update(set_city(3, "End")).await.unwrap();
    assert_eq!(cities(&app, from(Start::StartEarliest(true))).await, ["New"]);
}

/// What list and watch tell of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    etag: String,
    city: String,
    phone: String,
    fax: String,
}

impl From<UserDetails> for State {
    fn from(user: UserDetails) -> Self {
        let address = user.address.unwrap_or_default();
        let [city, phone, fax] =
            [address.city, address.phone, address.fax].map(Option::unwrap_or_default);
        Self { etag: user.etag, city, phone, fax }
    }
}

impl State {
    /// Applies an entry of the change log: a field without a value has become empty.
    fn apply(&mut self, change: UserDetailsChange) {
        let after = change.details.unwrap_or_default().address.unwrap_or_default();
        for path in change.changed_fields.unwrap().paths {
            match path.as_str() {
                "address.city" => self.city = after.city.clone().unwrap_or_default(),
                "address.phone" => self.phone = after.phone.clone().unwrap_or_default(),
                "address.fax" => self.fax = after.fax.clone().unwrap_or_default(),
                path => panic!("{path}"),
            }
        }
        self.etag = change.etag;
    }
}

/// An update of one of three fields.
fn set(user_id: i64, field: usize, value: String) -> UpdateUserDetailsRequest {
    let [mut city, mut phone, mut fax] = [None, None, None];
    *[&mut city, &mut phone, &mut fax][field] = Some(value);
    let address = Address { city, phone, fax, ..Address::default() };
    let details = UserDetails { address: Some(address.into()), ..UserDetails::default() };
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(details),
        ..UpdateUserDetailsRequest::default()
    }
}

/// Lists all users in pages of one. Returns them, and the token for a watch.
async fn list(app: &TestApp) -> (BTreeMap<i64, State>, String) {
    let mut request = ListUserDetailsRequest {
        page_size: 1,
        with_watch_token: true,
        acting_username: "admin".to_owned(),
        ..ListUserDetailsRequest::default()
    };
    let (mut token, mut users) = (String::new(), BTreeMap::new());
    loop {
        let page = app.users().list_user_details(request.clone()).await.unwrap().into_inner();
        // Only the first page has a token.
        assert_eq!(page.watch_token.is_empty(), !request.page_token.is_empty());
        token.push_str(&page.watch_token);
        users.extend(page.user_details.into_iter().map(|user| (user.user_id, user.into())));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return (users, token);
        }
    }
}

async fn a_list_and_its_watch_give_the_final_state_under_sixteen_writers(database: TestDatabase) {
    const USERS: [i64; 3] = [3, 4, 5];
    let app = Arc::new(TestApp::start(&database).await);
    let stop = Arc::new(AtomicBool::new(false));
    let write = |writer: usize| {
        let (app, stop) = (Arc::clone(&app), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut number = writer;
            while !stop.load(Ordering::Relaxed) {
                let value = format!("{writer}.{number}");
                app.update(set(USERS[number % 3], number / 3 % 2, value)).await.unwrap();
                number += 1;
            }
        })
    };
    let writers: Vec<_> = (0..16).map(write).collect();
    let mut listed = Vec::new();
    for _ in 0..5 {
        listed.push(list(&app).await);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    for user_id in USERS {
        app.update(set(user_id, 2, "End".to_owned())).await.unwrap();
    }
    let mut expected = BTreeMap::new();
    for user_id in USERS {
        expected.insert(user_id, State::from(app.read(user_id).await));
    }
    for (mut users, token) in listed {
        let watch = WatchUserDetailsRequest { resume_token: token, ..everything() };
        let mut watch = Watch::start(&app, watch).await.unwrap();
        let mut seen = BTreeSet::new();
        while users.values().any(|user| user.fax != "End") {
            let change = watch.change().await.unwrap();
            assert!(seen.insert(change.change_id), "each entry comes once");
            users.get_mut(&change.user_id).unwrap().apply(change);
        }
        assert_eq!(users, expected);
    }
}

async fn a_watch_leaves_out_other_fields_doors_and_identities(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.call("admin", "3", "city=Legacy").await;
    app.update(set_city(3, "Typed")).await.unwrap();
    app.call("admin", "3", "hidden=1").await;
    app.update(set_city(5, "End")).await.unwrap();
    let earliest = from(Start::StartEarliest(true));
    let mask = |path: &str| Some(FieldMask { paths: vec![path.to_owned()] });
    let of_city = WatchUserDetailsRequest { changed_fields: mask("address"), ..earliest.clone() };
    assert_eq!(cities(&app, of_city).await, ["Legacy", "Typed"]);
    let typed = WatchUserDetailsRequest { doors: vec!["grpc".to_owned()], ..earliest.clone() };
    assert_eq!(cities(&app, typed.clone()).await, ["Typed"]);
    let except = WatchUserDetailsRequest {
        except_identities: vec!["default".to_owned(), "crm".to_owned()],
        ..earliest.clone()
    };
    assert_eq!(cities(&app, except).await, ["Typed"]);
    // A token holds for its filter only.
    let token = Watch::start(&app, typed).await.unwrap().token;
    let other = WatchUserDetailsRequest { resume_token: token, ..everything() };
    assert_eq!(reason(&Watch::start(&app, other).await.err().unwrap()), "INVALID_REQUEST");
    for wrong in [
        WatchUserDetailsRequest { changed_fields: mask("address.town"), ..everything() },
        WatchUserDetailsRequest { doors: vec!["door".to_owned()], ..everything() },
        WatchUserDetailsRequest { doors: vec!["grpc".to_owned(); 11], ..everything() },
        WatchUserDetailsRequest { except_identities: vec!["x".to_owned(); 101], ..everything() },
    ] {
        assert_eq!(reason(&Watch::start(&app, wrong).await.err().unwrap()), "INVALID_REQUEST");
    }
}
