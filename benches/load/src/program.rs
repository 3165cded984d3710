//! The release build, run as a separate process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr},
    time::timeout,
};

/// Timeout for starting and for stopping the program.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds the program.
pub(crate) fn build() {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".to_owned());
    let arguments = ["build", "--release", "--quiet", "--package", "m4-user-details"];
    assert!(Command::new(cargo).args(arguments).status().unwrap().success());
}

/// Size of the stripped program, in MB.
pub(crate) fn stripped_size() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("stripped");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(binary()).status();
    assert!(status.unwrap().success());
    let bytes = std::fs::metadata(stripped).unwrap().len();
    f64::from(u32::try_from(bytes / 1000).unwrap()) / 1000.0
}

fn binary() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("m4-user-details")
}

/// The command on free ports, without this process's configuration.
pub(crate) fn command(arguments: &[&str]) -> tokio::process::Command {
    command_of(&binary(), arguments)
}

/// Like [`command`], for another build.
fn command_of(binary: &Path, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(binary);
    for (name, _) in std::env::vars() {
        if !name.starts_with("M4_") && !name.starts_with("OTEL_") {
            continue;
        }
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("M4_GRPC_LISTEN", "127.0.0.1:0")
        .env("M4_HTTP_LISTEN", "127.0.0.1:0")
        .env("M4_ADMIN_LISTEN", "127.0.0.1:0")
        // All callers have one address, and some paths open one connection per caller.
        .env("M4_CONNECTIONS_MAX_PER_ADDRESS", "0")
        .env("M4_LOG", "m4_user_details::cli=info,warn")
        .kill_on_drop(true)
        .stdin(Stdio::null());
    command
}

/// Stops a program with SIGTERM.
pub(crate) async fn stop(child: &mut Child) {
    let id = child.id().expect("the program has ended").to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let ended =
        timeout(RESPONSE_TIMEOUT, child.wait()).await.expect("the program does not end").unwrap();
    assert!(ended.success(), "the program has ended with {ended}");
}

/// A running program; it is killed on drop.
pub(crate) struct Program {
    child: Child,
    grpc: Option<SocketAddr>,
    /// The address of the legacy call.
    pub(crate) http: SocketAddr,
    /// The address of metrics; `None` if disabled.
    pub(crate) admin: Option<SocketAddr>,
}

/// Memory of a process, in MB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Current resident memory.
    pub(crate) resident: f64,
    /// Peak since the last [`Program::forget_peak`].
    pub(crate) peak: f64,
}

impl Program {
    /// Starts the service on a database with the demo data, and waits until it is ready.
    pub(crate) async fn service(database: &str) -> Self {
        Self::service_with(database, &[]).await
    }

    /// Like [`Self::service`], with environment variables.
    pub(crate) async fn service_with(database: &str, variables: &[(&str, &str)]) -> Self {
        Self::start(&["serve", "--demo", "--database-url", database], variables).await
    }

    /// Starts the service of another build.
    pub(crate) async fn service_of(binary: &Path, database: &str) -> Self {
        Self::run(command_of(binary, &["serve", "--demo", "--database-url", database])).await
    }

    /// Starts a standalone gateway to a service.
    pub(crate) async fn door(upstream: &Self) -> Self {
        let upstream = format!("http://{}", upstream.grpc());
        Self::start(&["serve", "--door-only", "--upstream", &upstream], &[]).await
    }

    async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        command.envs(variables.iter().copied());
        Self::run(command).await
    }

    async fn run(mut command: tokio::process::Command) -> Self {
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let started = timeout(RESPONSE_TIMEOUT, addresses(&mut lines)).await;
        let [grpc, http, admin] = started.expect("the program does not start");
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
            }
        });
        let http = http.expect("it tells where HTTP is served");
        let ready = async {
            while !crate::callers::is_ready(http).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(RESPONSE_TIMEOUT, ready).await.expect("the program is not ready");
        Self { child, grpc, http, admin }
    }

    /// The gRPC address.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.grpc.expect("a door of its own has no gRPC")
    }

    /// The memory of the process.
    pub(crate) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(self.file("status")).unwrap();
        let megabytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib * 1024.0 / 1e6
        };
        Memory { resident: megabytes("VmRSS:"), peak: megabytes("VmHWM:") }
    }

    /// Resets the memory peak to the current value.
    pub(crate) fn forget_peak(&self) {
        std::fs::write(self.file("clear_refs"), "5").unwrap();
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("the program has ended")
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.id())
    }

    /// Stops the program.
    pub(crate) async fn stop(mut self) {
        stop(&mut self.child).await;
    }
}

/// The addresses of gRPC, HTTP and metrics from the program's log.
async fn addresses(lines: &mut Lines<BufReader<ChildStderr>>) -> [Option<SocketAddr>; 3] {
    loop {
        let line = lines.next_line().await.unwrap().expect("the program has ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| line["fields"][name].as_str().map(|text| text.parse().unwrap());
        let addresses = ["grpc", "http", "admin"].map(address);
        if addresses[1].is_some() {
            return addresses;
        }
    }
}
