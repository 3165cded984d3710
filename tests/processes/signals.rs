//! Stopping late, and crashing.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use crate::{
    program::Program,
    stopping::Begun,
    support::{database::TestDatabase, on_every_engine},
};

on_every_engine!(
    what_is_not_done_by_the_drain_deadline_is_dropped,
    an_answered_update_survives_a_crash,
);

async fn what_is_not_done_by_the_drain_deadline_is_dropped(database: TestDatabase) {
    let variables = [("M4_DRAIN_SECONDS", "1"), ("M4_DEADLINE_SECONDS", "60")];
    let mut program = Program::demo(&database, &variables).await;
    // Its body never comes.
    let _begun = Begun::call(program.http, "3", "city=Never").await;
    let begun = Instant::now();
    program.signal("INT");
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.log());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn an_answered_update_survives_a_crash(database: TestDatabase) {
    for round in 1..=5 {
        let program = Program::demo(&database, &[]).await;
        let city = format!("City {round}");
        // Others are under way when it happens.
        let others = join_all((0..5).map(|_| program.call("admin", "4", "hidden=1")));
        let (answer, _) = join(program.set_city(&city, ""), others).await;
        answer.unwrap();
        program.kill();
        assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, city);
        let entries = "SELECT count(*) FROM change_log WHERE user_id = 3";
        assert_eq!(database.number(entries).await, round);
    }
}
