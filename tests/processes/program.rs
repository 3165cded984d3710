//! The program as a child process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use m4_user_details::proto::{
    Address, GetUserDetailsRequest, UpdateUserDetailsRequest, UpdateUserDetailsResponse,
    UserDetails, user_details_service_client::UserDetailsServiceClient,
};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::support::{
    app::{Answer, send, target},
    database::TestDatabase,
};

/// The number of attempts, 10 ms apart, before a wait fails.
const LOOKS: u32 = 6000;

/// A drain deadline far beyond [`LOOKS`]: a wait fails if the program waits for this deadline.
pub const DRAIN_SECONDS: &str = "600";

/// A command of the program, without this environment's configuration.
pub fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_m4-user-details")), arguments, variables)
}

/// A command with arguments and variables, without this environment's configuration.
pub fn clean(mut command: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    for (name, _) in std::env::vars() {
        if name.starts_with("M4_") || name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments, variables).output().unwrap()
}

/// A running `serve`; killed on drop.
pub struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    pub http: SocketAddr,
    pub grpc: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Program {
    /// Starts `serve` with more arguments, on free ports.
    pub async fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments: Vec<_> = ["serve"].iter().chain(arguments).copied().collect();
        Self::start(command(&arguments, &[]), variables).await
    }

    /// Like [`Self::serve`], with a limit of the shell's `ulimit`, such as `-n 300`.
    pub async fn serve_limited(
        limit: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let serve = command(&[], &[]);
        let mut limited = Command::new("sh");
        for (name, value) in serve.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        let script = format!("ulimit {limit} && exec \"$@\"");
        limited.args(["-c", &script, "sh"]).arg(serve.get_program()).arg("serve");
        limited.args(arguments).stdin(Stdio::null());
        Self::start(limited, variables).await
    }

    /// Starts a command that runs `serve`, on free ports.
    pub async fn start(mut command: Command, variables: &[(&str, &str)]) -> Self {
        command.envs([
            ("M4_GRPC_LISTEN", "127.0.0.1:0"),
            ("M4_HTTP_LISTEN", "127.0.0.1:0"),
            ("M4_ADMIN_LISTEN", "127.0.0.1:0"),
        ]);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut program = Self {
            child,
            log,
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            grpc: None,
            admin: None,
            client: Client::builder(TokioExecutor::new()).build_http(),
        };
        let listening = program.wait_for_line("listening").await;
        program.http = listening["fields"]["http"].as_str().unwrap().parse().unwrap();
        let address =
            |name: &str| listening["fields"][name].as_str().map(|address| address.parse().unwrap());
        (program.grpc, program.admin) = (address("grpc"), address("admin"));
        program
    }

    /// Starts on demo data, and waits until it is ready.
    pub async fn demo(database: &TestDatabase, variables: &[(&str, &str)]) -> Self {
        let url = [("M4_DATABASE_URL", database.url.as_str())];
        let variables: Vec<_> = url.iter().chain(variables).copied().collect();
        let program = Self::serve(&["--demo"], &variables).await;
        program.wait_for_status("/readyz", StatusCode::OK).await;
        program
    }

    /// Starts a standalone gateway.
    pub async fn door(upstream: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let upstream = format!("http://{upstream}");
        Self::serve(&["--door-only", "--upstream", &upstream], variables).await
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line with this message.
    pub async fn wait_for_line(&mut self, message: &str) -> Value {
        for _ in 0..LOOKS {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for line in lines {
                if line["fields"]["message"] == message {
                    return line;
                }
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no line says {message}: {}", self.log());
    }

    /// Waits until a path answers with a status.
    pub async fn wait_for_status(&self, path: &str, status: StatusCode) {
        for _ in 0..LOOKS {
            if self.send(Method::GET, path, &[]).await.status == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} is never {status}: {}", self.log());
    }

    /// Sends one HTTP request.
    pub async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Answer {
        send(&self.client, self.http, method, target, headers, Bytes::new()).await
    }

    /// Reads a path of the admin listener.
    pub async fn ask_admin(&self, path: &str) -> Answer {
        self.ask_admin_with(path, &[]).await
    }

    /// Reads a path of the admin listener, with headers.
    pub async fn ask_admin_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(&self.client, self.admin.unwrap(), Method::GET, path, headers, Bytes::new()).await
    }

    /// The number of RPCs in flight.
    pub async fn calls_in_flight(&self) -> u32 {
        let metrics = self.ask_admin("/metrics").await.body;
        let line = metrics.lines().find(|line| line.starts_with("m4_calls_in_flight"));
        line.and_then(|line| line.rsplit_once(' ')).map_or(0, |(_, calls)| calls.parse().unwrap())
    }

    /// Makes a legacy call with a valid hash.
    pub async fn call(&self, username: &str, user_id: &str, parameters: &str) -> Answer {
        self.send(Method::POST, &target(username, user_id, parameters), &[]).await
    }

    /// A gRPC channel.
    pub fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc.unwrap())).unwrap();
        endpoint.connect_lazy()
    }

    /// A gRPC client.
    pub fn users(&self) -> UserDetailsServiceClient<Channel> {
        UserDetailsServiceClient::new(self.channel())
    }

    /// Reads a user as admin.
    pub async fn read(&self, user_id: i64) -> UserDetails {
        let request = GetUserDetailsRequest { user_id, acting_username: "admin".to_owned() };
        let answer = self.users().get_user_details(request).await.unwrap();
        answer.into_inner().user_details.unwrap()
    }

    /// Sets alice's city over gRPC. A non-empty etag must match the stored etag.
    pub async fn set_city(
        &self,
        city: &str,
        etag: &str,
    ) -> Result<UpdateUserDetailsResponse, tonic::Status> {
        let address = Address { city: Some(city.to_owned()), ..Address::default() };
        let details = UserDetails {
            etag: etag.to_owned(),
            address: Some(address.into()),
            ..UserDetails::default()
        };
        let request = UpdateUserDetailsRequest {
            user_id: 3,
            user_details: Some(details),
            ..UpdateUserDetailsRequest::default()
        };
        self.users().update_user_details(request).await.map(tonic::Response::into_inner)
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let process = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &process]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to end.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..LOOKS {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not end: {}", self.log());
    }

    /// Kills the process, as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
