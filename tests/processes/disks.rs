//! Updates while SQLite cannot store them, or after its files have changed. The service
//! acknowledges only stored updates.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use http::StatusCode;
use m4_user_details::proto::{
    Settings, UpdateSettingsRequest, settings_service_client::SettingsServiceClient,
};
use tonic::Code;

use crate::{
    program::{Program, run},
    support::{database::TestDatabase, on_sqlite, until},
};

on_sqlite!(
    a_disk_that_takes_nothing_is_named_and_found_again,
    updates_into_a_deleted_file_are_refused,
    updates_beside_a_replaced_file_are_refused,
    updates_into_an_overwritten_file_are_refused,
    updates_into_an_overwritten_log_are_refused,
    a_deleted_log_loses_no_update,
    a_corrupt_file_is_named_and_nothing_is_stored,
    a_file_that_is_no_database_is_named,
    a_lock_that_is_held_for_long_is_named,
    a_file_that_must_not_be_written_is_refused_at_the_start,
);

/// The database file of a test.
fn file(database: &TestDatabase) -> PathBuf {
    database.url.strip_prefix("sqlite://").unwrap().into()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// Waits until the program is not ready and reports the cause in its metrics and its log.
pub(crate) async fn not_ready(program: &Program, cause: &str) {
    program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
    let told = format!("m4_not_ready{{cause=\"{cause}\"");
    until(cause, || async {
        let metrics = program.ask_admin("/metrics").await.body;
        metrics.lines().any(|line| line.starts_with(&told) && line.ends_with(" 1"))
    })
    .await;
    let metrics = program.ask_admin("/metrics").await.body;
    let mut ready = metrics.lines().filter(|line| line.starts_with("m4_ready"));
    assert!(ready.all(|line| line.ends_with(" 0")), "{metrics}");
    assert!(program.log().contains(&format!("\"cause\":\"{cause}\"")), "{}", program.log());
}

/// Makes updates that must be refused because the storage fails.
async fn assert_refused(program: &Program, updates: u32) {
    for number in 0..updates {
        let refused = program.set_city(&format!("Nowhere {number}"), "").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    let answer = program.call("admin", "3", "city=Nowhere").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
}

/// Sets whether legacy calls may use GET.
async fn switch(program: &Program, allow: bool) -> Result<(), tonic::Status> {
    let settings = Settings { allow_get_api: Some(allow), ..Settings::default() };
    let request = UpdateSettingsRequest { settings: Some(settings), ..Default::default() };
    let mut client = SettingsServiceClient::new(program.channel());
    client.update_settings(request).await.map(drop)
}

/// Sets the soft limit of the program's file size (`RLIMIT_FSIZE`).
fn limit_files(program: &Program, bytes: &str) {
    let process = program.id().to_string();
    let limit = format!("--fsize={bytes}:");
    let set = Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap();
    assert!(set.success());
}

async fn a_disk_that_takes_nothing_is_named_and_found_again(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let comment = "x".repeat(3000);
    for round in 0..3 {
        let stored = database.number("SELECT count(*) FROM change_log").await;
        limit_files(&program, "4096");
        for number in 0..6 {
            let parameters = format!("city=Full+{round}+{number}&comment={comment}{number}");
            let answer = program.call("admin", "3", &parameters).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
        }
        assert_refused(&program, 6).await;
        switch(&program, true).await.unwrap_err();
        not_ready(&program, "io_error").await;
        program.wait_for_status("/healthz", StatusCode::OK).await;
        assert_eq!(program.read(3).await.username, "alice");
        assert_eq!(database.number("SELECT count(*) FROM change_log").await, stored);
        limit_files(&program, "unlimited");
        program.wait_for_status("/readyz", StatusCode::OK).await;
        program.set_city(&format!("Room {round}"), "").await.unwrap();
        let answer = program.call("admin", "3", &format!("comment={comment}{round}")).await;
        assert!(answer.body.contains("successfully"), "{}", answer.body);
        for allow in [true, false] {
            switch(&program, allow).await.unwrap();
        }
        assert_eq!(database.number("SELECT count(*) FROM change_log").await, stored + 2);
    }
    let log = program.log();
    assert!(log.contains("I/O error") && !log.contains("panicked"), "{log}");
    program.kill();
    let program = Program::demo(&database, &[]).await;
    assert_eq!(program.read(3).await.address.unwrap().city.unwrap(), "Room 2");
}

async fn updates_into_a_deleted_file_are_refused(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    program.set_city("York", "").await.unwrap();
    let path = file(&database);
    fs::remove_file(&path).unwrap();
    assert_refused(&program, 12).await;
    not_ready(&program, "file_moved").await;
    assert!(program.log().contains("was deleted or replaced"), "{}", program.log());
    assert!(!path.exists(), "it makes no other one");
}

async fn updates_beside_a_replaced_file_are_refused(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    program.set_city("York", "").await.unwrap();
    let path = file(&database);
    let aside = beside(&path, ".aside");
    fs::rename(&path, &aside).unwrap();
    fs::copy(&aside, &path).unwrap();
    assert_refused(&program, 12).await;
    not_ready(&program, "file_moved").await;
    // The same file is restored.
    fs::rename(&aside, &path).unwrap();
    program.wait_for_status("/readyz", StatusCode::OK).await;
    program.set_city("Bath", "").await.unwrap();
    program.kill();
    let program = Program::demo(&database, &[]).await;
    assert_eq!(program.read(3).await.address.unwrap().city.unwrap(), "Bath");
}

async fn updates_into_an_overwritten_file_are_refused(database: TestDatabase) {
    let url = [("M4_DATABASE_URL", database.url.as_str())];
    assert_eq!(run(&["migrate", "--demo"], &url).status.code(), Some(0));
    let path = file(&database);
    let backup = fs::read(&path).unwrap();
    let program = Program::demo(&database, &[]).await;
    for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
        program.set_city(mode, "").await.unwrap();
        // A checkpoint of another process writes to the file, too.
        let busy = database.number(&format!("PRAGMA wal_checkpoint({mode})")).await;
        assert_eq!(busy, 0);
        program.set_city("York", "").await.unwrap();
    }
    // Sound and complete, but not what the service's log and caches belong to.
    fs::write(&path, &backup).unwrap();
    assert_refused(&program, 12).await;
    not_ready(&program, "corrupt").await;
    assert!(program.log().contains("was overwritten"), "{}", program.log());
}

async fn updates_into_an_overwritten_log_are_refused(database: TestDatabase) {
    let path = file(&database);
    let log = beside(&path, "-wal");
    let url = [("M4_DATABASE_URL", database.url.as_str())];
    assert_eq!(run(&["migrate", "--demo"], &url).status.code(), Some(0));
    // The log loses all pages, their content, and all but the first one.
    let contents: [fn(&mut Vec<u8>); 3] =
        [Vec::clear, |bytes| bytes[64..].fill(0xa5), |bytes| bytes.truncate(32 + 24 + 4096)];
    for overwrite in contents {
        let program = Program::demo(&database, &[]).await;
        for city in ["York", "Bath", "Leeds"] {
            program.set_city(city, "").await.unwrap();
        }
        let mut bytes = fs::read(&log).unwrap();
        overwrite(&mut bytes);
        fs::write(&log, &bytes).unwrap();
        assert_refused(&program, 12).await;
        not_ready(&program, "corrupt").await;
        assert!(program.log().contains("-wal was overwritten"), "{}", program.log());
        program.kill();
    }
}

async fn a_deleted_log_loses_no_update(database: TestDatabase) {
    let mut program = Program::demo(&database, &[]).await;
    program.set_city("York", "").await.unwrap();
    fs::remove_file(beside(&file(&database), "-wal")).unwrap();
    program.wait_for_line("the write-ahead log was deleted; the database has its content").await;
    assert_refused(&program, 3).await;
    not_ready(&program, "file_moved").await;
    program.kill();
    let _ = fs::remove_file(beside(&file(&database), "-shm"));
    let program = Program::demo(&database, &[]).await;
    assert_eq!(program.read(3).await.address.unwrap().city.unwrap(), "York");
}

async fn a_corrupt_file_is_named_and_nothing_is_stored(database: TestDatabase) {
    let url = [("M4_DATABASE_URL", database.url.as_str())];
    assert_eq!(run(&["migrate", "--demo"], &url).status.code(), Some(0));
    let program = Program::demo(&database, &[]).await;
    let path = file(&database);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    // The same file, with other content after its first page.
    fs::write(&path, &bytes).unwrap();
    for round in 0..2 {
        let refused = program.set_city("Nowhere", "").await.unwrap_err();
        assert!(matches!(refused.code(), Code::Unavailable | Code::Internal), "{refused:?}");
        let answer = program.call("admin", "3", "city=Nowhere").await;
        assert!(answer.status.is_server_error(), "{round}: {}", answer.body);
        not_ready(&program, "corrupt").await;
    }
    assert!(!program.log().contains("panicked"), "{}", program.log());
}

async fn a_file_that_is_no_database_is_named(database: TestDatabase) {
    fs::write(file(&database), "no database at all ".repeat(1000)).unwrap();
    let url = [("M4_DATABASE_URL", database.url.as_str())];
    let output = run(&["migrate"], &url);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("corrupt"), "{told}");
    let program = Program::serve(&["--demo"], &url).await;
    not_ready(&program, "corrupt").await;
}

async fn a_lock_that_is_held_for_long_is_named(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let lock = database.lock_alice().await;
    not_ready(&program, "lock_held").await;
    lock.release().await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    program.set_city("York", "").await.unwrap();
}

async fn a_file_that_must_not_be_written_is_refused_at_the_start(_: TestDatabase) {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o777);
    let path = folder.path().join("test.db");
    let url = format!("sqlite://{}", path.display());
    let url = [("M4_DATABASE_URL", url.as_str())];
    assert_eq!(run(&["migrate", "--demo"], &url).status.code(), Some(0));
    // File modes do not restrict root: run a copy of the program as another user instead.
    let is_root = rustix::process::geteuid().is_root();
    let program = folder.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_m4-user-details"), &program).unwrap();
    let refused = |arguments: &[&str]| {
        let mut command = crate::program::clean(Command::new(&program), arguments, &url);
        if is_root {
            command.uid(65534).gid(65534);
        }
        let output = command.current_dir(folder.path()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains("cannot be written by the user of this process"), "{told}");
        told
    };
    mode(&path, 0o444);
    for arguments in [
        &["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"][..],
        &["migrate"],
        &["settings", "set", "allow_api=on"],
    ] {
        assert!(refused(arguments).contains("test.db"));
    }
    // SQLite creates its log in this folder.
    mode(&path, 0o666);
    mode(folder.path(), 0o555);
    assert!(!refused(&["migrate"]).contains("test.db"));
    mode(folder.path(), 0o755);
}
