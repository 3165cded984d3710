//! `import`: encodings of databases, and updates by others meanwhile, on every engine.

use std::{fmt::Write, fs, process::Stdio, time::Duration};

use tokio::task::block_in_place;
use tonic::Code;

use crate::{
    imports::{Folder, counts},
    program::{Program, command},
    relay::{Line, Relay},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine, on_postgres, on_servers,
        server::Server,
        until,
    },
};

on_every_engine!(
    texts_of_databases_are_decoded,
    updates_by_others_meanwhile_are_neither_lost_nor_overwritten_unseen,
    a_second_import_is_refused_while_the_first_runs,
    a_refused_row_harms_no_other_row,
);

on_servers!(a_source_that_stalls_ends_the_import);

on_postgres!(
    a_pooler_keeps_no_setting_of_an_import,
    the_report_is_kept_if_sequences_are_not_advanced
);

async fn texts_of_databases_are_decoded(database: TestDatabase) {
    let folder = Folder::new(&database, &[]);
    let (kind, column, latin1) = match database.kind {
        Kind::Sqlite => ("sqlite", "text", "CAST(X'4BF66C6E' AS text)"),
        Kind::Postgres => ("postgres", "text", "'Köln'"),
        Kind::MariaDb => ("mysql", "varchar(20) CHARACTER SET latin1", "X'4BF66C6E'"),
    };
    database.execute(&format!("CREATE TABLE legacy_cities (uid integer, city {column})")).await;
    database.execute(&format!("INSERT INTO legacy_cities VALUES (1, {latin1}), (2, NULL)")).await;
    let mapping = format!(
        "[source]\nkind = \"{kind}\"\nurl = \"{}\"\n[accounts]\n\
         select = \"SELECT uid AS id, concat('user ', uid) AS username, city FROM legacy_cities\"\n",
        database.url
    );
    let mapping = mapping.replace(
        "concat('user ', uid)",
        match database.kind {
            Kind::Sqlite => "'user ' || uid",
            Kind::Postgres | Kind::MariaDb => "concat('user ', uid)",
        },
    );
    fs::write(folder.path("mapping.toml"), &mapping).unwrap();
    let report = folder.import(&[]);
    // The servers know the encoding of their columns. SQLite keeps any bytes.
    let is_sqlite = database.kind == Kind::Sqlite;
    let expected = if is_sqlite { [2, 1, 0, 0, 0, 1] } else { [2, 2, 0, 0, 0, 0] };
    assert_eq!(counts(&report, "accounts"), expected, "{report}");
    if is_sqlite {
        assert_eq!(report["rejected"][0]["reason"], "is not UTF-8", "{report}");
    }
    if database.kind != Kind::Postgres {
        let mapping = format!("{mapping}encoding = \"latin1\"\n");
        fs::write(folder.path("mapping.toml"), mapping).unwrap();
        let report = folder.import(&["--update"]);
        assert_eq!(report["tables"]["accounts"]["rejected"], 0, "{report}");
        assert_eq!(report["changes"], u64::from(is_sqlite), "{report}");
    }
    let city = database.text("SELECT city FROM accounts WHERE id = 1").await;
    assert_eq!(city, "Köln");
}

async fn updates_by_others_meanwhile_are_neither_lost_nor_overwritten_unseen(
    database: TestDatabase,
) {
    let program = Program::demo(&database, &[]).await;
    let mapping = "[source]\nkind = \"csv\"\ndirectory = \".\"\n[accounts]\nfile = \"a.csv\"\n";
    let folder = Folder::new(&database, &[("mapping.toml", mapping.as_bytes())]);
    let mut stored = 0;
    for round in 0..4 {
        let mut accounts = "id,username,city\n3,alice,Kaunas\n".to_owned();
        for id in 100..700 {
            writeln!(accounts, "{id},user {id},City {round}").unwrap();
        }
        fs::write(folder.path("a.csv"), accounts).unwrap();
        let path = folder.path("mapping.toml");
        let arguments = ["import", "--update", "--mapping", path.to_str().unwrap()];
        let mut import = command(&arguments, &[("M4_DATABASE_URL", &database.url)]);
        let mut import = import.stdout(Stdio::null()).spawn().unwrap();
        while import.try_wait().unwrap().is_none() {
            let etag = program.read(3).await.etag;
            match program.set_city(&format!("Trakai {stored}"), &etag).await {
                Ok(_) => stored += 1,
                Err(refused) => assert_eq!(refused.code(), Code::Aborted, "{refused:?}"),
            }
        }
        assert_eq!(import.wait().unwrap().code(), Some(0));
    }
    assert!(stored > 0);
    let entries = |door: &str| format!("SELECT count(*) FROM change_log WHERE door = '{door}'");
    assert_eq!(database.number(&entries("grpc")).await, stored);
    // 600 new users in the first round, then a change of each in every round.
    assert!(database.number(&entries("import")).await >= 3 * 600);
    // Every change of a user has its own version.
    let unlogged = "SELECT count(*) FROM accounts WHERE version <> 1 + \
                    (SELECT count(*) FROM change_log WHERE user_id = accounts.id)";
    assert_eq!(database.number(unlogged).await, 0);
}

async fn a_second_import_is_refused_while_the_first_runs(database: TestDatabase) {
    let mapping = "[source]\nkind = \"csv\"\ndirectory = \".\"\n[accounts]\nfile = \"a.csv\"\n";
    let slow = mapping.replace("a.csv", "pipe");
    let files: [(&str, &[u8]); 3] = [
        ("mapping.toml", mapping.as_bytes()),
        ("slow.toml", slow.as_bytes()),
        ("a.csv", b"id,username\n7,anna\n"),
    ];
    let folder = Folder::new(&database, &files);
    // The first import reads a pipe, into which nobody writes.
    let pipe = folder.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let slow = folder.path("slow.toml");
    let arguments = ["import", "--mapping", slow.to_str().unwrap()];
    let mut first = command(&arguments, &[("M4_DATABASE_URL", &database.url)]);
    let mut first = first.stdout(Stdio::null()).spawn().unwrap();
    // Opens once the first import reads.
    let open = tokio::task::spawn_blocking(move || fs::File::options().write(true).open(pipe));
    let _open = open.await.unwrap().unwrap();
    let refused = folder.run("import", &[]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("another import runs on this database"), "{told}");
    // A dry run writes nothing.
    folder.import(&["--dry-run"]);
    first.kill().unwrap();
    first.wait().unwrap();
    until("the claim has ended", || async { folder.run("import", &[]).status.code() == Some(0) })
        .await;
}

/// Rows that another program inserts meanwhile, as far as the import is concerned: the import sees
/// neither their ids nor their usernames before it inserts.
async fn a_refused_row_harms_no_other_row(database: TestDatabase) {
    let mut accounts = "id,username,comment\n".to_owned();
    for id in 100..4100 {
        writeln!(accounts, "{id},user {id},\"a\\b\tc\nd {id}\"").unwrap();
    }
    // A username of an earlier batch.
    accounts += "9000,user 101,\n";
    let mapping = "[source]\nkind = \"csv\"\ndirectory = \".\"\n[accounts]\nfile = \"a.csv\"\n";
    let files = [("mapping.toml", mapping.as_bytes()), ("a.csv", accounts.as_bytes())];
    let folder = Folder::new(&database, &files);
    let refuse = match database.kind {
        Kind::Sqlite => {
            "CREATE TRIGGER other BEFORE INSERT ON accounts WHEN NEW.id IN (100, 555, 1099) \
             BEGIN INSERT INTO accounts (id, username, account_type, create_time, update_time, \
             comment) VALUES (NEW.id + 10000, NEW.username, 'user', 1, 1, ''); END"
        }
        Kind::Postgres => {
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE unique_violation; END $$; CREATE TRIGGER other BEFORE INSERT ON accounts \
             FOR EACH ROW WHEN (NEW.id IN (100, 555, 1099)) EXECUTE FUNCTION other()"
        }
        Kind::MariaDb => {
            "CREATE TRIGGER other BEFORE INSERT ON accounts FOR EACH ROW \
             IF NEW.id IN (100, 555, 1099) THEN SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062; \
             END IF"
        }
    };
    database.execute(refuse).await;
    let report = folder.import(&[]);
    assert_eq!(counts(&report, "accounts"), [4001, 3997, 0, 0, 0, 4], "{report}");
    assert_eq!(report["rejected"][0]["reason"], "another account has the username", "{report}");
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 3997);
    let text = database.text("SELECT comment FROM accounts WHERE id = 554").await;
    assert_eq!(text, "a\\b\tc\nd 554");
}

async fn a_source_that_stalls_ends_the_import(database: TestDatabase) {
    let folder = Folder::new(&database, &[]);
    database.execute("CREATE TABLE legacy_users (uid integer)").await;
    database.execute("INSERT INTO legacy_users VALUES (7)").await;
    let kind = if database.kind == Kind::Postgres { "postgres" } else { "mysql" };
    let sleep = if database.kind == Kind::Postgres { "pg_sleep" } else { "sleep" };
    let (relay, url) = Relay::to_database(&database.url, Line::Open).await;
    let write = |url: &str, condition: &str| {
        let mapping = format!(
            "[source]\nkind = \"{kind}\"\nurl = \"{url}\"\ntimeout_seconds = 2\n[accounts]\n\
             select = \"SELECT uid AS id, 'anna' AS username FROM legacy_users{condition}\"\n"
        );
        fs::write(folder.path("mapping.toml"), mapping).unwrap();
    };
    // A query that takes too long.
    write(&url, &format!(" WHERE {sleep}(8) IS NOT NULL"));
    let begun = std::time::Instant::now();
    let output = block_in_place(|| folder.run("import", &[]));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("accounts: the source cannot be read: it has not answered for 2 s"),
        "{told}"
    );
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    // A source that accepts connections and is silent.
    write(&url, "");
    relay.set(Line::Stalled);
    let output = block_in_place(|| folder.run("import", &[]));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no answer from the database at 127.0.0.1"), "{told}");
    relay.set(Line::Open);
    block_in_place(|| folder.import(&[]));
}

async fn a_pooler_keeps_no_setting_of_an_import(database: TestDatabase) {
    let Some(pooler) = Server::pgbouncer(&database.url, "transaction") else { return };
    let folder = Folder::new(&database, &[]);
    database.execute("CREATE TABLE legacy_users (uid integer)").await;
    database.execute("INSERT INTO legacy_users SELECT generate_series(1, 1200)").await;
    let name = database.text("SELECT current_database()::text").await;
    let pooled = TestDatabase { url: pooler.url("postgres://postgres", &name), ..database.clone() };
    let mapping = |select: &str| {
        format!(
            "[source]\nkind = \"postgres\"\nurl = \"{}\"\n[accounts]\nselect = \"{select}\"\n",
            pooled.url
        )
    };
    let select = "SELECT uid AS id, 'user ' || uid AS username FROM legacy_users";
    fs::write(folder.path("mapping.toml"), mapping(select)).unwrap();
    let report = folder.import(&[]);
    assert_eq!(counts(&report, "accounts"), [1200, 1200, 0, 0, 0, 0], "{report}");
    let settings = "SELECT current_setting('default_transaction_read_only')";
    let transaction = pooled.begin().await;
    transaction.execute("INSERT INTO legacy_users VALUES (0)").await;
    transaction.commit().await;
    assert_eq!(database.text(settings).await, "off");
    // The source itself may not be written.
    let writes = "SELECT nextval('accounts_id_seq') AS id, 'x' AS username";
    fs::write(folder.path("mapping.toml"), mapping(writes)).unwrap();
    let output = folder.run("import", &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("read-only transaction"), "{told}");
}

async fn the_report_is_kept_if_sequences_are_not_advanced(database: TestDatabase) {
    let mapping = "[source]\nkind = \"csv\"\ndirectory = \".\"\n[accounts]\nfile = \"a.csv\"\n";
    let files: [(&str, &[u8]); 2] =
        [("mapping.toml", mapping.as_bytes()), ("a.csv", b"id,username\n7,anna\n")];
    let folder = Folder::new(&database, &files);
    let name = database.text("SELECT current_database()::text").await;
    let user = format!("u_{name}");
    for statement in [
        format!("CREATE ROLE {user} LOGIN PASSWORD 'hush'"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"),
    ] {
        database.execute(&statement).await;
    }
    let (start, rest) = database.url.split_once("://").unwrap();
    let (_, host) = rest.split_once('@').unwrap();
    let limited = format!("{start}://{user}:hush@{host}");
    let mapping = folder.path("mapping.toml");
    let arguments = ["import", "--json", "--mapping", mapping.to_str().unwrap()];
    let output = command(&arguments, &[("M4_DATABASE_URL", &*limited)]).output().unwrap();
    let (text, told) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{told}");
    let report = serde_json::from_slice(&text).unwrap();
    assert_eq!(counts(&report, "accounts"), [1, 1, 0, 0, 0, 0], "{report}");
    assert!(told.contains("the rows are imported") && told.contains("sequences"), "{told}");
    for statement in [format!("DROP OWNED BY {user}"), format!("DROP ROLE {user}")] {
        database.execute(&statement).await;
    }
}
