//! `doctor`: one line for each check, and an exit code.

use std::fs;

use serde_json::Value;

use crate::{
    program::{Program, run},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine, on_servers, on_sqlite,
        tls::Authority,
    },
};

on_every_engine!(the_doctor_names_each_problem_and_what_to_do);

on_servers!(a_missing_privilege_is_an_error);

mod only_mariadb {
    use super::the_definer_of_triggers_is_checked;
    crate::support::on_engine!(mariadb, MariaDb, the_definer_of_triggers_is_checked);
}

on_sqlite!(certificates_keys_and_listeners_are_checked, a_broken_file_is_an_error);

const FREE: [(&str, &str); 3] = [
    ("M4_GRPC_LISTEN", "127.0.0.1:0"),
    ("M4_HTTP_LISTEN", "127.0.0.1:0"),
    ("M4_ADMIN_LISTEN", "127.0.0.1:0"),
];

/// The lines of the doctor, and all its output.
fn doctor(url: &str, variables: &[(&str, &str)], code: i32) -> Vec<[String; 2]> {
    let variables: Vec<_> = [("M4_DATABASE_URL", url)]
        .into_iter()
        .chain(FREE)
        .chain(variables.iter().copied())
        .collect();
    let output = run(&["doctor", "--json"], &variables);
    let text = String::from_utf8(output.stdout).unwrap();
    let told = text.clone() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(!told.contains("hush"), "{told}");
    let finding = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| finding[name].as_str().unwrap().to_owned();
        [format!("{} {}", word("severity"), word("check")), word("found") + " - " + &word("remedy")]
    };
    text.lines().map(finding).collect()
}

fn assert_found(findings: &[[String; 2]], check: &str, words: &str) {
    let found = findings.iter().any(|[name, found]| name == check && found.contains(words));
    assert!(found, "{check}: {words}: {findings:#?}");
}

async fn the_doctor_names_each_problem_and_what_to_do(database: TestDatabase) {
    let findings = doctor(&database.url, &[], 0);
    assert_found(&findings, "ok configuration", "readable");
    assert_found(&findings, "warning secret keys", "every legacy call is refused");
    if database.kind == Kind::Sqlite {
        assert_found(&findings, "warning database", "does not exist yet - run `migrate`");
        assert_found(&findings, "ok free disk space", " MB in ");
    } else {
        assert_found(&findings, "warning schema", "0 steps applied");
        assert_found(&findings, "ok durability", "");
        assert_found(&findings, "ok clock", " ms");
    }
    let variables = [("M4_DATABASE_URL", &*database.url)];
    assert_eq!(run(&["migrate"], &variables).status.code(), Some(0));
    let findings = doctor(&database.url, &[], 0);
    assert_found(&findings, "ok schema", " 0 pending");
    assert_found(&findings, "warning reference data", "0 currencies");
    assert_found(&findings, "warning admin", "0 admin accounts");

    let program = Program::demo(&database, &[]).await;
    let addresses = [
        ("M4_GRPC_LISTEN", program.grpc.unwrap().to_string()),
        ("M4_HTTP_LISTEN", program.http.to_string()),
    ];
    let mut beside: Vec<_> = addresses.iter().map(|(key, value)| (*key, &**value)).collect();
    beside.push(("M4_API_SECRET_KEY", "a hush of sixteen"));
    let findings = doctor(&database.url, &beside, 0);
    assert!(findings.iter().all(|[name, _]| name.starts_with("ok") || name.ends_with("listeners")));
    assert_found(&findings, "warning listeners", "is in use");
    assert_found(&findings, "ok listeners", "admin.listen: 127.0.0.1:0 is free");
    assert_found(&findings, "ok admin", "1 admin account");
    assert_found(&findings, "ok secret keys", "1 configured");
    if database.kind != Kind::Sqlite {
        assert_found(&findings, "ok privileges", "");
    }
    program.kill();
    if database.kind == Kind::MariaDb {
        assert_found(&findings, "ok encoding", "utf8mb4_bin");
        let convert = "ALTER TABLE settings CONVERT TO CHARACTER SET latin1";
        database.execute(convert).await;
        let findings = doctor(&database.url, &[], 0);
        assert_found(&findings, "warning encoding", "1 tables have another collation");
    }

    database.execute("DELETE FROM schema_steps WHERE name = 'm0042_legacy_blocks'").await;
    database.execute("UPDATE accounts SET blocked = (1 = 1) WHERE account_type = 'admin'").await;
    let findings = doctor(&database.url, &[], 0);
    assert_found(&findings, "warning schema", "1 pending, 0 of a newer version - run `migrate`");
    assert_found(&findings, "warning admin", "0 admin accounts");
    let excluded = "INSERT INTO schema_incompatible (step, reason) VALUES ('m0100', 'split')";
    database.execute(excluded).await;
    let findings = doctor(&database.url, &[], 1);
    assert_found(&findings, "error schema", "m0100: split");
}

async fn a_missing_privilege_is_an_error(database: TestDatabase) {
    let variables = [("M4_DATABASE_URL", &*database.url)];
    assert_eq!(run(&["migrate", "--demo"], &variables).status.code(), Some(0));
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let user = format!("u_{name}");
    let (create, drop) = match database.kind {
        Kind::Postgres => (
            vec![
                format!("CREATE ROLE {user} LOGIN PASSWORD 'hush'"),
                format!(
                    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"
                ),
                format!("REVOKE UPDATE, DELETE ON legacy_blocks FROM {user}"),
            ],
            vec![format!("DROP OWNED BY {user}"), format!("DROP ROLE {user}")],
        ),
        _ => (
            vec![
                format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'hush'"),
                format!("GRANT SELECT, INSERT ON {name}.* TO {user}@'127.0.0.1'"),
            ],
            vec![format!("DROP USER {user}@'127.0.0.1'")],
        ),
    };
    for statement in &create {
        database.execute(statement).await;
    }
    let scheme_end = server.find("://").unwrap() + 3;
    let host = server.rsplit_once('@').map_or(&server[scheme_end..], |(_, host)| host);
    let url = format!("{}{user}:hush@{host}/{name}", &server[..scheme_end]);
    let findings = doctor(&url, &[], 1);
    assert_found(&findings, "error privileges", "UPDATE on legacy_blocks, DELETE on legacy_blocks");
    let lacks_accounts = findings
        .iter()
        .any(|[_, found]| found.contains("UPDATE on accounts, DELETE on change_log"));
    assert_eq!(lacks_accounts, database.kind == Kind::MariaDb, "{findings:#?}");
    if database.kind == Kind::Postgres {
        database.execute("DELETE FROM schema_steps WHERE name = 'm0042_legacy_blocks'").await;
        database.execute(&format!("GRANT CREATE ON SCHEMA public TO {user}")).await;
        let findings = doctor(&url, &[], 1);
        assert_found(&findings, "error privileges", "the ownership of the tables");
        database.execute(&format!("REVOKE CREATE ON SCHEMA public FROM {user}")).await;
        let findings = doctor(&url, &[], 1);
        assert_found(&findings, "error privileges", "CREATE on the schema");
        let findings = doctor(&database.url, &[], 0);
        assert_found(&findings, "ok privileges", "may apply the pending steps");
    }
    // PostgreSQL may trust local users.
    if database.kind == Kind::MariaDb {
        let findings = doctor(&url.replace(":hush@", ":hush!@"), &[], 1);
        assert_found(&findings, "error database", "check that the server runs");
    }
    for statement in &drop {
        database.execute(statement).await;
    }
}

async fn the_definer_of_triggers_is_checked(database: TestDatabase) {
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let user = format!("u_{name}");
    let account = format!("{user}@'127.0.0.1'");
    database.execute(&format!("CREATE USER {account} IDENTIFIED BY 'hush'")).await;
    let grant = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES";
    database.execute(&format!("GRANT {grant} ON {name}.* TO {account}")).await;
    let scheme_end = server.find("://").unwrap() + 3;
    let host = server.rsplit_once('@').map_or(&server[scheme_end..], |(_, host)| host);
    let url = format!("{}{user}:hush@{host}/{name}", &server[..scheme_end]);
    let findings = doctor(&url, &[], 1);
    assert_found(&findings, "error triggers", "missing: TRIGGER");
    assert_found(&findings, "error triggers", "GRANT TRIGGER on the database");
    database.execute(&format!("GRANT TRIGGER ON {name}.* TO {account}")).await;
    let findings = doctor(&url, &[], 0);
    assert_found(&findings, "ok triggers", "may create triggers");
    let variables = [("M4_DATABASE_URL", &*url)];
    assert_eq!(run(&["migrate", "--demo"], &variables).status.code(), Some(0));
    let findings = doctor(&url, &[], 0);
    assert_found(&findings, "ok triggers", "the definer");

    database.execute(&format!("REVOKE TRIGGER ON {name}.* FROM {account}")).await;
    let findings = doctor(&url, &[], 1);
    assert_found(&findings, "error triggers", "lacks TRIGGER");
    database.execute(&format!("DROP USER {account}")).await;
    let findings = doctor(&database.url, &[], 1);
    let gone = format!("their definer {user}@127.0.0.1 does not exist");
    assert_found(&findings, "error triggers", &gone);
    // The statements of docs/operations/databases.md#triggers.
    let page = include_str!("../../docs/operations/databases.md");
    let (_, section) = page.split_once("## Triggers\n").unwrap();
    let (_, statements) = section.split_once("```sql,run-by-doctor\n").unwrap();
    let (statements, _) = statements.split_once("```").unwrap();
    database.execute(statements).await;
    let variables = [("M4_DATABASE_URL", &*database.url)];
    assert_eq!(run(&["migrate"], &variables).status.code(), Some(0));
    let findings = doctor(&database.url, &[], 0);
    assert_found(&findings, "ok triggers", "the definer");
    database.execute("UPDATE accounts SET city = 'Bonn' WHERE id = 3").await;
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn certificates_keys_and_listeners_are_checked(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = Authority::new();
    let (new, old) = (authority.issue(&["localhost"]), authority.issue_expired(&["localhost"]));
    let (certificate, key) = (write("new.pem", &new.certificate), write("new.key", &new.key));
    let (expired, its_key) = (write("old.pem", &old.certificate), write("old.key", &old.key));
    let mut variables = vec![
        ("M4_GRPC_TLS_CERTIFICATE", &*certificate),
        ("M4_GRPC_TLS_KEY", &*key),
        ("M4_GRPC_LISTEN", "0.0.0.0:0"),
        ("M4_API_SECRET_KEY", "hush"),
    ];
    let findings = doctor(&database.url, &variables, 1);
    assert_found(&findings, "ok certificates", "grpc.tls_certificate is valid until 4000-");
    assert_found(&findings, "error authentication", "no authentication is configured");
    assert_found(&findings, "warning secrets", "api.secret_key has fewer than 16 characters");
    variables.extend([
        ("M4_GRPC_TOKEN", "hush-0123456789abcdef"),
        ("M4_HTTP_TLS_CERTIFICATE", &*expired),
        ("M4_HTTP_TLS_KEY", &*its_key),
        ("M4_HTTP_LISTEN", "192.0.2.1:0"),
    ]);
    let findings = doctor(&database.url, &variables, 1);
    assert_found(&findings, "ok authentication", "must authenticate");
    assert_found(&findings, "error certificates", "http.tls_certificate is expired since 2001-");
    assert_found(&findings, "error listeners", "http.listen: 192.0.2.1:0 cannot be bound");

    let url = [("M4_DATABASE_URL", &*database.url)];
    let tls = [("M4_HTTP_TLS_CERTIFICATE", &*expired), ("M4_HTTP_TLS_KEY", &*its_key)];
    let mut program = Program::serve(&[], &[url[0], tls[0], tls[1]]).await;
    let line = program.wait_for_line("a certificate is expired").await;
    assert_eq!(line["level"], "ERROR");

    let findings = doctor(&database.url, &[("M4_GRPC_LISTEN", "hush"), ("M4_SURPRISE", "1")], 1);
    assert_eq!(findings.len(), 2);
    assert_found(&findings, "error configuration", "grpc.listen");
    assert_found(&findings, "error configuration", "M4_SURPRISE");
    let text = run(&["doctor"], &[url[0], FREE[0], FREE[1], FREE[2]]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("ok       configuration: ")), "{text}");
}

async fn a_broken_file_is_an_error(database: TestDatabase) {
    let path = database.url.trim_start_matches("sqlite://");
    fs::write(path, "no database ".repeat(100)).unwrap();
    let findings = doctor(&database.url, &[], 1);
    assert_found(&findings, "error database", "");
}
