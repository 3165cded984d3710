//! `migrate --status` and `--dry-run` show the pending steps, and change nothing.

use std::process::Output;

use m4_user_details_migrations::steps;

use crate::{
    program::run,
    support::{
        database::{Kind, TestDatabase},
        on_every_engine,
    },
};

on_every_engine!(a_migration_tells_what_it_does_and_would_do);

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
