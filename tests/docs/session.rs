//! A folder in which the commands of a page run, with a SQLite database and services.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use http::StatusCode;

use crate::{
    blocks::Block,
    grpcurl,
    program::{Program, clean},
};

/// For a service: it must get its signals itself.
const SHELL: [&str; 1] = ["sh"];
/// For a command that ends: at most 60 seconds.
const SHELL_WITH_TIMEOUT: [&str; 3] = ["timeout", "60", "sh"];

/// Variables of the page's commands, between blocks.
const STATE: &str = ".state";

/// The addresses in the pages.
const GRPC: &str = "127.0.0.1:50051";
const HTTP: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9090";

/// The variable with the path of grpcurl. Without it the tests make the calls themselves.
const REAL_GRPCURL: &str = "TEST_GRPCURL";
/// Hands its arguments over to this process, which makes the call.
const GRPCURL: &str = r#"#!/bin/sh
call=$(mktemp --directory --tmpdir="$GRPCURL_CALLS")
printf '%s\0' "$@" >"$call/part"
mv "$call/part" "$call/arguments"
while [ ! -e "$call/code" ]; do sleep 0.02; done
cat "$call/out"
cat "$call/errors" >&2
exit "$(cat "$call/code")"
"#;

pub struct Session {
    folder: tempfile::TempDir,
    program: Option<Program>,
    /// Keeps `grpcurl` and its calls apart from the page's files.
    tools: tempfile::TempDir,
    grpcurl: tokio::task::JoinHandle<()>,
}

impl Session {
    pub fn new() -> Self {
        let tools = tempfile::tempdir().unwrap();
        let script = tools.path().join("grpcurl");
        match std::env::var_os(REAL_GRPCURL) {
            Some(real) => std::os::unix::fs::symlink(real, &script).unwrap(),
            None => {
                fs::write(&script, GRPCURL).unwrap();
                fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let calls = tools.path().join("calls");
        fs::create_dir(&calls).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STATE), "").unwrap();
        let grpcurl = tokio::spawn(grpcurl::answer(calls, folder.path().to_owned()));
        Self { folder, program: None, tools, grpcurl }
    }

    /// A shell in the folder that runs a script.
    fn shell(&self, shell: &[&str], script: &str) -> Command {
        let own = Path::new(env!("CARGO_BIN_EXE_m4-user-details")).parent().unwrap();
        let others = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{others}", self.tools.path().display(), own.display());
        let calls = self.tools.path().join("calls");
        let variables = [("PATH", &*path), ("GRPCURL_CALLS", calls.to_str().unwrap())];
        let arguments: Vec<_> = shell[1..].iter().copied().chain(["-c", script]).collect();
        let mut command = clean(Command::new(shell[0]), &arguments, &variables);
        command.current_dir(self.folder.path());
        command
    }

    /// Starts a service on the demo data, unless one runs.
    pub async fn demo(&mut self) {
        if self.program.is_none() {
            self.start(self.shell(&SHELL, "exec m4-user-details serve --demo")).await;
        }
    }

    /// Starts the service of a block: its last command, in place of a running one.
    pub async fn serve(&mut self, block: &Block) {
        if let Some(mut program) = self.program.take() {
            program.signal("TERM");
            program.ended().await;
        }
        let script = block.text.replace("\\\n", "");
        let (before, last) = script.trim().rsplit_once('\n').unwrap_or(("", script.trim()));
        let script = format!(
            ". ./{STATE}; set -e\n{before}\n{{ set; export -p; }} >{STATE}\nexec env {last}"
        );
        self.start(self.shell(&SHELL, &script)).await;
    }

    async fn start(&mut self, command: Command) {
        let program = Program::start(command, &[]).await;
        program.wait_for_status("/readyz", StatusCode::OK).await;
        self.program = Some(program);
    }

    /// Runs the statements of a block as another program.
    pub fn sql(&self, block: &Block) {
        let database = self.folder.path().join("m4-user-details.db");
        let connection = rusqlite::Connection::open(database).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        let run = connection.execute_batch(&block.text);
        run.unwrap_or_else(|error| panic!("{}:{}: {error}", block.page, block.line));
    }

    /// Runs the commands of a block, and compares their output.
    pub async fn run(&self, block: &Block, fails: bool) {
        for (command, expected) in commands(block) {
            let output = self.run_command(&command).await;
            let told = self.documented(
                &[&*output.stdout, &output.stderr].map(String::from_utf8_lossy).concat(),
            );
            let place = format!("{}:{}: {command}", block.page, block.line);
            assert_eq!(!output.status.success(), fails, "{place}{told}");
            if let Some(expected) = expected {
                let [expected, told] = [&*expected, &*told].map(lines);
                assert!(
                    matches_lines(&expected, &told),
                    "{place}expected:\n{}\ntold:\n{}",
                    expected.join("\n"),
                    told.join("\n")
                );
            }
        }
    }

    async fn run_command(&self, command: &str) -> Output {
        let command = self.real(command);
        let end = format!("code=$?; {{ set; export -p; }} >{STATE}; exit $code");
        let mut shell = self.shell(
            &SHELL_WITH_TIMEOUT,
            &format!(". ./{STATE}; trap '{end}' EXIT; set -e\n{command}"),
        );
        tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap()
    }

    /// The addresses in the pages, and those of the running service.
    fn addresses(&self) -> Vec<(&str, String)> {
        let Some(program) = &self.program else { return Vec::new() };
        let own = [(GRPC, program.grpc), (HTTP, Some(program.http)), (ADMIN, program.admin)];
        own.into_iter().filter_map(|(told, own)| Some((told, own?.to_string()))).collect()
    }

    fn real(&self, text: &str) -> String {
        self.addresses().iter().fold(text.to_owned(), |text, (told, own)| text.replace(told, own))
    }

    fn documented(&self, text: &str) -> String {
        self.addresses().iter().fold(text.to_owned(), |text, (told, own)| text.replace(own, told))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.grpcurl.abort();
    }
}

/// The commands of a block with their expected output.
fn commands(block: &Block) -> Vec<(String, Option<String>)> {
    if block.language == "sh" {
        return vec![(block.text.clone(), None)];
    }
    let mut commands: Vec<(String, Option<String>)> = Vec::new();
    let mut continues = false;
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((format!("{command}\n"), Some(String::new())));
        } else {
            let (command, output) = commands.last_mut().expect("a command before its output");
            let text = if continues { command } else { output.as_mut().unwrap() };
            text.push_str(line);
            text.push('\n');
        }
        let is_command = continues || line.starts_with("$ ");
        continues = is_command && line.ends_with('\\');
    }
    commands
}

fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whether lines match the expected lines. A line `…` stands for any number of lines.
fn matches_lines(expected: &[String], told: &[String]) -> bool {
    match expected.split_first() {
        None => told.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=told.len()).any(|skipped| matches_lines(rest, &told[skipped..]))
        }
        Some((first, rest)) => told
            .split_first()
            .is_some_and(|(line, told)| matches_text(first, line) && matches_lines(rest, told)),
    }
}

/// Whether a line matches an expected line, in which `…` stands for any text.
fn matches_text(expected: &str, told: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = told.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn dots_stand_for_any_text() {
    for (expected, told, is_match) in [
        ("a…c", "abc", true),
        ("a…c", "ab", false),
        ("ab", "ab", true),
        ("…", "", true),
        ("a…b…c", "a1b2c", true),
        ("a…b…c", "a1c", false),
    ] {
        assert_eq!(matches_text(expected, told), is_match, "{expected} {told}");
    }
    let [expected, told] = ["a\n…\nc", "a\nb\nb\nc"].map(lines);
    assert!(matches_lines(&expected, &told));
    assert!(!matches_lines(&expected, &told[..3]));
}
