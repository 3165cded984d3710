//! The attacked program and its memory limits.

use std::{env, fs::File, process::Command, sync::OnceLock, time::Duration};

use procfs::process::Process;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::task::spawn_blocking;

use crate::{
    healthy::{Access, Healthy},
    program::{Program, clean},
    support::{
        database::TestDatabase,
        tls::{Authority, Files},
        until,
    },
};

/// `RLIMIT_DATA` of the program, and the limit of its resident memory, in KiB.
const MEMORY_KIB: u64 = 256 * 1024;
/// The limit of its anonymous memory some time after an attack, in KiB.
const RELEASED_KIB: u64 = MEMORY_KIB / 3;
/// Variables of the container image that limit the freed memory which glibc retains.
pub const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "16384"), ("MALLOC_TRIM_THRESHOLD_", "131072")];
/// Duration of an attack.
pub const ATTACK: Duration = Duration::from_secs(4);

/// The lock file of attacks, in the directory for temporary files.
const LOCK_FILE: &str = "m4-user-details-attack.lock";

/// A program on demo data with a memory limit.
pub struct Victim {
    pub program: Program,
    /// How healthy clients call the program.
    pub access: Access,
    /// The files of a program with TLS.
    _files: Option<Files>,
    /// Dropped after the program: closing the file releases the lock.
    _lock: File,
}

impl Victim {
    /// Starts the program and waits until it is ready.
    pub async fn start(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let lock = lock_machine().await;
        descriptors();
        let limited = format!("ulimit -d {MEMORY_KIB}; exec \"$0\" serve --demo");
        let arguments = ["-c", limited.as_str(), env!("CARGO_BIN_EXE_m4-user-details")];
        let mut command = clean(Command::new("/bin/sh"), &arguments, &[]);
        command.env("M4_DATABASE_URL", &database.url);
        let program = Program::start(command, variables).await;
        until("the program is ready", || async {
            program.ask_admin("/readyz").await.status == http::StatusCode::OK
        })
        .await;
        Self { program, access: Access::default(), _files: None, _lock: lock }
    }

    /// Like [`Self::start`], with a token for every gRPC call.
    pub async fn start_with_token(database: &TestDatabase, token: &'static str) -> Self {
        let victim = Self::start(database, &[("M4_GRPC_TOKEN", token)]).await;
        Self { access: Access { token: Some(token), ..Access::default() }, ..victim }
    }

    /// Like [`Self::start`], with TLS on the gRPC and the HTTP listener.
    pub async fn start_with_tls(database: &TestDatabase) -> Self {
        let (authority, files) = (Authority::new(), Files::new());
        let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
        let variables = [
            ("M4_GRPC_TLS_CERTIFICATE", certificate.as_str()),
            ("M4_GRPC_TLS_KEY", key.as_str()),
            ("M4_HTTP_TLS_CERTIFICATE", certificate.as_str()),
            ("M4_HTTP_TLS_KEY", key.as_str()),
        ];
        let victim = Self::start(database, &variables).await;
        let access = Access { tls: Some(authority.client(None)), ..Access::default() };
        Self { access, _files: Some(files), ..victim }
    }

    /// Checks that the program lives, its memory is bounded, and new clients get answers.
    pub async fn check(&self, healthy: Healthy) {
        self.check_memory();
        healthy.check(self).await;
        self.check_memory();
    }

    /// Checks that the process lives and its peak of resident memory is within the limit.
    pub fn check_memory(&self) {
        let pid = i32::try_from(self.program.id()).unwrap();
        let status = Process::new(pid).and_then(|process| process.status());
        let status =
            status.unwrap_or_else(|_| panic!("the program is gone: {}", self.last_lines()));
        // A zombie has no memory.
        let peak = status.vmhwm.unwrap_or_else(|| panic!("it has ended: {}", self.last_lines()));
        let data = status.vmdata.unwrap();
        let anonymous = status.rssanon.unwrap();
        eprintln!("peak {peak} KiB resident, now {anonymous} KiB anonymous, {data} KiB data");
        assert!(peak <= MEMORY_KIB, "{peak} KiB were resident");
        assert!(data <= MEMORY_KIB, "{data} KiB of data");
    }

    /// Waits until the program has released the memory of an attack.
    pub async fn wait_for_release(&self) {
        let pid = i32::try_from(self.program.id()).unwrap();
        let process = Process::new(pid).unwrap();
        let anonymous = || process.status().unwrap().rssanon.unwrap();
        until("the memory goes back to the system", || async { anonymous() < RELEASED_KIB }).await;
    }

    /// The last lines of the log.
    pub fn last_lines(&self) -> String {
        let log = self.program.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// Waits until no other attack runs, in this or another process: each needs the machine's two cores.
async fn lock_machine() -> File {
    let lock = || {
        let file = File::options().create(true).append(true).open(env::temp_dir().join(LOCK_FILE));
        let file = file.unwrap();
        file.lock().unwrap();
        file
    };
    spawn_blocking(lock).await.unwrap()
}

/// The file descriptor limit of this process, once raised to the hard limit.
pub fn descriptors() -> usize {
    static DESCRIPTORS: OnceLock<usize> = OnceLock::new();
    *DESCRIPTORS.get_or_init(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        limit.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap())
    })
}
