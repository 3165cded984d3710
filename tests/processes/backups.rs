//! `backup` and `restore` of SQLite, and the tools of the servers in the documentation.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    sync::Arc,
};

use http::StatusCode;

use crate::{
    program::{Program, run},
    support::{
        database::{Kind, TestDatabase},
        on_servers, on_sqlite,
    },
    verification::{verify, while_writing},
};

on_sqlite!(
    backups_of_a_database_that_is_written_to_are_consistent,
    a_backup_takes_the_place_of_an_unused_database,
    a_backup_is_refused_for_a_reason,
);

on_servers!(a_server_is_dumped_and_restored_by_its_own_tools);

/// Runs a command, and returns its output.
fn told(arguments: &[&str], url: &str, code: i32) -> String {
    let output = run(arguments, &[("M4_DATABASE_URL", url)]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

fn file(database: &TestDatabase) -> &Path {
    Path::new(database.url.strip_prefix("sqlite://").unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn backups_of_a_database_that_is_written_to_are_consistent(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let program = Arc::new(Program::demo(&database, &[]).await);
    let (url, path) = (database.url.clone(), folder.path().to_owned());
    let updates = while_writing(&program, async {
        let backups = tokio::task::spawn_blocking(move || {
            for round in 0..20 {
                let copy = path.join(format!("{round}.db"));
                told(&["backup", text(&copy)], &url, 0);
                let (code, told) = verify(&format!("sqlite://{}", copy.display()), &[]);
                assert_eq!(code, Some(0), "{round}: {told}");
            }
        });
        backups.await.unwrap();
    })
    .await;
    assert!(updates > 100, "{updates}");
    // Neither a backup nor its check leaves another file.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 20);
    let mode = folder.path().join("0.db").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(verify(&database.url, &[]).0, Some(0));
}

async fn a_backup_takes_the_place_of_an_unused_database(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    let program = Program::demo(&database, &[]).await;
    program.set_city("Bonn", "").await.unwrap();
    told(&["backup", text(&copy)], &database.url, 0);
    program.set_city("Kaunas", "").await.unwrap();
    let restore = ["restore", text(&copy)];
    // The service holds its lock, even while it is idle.
    assert!(told(&restore, &database.url, 1).contains("is in use: stop every service"));
    // The refused restore does not harm the service.
    let alice = program.read(3).await;
    assert_eq!(alice.address.unwrap().city.as_deref(), Some("Kaunas"));
    program.set_city("Ulm", "").await.unwrap();
    program.wait_for_status("/readyz", StatusCode::OK).await;
    // A killed service leaves its log.
    program.kill();
    let log = file(&database).with_file_name("test.db-wal");
    assert!(log.metadata().unwrap().len() > 0);
    fs::set_permissions(file(&database), fs::Permissions::from_mode(0o640)).unwrap();
    let before = file(&database).metadata().unwrap().ino();
    told(&restore, &database.url, 0);
    let after = file(&database).metadata().unwrap();
    assert_ne!(after.ino(), before);
    assert_eq!(after.permissions().mode() & 0o777, 0o640);
    assert!(!log.exists());
    assert_eq!(verify(&database.url, &[]).0, Some(0));

    let program = Program::demo(&database, &[]).await;
    assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, "Bonn");
    // The lost change had this etag: no later change has it again.
    let refused = program.set_city("Riga", &alice.etag).await.unwrap_err();
    assert!(refused.message().contains("before the database was restored"), "{refused:?}");
    program.kill();
    // Another program is enough, too.
    let connection = database.connect().await;
    assert!(told(&restore, &database.url, 1).contains("is in use"));
    connection.close().await.unwrap();

    // A damaged database and its log are replaced.
    fs::write(file(&database), "damaged".repeat(1000)).unwrap();
    fs::write(&log, "an old log").unwrap();
    told(&restore, &database.url, 0);
    assert!(!log.exists());
    assert_eq!(verify(&database.url, &[]).0, Some(0));
    fs::remove_file(file(&database)).unwrap();
    told(&restore, &database.url, 0);
    assert_eq!(verify(&database.url, &[]).0, Some(0));
    let left = fs::read_dir(file(&database).parent().unwrap()).unwrap();
    assert_eq!(left.count(), 1);
}

async fn a_backup_is_refused_for_a_reason(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    told(&["migrate", "--demo"], &database.url, 0);
    let copy = path("copy.db");
    told(&["backup", text(&copy)], &database.url, 0);
    assert!(told(&["backup", text(&copy)], &database.url, 1).contains("exists already"));
    assert!(told(&["backup", text(file(&database))], &database.url, 1).contains("exists already"));
    told(&["backup", "/no/such/folder/copy.db"], &database.url, 1);
    let missing = format!("sqlite://{}", path("missing.db").display());
    assert!(told(&["backup", text(&path("x.db"))], &missing, 1).contains("cannot be read"));
    assert!(!path("x.db").exists() && !path("missing.db").exists());

    let content = fs::read(&copy).unwrap();
    fs::write(path("text.db"), "no database ".repeat(100)).unwrap();
    fs::write(path("empty.db"), "").unwrap();
    fs::write(path("short.db"), &content[..content.len() / 2]).unwrap();
    let mut damaged = content.clone();
    damaged[content.len() / 2..].fill(0x55);
    fs::write(path("damaged.db"), damaged).unwrap();
    fs::write(path("busy.db"), &content).unwrap();
    fs::write(path("busy.db-wal"), "a log").unwrap();
    fs::write(path("newer.db"), &content).unwrap();
    let newer = format!("sqlite://{}", path("newer.db").display());
    let newer = TestDatabase { kind: Kind::Sqlite, url: newer };
    let step = "INSERT INTO schema_incompatible (step, reason) VALUES ('m0100', 'split')";
    newer.execute(step).await;
    for (name, words) in [
        ("text.db", "it is no SQLite database"),
        ("empty.db", "it lacks the service's tables"),
        ("short.db", "it is damaged"),
        ("damaged.db", "it is damaged"),
        ("busy.db", "has a write-ahead log"),
        ("newer.db", "excludes this version (m0100: split)"),
        ("none.db", "cannot be copied"),
    ] {
        let told = told(&["restore", text(&path(name))], &database.url, 1);
        assert!(told.contains(words), "{name}: {told}");
    }
    assert_eq!(verify(&database.url, &[]).0, Some(0));
    let left = fs::read_dir(file(&database).parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().starts_with("test.db")), "{left:?}");
}

/// Runs a line of the documentation in a folder.
fn run_line(line: &str, folder: &Path, variables: &[(&str, &str)]) {
    let mut shell = Command::new("sh");
    let output = shell.args(["-ec", line]).current_dir(folder).envs(variables.iter().copied());
    let output = output.output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn a_server_is_dumped_and_restored_by_its_own_tools(database: TestDatabase) {
    for command in ["backup", "restore"] {
        let told = told(&[command, "copy.db"], &database.url, 2);
        assert!(
            told.contains(if command == "backup" { "pg_dump" } else { "pg_restore" }),
            "{told}"
        );
        assert!(told.contains("mariadb"), "{told}");
    }
    let begins = if database.kind == Kind::Postgres {
        ["pg_dump --", "pg_restore --"]
    } else {
        ["mariadb-dump --", "mariadb --"]
    };
    let page = include_str!("../../docs/operations/backup.md");
    let lines = begins.map(|begin| page.lines().find(|line| line.starts_with(begin)).unwrap());
    let tool = begins[0].split(' ').next().unwrap();
    let is_installed = Command::new(tool).arg("--version").output().is_ok();
    assert!(is_installed || std::env::var_os("TEST_REQUIRE_ALL").is_none(), "{tool}");
    if !is_installed {
        return;
    }
    let url = url::Url::parse(&database.url).unwrap();
    let port = url.port().unwrap_or(3306).to_string();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("DB_HOST", url.host_str().unwrap()),
        ("DB_PORT", &port),
        ("DB_USER", url.username()),
        ("DB_NAME", url.path().trim_start_matches('/')),
        ("MYSQL_PWD", url.password().unwrap_or_default()),
    ];
    let program = Program::demo(&database, &[]).await;
    program.set_city("Bonn", "").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    run_line(lines[0], folder.path(), &variables);
    program.set_city("Kaunas", "").await.unwrap();
    program.kill();
    run_line(lines[1], folder.path(), &variables);
    assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, "Bonn");
    let (code, told) = verify(&database.url, &[]);
    assert_eq!(code, Some(0), "{told}");
    // Ids go on after the dump's ids.
    let program = Program::demo(&database, &[]).await;
    program.set_city("Ulm", "").await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 2);
}
