//! What lies behind a process is away, says nothing, and is there again.

use std::time::{Duration, Instant};

use ::http::{Method, StatusCode};
use tonic::Code;

use crate::{
    program::{Program, run},
    relay::{Line, Relay},
    support::{
        app::{Answer, reason, target},
        database::{Kind, TestDatabase},
        on_every_engine,
    },
};

on_every_engine!(
    a_door_outlives_its_service_and_finds_it_again,
    a_database_that_says_nothing_is_given_up_and_found_again,
    it_stops_while_its_database_says_nothing,
);

const UNAVAILABLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<status>\n  \
     <error>Service is temporarily unavailable</error>\n</status>\n";

fn assert_unavailable(answer: &Answer) {
    assert_eq!((answer.status, &*answer.body), (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8");
}

async fn a_door_outlives_its_service_and_finds_it_again(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let relay = Relay::to(service.grpc.unwrap(), Line::Cut).await;
    // It starts without its service, with a database that it must not care for.
    let nowhere = [("M4_DATABASE_URL", "postgres://127.0.0.1:1/x"), ("M4_DEADLINE_SECONDS", "2")];
    let door = Program::door(relay.address, &nowhere).await;
    assert_unavailable(&door.call("admin", "3", "").await);
    for line in [Line::Stalled, Line::Cut] {
        relay.set(Line::Open);
        door.wait_for_status("/readyz", StatusCode::OK).await;
        let answer = door.call("admin", "3", &format!("city={line:?}")).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        relay.set(line);
        let begun = Instant::now();
        assert_unavailable(&door.call("admin", "3", "city=Never").await);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        door.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        door.wait_for_status("/healthz", StatusCode::OK).await;
        // What the door itself refuses it still refuses.
        let answer = door.send(Method::PUT, &target("admin", "3", ""), &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    relay.set(Line::Open);
    door.wait_for_status("/readyz", StatusCode::OK).await;
    assert!(door.call("admin", "3", "city=Again").await.body.contains("successfully"));
    let log = door.log();
    assert!(!log.contains("the database"), "{log}");
}

async fn a_database_that_says_nothing_is_given_up_and_found_again(database: TestDatabase) {
    if database.kind == Kind::Sqlite {
        return; // It has no line.
    }
    let (relay, url) = Relay::to_database(&database.url, Line::Stalled).await;
    let variables = [("M4_DATABASE_URL", &*url), ("M4_DEADLINE_SECONDS", "1")];
    let program = Program::serve(&["--demo"], &variables).await;
    for round in 0..2 {
        program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        program.wait_for_status("/healthz", StatusCode::OK).await;
        let begun = Instant::now();
        assert_unavailable(&program.call("admin", "3", "city=Never").await);
        let status = program.set_city("Never", "").await.unwrap_err();
        assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status:?}");
        assert_eq!(reason(&status), "UNAVAILABLE");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        relay.set(Line::Open);
        program.wait_for_status("/readyz", StatusCode::OK).await;
        // Serving again means that it does, at once.
        program.set_city(&format!("Again {round}"), "").await.unwrap();
        let answer = program.call("admin", "3", "phone=1").await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        relay.set(Line::Stalled);
    }
}

async fn it_stops_while_its_database_says_nothing(database: TestDatabase) {
    if database.kind == Kind::Sqlite {
        return;
    }
    let (relay, url) = Relay::to_database(&database.url, Line::Open).await;
    for (prepared, line) in [(false, Line::Stalled), (true, Line::Stalled), (true, Line::Cut)] {
        relay.set(if prepared { Line::Open } else { line });
        let variables = [("M4_DATABASE_URL", &*url), ("M4_DRAIN_SECONDS", "10")];
        let mut program = Program::serve(&["--demo"], &variables).await;
        if prepared {
            program.wait_for_status("/readyz", StatusCode::OK).await;
            relay.set(line);
        }
        program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        let begun = Instant::now();
        program.signal("TERM");
        // No call is under way.
        let code = program.ended().await.code();
        assert_eq!(code, Some(0), "{prepared} {line:?}: {}", program.log());
        assert!(begun.elapsed() < Duration::from_secs(9), "{prepared} {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_told_to_nobody_while_the_database_is_away() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls =
        ["postgres", "mysql"].map(|scheme| format!("{scheme}://m4:hush-password@{nobody}/m4"));
    let commands: Vec<_> = urls
        .iter()
        .cloned()
        .flat_map(|url| {
            [vec!["migrate"], vec!["settings", "get"]].map(|command| (url.clone(), command))
        })
        .map(|(url, command)| {
            std::thread::spawn(move || run(&command, &[("M4_DATABASE_URL", &url)]))
        })
        .collect();
    for url in &urls {
        let variables = [("M4_DATABASE_URL", url.as_str()), ("M4_LOG", "trace")];
        let mut program = Program::serve(&["--demo"], &variables).await;
        program.wait_for_line("trying again").await;
        assert_unavailable(&program.call("admin", "3", "").await);
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
        assert!(!program.log().contains("hush"), "{}", program.log());
    }
    for command in commands {
        let output = command.join().unwrap();
        let told =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        let known = ["the database cannot be prepared", "the storage does not answer"];
        assert!(known.iter().any(|known| told.contains(known)), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}
