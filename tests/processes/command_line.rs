//! Subcommands, configuration and exit codes. On SQLite: the database does not matter here.

use std::{fs, process::Output};

use http::StatusCode;
use m4_user_details::proto::{
    ExplainLegacyCallRequest, HashRecipe, LegacyHashVerdict,
    legacy_service_client::LegacyServiceClient,
};

use crate::{
    program::{Program, command, run},
    support::app::PATH,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn assert_ends(output: &Output, code: i32) {
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{errors}");
}

#[test]
fn the_demo_shows_the_three_outcomes() {
    let output = run(&["demo", "--once", "--port", "0"], &[]);
    assert_ends(&output, 0);
    let out = text(&output.stdout);
    assert_eq!(out.matches("<error>Incorrect hash</error>").count(), 1, "{out}");
    assert_eq!(out.matches("<success>User was updated successfully</success>").count(), 2, "{out}");
    assert!(out.contains("it was made for user_id=5, with the same u and secret key"), "{out}");
    assert_eq!(out.matches("general.hidden: false -> true").count(), 2, "{out}");
    assert!(out.contains("curl -X POST 'http://127.0.0.1:"));
    for (id, username) in [(1, "admin"), (3, "alice"), (8, "locked")] {
        assert!(out.contains(&format!("\n  {id}  {username}")), "{out}");
    }
    assert!(out.contains("grpcurl -plaintext 127.0.0.1:"));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn completions_and_manual_pages_know_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let bash = run(&["completions", "bash"], &[]);
    assert_ends(&bash, 0);
    assert_ends(&run(&["man", folder.path().to_str().unwrap()], &[]), 0);
    let mut pages = 0;
    for name in ["serve", "import", "administration-log"] {
        assert!(text(&bash.stdout).contains(name));
        pages += usize::from(folder.path().join(format!("m4-user-details-{name}.1")).exists());
    }
    assert_eq!(pages, 3);
    assert_ends(&run(&["man", "/no/such/folder"], &[]), 1);
}

#[test]
fn the_version_names_commit_build_and_schema() {
    let output = run(&["--version"], &[]);
    assert_ends(&output, 0);
    let out = text(&output.stdout);
    for part in [env!("CARGO_PKG_VERSION"), "\ncommit: ", "\nbuilt: ", "\nschema: m00"] {
        assert!(out.contains(part), "{out}");
    }
    assert_eq!(text(&run(&["-V"], &[]).stdout).lines().count(), 1);
}

#[test]
fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, other) in
        [("M4_GRPC_LISTEN", "M4_HTTP_LISTEN"), ("M4_HTTP_LISTEN", "M4_GRPC_LISTEN")]
    {
        let output = run(&["demo", "--once"], &[(variable, &address), (other, "127.0.0.1:0")]);
        assert_ends(&output, 1);
        let errors = text(&output.stderr);
        assert!(errors.contains("demo --port 0"), "{errors}");
        assert!(errors.contains(&format!("cannot listen on {address}")), "{errors}");
        assert!(errors.contains(variable), "{errors}");
    }
}

#[test]
fn every_configuration_error_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m4.toml");
    fs::write(
        &file,
        "log = \"info\"\nno_such_key = 1\n[http]\nlisten = \"nonsense\"\n[grpc]\ntokn = \"x\"\n",
    )
    .unwrap();
    let output = run(
        &["config", "--config", file.to_str().unwrap()],
        &[
            ("M4_DRAIN_SECONDS", "-1"),
            ("M4_DATABASE_URL", "oracle://x"),
            ("M4_API_SECRET_KEY_FILE", "/no/such/file"),
            ("M4_DOOR_UPSTREAM", "ftp://x"),
            ("M4_INSECURE", "perhaps"),
        ],
    );
    assert_ends(&output, 2);
    let errors = text(&output.stderr);
    for expected in [
        "no_such_key (",
        "m4.toml) is unknown; did you mean `grpc.token`?",
        "http.listen (",
        "drain_seconds (environment) must be a number from 1 to 3600",
        "database.url (environment) must be sqlite://FILE",
        "api.secret_key_file (environment) cannot be read",
        "door.upstream (environment) must be http://HOST:PORT or https://HOST:PORT",
        "insecure (environment) must be true or false",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    assert_ends(&run(&["config", "--config", "/no/such/file"], &[]), 2);
    assert_ends(&run(&["serve", "--no-such-flag"], &[]), 2);
    assert_ends(&run(&["serve", "--door-only"], &[]), 2);
}

/// A misspelt `M4_DATABASE_URL` would start a healthy service on a new, empty database.
#[test]
fn an_unknown_variable_is_refused_before_anything_is_created() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["serve"][..], &["migrate"], &["config"]] {
        let url = [("M4_DATABSE_URL", "postgres://m4:hush@db/m4")];
        let output = command(arguments, &url).current_dir(folder.path()).output().unwrap();
        assert_ends(&output, 2);
        let errors = text(&output.stderr);
        assert!(errors.contains("did you mean `M4_DATABASE_URL`?"), "{errors}");
        assert!(!errors.contains("hush"), "{errors}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_configuration_file_may_be_named_by_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m4.toml");
    fs::write(&file, "drain_seconds = 7\n").unwrap();
    let output = run(&["config"], &[("M4_CONFIG", file.to_str().unwrap())]);
    assert_ends(&output, 0);
    assert!(text(&output.stdout).contains("drain_seconds = \"7\""));
    assert_ends(&run(&["config"], &[("M4_CONFIG", "")]), 0);
}

#[test]
fn a_sqlite_url_that_cannot_be_used_is_refused_by_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let listen = ["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    for (url, words) in [
        ("sqlite://".to_owned(), "has no file"),
        (format!("sqlite://{}?foo=bar", path.display()), "unknown option `foo`"),
        (format!("sqlite://{}?mode=ro", path.display()), "`mode`"),
        ("sqlite://:memory:".to_owned(), "in memory"),
        (format!("sqlite://{}", folder.path().display()), "is not a file"),
    ] {
        for arguments in [&listen[..], &["migrate"], &["token", "list"]] {
            let output = run(arguments, &[("M4_DATABASE_URL", &url), ("M4_ADMIN_LISTEN", "off")]);
            assert_ends(&output, 2);
            let errors = text(&output.stderr);
            assert!(errors.contains(words), "{url}: {errors}");
        }
    }
    assert!(!path.exists());
}

#[test]
fn a_command_on_a_new_database_says_that_the_schema_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    for arguments in [&["token", "list"][..], &["settings", "get"], &["legacy", "report"]] {
        let output = run(arguments, &[("M4_DATABASE_URL", &url)]);
        assert_ends(&output, 1);
        let errors = text(&output.stderr);
        assert!(errors.contains("steps are pending: run `migrate`"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_path_can_be_that_of_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b?c=d#e%20f&g");
    fs::create_dir(&odd).unwrap();
    let output = run(&["demo", "--once", "--port", "0"], &[("TMPDIR", odd.to_str().unwrap())]);
    assert_ends(&output, 0);
    let path = odd.join("ü.db");
    let url = m4_user_details::storage::sqlite_url(&path);
    let variables = [("M4_DATABASE_URL", url.as_str())];
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    program.set_city("York", "").await.unwrap();
    assert_ends(&run(&["settings", "set", "allow_get_api=on"], &variables), 0);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(path.exists());
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m4.toml");
    fs::write(&file, "drain_seconds = 7\nmax_in_flight = 8\nlog = \"warn\"\n").unwrap();
    let output = run(
        &["config", "--config", file.to_str().unwrap(), "--log", "debug"],
        &[("M4_LOG", "error"), ("M4_MAX_IN_FLIGHT", "9")],
    );
    assert_ends(&output, 0);
    let out = text(&output.stdout);
    for line in [
        "log = \"debug\"  # flag;",
        "max_in_flight = \"9\"  # environment;",
        "drain_seconds = \"7\"  # ",
        "deadline_seconds = \"10\"  # default;",
    ] {
        assert!(out.lines().any(|own| own.starts_with(line)), "{line}: {out}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let output = run(
        &["config"],
        &[
            ("M4_API_SECRET_KEY", "hush-key"),
            ("M4_API_SECRET_KEY_PREVIOUS", "hush-previous"),
            ("M4_GRPC_TOKEN", "hush-token"),
            ("M4_DOOR_TOKEN", "hush-door"),
            ("M4_DATABASE_URL", "postgres://m4:hush-password@db/m4"),
        ],
    );
    assert_ends(&output, 0);
    let out = text(&output.stdout) + &text(&output.stderr);
    assert!(!out.contains("hush"), "{out}");
    assert!(out.contains("postgres://m4:***@db/m4"), "{out}");
}

#[test]
fn values_that_cannot_be_parsed_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m4.toml");
    for (content, code) in [
        ("[api]\nsecret_key = hush-key\n", 2),
        ("[api]\nsecret_key = \"hush-key\n", 2),
        ("hush-key", 2),
        ("[api]\nsecret_kye = \"hush-key\"\n", 2),
        ("[api]\nsecret_key = [\"hush-key\"]\n", 2),
        ("api = \"hush-key\"\n", 2),
        ("[api]\n\"hush-key\" = 1\n", 2),
        ("[database]\nurl = \"postgres//m4:hush-password@db/m4\"\n", 2),
        ("[database]\nurl = \"postgres://m4:hush-password\"\n", 0),
        ("[database]\nurl = \"mysql://db/m4?user=m4&pwd=hush\"\n", 0),
        ("[door]\nupstream = \"http://m4:hush-password@door:1\"\n", 0),
    ] {
        fs::write(&file, content).unwrap();
        let output = run(&["config", "--config", file.to_str().unwrap()], &[]);
        assert_ends(&output, code);
        let out = text(&output.stdout) + &text(&output.stderr);
        assert!(!out.contains("hush"), "{content}: {out}");
    }
}

#[test]
fn a_secret_key_is_taken_verbatim() {
    use sha1::{Digest, Sha1};
    for key in ["secret", "0123", " spaced ", "true", "\"quoted\"", "1e3", "#x", "ключ", "a=b"]
    {
        let expected = hex::encode(Sha1::digest(format!("admin5{key}")));
        let output =
            run(&["hash", "--u", "admin", "--user-id", "5"], &[("M4_API_SECRET_KEY", key)]);
        assert_ends(&output, 0);
        let out = text(&output.stdout);
        assert!(out.contains(&expected), "{key}: {out}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, format!("{key}\nanother\n")).unwrap();
        let variables = [("M4_API_SECRET_KEY_FILE", file.to_str().unwrap())];
        let output = run(&["hash", "--u", "admin", "--user-id", "5"], &variables);
        let out = text(&output.stdout);
        assert!(out.contains(&expected), "{key}");
        let told = format!("secret key: {}, changed 20", file.display());
        assert!(out.starts_with(&told) && out.contains("Z, read 20"), "{out}");
    }
}

#[test]
fn a_hash_is_explained() {
    let url = "http://HOST/billing/api/user_details_update?u=admin&user_id=3&hidden=1&hash=";
    let explain = |hash: &str, code| {
        let output = run(&["hash", &format!("{url}{hash}")], &[("M4_API_SECRET_KEY", "secret")]);
        assert_ends(&output, code);
        text(&output.stdout)
    };
    let printed = explain("80ea571b1932bfecb937013966849154cb995e05", 1);
    assert!(printed.contains("it was made for user_id=5"), "{printed}");
    assert!(printed.contains("09574460be862d62efd300117fcee3328a10b48a"), "{printed}");
    assert!(!printed.replace("<secret key>", "").replace("secret key", "").contains("secret"));
    assert!(
        explain("09574460BE862D62EFD300117FCEE3328A10B48A", 0)
            .contains("right by the recipe u,user_id")
    );
    assert!(explain("123", 1).contains("is no SHA-1"));
    let printed = explain(&"0".repeat(40), 1);
    assert!(printed.contains("another secret key"), "{printed}");
    assert!(printed.contains("not checked: client keys"), "{printed}");
    assert!(printed.contains("secret key: the value of M4_API_SECRET_KEY"), "{printed}");
    let output = run(&["hash", "--u", "admin"], &[]);
    assert_ends(&output, 2);
    assert!(text(&output.stderr).contains("not checked: client keys"), "{output:?}");
    let keys = [("M4_API_SECRET_KEY", "newer"), ("M4_API_SECRET_KEY_PREVIOUS", "secret")];
    let query = "u=admin&user_id=3&hash=09574460be862d62efd300117fcee3328a10b48a";
    let printed = text(&run(&["hash", query], &keys).stdout);
    assert!(printed.contains("made with a key that is being retired"), "{printed}");
    assert_ends(&run(&["hash", "u=admin&city=New York"], &keys), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_is_the_same_by_command_and_by_rpc() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let keys = [("M4_API_SECRET_KEY", "newer"), ("M4_API_SECRET_KEY_PREVIOUS", "secret")];
    let variables = [keys[0], keys[1], ("M4_DATABASE_URL", &*url)];
    let program = Program::serve(&["--demo"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    for query in [
        "u=admin&user_id=3&hash=09574460be862d62efd300117fcee3328a10b48a",
        "hash=09574460be862d62efd300117fcee3328a10b48a&u=admin&user_id=5&city=x",
        "u=%C3%A4%22+dmin&user_id=%2003",
        "u=a&u=manager&user_id=4&hash=x",
        "u=&hash=",
    ] {
        let call = format!("http://HOST{PATH}?{query}");
        let request = ExplainLegacyCallRequest {
            url: call.clone(),
            include_hash: true,
            acting_username: "admin".to_owned(),
            ..ExplainLegacyCallRequest::default()
        };
        let answer = LegacyServiceClient::new(program.channel()).explain_legacy_call(request).await;
        let told = answer.unwrap().into_inner().hash.unwrap();
        let output = run(&["hash", &call], &keys);
        let is_wrong = matches!(
            told.verdict(),
            LegacyHashVerdict::NoSha1 | LegacyHashVerdict::OtherUserId | LegacyHashVerdict::Wrong
        );
        assert_ends(&output, i32::from(is_wrong));
        let out = text(&output.stdout);
        let mut lines = out.lines();
        for recipe in &told.recipes {
            let before = recipe.hashed.strip_suffix("<secret key>").unwrap();
            let name = match recipe.recipe() {
                HashRecipe::UUserId => "u,user_id",
                HashRecipe::UserId => "user_id",
                HashRecipe::Unspecified => panic!("{recipe:?}"),
            };
            let expected =
                format!("recipe {name}: sha1({before:?} + <secret key>) = {}", recipe.hash);
            assert_eq!(lines.next(), Some(&*expected), "{query}");
            assert_eq!(recipe.hash.len(), 40);
        }
        assert!(lines.all(|line| !line.starts_with("recipe ")), "{out}");
        let retired = out.contains("right by the recipe u,user_id, made with a key that is being");
        assert_eq!(told.previous_key, retired, "{out}");
        let other = out.contains(&format!("made for user_id={},", told.made_for_user_id));
        assert_eq!(told.verdict() == LegacyHashVerdict::OtherUserId, other, "{out}");
    }
}

#[test]
fn settings_are_read_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let settings = |arguments: &[&str]| {
        let arguments: Vec<_> = ["settings"].iter().chain(arguments).copied().collect();
        run(&arguments, &[("M4_DATABASE_URL", &url)])
    };
    let get = || text(&settings(&["get"]).stdout);
    // The command does not create a missing database.
    assert_ends(&settings(&["get"]), 1);
    assert_ends(&run(&["migrate"], &[("M4_DATABASE_URL", &url)]), 0);
    let retirement = "deprecation=\nsunset=\nretirement_link=\nbrownouts=\n\
                      failed_hashes_per_address=600\nfailed_hashes_per_username=600\n\
                      block_seconds=300\n";
    let default = "allow_api=on\nallow_get_api=off\nhash_recipes=u,user_id\nallowed_networks=\n";
    assert_eq!(get(), format!("{default}{retirement}"));
    let networks = "allowed_networks=10.1.2.3/8,2001:db8::7";
    let set = ["set", "allow_get_api=on", "hash_recipes=user_id+u,user_id+user_id", networks];
    assert_ends(&settings(&set), 0);
    let changed = "allow_api=on\nallow_get_api=on\nhash_recipes=u,user_id+user_id\n\
                   allowed_networks=10.0.0.0/8,2001:db8::7/128\n";
    let changed = format!("{changed}{retirement}");
    assert_eq!(get(), changed);
    for wrong in [
        "allow_api=maybe",
        "allow_api",
        "nothing=on",
        "hash_recipes=md5",
        "hash_recipes=",
        "allowed_networks=everywhere",
        "failed_hashes_per_address=1",
        "failed_hashes_per_username=-2",
        "block_seconds=59",
        "block_seconds=",
    ] {
        assert_ends(&settings(&["set", "allow_api=off", wrong]), 2);
    }
    assert_eq!(get(), changed);
    assert_ends(&run(&["migrate"], &[("M4_DATABASE_URL", &url)]), 0);
    assert_ends(&run(&["migrate"], &[("M4_DATABASE_URL", "sqlite:///no/such/folder/x.db")]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_it_serves_this_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let open = ("M4_GRPC_LISTEN", "0.0.0.0:0");
    let token = ("M4_GRPC_TOKEN", "token of internal callers");
    let variables = [("M4_DATABASE_URL", url.as_str()), open, ("M4_HTTP_LISTEN", "127.0.0.1:0")];
    for arguments in [&["serve"][..], &["serve", "--demo"]] {
        let output = run(arguments, &variables);
        assert_ends(&output, 2);
        let errors = text(&output.stderr);
        assert!(errors.contains("--insecure") && errors.contains("M4_GRPC_TOKEN"), "{errors}");
    }
    // The secret key of the demo data is public.
    let wide = [variables[0], ("M4_GRPC_LISTEN", "127.0.0.1:0"), ("M4_HTTP_LISTEN", "0.0.0.0:0")];
    // A standalone gateway passes on hashes over gRPC.
    for wide in [&wide[..], &[&variables[..], &[token]].concat()] {
        let output = run(&["serve", "--demo"], wide);
        assert_ends(&output, 2);
        assert!(text(&output.stderr).contains("M4_API_SECRET_KEY"), "{}", text(&output.stderr));
    }
    // The key is refused even if it is configured.
    for arguments in [&["serve", "--demo"][..], &["serve"]] {
        for key in ["M4_API_SECRET_KEY", "M4_API_SECRET_KEY_PREVIOUS"] {
            let output = run(arguments, &[&wide[..], &[(key, "secret"), token]].concat());
            assert_ends(&output, 2);
            assert!(text(&output.stderr).contains("demo data"), "{}", text(&output.stderr));
        }
    }
    let program = Program::serve(&["--demo", "--insecure"], &variables).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    assert!(program.log().contains("authentication is off on 0.0.0.0:0"));
    Program::serve(&[], &[variables[0], open, token])
        .await
        .wait_for_status("/readyz", StatusCode::OK)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_secrets_on_addresses_that_others_reach_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let url = ("M4_DATABASE_URL", url.as_str());
    let secrets = |key, token, door| {
        [("M4_API_SECRET_KEY", key), ("M4_GRPC_TOKEN", token), ("M4_DOOR_TOKEN", door)]
    };
    let short = secrets("hush-key-234567", "hush-token-4567", "hush-door");
    let long = secrets("hush-key-2345678", "hush-token-45678", "hush-door-345678");
    let wide = [("M4_GRPC_LISTEN", "0.0.0.0:0"), ("M4_HTTP_LISTEN", "0.0.0.0:0")];
    for (secrets, addresses, keys) in [
        (&short, &wide[..], Some("api.secret_key, grpc.token, door.token")),
        (&short, &wide[1..], Some("api.secret_key")),
        (&short, &wide[..1], Some("api.secret_key, grpc.token, door.token")),
        (&short, &[], None),
        (&long, &wide, None),
    ] {
        let variables = [&[url][..], secrets, addresses].concat();
        let program = Program::serve(&[], &variables).await;
        let log = program.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("are shorter than")).collect();
        assert_eq!(lines.len(), usize::from(keys.is_some()), "{log}");
        if let Some(keys) = keys {
            assert!(lines[0].contains(&format!("\"keys\":\"{keys}\"")), "{log}");
        }
        assert!(!log.contains("hush"), "{log}");
    }
    let arguments = ["--door-only", "--upstream", "http://127.0.0.1:1"];
    for (token, count) in [("hush-door", 1), ("hush-door-345678", 0)] {
        let gateway = Program::serve(&arguments, &[("M4_DOOR_TOKEN", token)]).await;
        let log = gateway.log();
        let warning = "\"keys\":\"door.token\"";
        assert_eq!(log.matches(warning).count(), count, "{log}");
        assert!(!log.contains("hush"), "{log}");
    }
}
