//! Lists of users and of the change log: filters, orders, pages and visibility.

use m4_user_details::proto::{
    Address, ListUserDetailsChangesRequest, ListUserDetailsChangesResponse, ListUserDetailsRequest,
    ListUserDetailsResponse, RevertUserDetailsChangeRequest, RevertUserDetailsChangeResponse,
    UpdateUserDetailsRequest, UserDetails, UserDetailsChange, UserDetailsFilter,
};
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

use crate::{
    identities::with,
    support::{
        app::{TestApp, config, reason, set_city},
        database::TestDatabase,
        on_every_engine,
    },
};

on_every_engine!(
    every_order_lists_every_user_once,
    filters_apply_together,
    a_flag_filters_in_every_order,
    a_mask_says_which_fields_are_read,
    a_manager_lists_what_it_may_read,
    a_bad_list_is_refused,
    the_change_log_tells_who_changed_what,
    the_change_log_tells_which_service_called,
    a_space_at_the_end_of_what_is_filtered_by_counts,
    the_change_log_is_read_in_pages_and_spans,
    a_change_is_reverted_unless_a_later_one_touched_its_fields,
);

impl TestApp {
    async fn list(
        &self,
        request: ListUserDetailsRequest,
    ) -> Result<ListUserDetailsResponse, Status> {
        self.users().list_user_details(request).await.map(tonic::Response::into_inner)
    }

    async fn revert(
        &self,
        request: RevertUserDetailsChangeRequest,
    ) -> Result<RevertUserDetailsChangeResponse, Status> {
        self.users().revert_user_details_change(request).await.map(tonic::Response::into_inner)
    }

    async fn changes(
        &self,
        request: ListUserDetailsChangesRequest,
    ) -> Result<ListUserDetailsChangesResponse, Status> {
        self.users().list_user_details_changes(request).await.map(tonic::Response::into_inner)
    }

    /// The ids of every page. Each page but the last must be full.
    async fn pages(&self, mut request: ListUserDetailsRequest) -> Vec<i64> {
        let mut ids = Vec::new();
        loop {
            let page = self.list(request.clone()).await.unwrap();
            ids.extend(page.user_details.iter().map(|user| user.user_id));
            if page.next_page_token.is_empty() {
                return ids;
            }
            assert_eq!(page.user_details.len(), usize::try_from(request.page_size).unwrap());
            request.page_token = page.next_page_token;
        }
    }

    async fn move_to(&self, user_id: i64, city: &str, reason: &str) {
        let address = Address { city: Some(city.to_owned()), ..Address::default() };
        let details = UserDetails { address: Some(address.into()), ..UserDetails::default() };
        let request = UpdateUserDetailsRequest {
            user_id,
            user_details: Some(details),
            reason: reason.to_owned(),
            acting_username: "manager".to_owned(),
            ..UpdateUserDetailsRequest::default()
        };
        self.update(request).await.unwrap();
    }
}

/// Adds plain users 101 to 120. Some usernames differ only by case or diacritics.
async fn crowd(database: &TestDatabase) {
    for id in 101..=120 {
        let name = match id {
            101 => "Zoë".to_owned(),
            102 => "zoe".to_owned(),
            103 => "ZOE".to_owned(),
            104 => "žoe".to_owned(),
            _ => format!("crowd_{id}"),
        };
        // Times repeat: users with equal times are ordered by id.
        let (time, flag) = (id / 3, if id % 2 == 0 { "TRUE" } else { "FALSE" });
        database
            .execute(&format!(
                "INSERT INTO accounts (id, username, account_type, create_time, update_time, hidden, \
                 responsible_manager_id, email, comment) \
                 VALUES ({id}, '{name}', 'user', 0, {time}, {flag}, 6, 'crowd{id}@example.com', '')"
            ))
            .await;
    }
}

fn ordered(order_by: &str, page_size: i32) -> ListUserDetailsRequest {
    let order_by = order_by.to_owned();
    ListUserDetailsRequest { order_by, page_size, ..ListUserDetailsRequest::default() }
}

fn filtered(filter: UserDetailsFilter) -> ListUserDetailsRequest {
    ListUserDetailsRequest { filter: Some(filter), ..ListUserDetailsRequest::default() }
}

async fn every_order_lists_every_user_once(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    crowd(&database).await;
    let all = app.list(ListUserDetailsRequest::default()).await.unwrap();
    let ids: Vec<_> = (3..=5).chain(101..=120).collect();
    assert_eq!(all.user_details.iter().map(|user| user.user_id).collect::<Vec<_>>(), ids);
    assert_eq!(all.user_details[0], app.read(3).await);
    let mut names = all.user_details.clone();
    names.sort_by(|one, other| one.username.as_bytes().cmp(other.username.as_bytes()));
    let mut times = all.user_details;
    let micros = |time: &Timestamp| (time.seconds, time.nanos);
    times.sort_by_key(|user| (user.update_time.as_ref().map(micros), user.user_id));
    for (order, expected) in [
        ("id", ids),
        ("username", names.iter().map(|user| user.user_id).collect()),
        ("update_time", times.iter().map(|user| user.user_id).collect()),
    ] {
        for size in [1, 4, 23, 1000] {
            assert_eq!(app.pages(ordered(order, size)).await, expected, "{order} {size}");
            let down = app.pages(ordered(&format!("{order} desc"), size)).await;
            assert!(down.iter().rev().eq(&expected), "{order} desc {size}");
        }
    }
}

async fn filters_apply_together(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    crowd(&database).await;
    let none = UserDetailsFilter::default;
    let text = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (
            UserDetailsFilter { username_prefix: "crowd_10".to_owned(), ..none() },
            (105..110).collect(),
        ),
        (UserDetailsFilter { username_prefix: "zo".to_owned(), ..none() }, vec![102]),
        (UserDetailsFilter { username_prefix: "ž".to_owned(), ..none() }, vec![104]),
        (UserDetailsFilter { username_prefix: "%".to_owned(), ..none() }, vec![]),
        (UserDetailsFilter { username_prefix: "zoe ".to_owned(), ..none() }, vec![]),
        (UserDetailsFilter { email: text("bob@example.org"), ..none() }, vec![4]),
        (UserDetailsFilter { email: text("BOB@example.org"), ..none() }, vec![]),
        (UserDetailsFilter { responsible_manager_id: Some(2), ..none() }, vec![3]),
        (
            UserDetailsFilter {
                hidden: Some(true),
                username_prefix: "crowd_11".to_owned(),
                ..none()
            },
            vec![110, 112, 114, 116, 118],
        ),
        (
            UserDetailsFilter {
                updated_since: Some(Timestamp { seconds: 0, nanos: 39_000 }),
                responsible_manager_id: Some(6),
                ..none()
            },
            // Bob's manager is also 6, and bob was changed last.
            vec![117, 118, 119, 120, 4],
        ),
    ] {
        let request = ListUserDetailsRequest { page_size: 2, ..filtered(filter.clone()) };
        assert_eq!(app.pages(request).await, expected, "{filter:?}");
    }
    let blocked = app
        .pages(ListUserDetailsRequest {
            page_size: 9,
            ..filtered(UserDetailsFilter { blocked: Some(true), ..none() })
        })
        .await;
    for id in 3..=5 {
        let is_blocked = app.read(id).await.blocking.unwrap().blocked.unwrap();
        assert_eq!(blocked.contains(&id), is_blocked);
    }
}

async fn a_flag_filters_in_every_order(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    crowd(&database).await;
    for order_by in ["id", "username desc", "update_time"] {
        for flag in [false, true] {
            let filter = UserDetailsFilter {
                hidden: Some(flag),
                blocked: Some(false),
                username_prefix: "crowd_11".to_owned(),
                ..UserDetailsFilter::default()
            };
            let request = ListUserDetailsRequest {
                order_by: order_by.to_owned(),
                page_size: 2,
                ..filtered(filter)
            };
            let mut ids = app.pages(request).await;
            ids.sort_unstable();
            let expected: Vec<_> = (110..120).filter(|id| (id % 2 == 0) == flag).collect();
            assert_eq!(ids, expected, "{order_by} {flag}");
        }
    }
}

async fn a_mask_says_which_fields_are_read(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let masked = |paths: &[&str]| ListUserDetailsRequest {
        read_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..ListUserDetailsRequest::default()
    };
    let whole = app.read(3).await;
    let alice =
        app.list(masked(&["address.city", "general"])).await.unwrap().user_details.remove(0);
    let city = whole.address.clone().unwrap().city;
    let address = Some(Box::new(Address { city, ..Address::default() }));
    let expected = UserDetails {
        user_id: 3,
        username: whole.username.clone(),
        etag: whole.etag.clone(),
        create_time: whole.create_time,
        update_time: whole.update_time,
        general: whole.general.clone(),
        address,
        ..UserDetails::default()
    };
    assert_eq!(alice, expected);
    assert_eq!(app.list(masked(&["*"])).await.unwrap().user_details[0], whole);
    let status = app.list(masked(&["address.town"])).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
    assert!(status.message().contains("read_mask"), "{status}");
}

async fn a_manager_lists_what_it_may_read(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.move_to(3, "Bonn", "").await;
    app.move_to(4, "Bonn", "").await;
    let as_account = |name: &str| (name.to_owned(), name.to_owned());
    for (name, expected) in
        [("admin", vec![3, 4, 5]), ("auditor", vec![3, 4, 5]), ("assigned", vec![4])]
    {
        let (acting_username, acting) = as_account(name);
        let request = ListUserDetailsRequest {
            acting_username,
            page_size: 2,
            ..ListUserDetailsRequest::default()
        };
        assert_eq!(app.pages(request).await, expected, "{name}");
        let request = ListUserDetailsChangesRequest {
            acting_username: acting,
            ..ListUserDetailsChangesRequest::default()
        };
        let changes = app.changes(request).await.unwrap().changes;
        let users: Vec<_> = changes.iter().map(|change| change.user_id).collect();
        let changed = expected.iter().copied().filter(|id| *id != 5).collect::<Vec<_>>();
        assert_eq!(users, changed, "{name}");
    }
    for name in ["alice", "locked", "nobody"] {
        let (acting_username, acting) = as_account(name);
        let request =
            ListUserDetailsRequest { acting_username, ..ListUserDetailsRequest::default() };
        assert_eq!(reason(&app.list(request).await.unwrap_err()), "ACCESS_DENIED");
        let request = ListUserDetailsChangesRequest {
            acting_username: acting,
            ..ListUserDetailsChangesRequest::default()
        };
        assert_eq!(reason(&app.changes(request).await.unwrap_err()), "ACCESS_DENIED");
    }
    database.execute("DELETE FROM manager_group_rights").await;
    let request = ListUserDetailsRequest {
        acting_username: "auditor".to_owned(),
        ..ListUserDetailsRequest::default()
    };
    assert_eq!(reason(&app.list(request).await.unwrap_err()), "NOT_AUTHORIZED");
}

async fn a_bad_list_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let next_page_token = app.list(ordered("username", 1)).await.unwrap().next_page_token;
    let token = |token: &str| token.to_owned();
    for (field, request) in [
        ("page_size", ordered("id", -1)),
        ("order_by", ordered("city", 1)),
        ("order_by", ordered("id up", 1)),
        ("order_by", ordered("id desc, username", 1)),
        ("page_token", ListUserDetailsRequest { page_token: token("x"), ..ordered("id", 1) }),
        ("page_token", ListUserDetailsRequest { page_token: token("????"), ..ordered("id", 1) }),
        (
            "page_token",
            ListUserDetailsRequest { page_token: next_page_token.clone(), ..ordered("id", 1) },
        ),
        (
            "filter.updated_since",
            filtered(UserDetailsFilter {
                updated_since: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..UserDetailsFilter::default()
            }),
        ),
    ] {
        let status = app.list(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_REQUEST")
        );
        assert!(status.message().contains(field), "{status}");
    }
    // Another page size is not another list.
    let next = ListUserDetailsRequest { page_token: next_page_token, ..ordered("username", 2) };
    assert_eq!(app.list(next).await.unwrap().user_details.len(), 2);
}

async fn the_change_log_tells_who_changed_what(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    app.move_to(3, "Bonn", "Moved").await;
    assert!(
        app.call("admin", "3", "hidden=1&by=2031&bm=1&bd=2&responsible_manager_id=-1")
            .await
            .body
            .contains("success")
    );
    let after = app.read(3).await;
    let of_alice = ListUserDetailsChangesRequest {
        user_id: Some(3),
        ..ListUserDetailsChangesRequest::default()
    };
    let answer = app.changes(of_alice).await.unwrap();
    assert_eq!(answer.next_page_token, "");
    let [grpc, legacy] = <[UserDetailsChange; 2]>::try_from(answer.changes).unwrap();
    assert!(grpc.change_id < legacy.change_id);
    assert_eq!((grpc.actor_id, legacy.actor_id), (Some(2), Some(1)));
    assert_eq!((grpc.door.as_str(), legacy.door.as_str()), ("grpc", "legacy"));
    assert_eq!((grpc.reason.as_str(), legacy.reason.as_str()), ("Moved", ""));
    assert_eq!((grpc.address.as_str(), legacy.address.as_str()), ("127.0.0.1", "127.0.0.1"));
    assert_eq!((&legacy.etag, legacy.change_time), (&after.etag, after.update_time));
    let city = |city: &str| {
        let city = Some(city.to_owned());
        Some(Box::new(Address { city, ..Address::default() }))
    };
    assert_eq!(grpc.changed_fields.unwrap().paths, ["address.city"]);
    assert_eq!(
        grpc.previous_details.unwrap(),
        UserDetails { address: city("Vilnius"), ..UserDetails::default() }
    );
    assert_eq!(
        grpc.details.unwrap(),
        UserDetails { address: city("Bonn"), ..UserDetails::default() }
    );
    let paths = legacy.changed_fields.unwrap().paths;
    assert_eq!(paths, ["general.hidden", "general.responsible_manager_id", "blocking.block_date"]);
    let (previous, details) = (legacy.previous_details.unwrap(), legacy.details.unwrap());
    assert_eq!(previous.general.unwrap().responsible_manager_id, Some(2));
    assert_eq!(details.general.unwrap().responsible_manager_id, None);
    assert_eq!(previous.blocking.unwrap().block_date, before.blocking.unwrap().block_date);
    assert_eq!(details.blocking.unwrap().block_date, after.blocking.unwrap().block_date);
}

async fn the_change_log_tells_which_service_called(database: TestDatabase) {
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let named = async |name| {
        let own_name = ("grpc.token_own_name", "true");
        let keys = [("grpc.token", "internal"), own_name, ("grpc.token_name", name)];
        TestApp::start_config(&config(&database.url, &keys), true).await
    };
    let (crm, portal) = (named("crm").await, named("portal").await);
    let update = async |app: &TestApp, city: &str, acting_username: &str, request_id: &str| {
        let request = UpdateUserDetailsRequest {
            reason: format!("To {city}"),
            acting_username: acting_username.to_owned(),
            request_id: request_id.to_owned(),
            ..set_city(3, city)
        };
        app.users().update_user_details(with("internal", request)).await.unwrap();
    };
    update(&crm, "Bonn", "", id).await;
    update(&portal, "Kaunas", "", "").await;
    update(&crm, "Riga", "manager", "").await;
    assert!(crm.call("admin", "3", "city=York").await.body.contains("successfully"));
    update(&crm, "Vilnius", "", "").await;

    let changes = async |service: Option<&str>, page_token: &str| {
        let request = ListUserDetailsChangesRequest {
            service: service.map(str::to_owned),
            page_size: if service.is_some() { 1 } else { 0 },
            page_token: page_token.to_owned(),
            ..ListUserDetailsChangesRequest::default()
        };
        let answer = portal.users().list_user_details_changes(with("internal", request)).await;
        answer.unwrap().into_inner()
    };
    let told: Vec<_> = changes(None, "")
        .await
        .changes
        .into_iter()
        .map(|own| {
            let change = (own.actor_id, own.service, own.identity, own.door);
            (change, own.address, own.reason, own.request_id)
        })
        .collect();
    let row = |actor, service: &str, identity: &str, door: &str, reason: &str, id: &str| {
        let change = (actor, service.to_owned(), identity.to_owned(), door.to_owned());
        (change, "127.0.0.1".to_owned(), reason.to_owned(), id.to_owned())
    };
    let expected = [
        row(None, "crm", "crm", "grpc", "To Bonn", id),
        row(None, "portal", "portal", "grpc", "To Kaunas", ""),
        row(Some(2), "", "crm", "grpc", "To Riga", ""),
        row(Some(1), "", "default", "legacy", "", ""),
        row(None, "crm", "crm", "grpc", "To Vilnius", ""),
    ];
    assert_eq!(told, expected);
    // The exact name, and only changes that the service made in its own name.
    for (service, expected) in [
        ("crm", &["To Bonn", "To Vilnius"][..]),
        ("portal", &["To Kaunas"]),
        ("CRM", &[]),
        ("cr", &[]),
        ("", &[]),
    ] {
        let (mut reasons, mut token) = (Vec::new(), String::new());
        loop {
            let page = changes(Some(service), &token).await;
            reasons.extend(page.changes.into_iter().map(|change| change.reason));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(reasons, expected, "{service:?}");
    }
}

/// By default, MariaDB ignores trailing spaces in comparisons.
async fn a_space_at_the_end_of_what_is_filtered_by_counts(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.update(set_city(3, "Bonn")).await.unwrap();
    database.execute("UPDATE change_log SET actor_id = NULL, service = 'crm'").await;
    for (end, expected) in [("", 1), (" ", 0)] {
        let service = Some(format!("crm{end}"));
        let request = ListUserDetailsChangesRequest { service, ..Default::default() };
        assert_eq!(app.changes(request).await.unwrap().changes.len(), expected, "service{end:?}");
        let email = Some(format!("bob@example.org{end}"));
        let filter = UserDetailsFilter { email, ..UserDetailsFilter::default() };
        let users = app.list(filtered(filter)).await.unwrap().user_details;
        assert_eq!(users.len(), expected, "email{end:?}");
    }
}

async fn the_change_log_is_read_in_pages_and_spans(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for number in 0..6 {
        app.move_to(3 + number % 2, &format!("City {number}"), &number.to_string()).await;
    }
    let none = ListUserDetailsChangesRequest::default;
    let all = app.changes(none()).await.unwrap().changes;
    let reasons = |changes: &[UserDetailsChange]| {
        changes.iter().map(|change| change.reason.clone()).collect::<Vec<_>>().concat()
    };
    assert_eq!(reasons(&all), "012345");
    let mut read = String::new();
    let mut request = ListUserDetailsChangesRequest { page_size: 4, newest_first: true, ..none() };
    loop {
        let page = app.changes(request.clone()).await.unwrap();
        read += &reasons(&page.changes);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(read, "543210");
    let of_time = |change: &UserDetailsChange| change.change_time;
    for (request, expected) in [
        (ListUserDetailsChangesRequest { user_id: Some(4), ..none() }, "135"),
        (ListUserDetailsChangesRequest { actor_id: Some(2), ..none() }, "012345"),
        (ListUserDetailsChangesRequest { actor_id: Some(1), ..none() }, ""),
        (ListUserDetailsChangesRequest { service: Some("internal".to_owned()), ..none() }, ""),
        (ListUserDetailsChangesRequest { since: of_time(&all[2]), ..none() }, "2345"),
        (ListUserDetailsChangesRequest { until: of_time(&all[2]), ..none() }, "01"),
        (
            ListUserDetailsChangesRequest {
                since: of_time(&all[1]),
                until: of_time(&all[5]),
                user_id: Some(3),
                newest_first: true,
                ..none()
            },
            "42",
        ),
        (
            ListUserDetailsChangesRequest {
                since: Some(Timestamp { seconds: 9_000_000_000, nanos: 0 }),
                ..none()
            },
            "",
        ),
        (
            ListUserDetailsChangesRequest {
                until: Some(Timestamp { seconds: 1, nanos: 0 }),
                ..none()
            },
            "",
        ),
    ] {
        assert_eq!(
            reasons(&app.changes(request.clone()).await.unwrap().changes),
            expected,
            "{request:?}"
        );
    }
}

async fn a_change_is_reverted_unless_a_later_one_touched_its_fields(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let before = app.read(3).await;
    let parameters =
        "city=Bonn&hidden=1&by=2031&bm=1&bd=2&responsible_manager_id=-1&tax1_value=1.5";
    assert!(app.call("admin", "3", parameters).await.body.contains("success"));
    assert!(app.call("admin", "3", "address=Elsewhere").await.body.contains("success"));
    let changes = app.changes(ListUserDetailsChangesRequest::default()).await.unwrap().changes;
    let change_id = changes[0].change_id;
    let revert = || RevertUserDetailsChangeRequest {
        change_id,
        ..RevertUserDetailsChangeRequest::default()
    };

    let stored = app.read(3).await;
    let dry = app.revert(RevertUserDetailsChangeRequest { validate_only: true, ..revert() }).await;
    assert_eq!(dry.unwrap().user_details.unwrap().etag, stored.etag);
    assert_eq!(app.read(3).await, stored);
    for name in ["auditor", "assigned", "alice"] {
        let request =
            RevertUserDetailsChangeRequest { acting_username: name.to_owned(), ..revert() };
        let expected = match name {
            "auditor" => "NOT_AUTHORIZED",
            "assigned" => "CHANGE_NOT_FOUND",
            _ => "ACCESS_DENIED",
        };
        assert_eq!(reason(&app.revert(request).await.unwrap_err()), expected);
    }
    for change_id in [0, -1, i64::MIN, i64::MAX, changes[1].change_id + 1] {
        let request = RevertUserDetailsChangeRequest { change_id, ..revert() };
        assert_eq!(reason(&app.revert(request).await.unwrap_err()), "CHANGE_NOT_FOUND");
    }

    // The later change of the address touched none of the reverted fields.
    let request = RevertUserDetailsChangeRequest { reason: "A mistake".to_owned(), ..revert() };
    let answer = app.revert(request).await.unwrap();
    assert_eq!(answer.changed_fields, changes[0].changed_fields);
    assert_eq!(answer.previous_details, changes[0].details);
    let mut expected = before.clone();
    expected.address.as_mut().unwrap().address = Some("Elsewhere".to_owned());
    let after = app.read(3).await;
    (expected.etag, expected.update_time) = (after.etag.clone(), after.update_time);
    assert_eq!(after, expected);
    let logged = app.changes(ListUserDetailsChangesRequest::default()).await.unwrap().changes;
    assert_eq!((logged.len(), logged[2].reason.as_str()), (3, "A mistake"));

    // Now the reverted fields have later values.
    assert_eq!(reason(&app.revert(revert()).await.unwrap_err()), "CHANGED_SINCE");
    let stale = RevertUserDetailsChangeRequest { etag: stored.etag, ..revert() };
    assert_eq!(reason(&app.revert(stale).await.unwrap_err()), "ETAG_MISMATCH");
    app.move_to(3, "Kaunas", "").await;
    let etag = app.read(3).await.etag;
    let forced = app.revert(RevertUserDetailsChangeRequest { etag, ..revert() }).await.unwrap();
    assert_eq!(forced.changed_fields.unwrap().paths, ["address.city"]);
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("Vilnius"));

    // A restored value still counts as touched by later changes.
    for city in ["One", "Two", "One"] {
        app.move_to(4, city, "").await;
    }
    let request = ListUserDetailsChangesRequest {
        user_id: Some(4),
        ..ListUserDetailsChangesRequest::default()
    };
    let change_id = app.changes(request).await.unwrap().changes[0].change_id;
    let request = RevertUserDetailsChangeRequest { change_id, ..revert() };
    assert_eq!(reason(&app.revert(request).await.unwrap_err()), "CHANGED_SINCE");
}
