//! `migrate --status` and `--dry-run` show the pending steps, and change nothing.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use m4_user_details_migrations::steps;

use crate::{
    program::run,
    support::{
        database::{Kind, TestDatabase},
        on_every_engine, on_postgres, on_servers,
        process::installed,
    },
};

on_every_engine!(a_migration_tells_what_it_does_and_would_do);

on_servers!(a_dry_run_is_a_script_for_the_client_of_the_database);

on_postgres!(a_dry_run_shows_the_index_that_is_built_concurrently);

fn migrate(database: &TestDatabase, arguments: &[&str], code: i32) -> String {
    let arguments: Vec<_> = ["migrate"].iter().chain(arguments).copied().collect();
    let Output { status, stdout, stderr } = run(&arguments, &[("M4_DATABASE_URL", &database.url)]);
    let (out, errors) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{out}{errors}");
    out + &errors
}

/// The number of tables in the database.
async fn tables(database: &TestDatabase) -> i64 {
    let tables = match database.kind {
        Kind::Sqlite => "SELECT count(*) FROM sqlite_master WHERE type = 'table'",
        Kind::Postgres => {
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        }
        Kind::MariaDb => {
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = database()"
        }
    };
    database.number(tables).await
}

async fn a_migration_tells_what_it_does_and_would_do(database: TestDatabase) {
    let all = steps().len();
    // Without a database file, nothing is created.
    let told = migrate(&database, &["--status"], 1);
    assert_eq!(told.matches("\tpending\t").count(), all, "{told}");
    assert!(told.contains(&format!("{all} steps are pending")), "{told}");
    let sql = migrate(&database, &["--dry-run"], 0);
    assert_eq!(sql.matches("-- m0").count(), all, "{sql}");
    let table = if database.kind == Kind::Postgres { "\"accounts\"" } else { "accounts" };
    assert!(sql.contains("CREATE TABLE IF NOT EXISTS") && sql.contains(table), "{sql}");
    let is_for_mysql = sql.contains("ENGINE=InnoDB");
    assert_eq!(is_for_mysql, database.kind == Kind::MariaDb, "{sql}");
    if database.kind != Kind::Sqlite {
        assert_eq!(tables(&database).await, 0);
    } else {
        assert!(!std::path::Path::new(database.url.trim_start_matches("sqlite://")).exists());
    }

    let told = migrate(&database, &[], 0);
    assert_eq!(told.matches(": applied in ").count(), all, "{told}");
    assert!(told.contains("m0001_currencies: applied in ") && told.contains(" ms\n"), "{told}");
    assert_eq!(migrate(&database, &[], 0), "the schema is up to date\n");
    let told = migrate(&database, &["--status"], 0);
    assert_eq!(told.matches("\tapplied\tcan run").count(), all, "{told}");
    assert_eq!(migrate(&database, &["--dry-run"], 0), "");

    // A migration runs the statements of the dry run.
    database.execute("DROP TABLE legacy_blocks").await;
    database.execute("DELETE FROM schema_steps WHERE name = 'm0042_legacy_blocks'").await;
    database.execute("INSERT INTO schema_steps (name) VALUES ('m0099_future')").await;
    let told = migrate(&database, &["--status"], 1);
    assert!(told.contains("m0042_legacy_blocks\tpending\tcan run"), "{told}");
    assert!(told.contains("m0099_future\tapplied by a newer version\tcan run"), "{told}");
    assert!(told.contains("1 step is pending"), "{told}");
    let before = tables(&database).await;
    let sql = migrate(&database, &["--dry-run"], 0);
    assert_eq!(tables(&database).await, before);
    database.execute(&sql).await;
    assert_eq!(tables(&database).await, before + 1);
    assert!(migrate(&database, &[], 0).contains("m0042_legacy_blocks: applied in "));

    let excluded = "INSERT INTO schema_incompatible (step, reason) VALUES ('m0100', 'split')";
    database.execute(excluded).await;
    assert!(migrate(&database, &["--status"], 2).contains("excludes this version (m0100: split)"));
    migrate(&database, &["--status", "--dry-run"], 2);
}

/// Runs a script with the database's own client. `None` without the client.
fn feed(database: &TestDatabase, script: &str) -> Option<()> {
    let url = url::Url::parse(&database.url).unwrap();
    let program = if database.kind == Kind::MariaDb { "mariadb" } else { "psql" };
    let program = installed(program, &["/usr/lib/postgresql"])?;
    let mut client = match database.kind {
        Kind::MariaDb => {
            let mut client = Command::new(program);
            let (host, port) = (url.host_str().unwrap(), url.port().unwrap_or(3306));
            client.args([
                "--no-defaults",
                "-h",
                host,
                "-P",
                &port.to_string(),
                "-u",
                url.username(),
            ]);
            client.env("MYSQL_PWD", url.password().unwrap_or_default()).arg(&url.path()[1..]);
            client
        }
        _ => {
            let mut client = Command::new(program);
            client.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", &database.url]);
            client
        }
    };
    let client = client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    client.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(())
}

/// The triggers, as one text.
async fn triggers(database: &TestDatabase) -> String {
    let triggers = match database.kind {
        Kind::MariaDb => {
            "SELECT group_concat(trigger_name, action_timing, event_manipulation, \
             action_statement ORDER BY trigger_name) \
             FROM information_schema.triggers WHERE trigger_schema = database()"
        }
        _ => {
            "SELECT string_agg(pg_get_triggerdef(t.oid) || prosrc, ';' ORDER BY tgname) \
             FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE NOT tgisinternal"
        }
    };
    database.text(triggers).await
}

async fn a_dry_run_is_a_script_for_the_client_of_the_database(database: TestDatabase) {
    let script = migrate(&database, &["--dry-run"], 0);
    if feed(&database, &script).is_none() {
        return;
    }
    let by_client = triggers(&database).await;
    // All steps find their work done.
    let told = migrate(&database, &[], 0);
    assert_eq!(told.matches(": applied in ").count(), steps().len(), "{told}");
    assert_eq!(triggers(&database).await, by_client);
    let drop = match database.kind {
        Kind::MariaDb => {
            "DROP TRIGGER accounts_checked_insert; DROP TRIGGER accounts_external_change"
        }
        _ => "DROP FUNCTION accounts_checked_insert, accounts_external_change CASCADE",
    };
    database.execute(drop).await;
    database.execute("DELETE FROM schema_steps WHERE name >= 'm0044'").await;
    migrate(&database, &[], 0);
    assert_eq!(triggers(&database).await, by_client);
}

async fn a_dry_run_shows_the_index_that_is_built_concurrently(database: TestDatabase) {
    migrate(&database, &["--demo"], 0);
    for (index, table, is_concurrent) in
        [("accounts_email_idx", "accounts", true), ("requests_time_idx", "requests", false)]
    {
        database.execute(&format!("DROP INDEX {index}")).await;
        let step = format!("m00%_{}", index.trim_end_matches("_idx"));
        for record in ["seaql_migrations WHERE version", "schema_steps WHERE name"] {
            database.execute(&format!("DELETE FROM {record} LIKE '{step}'")).await;
        }
        let script = migrate(&database, &["--dry-run"], 0);
        assert_eq!(
            script.contains("CREATE INDEX CONCURRENTLY"),
            is_concurrent,
            "{table}: {script}"
        );
        feed(&database, &script);
        migrate(&database, &[], 0);
    }
}
