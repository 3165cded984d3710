//! The limit: the statements of an update without the service.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sea_orm::sqlx::{AssertSqlSafe, Connection, MySqlConnection, query};
use tokio::{process::Command, task::JoinSet, time::timeout};

use crate::{
    callers::RESPONSE_TIMEOUT,
    measured::Run,
    users::{FIRST_ID, next_value, random_user},
};

const ACTOR: &str = "SELECT a.id, a.username, a.account_type, a.blocked, a.show_only_assigned_users, r.level FROM accounts a \
     LEFT JOIN manager_group_rights r ON r.manager_group_id = a.manager_group_id AND r.name = 'users' WHERE a.username = 'admin'";
const USER: &str = "SELECT id, version, account_type, responsible_manager_id, call_limit, hidden, city FROM accounts";

/// Maximum number of connections. A server takes about 100, and the service has some of them.
const MOST_CONNECTIONS: usize = 64;

/// Extra run time of pgbench: it connects and prepares its statements within its run time.
const CONNECTING: Duration = Duration::from_secs(2);

/// The changes in a change log entry for an update of three fields.
pub(crate) const CHANGES: &str = "[{\"field\":\"general.call_limit\",\"old\":1,\"new\":2},{\"field\":\"general.hidden\",\"old\":true,\"new\":false},\
     {\"field\":\"address.city\",\"old\":\"City 12345\",\"new\":\"City 12346\"}]";

/// Runs pgbench with prepared statements.
pub(crate) async fn pgbench(url: &str, callers: usize, users: i64, time: Duration) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("update.sql");
    let last = FIRST_ID + users - 1;
    std::fs::write(&script, format!(
        "\\set id random({FIRST_ID}, {last})\n\\set value random(1, 1000000000)\nBEGIN;\n{ACTOR};\n\
         {USER} WHERE id = :id FOR NO KEY UPDATE;\n\
         UPDATE accounts SET version = version + 1, update_time = :value, call_limit = :value % 1000000, \
         hidden = (:value % 2 = 0), city = 'City ' || :value WHERE id = :id;\n\
         INSERT INTO change_log (user_id, version, change_time, actor_id, service, door, changes, address, reason, request_id, traceparent, identity) VALUES \
         (:id, 2, :value, 1, NULL, 'limit', '[{{\"field\": \"general.call_limit\", \"old\": 1, \"new\": 2}}, \
         {{\"field\": \"general.hidden\", \"old\": true, \"new\": false}}, \
         {{\"field\": \"address.city\", \"old\": \"City 12345\", \"new\": \"City 12346\"}}]', '', '', '', '', '');\nCOMMIT;\n"
    )).unwrap();
    let callers = callers.min(MOST_CONNECTIONS);
    let (callers, seconds) = (callers.to_string(), (CONNECTING + time).as_secs().to_string());
    let program = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--log", "--log-prefix=times"])
        .args(["--client", &callers, "--time", &seconds, "--file"])
        .arg(&script)
        .arg(url)
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    let output =
        timeout(CONNECTING + time + RESPONSE_TIMEOUT, program).await.expect("pgbench does not end");
    let output = output.expect("pgbench is part of PostgreSQL");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_times(folder.path(), time)
}

/// Reads pgbench's log of transactions: client, number, microseconds, script, and the end in
/// seconds and microseconds. Transactions that ended in the last `time` count.
fn read_times(folder: &Path, time: Duration) -> Run {
    let mut transactions = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("times") {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let fields: Vec<u64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
            let end = Duration::from_secs(fields[4]) + Duration::from_micros(fields[5]);
            transactions.push((end, Duration::from_micros(fields[2])));
        }
    }
    let last = transactions.iter().map(|(end, _)| *end).max().expect("no transaction");
    let done = transactions.len();
    transactions.retain(|(end, _)| *end + time > last);
    let first = transactions.iter().map(|(end, taken)| *end - *taken).min().unwrap();
    let times = transactions.into_iter().map(|(_, taken)| taken).collect();
    Run { done, ..Run::new(times, time.min(last - first)) }
}

/// A loop on the raw driver; each caller has its own connection, without a pool.
pub(crate) async fn mariadb(url: &str, callers: usize, users: i64, time: Duration) -> Run {
    // Connecting does not count.
    let mut connections = Vec::new();
    for _ in 0..callers.min(MOST_CONNECTIONS) {
        connections.push(MySqlConnection::connect(url).await.unwrap());
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < time {
                let sent = Instant::now();
                update_mariadb(&mut connection, random_user(users)).await;
                times.push(sent.elapsed());
            }
            connection.close().await.unwrap();
            times
        });
    }
    let times =
        timeout(time + RESPONSE_TIMEOUT, tasks.join_all()).await.expect("MariaDB does not answer");
    Run::new(times.concat(), begun.elapsed())
}

async fn update_mariadb(connection: &mut MySqlConnection, id: i64) {
    let value = i64::try_from(next_value()).unwrap();
    let mut transaction = connection.begin().await.unwrap();
    query(ACTOR).fetch_one(&mut *transaction).await.unwrap();
    let user = AssertSqlSafe(format!("{USER} WHERE id = ? FOR UPDATE"));
    query(user).bind(id).fetch_one(&mut *transaction).await.unwrap();
    let update = "UPDATE accounts SET version = version + 1, update_time = ?, call_limit = ?, hidden = ?, city = ? WHERE id = ?";
    let update = query(update).bind(value).bind(value % 1_000_000).bind(value % 2 == 0);
    let update = update.bind(format!("City {value}")).bind(id);
    update.execute(&mut *transaction).await.unwrap();
    let insert = "INSERT INTO change_log (user_id, version, change_time, actor_id, service, door, changes, address, reason, request_id, traceparent, identity) VALUES (?, 2, ?, 1, NULL, 'limit', ?, '', '', '', '', '')";
    let insert = query(insert).bind(id).bind(value).bind(CHANGES);
    insert.execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

/// A loop on raw rusqlite with `per_commit` updates in each commit.
pub(crate) fn sqlite(file: &Path, per_commit: usize, users: i64, time: Duration) -> Run {
    let mut connection = rusqlite::Connection::open(file).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000; \
             PRAGMA wal_autocheckpoint = 32000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4000")
        .unwrap();
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < time {
        let sent = Instant::now();
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        for _ in 0..per_commit {
            let id = random_user(users);
            let value = i64::try_from(next_value()).unwrap();
            let mut actor = transaction.prepare_cached(ACTOR).unwrap();
            let _: i64 = actor.query_row([], |row| row.get(0)).unwrap();
            let mut user = transaction.prepare_cached(&format!("{USER} WHERE id = ?")).unwrap();
            let _: i64 = user.query_row([id], |row| row.get(0)).unwrap();
            let mut update = transaction
                .prepare_cached("UPDATE accounts SET version = version + 1, update_time = ?, call_limit = ?, hidden = ?, city = ? WHERE id = ?")
                .unwrap();
            update
                .execute((value, value % 1_000_000, value % 2 == 0, format!("City {value}"), id))
                .unwrap();
            let mut insert = transaction
                .prepare_cached("INSERT INTO change_log (user_id, version, change_time, actor_id, service, door, changes, address, reason, request_id, traceparent, identity) VALUES (?, 2, ?, 1, NULL, 'limit', ?, '', '', '', '', '')")
                .unwrap();
            insert.execute((id, value, CHANGES)).unwrap();
        }
        transaction.commit().unwrap();
        times.extend(std::iter::repeat_n(sent.elapsed(), per_commit));
    }
    Run::new(times, begun.elapsed())
}
