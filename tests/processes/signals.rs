//! Stopping in order, and crashing.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use crate::{
    program::Program,
    support::{app::reason, database::TestDatabase, on_every_engine},
};

on_every_engine!(
    calls_in_flight_are_answered_after_sigterm,
    what_is_not_done_by_the_drain_deadline_is_dropped,
    an_answered_update_survives_a_crash,
);

/// Waits until a call is under way: it holds the only place there is, so another one is refused.
async fn wait_until_busy(program: &Program) {
    for _ in 0..500 {
        if program.call("admin", "4", "").await.status == http::StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no call is under way: {}", program.log());
}

async fn calls_in_flight_are_answered_after_sigterm(database: TestDatabase) {
    for over_grpc in [true, false] {
        let mut program = Program::demo(&database, &[("M4_MAX_IN_FLIGHT", "1")]).await;
        let locked = database.lock_alice().await;
        let city = format!("City {over_grpc}");
        // It may come while the only place is taken by a look whether it is.
        let call = async {
            loop {
                let answered = if over_grpc {
                    program.set_city(&city, "").await.map_err(|error| reason(&error))
                } else {
                    let answer =
                        program.call("admin", "3", &format!("city=City+{over_grpc}")).await;
                    let answered = answer.body.contains("successfully");
                    answered.then(Default::default).ok_or(answer.body)
                };
                match answered {
                    Err(error) if error.contains("OVERLOADED") || error.contains("Too many") => {}
                    answered => break answered,
                }
            }
        };
        let stop = async {
            wait_until_busy(&program).await;
            program.signal("TERM");
            // It takes no new connections any more, and still works on what it has begun.
            while tokio::net::TcpStream::connect(program.grpc.unwrap()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            locked.release().await;
        };
        let (answered, ()) = join(call, stop).await;
        answered.unwrap();
        assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
        assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, city);
    }
}

async fn what_is_not_done_by_the_drain_deadline_is_dropped(database: TestDatabase) {
    let variables =
        [("M4_MAX_IN_FLIGHT", "1"), ("M4_DRAIN_SECONDS", "1"), ("M4_DEADLINE_SECONDS", "60")];
    let mut program = Program::demo(&database, &variables).await;
    let locked = database.lock_alice().await;
    let users = program.users();
    let call = tokio::spawn(async move {
        let mut users = users;
        let request = || m4_user_details::proto::UpdateUserDetailsRequest {
            user_id: 3,
            update_mask: Some(prost_types::FieldMask { paths: vec!["address".to_owned()] }),
            ..Default::default()
        };
        loop {
            match users.update_user_details(request()).await {
                Err(error) if error.code() == tonic::Code::ResourceExhausted => {}
                answered => break answered,
            }
        }
    });
    wait_until_busy(&program).await;
    let begun = Instant::now();
    program.signal("INT");
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.log());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(call.await.unwrap().is_err());
    locked.release().await;
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
