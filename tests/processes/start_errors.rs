//! What an operator reads if the database cannot be used at the start.

use std::time::{Duration, Instant};

use crate::{
    program::run,
    support::{
        database::{Kind, TestDatabase},
        on_servers,
    },
};

on_servers!(a_refused_login_ends_the_program_and_says_what_to_do);

/// Far below the time of endless retries.
const AT_ONCE: Duration = Duration::from_secs(30);

/// The URL with another user and another database.
fn other(url: &str, user: &str, database: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let query = path.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let (own, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = if user.is_empty() { own } else { user };
    (format!("{scheme}://{user}@{host}/{database}{query}"), host.to_owned())
}

async fn a_refused_login_ends_the_program_and_says_what_to_do(database: TestDatabase) {
    let (nobody, host) = other(&database.url, "m4_nobody:hush-password", "m4");
    let (missing, _) = other(&database.url, "", "m4_missing");
    let said_of_user = match database.kind {
        Kind::Postgres => "role \"m4_nobody\" does not exist",
        Kind::MariaDb | Kind::Sqlite => "Access denied for user 'm4_nobody'",
    };
    let said_of_database = match database.kind {
        Kind::Postgres => "database \"m4_missing\" does not exist",
        Kind::MariaDb | Kind::Sqlite => "Unknown database 'm4_missing'",
    };
    let free = ["M4_GRPC_LISTEN", "M4_HTTP_LISTEN", "M4_ADMIN_LISTEN"];
    for (url, parts) in [
        (&nobody, ["user `m4_nobody`", said_of_user, "check user name and password"]),
        (&missing, ["database `m4_missing`", said_of_database, "create the database"]),
    ] {
        for arguments in [&["serve"][..], &["migrate"], &["settings", "get"]] {
            let mut variables = free.map(|name| (name, "127.0.0.1:0")).to_vec();
            variables.push(("M4_DATABASE_URL", url));
            let begun = Instant::now();
            let output = run(arguments, &variables);
            assert!(begun.elapsed() < AT_ONCE, "{arguments:?}");
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
            for part in [host.as_str()].into_iter().chain(parts) {
                assert!(told.contains(part), "{arguments:?}: {part} is not in {told}");
            }
            assert!(!told.contains("hush"), "{told}");
        }
    }
}
