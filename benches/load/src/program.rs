//! The release build as a process of its own.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

/// Builds the program.
pub(crate) fn build() {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".to_owned());
    let arguments = ["build", "--release", "--quiet", "--package", "m4-user-details"];
    assert!(Command::new(cargo).args(arguments).status().unwrap().success());
}

/// A running program; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) http: SocketAddr,
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = tokio::process::Command::new(own.with_file_name("m4-user-details"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("M4_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("M4_GRPC_LISTEN", "127.0.0.1:0")
            .env("M4_HTTP_LISTEN", "127.0.0.1:0")
            .env("M4_LOG", "m4_user_details::cli=info,warn")
            .envs(variables.iter().copied())
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (grpc, http) = loop {
            let line = lines.next_line().await.unwrap().expect("the program has ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            let address =
                |name: &str| line["fields"][name].as_str().map(|text| text.parse().unwrap());
            if let Some(http) = address("http") {
                break (address("grpc"), http);
            }
        };
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
            }
        });
        let program = Self { child, grpc, http };
        while !crate::callers::is_ready(http).await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        program
    }

    /// How much memory it has, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let file = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(file).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }
}
