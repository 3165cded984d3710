//! Migrations during calls: no step blocks writers, and one replica migrates at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use m4_user_details::storage::{OpenError, migrate, migrate_by};
use m4_user_details_migrations::{Step, steps};
use sea_orm_migration::sea_query::{ColumnDef, Index};
use tokio::task::JoinHandle;

use crate::support::{
    app::{TestApp, set_city},
    database::{Kind, TestDatabase, Transaction},
    on_engine, on_every_engine, on_postgres, on_servers, until,
};

on_every_engine!(a_step_that_is_marked_keeps_older_programs_out);

on_servers!(
    a_column_is_added_beside_a_long_reader_without_delaying_writers,
    an_index_is_built_beside_a_long_reader_without_delaying_writers,
    replicas_that_migrate_at_once_take_turns,
    a_migration_that_loses_its_lock_stops,
);

on_postgres!(
    an_index_that_failed_midway_is_built_again,
    a_lock_of_an_earlier_version_is_waited_for
);

mod only_mariadb {
    use super::a_lease_of_a_replica_that_died_expires;
    super::on_engine!(mariadb, MariaDb, a_lease_of_a_replica_that_died_expires);
}

/// The maximum duration of a call while a step waits for its lock.
const LONGEST_CALL: Duration = Duration::from_secs(3);

fn with(step: Step) -> Vec<Step> {
    let mut steps = steps();
    steps.push(step);
    steps
}

fn column() -> Step {
    let column = ColumnDef::new("later").string_len(9).not_null().default("").take();
    Step::column("m9001_later", "accounts", column)
}

fn index() -> Step {
    let index = Index::create().col("city").col("id").take();
    Step::index("m9002_city", "accounts", "accounts_city_idx", index)
}

async fn has(database: &TestDatabase, step: &Step) -> bool {
    let query = format!("SELECT count(*) FROM schema_steps WHERE name = '{}'", step.name());
    database.number(&query).await == 1
}

/// Adds 200,000 users.
async fn fill(database: &TestDatabase) {
    let (name, numbers) = match database.kind {
        Kind::MariaDb => ("CONCAT('user ', seq)", "seq_1_to_200000"),
        _ => ("'user ' || seq", "generate_series(1, 200000) AS seq"),
    };
    let insert = format!(
        "INSERT INTO accounts (username, account_type, create_time, update_time, comment) \
         SELECT {name}, 'user', 1, 1, 'a comment' FROM {numbers}"
    );
    database.execute(&insert).await;
}

/// Reads the accounts like a dump, in a snapshot that lasts until the transaction ends.
async fn dump(database: &TestDatabase) -> Transaction {
    let dump = database.begin().await;
    match database.kind {
        Kind::Postgres => dump.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await,
        _ => dump.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT").await,
    }
    dump.execute("SELECT count(*) FROM accounts").await;
    dump
}

fn migrating(database: &TestDatabase, steps: Vec<Step>) -> JoinHandle<Result<(), OpenError>> {
    let options = database.options();
    tokio::spawn(async move { migrate_by(&options, &steps, false).await })
}

/// Updates a user until stopped. Returns the number of calls and the longest duration.
fn writing(
    app: &Arc<TestApp>,
    user_id: i64,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<(u32, Duration)> {
    let (app, stop) = (Arc::clone(app), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut calls, mut longest) = (0, Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            app.update(set_city(user_id, &format!("City {calls}"))).await.unwrap();
            longest = longest.max(begun.elapsed());
            calls += 1;
        }
        (calls, longest)
    })
}

/// Waits until the step has waited for its lock this many times.
async fn wait_for_attempts(database: &TestDatabase, attempts: usize) {
    let waiting = match database.kind {
        Kind::Postgres => {
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'"
        }
        _ => {
            "SELECT count(*) FROM information_schema.processlist WHERE db = database() \
             AND state LIKE 'Waiting for table metadata lock' \
             AND (info LIKE 'ALTER TABLE%' OR info LIKE 'CREATE INDEX%')"
        }
    };
    for attempt in 0..attempts {
        until("the step waits", || async { database.number(waiting).await > 0 }).await;
        if attempt + 1 < attempts {
            until("the step pauses", || async { database.number(waiting).await == 0 }).await;
        }
    }
}

async fn a_column_is_added_beside_a_long_reader_without_delaying_writers(database: TestDatabase) {
    beside_a_long_reader(database, column(), |database| async move {
        wait_for_attempts(&database, 3).await;
    })
    .await;
}

async fn an_index_is_built_beside_a_long_reader_without_delaying_writers(database: TestDatabase) {
    beside_a_long_reader(database, index(), |database| async move {
        if database.kind == Kind::MariaDb {
            return wait_for_attempts(&database, 3).await;
        }
        // The index waits for the dump, and no call waits for the index.
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock' \
                       AND now() - query_start > interval '4 seconds'";
        until("the index waits", || async { database.number(waiting).await > 0 }).await;
    })
    .await;
}

async fn beside_a_long_reader<F: Future<Output = ()>>(
    database: TestDatabase,
    step: Step,
    wait: impl FnOnce(TestDatabase) -> F,
) {
    let app = Arc::new(TestApp::start(&database).await);
    let stop = Arc::new(AtomicBool::new(false));
    fill(&database).await;
    let dump = dump(&database).await;
    let writers = [3, 4, 5].map(|user_id| writing(&app, user_id, &stop));
    let migration = migrating(&database, with(step.clone()));
    wait(database.clone()).await;
    assert!(!migration.is_finished());
    assert!(!has(&database, &step).await);
    dump.commit().await;
    migration.await.unwrap().unwrap();
    assert!(has(&database, &step).await);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let (calls, longest) = writer.await.unwrap();
        assert!(calls > 10, "{calls} calls");
        assert!(longest < LONGEST_CALL, "a call took {longest:?}");
    }
    // The version without the step still runs.
    app.update(set_city(3, "Bonn")).await.unwrap();
    migrate(&database.options(), false).await.unwrap();
}

async fn replicas_that_migrate_at_once_take_turns(database: TestDatabase) {
    let replicas: Vec<_> = (0..4).map(|_| migrating(&database, with(index()))).collect();
    for replica in replicas {
        replica.await.unwrap().unwrap();
    }
    assert!(has(&database, &index()).await);
    if database.kind == Kind::MariaDb {
        assert_eq!(database.text("SELECT holder FROM schema_lease").await, "");
    } else {
        assert_eq!(database.number("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' AND d.datname = current_database()").await, 0);
    }
}

async fn a_migration_that_loses_its_lock_stops(database: TestDatabase) {
    let _app = TestApp::start(&database).await;
    let dump = dump(&database).await;
    let migration = migrating(&database, with(column()));
    wait_for_attempts(&database, 1).await;
    let take_lock = match database.kind {
        Kind::Postgres => {
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l \
             JOIN pg_database d ON d.oid = l.database \
             WHERE l.locktype = 'advisory' AND d.datname = current_database()"
        }
        _ => {
            "UPDATE schema_lease SET holder = 'other', expire_time = UNIX_TIMESTAMP() + 60 \
             WHERE holder <> ''"
        }
    };
    database.execute(take_lock).await;
    let lost = migration.await.unwrap().unwrap_err();
    assert!(matches!(lost, OpenError::Prepare(_)), "{lost:?}");
    dump.commit().await;
    assert!(!has(&database, &column()).await);
}

async fn an_index_that_failed_midway_is_built_again(database: TestDatabase) {
    let _app = TestApp::start(&database).await;
    database.execute("CREATE INDEX accounts_city_idx ON accounts (city, id)").await;
    let broken = "UPDATE pg_index SET indisvalid = false \
                  WHERE indexrelid = 'accounts_city_idx'::regclass";
    database.execute(broken).await;
    migrating(&database, with(index())).await.unwrap().unwrap();
    let valid = "SELECT count(*) FROM pg_index \
                 WHERE indexrelid = 'accounts_city_idx'::regclass AND indisvalid";
    assert_eq!(database.number(valid).await, 1);
}

async fn a_lock_of_an_earlier_version_is_waited_for(database: TestDatabase) {
    let other = database.begin().await;
    other.execute("SELECT pg_advisory_lock(7233451094662811)").await;
    let migration = migrating(&database, steps());
    // An attempt that finds the lock taken ends with ROLLBACK.
    let looked = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND query = 'ROLLBACK'";
    until("it has looked", || async { database.number(looked).await > 0 }).await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.number(tables).await, 0);
    assert!(!migration.is_finished());
    other.execute("SELECT pg_advisory_unlock(7233451094662811)").await;
    migration.await.unwrap().unwrap();
    other.commit().await;
}

async fn a_lease_of_a_replica_that_died_expires(database: TestDatabase) {
    migrate(&database.options(), false).await.unwrap();
    let taken = "UPDATE schema_lease SET holder = 'other', expire_time = UNIX_TIMESTAMP() + 4";
    database.execute(taken).await;
    let begun = Instant::now();
    migrate(&database.options(), false).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(database.text("SELECT holder FROM schema_lease").await, "");
}

async fn a_step_that_is_marked_keeps_older_programs_out(database: TestDatabase) {
    let marked = column().incompatible("a city's name may be longer");
    migrate_by(&database.options(), &with(marked.clone()), true).await.unwrap();
    // A program that knows the step starts.
    migrate_by(&database.options(), &with(marked), true).await.unwrap();
    let refused = migrate(&database.options(), true).await.unwrap_err();
    let OpenError::Newer { step, reason } = &refused else { panic!("{refused:?}") };
    assert_eq!((&**step, &**reason), ("m9001_later", "a city's name may be longer"));
}
