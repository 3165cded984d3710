//! The upstream of a process goes away, hangs, and comes back.

use ::http::{Method, StatusCode};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    program::{DRAIN_SECONDS, Program, run},
    relay::{Line, Relay},
    support::{
        CONDITION_TIMEOUT,
        app::{Answer, reason, target},
        database::TestDatabase,
        on_every_engine, on_servers, on_sqlite,
    },
};

on_every_engine!(a_door_outlives_its_service_and_finds_it_again);

on_sqlite!(an_answer_that_breaks_anywhere_is_told_as_unavailable);

// SQLite has no connection to a server.
on_servers!(
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
    // The gateway starts without its service, and must not use the configured database.
    let nowhere = [("M4_DATABASE_URL", "postgres://127.0.0.1:1/x"), ("M4_DEADLINE_SECONDS", "2")];
    let door = Program::door(relay.address, &nowhere).await;
    assert_unavailable(&door.call("admin", "3", "").await);
    for line in [Line::Stalled, Line::Cut] {
        relay.set(Line::Open);
        door.wait_for_status("/readyz", StatusCode::OK).await;
        let answer = door.call("admin", "3", &format!("city={line:?}")).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        relay.set(line);
        let call = door.call("admin", "3", "city=Never");
        assert_unavailable(&timeout(CONDITION_TIMEOUT, call).await.unwrap());
        door.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        door.wait_for_status("/healthz", StatusCode::OK).await;
        // The gateway still refuses invalid requests itself.
        let answer = door.send(Method::PUT, &target("admin", "3", ""), &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    relay.set(Line::Open);
    door.wait_for_status("/readyz", StatusCode::OK).await;
    assert!(door.call("admin", "3", "city=Again").await.body.contains("successfully"));
    let log = door.log();
    assert!(!log.contains("the database"), "{log}");
}

async fn an_answer_that_breaks_anywhere_is_told_as_unavailable(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let relay = Relay::to(service.grpc.unwrap(), Line::Open).await;
    let door = Program::door(relay.address, &[]).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    let mut broken = 0;
    // Break after every few bytes of the response: HTTP/2 frames have 9 bytes or more.
    for bytes in (1..).step_by(3) {
        relay.break_after(usize::MAX);
        // On a settled connection.
        door.wait_for_status("/readyz", StatusCode::OK).await;
        door.call("admin", "3", "city=Whole").await;
        relay.break_after(bytes);
        let answer = door.call("admin", "3", &format!("city=City{bytes}")).await;
        if answer.body.contains("successfully") {
            break;
        }
        assert_unavailable(&answer);
        broken += 1;
    }
    assert!(broken > 20, "{broken} answers were broken");
}

async fn a_database_that_says_nothing_is_given_up_and_found_again(database: TestDatabase) {
    let (relay, url) = Relay::to_database(&database.url, Line::Stalled).await;
    let variables = [("M4_DATABASE_URL", &*url), ("M4_DEADLINE_SECONDS", "1")];
    let program = Program::serve(&["--demo"], &variables).await;
    for round in 0..2 {
        program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        program.wait_for_status("/healthz", StatusCode::OK).await;
        let call = program.call("admin", "3", "city=Never");
        assert_unavailable(&timeout(CONDITION_TIMEOUT, call).await.unwrap());
        let call = program.set_city("Never", "");
        let status = timeout(CONDITION_TIMEOUT, call).await.unwrap().unwrap_err();
        assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status:?}");
        assert_eq!(reason(&status), "UNAVAILABLE");
        relay.set(Line::Open);
        program.wait_for_status("/readyz", StatusCode::OK).await;
        // Ready means that calls succeed immediately.
        program.set_city(&format!("Again {round}"), "").await.unwrap();
        let answer = program.call("admin", "3", "phone=1").await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        relay.set(Line::Stalled);
    }
}

async fn it_stops_while_its_database_says_nothing(database: TestDatabase) {
    let (relay, url) = Relay::to_database(&database.url, Line::Open).await;
    for (prepared, line) in [(false, Line::Stalled), (true, Line::Stalled), (true, Line::Cut)] {
        relay.set(if prepared { Line::Open } else { line });
        let variables = [("M4_DATABASE_URL", &*url), ("M4_DRAIN_SECONDS", DRAIN_SECONDS)];
        let mut program = Program::serve(&["--demo"], &variables).await;
        if prepared {
            program.wait_for_status("/readyz", StatusCode::OK).await;
            relay.set(line);
        }
        program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        program.signal("TERM");
        // No call is under way: the program does not wait for the drain deadline.
        let code = program.ended().await.code();
        assert_eq!(code, Some(0), "{prepared} {line:?}: {}", program.log());
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
        program.wait_for_line("the database could not be prepared; retrying").await;
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
        assert!(told.contains("no answer from the database at 127.0.0.1:"), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}
