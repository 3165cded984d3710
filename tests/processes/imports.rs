//! `import`: CSV files and databases on every engine.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

use crate::{
    program::{Program, command, run},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine, until,
    },
};

on_every_engine!(
    the_sample_is_imported_and_a_second_import_changes_nothing,
    rows_that_are_not_allowed_are_rejected_with_their_reasons,
    stored_users_are_changed_only_with_update,
    rows_come_from_a_database,
    a_quotation_mark_that_is_not_closed_ends_the_import,
    an_import_that_is_killed_is_completed_by_the_next_import,
);

/// A folder with a mapping file and CSV files, and an empty target database.
pub struct Folder<'a> {
    folder: TempDir,
    database: &'a TestDatabase,
}

impl<'a> Folder<'a> {
    pub fn new(database: &'a TestDatabase, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let migrated = run(&["migrate"], &[("M4_DATABASE_URL", &database.url)]);
        assert!(migrated.status.success(), "{migrated:?}");
        Self { folder, database }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command with the mapping file and JSON output.
    pub fn run(&self, command: &str, more: &[&str]) -> Output {
        let mapping = self.path("mapping.toml");
        let arguments = [command, "--mapping", mapping.to_str().unwrap(), "--json"];
        let arguments: Vec<_> = arguments.iter().chain(more).copied().collect();
        run(&arguments, &[("M4_DATABASE_URL", &self.database.url)])
    }

    /// Imports, and returns the result.
    pub fn import(&self, more: &[&str]) -> Value {
        let output = self.run("import", more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The counts of a table: read, inserted, unchanged, differ, updated, rejected.
pub fn counts(report: &Value, table: &str) -> [u64; 6] {
    ["read", "inserted", "unchanged", "differ", "updated", "rejected"]
        .map(|count| report["tables"][table][count].as_u64().unwrap())
}

async fn the_sample_is_imported_and_a_second_import_changes_nothing(database: TestDatabase) {
    let folder = Folder::new(&database, &[]);
    let path = folder.path("");
    let output = run(&["import", "--sample", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = folder.import(&["--dry-run"]);
    assert_eq!(counts(&report, "accounts"), [6, 6, 0, 0, 0, 0], "{report}");
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 0);
    let report = folder.import(&[]);
    assert_eq!(report["rejected"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(counts(&report, "accounts"), [6, 6, 0, 0, 0, 0], "{report}");
    assert_eq!(counts(&report, "manager_group_rights"), [2, 2, 0, 0, 0, 0], "{report}");
    for more in [&[][..], &["--update"], &["--dry-run", "--update"]] {
        let report = folder.import(more);
        assert_eq!(report["changes"], 0, "{report}");
        assert_eq!(counts(&report, "accounts"), [6, 0, 6, 0, 0, 0], "{report}");
        assert_eq!(counts(&report, "currencies"), [3, 0, 3, 0, 0, 0], "{report}");
    }
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    let row = "INSERT INTO accounts (username, account_type, create_time, update_time, comment) \
               VALUES ('later', 'user', 0, 0, '')";
    database.execute(row).await;
    let id = "SELECT id FROM accounts WHERE username = 'later'";
    assert_eq!(database.number(id).await, 103);
    database.execute("INSERT INTO currencies (name) VALUES ('JPY')").await;
    assert_eq!(database.number("SELECT id FROM currencies WHERE name = 'JPY'").await, 4);
    let integer = if database.kind == Kind::MariaDb { "signed" } else { "bigint" };
    for (id, column, expected) in [
        (3, "responsible_manager_id", 102),
        (3, "tax1_value", 21_000_000),
        (3, "warning_email_balance", 25_500_000),
        (4, "warning_email_balance", -100_000_000),
        (4, "warning_email_hour", -1),
        (5, "call_limit", 100),
    ] {
        let number = format!("SELECT CAST({column} AS {integer}) FROM accounts WHERE id = {id}");
        assert_eq!(database.number(&number).await, expected, "{column}");
    }
    for (id, column, expected) in [
        (3, "comment", "Pays by \"invoice\",\nnot by card."),
        (4, "last_name", "Müller"),
        (5, "first_name", "Carol "),
        (5, "account_type", "user"),
    ] {
        let text = format!("SELECT {column} FROM accounts WHERE id = {id}");
        assert_eq!(database.text(&text).await, expected, "{column}");
    }
    let blocked = "SELECT id FROM accounts WHERE blocked";
    assert_eq!(database.number(blocked).await, 5);
    let dates = "SELECT count(*) FROM accounts WHERE block_date IS NOT NULL";
    assert_eq!(database.number(dates).await, 1);
}

const CSV_MAPPING: &[u8] = b"[source]\nkind = \"csv\"\ndirectory = \".\"\ndelimiter = \";\"\n\
    [currencies]\nfile = \"currencies.csv\"\n[accounts]\nfile = \"accounts.csv\"\n";
const LATIN1_MAPPING: &[u8] = b"[source]\nkind = \"csv\"\ndirectory = \".\"\ndelimiter = \";\"\n\
    [accounts]\nfile = \"accounts.csv\"\nencoding = \"latin1\"\n";

async fn rows_that_are_not_allowed_are_rejected_with_their_reasons(database: TestDatabase) {
    // An account's manager is after it, and so is the manager's manager.
    let accounts = b"id;username;account_type;responsible_manager_id;currency_id;block_date;city;tax1_value;enable_static_list\n\
        1;anna;user;20;1;2026-01-31;York ;1,5;\n\
        2;anna;user;;;;;;\n\
        3;bert;user;21;;;;;\n\
        4;carl;user;;9;2020-00-00;;;\n\
        5;dora;user;;;;K\xf6ln;;\n\
        6;emil;user;;;;;-1;\n\
        7;fred;user;;;;;;blacklist\n\
        x;gina;user;;;;;;\n\
        8;hans;user\n\
        9;;clerk;;;;;;\n\
        1;ines;user;;;;;;\n\
        20;manager;manager;30;;;;;\n\
        30;director;manager;;;;;;\n";
    let currencies = b"id;name\n1;EUR\n2;EURO\n3;EUR\n0;USD\n";
    let files: [(&str, &[u8]); 3] =
        [("mapping.toml", CSV_MAPPING), ("accounts.csv", accounts), ("currencies.csv", currencies)];
    let folder = Folder::new(&database, &files);
    let rejects = folder.path("rejects.csv");
    let rejects = rejects.to_str().unwrap();
    let expected = "table,id,field,reason\n\
        currencies,2,name,must be text of 1 to 3 characters without control characters\n\
        currencies,line 5,id,must be an integer from 1\n\
        currencies,3,name,another row has the name\n\
        accounts,4,block_date,is a partial date\n\
        accounts,5,city,is not UTF-8\n\
        accounts,6,tax1_value,\"must be a decimal, not negative, of at most 12 digits before and 6 after the point\"\n\
        accounts,line 9,id,must be an integer from 1\n\
        accounts,line 10,,has another number of cells than the first line\n\
        accounts,9,username,must be text of 1 to 255 characters without control characters\n\
        accounts,9,account_type,\"must be admin, manager or user\"\n\
        accounts,2,username,another account has the username\n\
        accounts,3,responsible_manager_id,refers to a manager that does not exist\n\
        accounts,7,static_list_id,must be set while its list is blacklist or whitelist\n\
        accounts,1,id,another row has the id\n";
    for more in [&["--dry-run"][..], &[], &[]] {
        let more: Vec<_> = ["--rejects", rejects].iter().chain(more).copied().collect();
        let report = folder.import(&more);
        assert_eq!(counts(&report, "accounts")[5], 10, "{report}");
        assert_eq!(counts(&report, "currencies")[5], 3, "{report}");
        assert_eq!(report["rejected"].as_array().unwrap().len(), 14, "{report}");
        assert_eq!(fs::read_to_string(rejects).unwrap(), expected);
    }
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 3);
    let manager = "SELECT responsible_manager_id FROM accounts WHERE id = ";
    assert_eq!(database.number(&format!("{manager}1")).await, 20);
    assert_eq!(database.number(&format!("{manager}20")).await, 30);
    // The terminal gets counts, not rows.
    let mapping = folder.path("mapping.toml");
    let arguments = ["import", "--mapping", mapping.to_str().unwrap()];
    let output = run(&arguments, &[("M4_DATABASE_URL", &*database.url)]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("         1  accounts city: is not UTF-8\n"), "{text}");
    assert!(!text.contains("anna"), "{text}");
    fs::write(folder.path("mapping.toml"), LATIN1_MAPPING).unwrap();
    let report = folder.import(&[]);
    assert_eq!(counts(&report, "accounts")[1], 1, "{report}");
    assert_eq!(database.text("SELECT city FROM accounts WHERE id = 5").await, "Köln");
}

async fn stored_users_are_changed_only_with_update(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let etag = program.read(3).await.etag;
    // Alice has another city, bob another username, the manager another city.
    let accounts =
        b"id;username;account_type;city\n3;alice;user;Kaunas\n4;robert;user;K\xc3\xb6ln\n\
        2;manager;manager;Rome\n5;carol;user;Leeds\n";
    let mapping = CSV_MAPPING.to_vec();
    let currencies = b"id;name\n1;EUR\n2;SEK\n";
    let files: [(&str, &[u8]); 3] =
        [("mapping.toml", &mapping), ("accounts.csv", accounts), ("currencies.csv", currencies)];
    let folder = Folder::new(&database, &files);
    let report = folder.import(&[]);
    assert_eq!(counts(&report, "accounts"), [4, 0, 1, 2, 0, 1], "{report}");
    assert_eq!(counts(&report, "currencies"), [2, 0, 1, 0, 0, 1], "{report}");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    let report = folder.import(&["--update", "--dry-run"]);
    assert_eq!(counts(&report, "accounts"), [4, 0, 1, 0, 1, 2], "{report}");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    let report = folder.import(&["--update"]);
    assert_eq!(counts(&report, "accounts"), [4, 0, 1, 0, 1, 2], "{report}");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
    assert_eq!(database.text("SELECT door FROM change_log").await, "import");
    assert_eq!(database.text("SELECT identity FROM change_log").await, "import");
    let alice = program.read(3).await;
    assert_eq!(alice.address.as_ref().unwrap().city.as_deref(), Some("Kaunas"));
    // The etag from before the import is refused, and the new etag is not.
    let refused = program.set_city("Trakai", &etag).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    program.set_city("Trakai", &alice.etag).await.unwrap();
    let report = folder.import(&["--update"]);
    assert_eq!(counts(&report, "accounts"), [4, 0, 1, 0, 1, 2], "{report}");
    assert_eq!(report["changes"], 1);
    let report = folder.import(&["--update"]);
    assert_eq!(report["changes"], 0, "{report}");
}

async fn rows_come_from_a_database(database: TestDatabase) {
    let folder = Folder::new(&database, &[]);
    let (kind, flag, modes) = match database.kind {
        Kind::Sqlite => ("sqlite", "integer", ""),
        Kind::Postgres => ("postgres", "boolean", ""),
        Kind::MariaDb => ("mysql", "tinyint", "SET sql_mode = '';"),
    };
    let date = if database.kind == Kind::MariaDb { "date" } else { "varchar(10)" };
    let on = if database.kind == Kind::Postgres { "true" } else { "1" };
    let create = format!(
        "CREATE TABLE legacy_users (uid integer, login varchar(50), kind varchar(10), hide {flag}, \
         tax decimal(30,15), until {date}, hour integer)"
    );
    database.execute(&create).await;
    let mut rows = String::new();
    for id in 1..=1200 {
        let until = ["0000-00-00", "2026-02-28", "2026-00-00"]
            [usize::from(id > 1198) + usize::from(id > 1199)];
        let comma = if id == 1 { "" } else { "," };
        let kind = if id == 1200 { "admin" } else { "user" };
        write!(rows, "{comma}({id}, 'user {id}', '{kind}', {on}, 19.95, '{until}', NULL)").unwrap();
    }
    database.execute(&format!("{modes} INSERT INTO legacy_users VALUES {rows}")).await;
    let mapping = format!(
        "[source]\nkind = \"{kind}\"\nurl = \"{}\"\n[accounts]\nselect = \"\"\"\nSELECT uid AS id, \
         login AS username, kind AS account_type, hide AS hidden, tax AS tax1_value, \
         until AS block_date, hour AS warning_email_hour FROM legacy_users;\n\"\"\"\n",
        database.url
    );
    fs::write(folder.path("mapping.toml"), &mapping).unwrap();
    let report = folder.import(&[]);
    assert_eq!(counts(&report, "accounts"), [1200, 1199, 0, 0, 0, 1], "{report}");
    assert_eq!(report["rejected"][0]["reason"], "is a partial date", "{report}");
    let report = folder.import(&["--update"]);
    assert_eq!(counts(&report, "accounts"), [1200, 0, 1199, 0, 0, 1], "{report}");
    let sum =
        "SELECT CAST(sum(tax1_value) / 19950000 AS integer) FROM accounts WHERE block_date IS NULL";
    let sum = if database.kind == Kind::MariaDb {
        sum.replace("integer", "signed")
    } else {
        sum.to_owned()
    };
    let sum = if database.kind == Kind::Postgres { sum.replace("integer", "bigint") } else { sum };
    assert_eq!(database.number(&sum).await, 1198);
    let wrong = mapping.replace("AS hidden", "AS hide");
    fs::write(folder.path("mapping.toml"), wrong).unwrap();
    let output = folder.run("import", &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("accounts: there is no column \"hide\""), "{text}");
    // Pages by such ids would lose rows.
    let text = if database.kind == Kind::MariaDb { "char" } else { "text" };
    let twice = "uid AS id, login AS username FROM legacy_users UNION ALL SELECT uid";
    for (from, to) in [
        ("uid AS id", format!("CAST(uid AS {text}) AS id")),
        ("uid AS id, login AS username", format!("{twice} AS id, login AS username")),
        ("uid AS id", "NULLIF(uid, 7) AS id".to_owned()),
    ] {
        let select = format!(
            "[source]\nkind = \"{kind}\"\nurl = \"{}\"\n[accounts]\nselect = \"SELECT uid AS id, \
             login AS username FROM legacy_users\"\n",
            database.url
        );
        fs::write(folder.path("mapping.toml"), select.replace(from, &to)).unwrap();
        let output = folder.run("import", &[]);
        assert_eq!(output.status.code(), Some(1), "{to}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("unique"), "{to}: {told}");
    }
}

async fn a_quotation_mark_that_is_not_closed_ends_the_import(database: TestDatabase) {
    for accounts in
        ["id;username\n1;\"anna\n2;bert\n", "id;username;city\n1;\"anna;x\n2;bert\";y;z\n"]
    {
        let files: [(&str, &[u8]); 2] =
            [("mapping.toml", LATIN1_MAPPING), ("accounts.csv", accounts.as_bytes())];
        let folder = Folder::new(&database, &files);
        let output = folder.run("import", &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("line 2") && told.contains("quotation mark"), "{told}");
    }
}

async fn an_import_that_is_killed_is_completed_by_the_next_import(database: TestDatabase) {
    const ROWS: u64 = 40_000;
    let mut accounts = "id;username;account_type;responsible_manager_id;currency_id\n".to_owned();
    for id in 1..ROWS {
        writeln!(accounts, "{id};user {id};user;{ROWS};1").unwrap();
    }
    writeln!(accounts, "{ROWS};manager;manager;;").unwrap();
    let files: [(&str, &[u8]); 3] = [
        ("mapping.toml", CSV_MAPPING),
        ("accounts.csv", accounts.as_bytes()),
        ("currencies.csv", b"id;name\n1;EUR\n"),
    ];
    let folder = Folder::new(&database, &files);
    let mapping = folder.path("mapping.toml");
    let mut import = killed(&database, &mapping);
    let count = "SELECT count(*) FROM accounts";
    until("a part is imported", || async { database.number(count).await > 500 }).await;
    import.kill().unwrap();
    import.wait().unwrap();
    // A server ends the statement that it runs, and may still commit.
    let sessions = match database.kind {
        Kind::Sqlite => "SELECT 0",
        Kind::Postgres => {
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()"
        }
        Kind::MariaDb => {
            "SELECT count(*) FROM information_schema.processlist \
             WHERE db = database() AND id <> connection_id()"
        }
    };
    until("its sessions have ended", || async { database.number(sessions).await == 0 }).await;
    let stored = u64::try_from(database.number(count).await).unwrap();
    assert!(stored < ROWS, "the import was too fast");
    let report = folder.import(&[]);
    assert_eq!(counts(&report, "accounts"), [ROWS, ROWS - stored, stored, 0, 0, 0], "{report}");
    let rows = u64::try_from(database.number(count).await).unwrap();
    assert_eq!(rows, ROWS);
}

fn killed(database: &TestDatabase, mapping: &Path) -> std::process::Child {
    let arguments = ["import", "--mapping", mapping.to_str().unwrap()];
    let mut import = command(&arguments, &[("M4_DATABASE_URL", &database.url)]);
    import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_wrong_mapping_file_is_told_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mapping.toml");
    for (text, words) in [
        ("[source]\nkind = \"mysql\"\nurl = \"mysql://m4:hush@db/m4\n", "line 3"),
        ("[source]\nkind = \"oracle\"\n", "line 2: a value of the wrong kind"),
        ("source = \"mysql://m4:hush@db/m4\"\n", "line 1: a value of the wrong kind"),
        ("[source]\nkind = \"mysql://m4:hush@db/m4\"\n", "line 2: a value of the wrong kind"),
        (
            "[source]\nkind = \"postgres\"\nurl = \"x\"\n[accounts]\nselect = \"x\"\n\
             encoding = \"latin1\"\n",
            "remove the key encoding",
        ),
        ("[source]\nkind = \"csv\"\ndirectory = \".\"\n", "it has no table"),
        ("[source]\nkind = \"csv\"\ndirectory = \".\"\n[users]\nfile = \"x\"\n", "users"),
        (
            "[source]\nkind = \"csv\"\ndirectory = \".\"\n[accounts]\nselect = \"x\"\n",
            "the key file",
        ),
        ("[source]\nkind = \"sqlite\"\nurl = \"x\"\n[accounts]\nfile = \"x\"\n", "the key select"),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(&["import", "--mapping", file.to_str().unwrap()], &[]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}: {told}");
        assert!(told.contains(words) && !told.contains("hush"), "{text}: {told}");
    }
}
