//! `import`: encodings of databases, and updates by others meanwhile, on every engine.

use std::{fmt::Write, fs, process::Stdio};

use tonic::Code;

use crate::{
    imports::{Folder, counts},
    program::{Program, command},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine,
    },
};

on_every_engine!(
    texts_of_databases_are_decoded,
    updates_by_others_meanwhile_are_neither_lost_nor_overwritten_unseen,
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
