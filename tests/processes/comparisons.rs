//! `compare`: drift between CSV files and the stored rows, on every engine.

use std::fs;

use serde_json::{Value, json};

use crate::{
    imports::Folder,
    program::run,
    support::{database::TestDatabase, on_every_engine},
};

on_every_engine!(drift_is_told_by_user_and_field);

async fn drift_is_told_by_user_and_field(database: TestDatabase) {
    let folder = Folder::new(&database, &[]);
    let path = folder.path("");
    assert!(run(&["import", "--sample", path.to_str().unwrap()], &[]).status.success());
    folder.import(&[]);
    let output = folder.run("compare", &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");

    for sql in [
        "UPDATE accounts SET city = 'Trakai', hidden = NOT hidden WHERE id = 3",
        "DELETE FROM accounts WHERE id = 4",
        "INSERT INTO accounts (id, username, account_type, create_time, update_time, comment) \
         VALUES (50, 'new', 'user', 0, 0, '')",
        "UPDATE manager_group_rights SET level = 'edit' WHERE manager_group_id = 2",
        "UPDATE currencies SET name = 'CHF' WHERE id = 3",
    ] {
        database.execute(sql).await;
    }
    let accounts = fs::read_to_string(folder.path("accounts.csv")).unwrap();
    let accounts = accounts.replace("5,carol,,", "5,carol,clerk,");
    fs::write(folder.path("accounts.csv"), accounts).unwrap();
    // The second right is there twice, once with another level.
    let rights = fs::read_to_string(folder.path("manager_group_rights.csv")).unwrap();
    let doubled = rights.lines().last().unwrap().replace("read", "edit") + "\n";
    fs::write(folder.path("manager_group_rights.csv"), rights + &doubled).unwrap();
    let pools = fs::read_to_string(folder.path("number_pools.csv")).unwrap();
    let doubled = pools.lines().last().unwrap().to_owned() + "\n";
    fs::write(folder.path("number_pools.csv"), pools + &doubled).unwrap();
    let row = |table: &str, id: &str, field: &str, drift: &str| json!({"table": table, "id": id, "field": field, "drift": drift});
    let differs = |table: &str, id: &str, field: &str, here: &str, there: &str| json!({"table": table, "id": id, "field": field, "drift": "differs", "here": here, "there": there});
    let expected = |masked: bool| {
        let value = |value: &'static str| if masked { "***" } else { value };
        vec![
            differs("currencies", "3", "name", value("CHF"), value("GBP")),
            row("number_pools", "2", "id", "doubled_there"),
            differs("manager_group_rights", "2", "level", value("edit"), value("read")),
            row("manager_group_rights", "2", "name", "doubled_there"),
            row("accounts", "5", "account_type", "invalid_there"),
            differs("accounts", "3", "hidden", value("1"), value("0")),
            differs("accounts", "3", "city", value("Trakai"), value("Vilnius")),
            row("accounts", "4", "", "missing_here"),
            row("accounts", "50", "", "missing_there"),
        ]
    };
    for (more, masked) in [(&[][..], true), (&["--show-values"], false)] {
        let output = folder.run("compare", more);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, expected(masked));
    }
    let mapping = folder.path("mapping.toml");
    let arguments = ["compare", "--mapping", mapping.to_str().unwrap()];
    let output = run(&arguments, &[("M4_DATABASE_URL", &database.url)]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("accounts\t3\tcity\tdiffers\t***\t***\n"), "{text}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("9 differences"), "{told}");
}
