//! Subcommands on every engine, and secrets that their output must not contain.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::ffi::OsStrExt,
    process::{Command, Output, Stdio},
    thread,
};

use http::StatusCode;
use m4_user_details::proto::{
    AddLegacyBlockRequest, LegacyBlock, legacy_block::Target,
    legacy_service_client::LegacyServiceClient,
};
use m4_user_details_migrations::steps;
use sha1::{Digest, Sha1};

use crate::{
    program::{Program, command, run},
    support::{database::TestDatabase, on_every_engine, until},
};

on_every_engine!(
    migrating_twice_is_migrating_once,
    migrating_may_fill_an_empty_database,
    switches_that_are_set_reach_a_running_service,
    a_retirement_that_is_set_reaches_a_running_service,
    blocks_reach_a_running_service,
    demo_data_is_refused_beside_other_data,
);

/// All output of a command.
fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn assert_ends(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
}

async fn migrating_twice_is_migrating_once(database: TestDatabase) {
    let steps = i64::try_from(steps().len()).unwrap();
    for _ in 0..2 {
        assert_ends(&run(&["migrate"], &[("M4_DATABASE_URL", &database.url)]), 0);
        let shared = database.number("SELECT count(*) FROM seaql_migrations").await;
        // Version 0.1.0 does not start if this table has an unknown step.
        assert_eq!(shared, 26);
        assert_eq!(database.number("SELECT count(*) FROM schema_steps").await, steps - shared);
        assert_eq!(database.number("SELECT count(*) FROM accounts").await, 0);
    }
}

async fn migrating_may_fill_an_empty_database(database: TestDatabase) {
    let variables = [("M4_DATABASE_URL", &*database.url)];
    for _ in 0..2 {
        assert_ends(&run(&["migrate", "--demo"], &variables), 0);
        assert_eq!(database.number("SELECT count(*) FROM accounts").await, 8);
    }
    for _ in 0..2 {
        let output = run(&["new-epoch"], &variables);
        assert_ends(&output, 0);
        assert!(told(&output).ends_with(" has begun\n"), "{}", told(&output));
    }
    assert_eq!(database.number("SELECT count(*) FROM database_epochs").await, 2);
}

async fn switches_that_are_set_reach_a_running_service(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    assert!(program.call("admin", "3", "").await.body.contains("successfully"));
    let variables = [("M4_DATABASE_URL", &*database.url)];
    let output = run(&["settings", "set", "allow_api=off", "allow_get_api=on"], &variables);
    assert_ends(&output, 0);
    let expected = "allow_api=off\nallow_get_api=on\nhash_recipes=u,user_id\nallowed_networks=\n\
                    deprecation=\nsunset=\nretirement_link=\nbrownouts=\n\
                    failed_hashes_per_address=600\nfailed_hashes_per_username=600\n\
                    block_seconds=300\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    until("the switch is effective", || async {
        program.call("admin", "3", "").await.body.contains("API Requests are disabled")
    })
    .await;
    for wrong in ["allow_api=ON", "allow_api=1", "Allow_api=on", "hash_recipes=u", "=on", ""] {
        let output = run(&["settings", "set", "allow_get_api=off", wrong], &variables);
        assert_ends(&output, 2);
    }
    assert_ends(&run(&["settings", "set"], &variables), 2);
    let output = run(&["settings", "get"], &variables);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

async fn a_retirement_that_is_set_reaches_a_running_service(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let variables = [("M4_DATABASE_URL", &*database.url)];
    let set = |settings: &[&str]| {
        let arguments: Vec<_> = ["settings", "set"].iter().chain(settings).copied().collect();
        run(&arguments, &variables)
    };
    let output = set(&[
        "deprecation=2027-01-01T01:00:00+01:00",
        "sunset=2027-06-30T00:00:00Z",
        "retirement_link=https://billing.example/migrate",
        "brownouts=2027-02-02T09:00:00Z/2027-02-02T10:00:00Z,1970-01-01T00:00:00Z/9999-12-31T23:59:59Z",
    ]);
    assert_ends(&output, 0);
    let expected = "deprecation=2027-01-01T00:00:00Z\nsunset=2027-06-30T00:00:00Z\n\
                    retirement_link=https://billing.example/migrate\n\
                    brownouts=1970-01-01T00:00:00Z/9999-12-31T23:59:59Z,\
                    2027-02-02T09:00:00Z/2027-02-02T10:00:00Z\n";
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains(&format!("allowed_networks=\n{expected}")), "{out}");
    until("the brownout is effective", || async {
        program.call("admin", "3", "").await.body.contains("API Requests are disabled")
    })
    .await;
    assert!(program.log().contains("\"rule\":\"brownout\""), "{}", program.log());
    for (wrong, words) in [
        ("sunset=2026-12-31T23:59:59Z", "settings.sunset: must not be before deprecation"),
        ("deprecation=2027-07-01T00:00:00Z", "settings.sunset: must not be before deprecation"),
        ("deprecation=2027-01-01", "must be a time in whole seconds"),
        ("retirement_link=billing.example", "must be an http or https URL"),
        ("brownouts=2027-01-01T00:00:00Z", "must be windows START/END"),
    ] {
        let output = set(&[wrong, "allow_get_api=on"]);
        assert_ends(&output, 2);
        assert!(told(&output).contains(words), "{}", told(&output));
    }
    assert_eq!(String::from_utf8_lossy(&run(&["settings", "get"], &variables).stdout), out);
    let output = set(&["deprecation=", "sunset=", "retirement_link=", "brownouts="]);
    assert_ends(&output, 0);
    let cleared = "deprecation=\nsunset=\nretirement_link=\nbrownouts=\n";
    assert!(told(&output).contains(cleared), "{}", told(&output));
    until("the brownout has ended", || async {
        program.call("admin", "3", "").await.body.contains("successfully")
    })
    .await;
}

async fn blocks_reach_a_running_service(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    assert!(program.call("admin", "3", "").await.body.contains("successfully"));
    let variables = [("M4_DATABASE_URL", &*database.url)];
    let blocks = |arguments: &[&str]| {
        let arguments: Vec<_> = ["legacy", "blocks"].iter().chain(arguments).copied().collect();
        run(&arguments, &variables)
    };
    assert_ends(&blocks(&["add", "--address", "127.0.0.1", "--minutes", "5"]), 0);
    assert_ends(&blocks(&["add", "--username", "bob"]), 0);
    until("the address is blocked", || async {
        program.call("admin", "3", "").await.status == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    let list = told(&blocks(&["list"]));
    let lines: Vec<Vec<_>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0], ["kind", "value", "blocked since", "until", "by"]);
    assert_eq!(
        (lines[1][..2].join(" "), lines[2][..2].join(" ")),
        ("address 127.0.0.1".to_owned(), "username bob".to_owned())
    );
    assert!(lines[1][3].starts_with("20") && lines[2][3] == "-", "{list}");
    assert!(lines[1][4].starts_with("cli:"), "{list}");
    let json = told(&blocks(&["list", "--json"]));
    let block: serde_json::Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&block["kind"], &block["value"]), (&"username".into(), &"bob".into()));
    assert_eq!((&block["automatic"], &block["expire_time"]), (&false.into(), &().into()));
    assert_ends(&blocks(&["lift", "--address", "127.0.0.1"]), 0);
    until("the block is lifted", || async {
        program.call("admin", "3", "").await.body.contains("successfully")
    })
    .await;
    assert_ends(&blocks(&["lift", "--address", "127.0.0.1"]), 1);
    for wrong in [
        &["add"][..],
        &["lift"],
        &["add", "--address", "crm.internal"],
        &["add", "--address", "192.0.2.1", "--username", "bob"],
        &["add", "--username", "bob", "--minutes", "0"],
    ] {
        assert_ends(&blocks(wrong), 2);
    }
    let log = told(&run(&["administration-log"], &variables));
    assert!(log.lines().filter(|line| line.contains("legacy_block")).count() == 3, "{log}");
    // A username is in no log line.
    let target = Some(Target::Username("bob".to_owned()));
    let block = Some(LegacyBlock { target, ..LegacyBlock::default() });
    let request = AddLegacyBlockRequest { block, acting_username: "admin".to_owned() };
    LegacyServiceClient::new(program.channel()).add_legacy_block(request).await.unwrap();
    until("the block is logged", || async { program.log().contains("legacy_block") }).await;
    assert!(!program.log().contains("bob"), "{}", program.log());
}

async fn demo_data_is_refused_beside_other_data(database: TestDatabase) {
    let free = [("M4_GRPC_LISTEN", "127.0.0.1:0"), ("M4_HTTP_LISTEN", "127.0.0.1:0")];
    let admin = ("M4_ADMIN_LISTEN", "127.0.0.1:0");
    let variables = [("M4_DATABASE_URL", &*database.url), free[0], free[1], admin];
    assert_ends(&run(&["migrate"], &variables), 0);
    let row = "INSERT INTO accounts (username, account_type, create_time, update_time, comment) \
               VALUES ('own', 'admin', 0, 0, '')";
    database.execute(row).await;
    for command in ["serve", "migrate"] {
        let output = run(&[command, "--demo"], &variables);
        assert_ends(&output, 1);
        assert!(told(&output).contains("is not empty"), "{}", told(&output));
    }
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 1);
    assert_eq!(database.number("SELECT count(*) FROM settings").await, 0);
    // Without `--demo` the program serves the existing data.
    let program = Program::serve(&[], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
}

#[test]
fn the_demo_ends_in_order_when_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&["demo", "--port", "0"], &[]);
    let mut demo = command
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let waiter =
        thread::spawn(move || lines.map_while(Result::ok).find(|line| line.contains("Ctrl-C")));
    let served = waiter.join().unwrap();
    let process = demo.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &process]).status();
    let output = demo.wait_with_output().unwrap();
    assert!(sent.unwrap().success() && served.is_some(), "{}", told(&output));
    assert_ends(&output, 0);
    assert_eq!(told(&output), "");
    // The program deletes its temporary database.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_address_in_use_is_named_by_serve_too() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    for arguments in [
        &["serve", "--grpc-listen", &address, "--http-listen", "127.0.0.1:0"][..],
        &["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", &address],
        &["serve", "--door-only", "--upstream", "http://127.0.0.1:1", "--http-listen", &address],
    ] {
        let output = run(arguments, &[("M4_DATABASE_URL", &url)]);
        assert_ends(&output, 1);
        assert!(
            told(&output).contains(&format!("cannot listen on {address}")),
            "{}",
            told(&output)
        );
    }
}

#[test]
fn a_secret_key_of_any_characters_is_taken_verbatim() {
    for key in
        ["0123 ", " ", "\t", "true", "'single' \"double\"", "a\\nb", "$HOME", "[1]", "{}", "ž"]
    {
        let expected = hex::encode(Sha1::digest(format!("admin5{key}")));
        let output =
            run(&["hash", "--u", "admin", "--user-id", "5"], &[("M4_API_SECRET_KEY", key)]);
        assert_ends(&output, 0);
        assert!(told(&output).contains(&expected), "{key:?}: {}", told(&output));
    }
}

/// An unreadable variable is an error: ignoring it would keep a default in force.
#[test]
fn a_variable_that_is_no_text_is_an_error() {
    for name in ["M4_API_SECRET_KEY", "M4_GRPC_TOKEN", "M4_DATABASE_URL"] {
        let mut command = command(&["config"], &[]);
        let output = command.env(name, std::ffi::OsStr::from_bytes(b"hush\xff")).output().unwrap();
        assert_ends(&output, 2);
        assert!(told(&output).contains(name), "{}", told(&output));
        assert!(!told(&output).contains("hush"), "{}", told(&output));
    }
}

#[test]
fn no_way_of_configuring_a_secret_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m4.toml");
    for (text, code) in [
        ("[api]\nsecret_key = \"hush\"\n[grpc]\ntoken = \"hush\"\n[door]\ntoken = \"hush\"\n", 0),
        ("[database]\nurl = \"postgres://m4:hush@db/m4\"\n", 0),
        ("[database]\nurl = \"postgres://m4:hu:sh@hush@db/m4\"\n", 0),
        ("[database]\nurl = \"postgres://db/m4?user=m4&password=hush\"\n", 0),
        ("[database]\nurl = \"postgres://m4:?hush@db/m4?x=1&password=hush#\"\n", 0),
        ("[database]\nurl = \"mysql://:hush@db/m4\"\n", 0),
        ("[database]\nurl = \"m4:hush@db/m4\"\n", 2),
        ("[door]\nupstream = \"ftp://m4:hush@db\"\n", 2),
        ("[door]\nupstream = \"http://m4:hush@db\"\n", 0),
        ("[api]\nsecret_key = \"hush\n", 2),
        ("[api]\nsecret_key = hush\n", 2),
        ("[api]\nsecret_key = [\"hush\"]\n", 2),
        ("[api]\nsecret_key = { hush = 1.5 }\n", 2),
        ("[api]\nsecret_key = \"hush\"\nsecret_key = \"hush\"\n", 2),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(&["config", "--config", file.to_str().unwrap()], &[]);
        let told = told(&output).replace("{ hush", "");
        assert_eq!(output.status.code(), Some(code), "{text}: {told}");
        assert!(!told.contains("hush"), "{text}: {told}");
    }
}

#[test]
fn usage_is_told_with_code_2() {
    for arguments in [
        &["surprise"][..],
        &[],
        &["serve", "--demo", "--door-only", "--upstream", "http://127.0.0.1:1"],
        &["serve", "--upstream", "http://127.0.0.1:1"],
        &["serve", "--door-only", "--upstream", "127.0.0.1:1"],
        &["demo", "--port", "80"],
        &["hash"],
        &["settings"],
        &["serve", "--log", "m4_user_details=loud"],
    ] {
        assert_ends(&run(arguments, &[]), 2);
    }
    for arguments in [&["--version"][..], &["--help"], &["serve", "--help"]] {
        assert_ends(&run(arguments, &[]), 0);
    }
}
