//! What the service deletes by itself, once a minute.

use std::{
    thread,
    time::{Duration, Instant},
};

use m4_user_details::proto::{ListUserDetailsChangesRequest, UpdateUserDetailsRequest};

use crate::{
    program::Program,
    support::{
        app::{reason, set_city},
        database::{self, Kind, TestDatabase},
    },
};

/// The engines wait for that minute at once.
#[test]
fn what_is_old_is_deleted_on_every_engine() {
    thread::scope(|threads| {
        for kind in [Kind::Sqlite, Kind::Postgres, Kind::MariaDb] {
            threads.spawn(move || database::run(kind, what_is_old_is_deleted));
        }
    });
}

fn update(user_id: i64, city: &str) -> UpdateUserDetailsRequest {
    let request_id = format!("{user_id}f8fad5b-d9cb-469f-a165-70867728950e");
    UpdateUserDetailsRequest { request_id, ..set_city(user_id, city) }
}

async fn what_is_old_is_deleted(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_CHANGE_LOG_DAYS", "1")]).await;
    let mut users = program.users();
    for user_id in 3..=5 {
        users.update_user_details(update(user_id, "Bonn")).await.unwrap();
    }
    // Alice's are over a day old, those of the second user almost, and those of the third are new.
    for (user_id, hours) in [(3, 25_i64), (4, 23)] {
        let micros = hours * 3_600_000_000;
        let id = update(user_id, "").request_id;
        let entry = format!(
            "UPDATE change_log SET change_time = change_time - {micros} WHERE user_id = {user_id}"
        );
        let answer =
            format!("UPDATE requests SET answer_time = answer_time - {micros} WHERE id = '{id}'");
        database.execute(&entry).await;
        database.execute(&answer).await;
    }
    let (entries, answers) = ("SELECT count(*) FROM change_log", "SELECT count(*) FROM requests");
    let begun = Instant::now();
    while database.number(entries).await == 3 || database.number(answers).await == 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is deleted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = ListUserDetailsChangesRequest::default();
    let left = users.list_user_details_changes(all).await.unwrap().into_inner().changes;
    assert_eq!(left.iter().map(|change| change.user_id).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(database.number(answers).await, 2);

    // An id whose answer is kept is that of one request, and one whose answer is gone is as good as new.
    for user_id in [4, 5] {
        let status = users.update_user_details(update(user_id, "York")).await.unwrap_err();
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    }
    users.update_user_details(update(3, "York")).await.unwrap();
    assert_eq!(program.read(3).await.address.unwrap().city.as_deref(), Some("York"));
}
