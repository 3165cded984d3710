//! A Galera cluster with writes on both nodes: each node knows the other's acknowledged updates.

use ::http::StatusCode;
use m4_user_details::proto::UpdateUserDetailsRequest;
use sea_orm::{ConnectionTrait, DbBackend, ExecResult, Statement};

use crate::{
    program::Program,
    support::{
        app::set_city,
        database::{Kind, TestDatabase},
        server::Server,
        until,
    },
};

const CITY: &str = "SELECT city FROM accounts WHERE id = 3";
const ENTRIES: &str = "SELECT count(*) FROM change_log";

/// Two nodes with a service replica each. `None` if Galera is not installed.
async fn cluster() -> Option<([Server; 2], [TestDatabase; 2], [Program; 2])> {
    let first = Server::galera(None)?;
    let second = Server::galera(Some(&first))?;
    let nodes = [first, second];
    let database = |node: &Server, name: &str| TestDatabase {
        kind: Kind::MariaDb,
        url: node.url("mysql://root", name),
    };
    for node in &nodes {
        let status = "SELECT variable_value FROM information_schema.global_status \
                      WHERE variable_name = 'wsrep_local_state_comment'";
        until("the node is synced", || async {
            database(node, "mysql").text(status).await == "Synced"
        })
        .await;
    }
    database(&nodes[0], "mysql").execute("CREATE DATABASE m4").await;
    let databases = [database(&nodes[0], "m4"), database(&nodes[1], "m4")];
    // Both replicas migrate the schema.
    let (first, second) =
        tokio::join!(Program::demo(&databases[0], &[]), Program::demo(&databases[1], &[]));
    assert_eq!(databases[1].number("SELECT count(*) FROM accounts").await, 8);
    let holder = "SELECT holder FROM schema_lease";
    until("the lock is free", || async { databases[1].text(holder).await.is_empty() }).await;
    Some((nodes, databases, [first, second]))
}

async fn until_both_have(databases: &[TestDatabase; 2], city: &str) {
    for database in databases {
        until("a node has the city", || async { database.text(CITY).await == city }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_by_turns_on_two_nodes_is_stored_each_time() {
    const ROUNDS: i64 = 50;
    let Some((_nodes, databases, programs)) = cluster().await else { return };
    for _ in 0..ROUNDS {
        programs[0].set_city("First", "").await.unwrap();
        programs[1].set_city("Second", "").await.unwrap();
    }
    until_both_have(&databases, "Second").await;
    for database in &databases {
        assert_eq!(database.number(ENTRIES).await, 2 * ROUNDS);
    }

    // A node that applies the other node's acknowledged updates late.
    let late = databases[1].connect().await;
    late.execute_unprepared("FLUSH TABLES WITH READ LOCK").await.unwrap();
    programs[0].set_city("Third", "").await.unwrap();
    let release = async {
        // `BEGIN` waits for the third city. An update that reads old data waits for the lock.
        let waiting = "SELECT count(*) FROM information_schema.processlist \
                       WHERE db = database() AND id <> connection_id() \
                       AND (info = 'BEGIN' OR info LIKE 'UPDATE%accounts%')";
        until("the update waits", || async { databases[1].number(waiting).await > 0 }).await;
        late.execute_unprepared("UNLOCK TABLES").await.unwrap();
    };
    let (updated, ()) = tokio::join!(programs[1].set_city("Second", ""), release);
    updated.unwrap();
    until_both_have(&databases, "Second").await;
    for (database, program) in databases.iter().zip(&programs) {
        assert_eq!(database.number(ENTRIES).await, 2 * ROUNDS + 2);
        program.wait_for_status("/readyz", StatusCode::OK).await;
    }
}

/// A node sometimes ends a transaction without an error.
#[tokio::test(flavor = "multi_thread")]
async fn write_statements_write_nothing_outside_their_transaction() {
    const REQUEST: &str = "6d2a1c1e-5b1c-4f0e-9d55-0d6f1c9f2b11";
    const STATEMENTS: usize = 3;
    let Some((_nodes, [database, _], programs)) = cluster().await else { return };
    database.execute("SET GLOBAL log_output = 'TABLE', general_log = ON").await;
    let request =
        UpdateUserDetailsRequest { request_id: REQUEST.to_owned(), ..set_city(3, "Berlin") };
    programs[0].users().update_user_details(request).await.unwrap();
    database.execute("SET GLOBAL general_log = OFF").await;

    let connection = database.connect().await;
    let logged = "SELECT CAST(argument AS CHAR) AS text FROM mysql.general_log \
                  WHERE command_type = 'Execute' AND (argument LIKE 'UPDATE `accounts`%' \
                  OR argument LIKE 'INSERT INTO `change_log`%' \
                  OR argument LIKE 'INSERT INTO `requests`%')";
    let logged = Statement::from_string(DbBackend::MySql, logged);
    let rows = connection.query_all_raw(logged).await.unwrap();
    let writes: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    assert_eq!(writes.len(), STATEMENTS, "{writes:?}");

    // The state before the update, for the same statements.
    let before = [
        "UPDATE accounts SET version = version - 1, city = '' WHERE id = 3",
        "DELETE FROM change_log WHERE user_id = 3",
        "DELETE FROM requests",
    ];
    for statement in before {
        connection.execute_unprepared(statement).await.unwrap();
    }
    for write in &writes {
        let written = connection.execute_unprepared(write).await;
        let rows = written.as_ref().map_or(0, ExecResult::rows_affected);
        assert_eq!(rows, 0, "{write}: {written:?}");
    }
    connection.execute_unprepared("BEGIN").await.unwrap();
    for write in &writes {
        assert_eq!(connection.execute_unprepared(write).await.unwrap().rows_affected(), 1);
    }
    connection.execute_unprepared("COMMIT").await.unwrap();
    assert_eq!(database.text(CITY).await, "Berlin");
    assert_eq!(database.number(ENTRIES).await, 1);
}
