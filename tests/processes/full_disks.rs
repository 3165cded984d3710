//! Full disks of SQLite and database servers. The service acknowledges only stored updates.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use http::StatusCode;

use crate::{
    disks::not_ready,
    program::Program,
    support::{
        database::{Kind, TestDatabase},
        server::Server,
        until,
    },
};

/// The maximum number of updates that fit into partly filled pages of a full disk.
const MAX_UPDATES: usize = 10_000;

/// A small file system in memory; unmounted on drop.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` if this user must not mount a file system: the test is skipped.
    fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=755"), "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
            return Some(Self(folder));
        }
        // Write to the terminal: the test runner hides the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this user must not mount a file system");
        None
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk.
    fn fill(&self) {
        let mut file = File::create(self.folder().join("ballast")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Frees the disk again.
    fn free(&self) {
        fs::remove_file(self.folder().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

async fn assert_loses_nothing(database: &TestDatabase, disk: &Disk) {
    let program = Program::demo(database, &[]).await;
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        disk.fill();
        for number in 0.. {
            assert!(number < MAX_UPDATES, "the disk is not full");
            let city = format!("Full {round} {number}");
            let parameters = format!("city={city}&comment={}", "x".repeat(3000 + number % 9));
            let answer = program.call("admin", "3", &parameters.replace(' ', "+")).await;
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                break;
            }
            assert!(answer.body.contains("successfully"), "{}", answer.body);
            acknowledged.push(city);
        }
        until("the cause is named", || async { program.log().contains("disk full") }).await;
        not_ready(&program, "disk_full").await;
        program.wait_for_status("/healthz", StatusCode::OK).await;
        assert_eq!(program.read(3).await.username, "alice");
        disk.free();
        program.wait_for_status("/readyz", StatusCode::OK).await;
        let city = format!("Room {round}");
        program.set_city(&city, "").await.unwrap();
        acknowledged.push(city);
    }
    let log = program.log();
    assert!(!log.contains("panicked"), "{log}");
    program.kill();
    let entries = database.number("SELECT count(*) FROM change_log").await;
    assert_eq!(usize::try_from(entries).unwrap(), acknowledged.len());
    let city = database.text("SELECT city FROM accounts WHERE id = 3").await;
    assert_eq!(Some(&city), acknowledged.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_sqlite_loses_nothing() {
    let Some(disk) = Disk::mount(3) else { return };
    let url = format!("sqlite://{}", disk.folder().join("test.db").display());
    assert_loses_nothing(&TestDatabase { kind: Kind::Sqlite, url }, &disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_postgres_loses_nothing() {
    let Some(disk) = Disk::mount(200) else { return };
    let Some(server) = Server::postgres_in(disk.folder(), &[]) else { return };
    let url = server.url("postgres://postgres", "postgres");
    assert_loses_nothing(&TestDatabase { kind: Kind::Postgres, url }, &disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_mariadb_loses_nothing() {
    let Some(disk) = Disk::mount(200) else { return };
    let options = ["--innodb-log-file-size=10M"];
    let Some(server) = Server::mariadb_in(disk.folder(), &options) else { return };
    let database = TestDatabase { kind: Kind::MariaDb, url: server.url("mysql://root", "mysql") };
    database.execute("CREATE DATABASE m4").await;
    let url = server.url("mysql://root", "m4");
    assert_loses_nothing(&TestDatabase { kind: Kind::MariaDb, url }, &disk).await;
}
