//! Servers as in production: dying connections, switchovers, poolers, and settings other than the
//! defaults.

use std::time::Duration;

use ::http::StatusCode;
use m4_user_details::proto::{
    Settings, UpdateSettingsRequest, settings_service_client::SettingsServiceClient,
};
use sea_orm::ConnectionTrait;
use tokio::time::Instant;

use crate::{
    program::{Program, run},
    relay::{Line, Relay},
    support::{
        app::reason,
        database::{Kind, TestDatabase},
        on_postgres, on_servers,
        server::Server,
        until,
    },
};

on_servers!(
    a_connection_that_died_costs_no_call,
    connections_that_vanished_are_replaced_within_the_deadline,
    a_row_locked_by_a_connection_that_vanished_is_free_within_the_deadline,
    a_connection_that_vanished_while_another_replica_migrates_is_replaced,
    the_next_host_is_used_where_the_first_is_away,
    the_next_host_is_used_where_the_first_says_nothing,
);

on_postgres!(
    a_column_that_changes_its_type_costs_no_call,
    writes_go_on_soon_after_the_server_accepts_them_again,
    a_pooler_without_sessions_is_refused,
    a_pooler_that_takes_its_servers_by_turns_is_refused,
    a_pooler_in_session_mode_works,
    a_database_in_another_encoding_is_refused,
);

/// The number of concurrent calls.
const CALLS: usize = 20;

/// Makes the server end every connection to the database except its own.
async fn kill_connections(database: &TestDatabase) {
    match database.kind {
        Kind::Postgres => {
            database
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
                .await;
        }
        Kind::MariaDb | Kind::Sqlite => {
            let ids = database
                .text(
                    "SELECT COALESCE(GROUP_CONCAT(id), '') FROM information_schema.processlist \
                     WHERE db = database() AND id <> connection_id()",
                )
                .await;
            for id in ids.split(',').filter(|id| !id.is_empty()) {
                database.execute(&format!("KILL SOFT CONNECTION {id}")).await;
            }
        }
    }
}

/// Sends [`CALLS`] concurrent calls.
async fn send_calls(program: &Program, value: &str) -> Vec<Result<(), tonic::Status>> {
    let cities: Vec<_> = (0..CALLS).map(|number| format!("{value} {number}")).collect();
    let calls = cities.iter().map(|city| program.set_city(city, ""));
    let outcomes = futures_util::future::join_all(calls).await;
    outcomes.into_iter().map(|outcome| outcome.map(drop)).collect()
}

/// Sends concurrent calls, which must all succeed.
async fn all_succeed(program: &Program, value: &str) {
    for outcome in send_calls(program, value).await {
        outcome.unwrap();
    }
}

async fn a_connection_that_died_costs_no_call(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    for idle in [Duration::from_millis(1200), Duration::ZERO] {
        all_succeed(&program, "Before").await;
        // The program checks connections that were idle for over a second, which is not configurable.
        tokio::time::sleep(idle).await;
        kill_connections(&database).await;
        all_succeed(&program, "After").await;
        kill_connections(&database).await;
        program.read(3).await;
        kill_connections(&database).await;
        let answer = program.call("admin", "3", "phone=1").await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
    }
}

async fn connections_that_vanished_are_replaced_within_the_deadline(database: TestDatabase) {
    const DEADLINE: Duration = Duration::from_secs(4);
    let (relay, url) = Relay::to_database(&database.url, Line::Open).await;
    let deadline = DEADLINE.as_secs().to_string();
    let variables = [("M4_DATABASE_URL", &*url), ("M4_DEADLINE_SECONDS", &*deadline)];
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    for round in 0..2 {
        all_succeed(&program, &format!("Before {round}")).await;
        let calls = send_calls(&program, "During");
        // Some calls are under way.
        let (outcomes, ()) = tokio::join!(calls, async { relay.lose_connections() });
        for status in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(reason(&status), "UNAVAILABLE", "{status:?}");
        }
        let lost = Instant::now();
        until("a call succeeds", || async { program.set_city("After", "").await.is_ok() }).await;
        assert!(lost.elapsed() < DEADLINE, "{:?}", lost.elapsed());
        all_succeed(&program, &format!("After {round}")).await;
        program.wait_for_status("/readyz", StatusCode::OK).await;
    }
}

async fn a_row_locked_by_a_connection_that_vanished_is_free_within_the_deadline(
    database: TestDatabase,
) {
    let (relay, url) = Relay::to_database(&database.url, Line::Open).await;
    let variables = [("M4_DATABASE_URL", &*url), ("M4_DEADLINE_SECONDS", "4")];
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    let holder = database.begin().await;
    holder.execute("SELECT id FROM accounts WHERE id = 3 FOR UPDATE").await;
    let lose = async {
        database.until_a_lock_is_waited_for().await;
        relay.lose_connections();
        // The server grants the row to the transaction that vanished.
        holder.commit().await;
        program.set_city("After", "").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(program.set_city("During", ""), lose);
    if let Err(status) = outcome {
        assert_eq!(reason(&status), "UNAVAILABLE", "{status:?}");
    }
}

async fn a_connection_that_vanished_while_another_replica_migrates_is_replaced(
    database: TestDatabase,
) {
    // Another replica holds the migration lock.
    let (take, give) = match database.kind {
        Kind::Postgres => ("SELECT pg_advisory_lock(7233451094662811)", "SELECT 1"),
        Kind::MariaDb | Kind::Sqlite => (
            "CREATE TABLE schema_lease (name varchar(64) PRIMARY KEY, holder varchar(64) NOT NULL, \
             expire_time bigint NOT NULL) SELECT 'migrations' AS name, 'other' AS holder, \
             UNIX_TIMESTAMP() + 600 AS expire_time",
            "UPDATE schema_lease SET holder = ''",
        ),
    };
    let other = database.connect().await;
    other.execute_unprepared(take).await.unwrap();
    let (relay, url) = Relay::to_database(&database.url, Line::Open).await;
    let mut program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &*url)]).await;
    program.wait_for_line("another replica brings the schema up to date").await;
    relay.lose_connections();
    other.execute_unprepared(give).await.unwrap();
    other.close().await.unwrap();
    program.wait_for_status("/readyz", StatusCode::OK).await;
    all_succeed(&program, "After").await;
}

async fn the_next_host_is_used_where_the_first_is_away(database: TestDatabase) {
    let (first, url) = Relay::to_database(&database.url, Line::Open).await;
    let (second, _) = Relay::to_database(&database.url, Line::Open).await;
    let hosts = format!("{},{}", first.address, second.address);
    let url = url.replace(&first.address.to_string(), &hosts);
    let variables = [("M4_DATABASE_URL", &*url)];
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    assert_eq!(second.connections(), 0);
    first.set(Line::Cut);
    until("a call succeeds", || async { program.set_city("Second", "").await.is_ok() }).await;
    assert!(second.connections() > 0);
    all_succeed(&program, "Second").await;
}

async fn the_next_host_is_used_where_the_first_says_nothing(database: TestDatabase) {
    let (first, url) = Relay::to_database(&database.url, Line::Open).await;
    let (second, _) = Relay::to_database(&database.url, Line::Open).await;
    let hosts = format!("{},{}", first.address, second.address);
    let url = url.replace(&first.address.to_string(), &hosts);
    let variables = [("M4_DATABASE_URL", &*url), ("M4_DEADLINE_SECONDS", "4")];
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    all_succeed(&program, "First").await;
    // A frozen server still accepts connections.
    first.set(Line::Stalled);
    until("a call succeeds", || async { program.set_city("Second", "").await.is_ok() }).await;
    all_succeed(&program, "Second").await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
}

async fn a_column_that_changes_its_type_costs_no_call(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    for length in [400, 500] {
        all_succeed(&program, "Before").await;
        program.read(3).await;
        database
            .execute(&format!("ALTER TABLE accounts ALTER COLUMN city TYPE varchar({length})"))
            .await;
        all_succeed(&program, "After").await;
        program.read(3).await;
    }
}

async fn writes_go_on_soon_after_the_server_accepts_them_again(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let name = database.text("SELECT current_database()::text").await;
    database
        .execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    kill_connections(&database).await;
    let status = program.set_city("Never", "").await.unwrap_err();
    assert_eq!(reason(&status), "UNAVAILABLE", "{status:?}");
    program.read(3).await;
    // Existing sessions stay read-only; new sessions do not.
    let reset = format!(
        "SET transaction_read_only = off; \
         ALTER DATABASE {name} RESET default_transaction_read_only"
    );
    database.execute(&reset).await;
    let begun = Instant::now();
    // Settings first: no update has closed the sessions yet.
    until("settings go on", || async {
        let settings = Settings { allow_get_api: Some(true), ..Settings::default() };
        let request = UpdateSettingsRequest {
            settings: Some(settings),
            acting_username: "admin".to_owned(),
            ..UpdateSettingsRequest::default()
        };
        SettingsServiceClient::new(program.channel()).update_settings(request).await.is_ok()
    })
    .await;
    until("writes go on", || async { program.set_city("Again", "").await.is_ok() }).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    all_succeed(&program, "Again").await;
}

/// Runs a command, and returns its exit code and output.
fn ended(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = run(arguments, variables);
    let written = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(written).unwrap())
}

async fn a_pooler_without_sessions_is_refused(database: TestDatabase) {
    let Some(pooler) = Server::pgbouncer(&database.url, "transaction") else { return skipped() };
    let Some(other) = Server::pgbouncer(&database.url, "statement") else { return skipped() };
    let name = database.text("SELECT current_database()::text").await;
    let url = pooler.url("postgres://postgres", &name);
    let several = url.replace("@", "@127.0.0.1:1,");
    for (arguments, url) in [
        (&["migrate", "--demo"][..], &url),
        (&["serve", "--demo"], &url),
        (&["serve", "--demo"], &several),
        (&["migrate"], &other.url("postgres://postgres", &name)),
    ] {
        let listen = ["M4_GRPC_LISTEN", "M4_HTTP_LISTEN", "M4_ADMIN_LISTEN"];
        let listen = listen.map(|name| (name, "127.0.0.1:0"));
        let variables = [&[("M4_DATABASE_URL", &**url)][..], &listen].concat();
        let (code, written) = ended(arguments, &variables);
        assert_eq!(code, Some(2), "{written}");
        assert!(
            written.contains("PgBouncer") && written.contains("pool_mode = session"),
            "{written}"
        );
    }
    let (code, written) = ended(&["doctor"], &[("M4_DATABASE_URL", &*url)]);
    assert_eq!(code, Some(1), "{written}");
    assert!(written.contains("error    pooler: a pooler in transaction"), "{written}");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(database.number(locks).await, 0);
    assert_eq!(
        database.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await,
        0
    );
}

async fn a_pooler_that_takes_its_servers_by_turns_is_refused(database: TestDatabase) {
    let by_turns = "transaction\nserver_round_robin = 1";
    let Some(pooler) = Server::pgbouncer(&database.url, by_turns) else { return skipped() };
    let name = database.text("SELECT current_database()::text").await;
    let url = pooler.url("postgres://postgres", &name);
    // The pooler now has several server connections.
    let pooled = TestDatabase { kind: Kind::Postgres, url: url.clone() };
    let transactions = [pooled.begin().await, pooled.begin().await, pooled.begin().await];
    for transaction in transactions {
        transaction.commit().await;
    }
    let (code, written) = ended(&["migrate"], &[("M4_DATABASE_URL", &*url)]);
    assert_eq!(code, Some(2), "{written}");
    assert!(written.contains("PgBouncer"), "{written}");
}

async fn a_pooler_in_session_mode_works(database: TestDatabase) {
    let Some(pooler) = Server::pgbouncer(&database.url, "session") else { return skipped() };
    let name = database.text("SELECT current_database()::text").await;
    let url = pooler.url("postgres://postgres", &name);
    let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &*url)]).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    all_succeed(&program, "Pooled").await;
    program.read(3).await;
}

async fn a_database_in_another_encoding_is_refused(database: TestDatabase) {
    let name = database.text("SELECT current_database()::text").await + "_latin";
    database
        .execute(&format!(
            "CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .await;
    let url = database.url.replace(&name.replace("_latin", ""), &name);
    let (code, written) = ended(&["migrate"], &[("M4_DATABASE_URL", &*url)]);
    database.execute(&format!("DROP DATABASE {name}")).await;
    assert_eq!(code, Some(2), "{written}");
    assert!(written.contains("LATIN1") && written.contains("UTF8"), "{written}");
}

/// The output of the test already states the reason.
fn skipped() {}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_with_other_defaults_stores_what_it_acknowledges() {
    let options = [
        "--autocommit=0",
        "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
        "--default-storage-engine=MyISAM",
        "--wait-timeout=2",
        "--transaction-isolation=SERIALIZABLE",
    ];
    let Some(server) = Server::mariadb(&options) else { return skipped() };
    let url = server.url("mysql://root", "mysql");
    let database = TestDatabase { kind: Kind::MariaDb, url };
    database.execute("CREATE DATABASE m4").await;
    let url = server.url("mysql://root", "m4");
    let variables = [("M4_DATABASE_URL", &*url)];
    let token = ["token", "create", "--name", "crm", "--scope", "read"];
    for arguments in [&["migrate", "--demo"][..], &token] {
        let (code, written) = ended(arguments, &variables);
        assert_eq!(code, Some(0), "{written}");
    }
    let (_, written) = ended(&["token", "list"], &variables);
    assert!(written.contains("crm"), "{written}");
    let database = TestDatabase { kind: Kind::MariaDb, url: url.clone() };
    let tables = "SELECT count(*) FROM information_schema.tables \
                  WHERE table_schema = database() AND engine <> 'InnoDB'";
    assert_eq!(database.number(tables).await, 0);
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    let call = program.call("admin", "5", "city=\\%22'").await;
    assert!(call.body.contains("successfully"), "{}", call.body);
    // The server closes idle connections.
    let closed = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status \
                  WHERE variable_name = 'ABORTED_CLIENTS'";
    until("idle connections are closed", || async { database.number(closed).await > 0 }).await;
    let call = program.call("admin", "5", "phone=1").await;
    assert!(call.body.contains("successfully"), "{}", call.body);
    let calls =
        (0..CALLS).map(|number| program.call("admin", "5", format!("phone={number}").leak()));
    for call in futures_util::future::join_all(calls).await {
        assert!(call.body.contains("successfully"), "{}", call.body);
    }
    assert_eq!(database.text("SELECT city FROM accounts WHERE id = 5").await, "\\\"'");
    drop(program);
    // As created by a version that did not set the engine.
    database.execute("ALTER TABLE requests ENGINE = MyISAM").await;
    let (code, written) = ended(&["migrate"], &variables);
    assert_eq!(code, Some(2), "{written}");
    assert!(written.contains("ALTER TABLE requests ENGINE = InnoDB"), "{written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_with_other_defaults_commits_to_its_standby() {
    for value in ["off", "local"] {
        let setting = format!("synchronous_commit={value}");
        let Some(server) = Server::postgres(&[&setting]) else { return skipped() };
        let url = server.url("postgres://postgres", "postgres");
        let mut program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &*url)]).await;
        let prepared = program.wait_for_line("the database is prepared").await;
        let durability = prepared["fields"]["durability"].to_string();
        assert!(durability.contains("synchronous_commit=on"), "{durability}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_could_lose_an_acknowledged_update_are_refused() {
    if let Some(server) = Server::postgres(&["fsync=off"]) {
        let url = server.url("postgres://postgres", "postgres");
        let (code, written) = ended(&["migrate"], &[("M4_DATABASE_URL", &*url)]);
        assert_eq!(code, Some(2), "{written}");
        assert!(written.contains("fsync is off"), "{written}");
    }
    if let Some(server) = Server::mariadb(&["--log-bin", "--server-id=1", "--sync-binlog=0"]) {
        let url = server.url("mysql://root", "mysql");
        let database = TestDatabase { kind: Kind::MariaDb, url: url.clone() };
        for (set, expected) in [
            ("SELECT 1", "sync_binlog is 0"),
            (
                "SET GLOBAL sync_binlog = 1, innodb_flush_log_at_trx_commit = 2",
                "innodb_flush_log_at_trx_commit is 2",
            ),
        ] {
            database.execute(set).await;
            let (code, written) = ended(&["migrate"], &[("M4_DATABASE_URL", &*url)]);
            assert_eq!(code, Some(2), "{written}");
            assert!(written.contains(expected), "{written}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_second_host_stores_nothing() {
    let Some(unfit) = Server::postgres(&["fsync=off"]) else { return skipped() };
    let Some(mut fit) = Server::postgres(&[]) else { return skipped() };
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", fit.port, unfit.port);
    let url = format!("postgres://postgres@{hosts}/postgres");
    let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &*url)]).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    all_succeed(&program, "First").await;
    fit.kill();
    let status = program.set_city("Never", "").await.unwrap_err();
    assert_eq!(reason(&status), "UNAVAILABLE", "{status:?}");
    program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(program.log().contains("fsync is off"), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_passed_over() {
    let Some(standby) = Server::postgres(&["default_transaction_read_only=on"]) else {
        return skipped();
    };
    let Some(mut primary) = Server::postgres(&[]) else { return skipped() };
    let mut programs = Vec::new();
    for (first, second) in [(&standby, &primary), (&primary, &standby)] {
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", first.port, second.port);
        let url = format!("postgres://postgres@{hosts}/postgres");
        let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &*url)]).await;
        program.wait_for_status("/readyz", StatusCode::OK).await;
        all_succeed(&program, "Primary").await;
        programs.push(program);
    }
    let stored =
        TestDatabase { kind: Kind::Postgres, url: primary.url("postgres://postgres", "postgres") };
    assert!(stored.number("SELECT count(*) FROM accounts").await > 0);

    // Until a standby is promoted, no host accepts writes.
    primary.kill();
    for program in programs {
        for outcome in send_calls(&program, "Never").await {
            let status = outcome.unwrap_err();
            assert_eq!(reason(&status), "UNAVAILABLE", "{status:?}");
        }
    }
}

#[test]
fn a_url_that_cannot_be_used_names_its_part_and_ends_with_2() {
    for (url, expected) in [
        ("postgres://u:pa#hush@h/d", "percent-encode"),
        ("postgres://h/d?sslmode=bogus", "sslmode"),
        ("mysql://h/d?foo=hush", "foo"),
        ("oracle://h/d", "sqlite://FILE, postgres://… or mysql://…"),
    ] {
        for arguments in [&["migrate"][..], &["serve"]] {
            let (code, written) = ended(arguments, &[("M4_DATABASE_URL", url)]);
            assert_eq!(code, Some(2), "{url}: {written}");
            assert!(written.contains(expected) && !written.contains("hush"), "{written}");
        }
    }
}
