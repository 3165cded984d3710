//! The code blocks of the pages, and how each is run.
//!
//! The info string of a fence has a language and tags: `sh` is a script, `console` has commands
//! after `$ ` with their output, and `sql` has statements for the database. A comment
//! `<!-- setup: COMMAND -->` runs first, and readers do not see it. In the output, `…` stands for
//! any text, and a line `…` for any lines. The blocks of a page run in order, in one folder with a
//! SQLite database.

use std::{process::Command, thread};

use crate::{
    pages::{self, Page},
    session::Session,
};

/// Languages that are run.
const RUN_LANGUAGES: [&str; 3] = ["sh", "console", SQL];
/// Languages that are not run.
const OTHER_LANGUAGES: [&str; 6] = ["ini", "json", "text", "toml", "xml", "yaml"];
/// Statements that run on the database in the folder.
const SQL: &str = "sql";
/// Needs a running service on the demo data: the first such block of a page starts it.
const DEMO: &str = "demo";
/// Starts a service that runs until the next one starts.
const SERVE: &str = "serve";
/// Expects a failure.
const FAILS: &str = "fails";
/// Why a block is not run here. CI runs the blocks with the first four in other steps.
const NOT_RUN: [&str; 10] = [
    // Builds from source, or runs tests or benchmarks.
    "needs-cargo",
    // `tests/clients/run` makes these calls.
    "run-by-clients",
    // `tests/processes/backups.rs` runs these commands on PostgreSQL and MariaDB.
    "run-by-backups",
    // `tests/processes/runbook.rs` runs these commands.
    "run-by-runbook",
    // `tests/processes/doctor.rs` runs these statements on MariaDB.
    "run-by-doctor",
    "needs-buf",
    "needs-docker",
    "needs-root",
    // Names a host of the reader's network.
    "needs-host",
    // Runs until it is interrupted.
    "needs-terminal",
];

/// Tools of the pages that a machine may lack.
const TOOLS: [&str; 2] = ["curl", "openssl"];

/// A code block.
#[derive(Debug)]
pub struct Block {
    pub page: String,
    /// The number of its first line in the page.
    pub line: usize,
    pub language: String,
    pub tags: Vec<String>,
    pub text: String,
}

impl Block {
    pub fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    fn is_run(&self) -> bool {
        RUN_LANGUAGES.contains(&&*self.language) && !NOT_RUN.iter().any(|tag| self.has(tag))
    }

    /// The defect of the info string.
    fn problem(&self) -> Option<String> {
        let known = [DEMO, SERVE, FAILS];
        let is_known = |tag: &String| known.contains(&&**tag) || NOT_RUN.contains(&&**tag);
        let is_right = if RUN_LANGUAGES.contains(&&*self.language) {
            self.tags.iter().all(is_known)
        } else {
            OTHER_LANGUAGES.contains(&&*self.language) && self.tags.is_empty()
        };
        let info = || format!("{}, {}", self.language, self.tags.join(","));
        (!is_right).then(|| format!("{}:{}: {}", self.page, self.line, info()))
    }
}

/// A tool of the block that is not installed.
fn missing_tool(block: &Block) -> Option<&'static str> {
    let is_used = |tool: &&str| block.text.split_whitespace().any(|word| word == *tool);
    let lacks = |tool: &&str| Command::new(tool).arg("--version").output().is_err();
    TOOLS.into_iter().filter(|tool| is_used(tool)).find(lacks)
}

/// The code blocks of a page.
pub fn of(page: &Page) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let setup = line.trim().strip_prefix("<!-- setup: ");
        if let Some(command) = setup.and_then(|command| command.strip_suffix(" -->")) {
            let (page, language) = (page.path.clone(), "sh".to_owned());
            let text = format!("{command}\n");
            blocks.push(Block { page, line: number + 1, language, tags: Vec::new(), text });
            continue;
        }
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let mut words = info.split(',').map(str::trim);
        let language = words.next().unwrap().to_owned();
        let tags = words.map(str::to_owned).collect();
        let own = lines.by_ref().take_while(|(_, line)| line.trim() != "```");
        let own = own.map(|(_, line)| format!("{}\n", line.get(indent..).unwrap_or_default()));
        let text = own.collect();
        blocks.push(Block { page: page.path.clone(), line: number + 2, language, tags, text });
    }
    blocks
}

#[test]
fn every_block_is_run_or_says_why_not() {
    let blocks: Vec<_> = pages::all().iter().flat_map(of).collect();
    let problems: Vec<_> = blocks.iter().filter_map(Block::problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(blocks.iter().filter(|block| block.is_run()).count() >= 20);
}

/// The pages run at the same time: each has its own folder, database and services.
#[test]
fn commands_do_what_the_pages_say() {
    let pages = pages::all();
    let runs = pages.iter().map(of).filter(|blocks| blocks.iter().any(Block::is_run));
    let threads: Vec<_> = runs.map(|blocks| thread::spawn(move || run(&blocks))).collect();
    let ended: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
    let failed = ended.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 0, "pages failed: see above");
}

/// Runs the blocks of a page.
fn run(blocks: &[Block]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut session = Session::new();
        for block in blocks.iter().filter(|block| block.is_run()) {
            if let Some(tool) = missing_tool(block) {
                assert!(std::env::var_os("TEST_REQUIRE_ALL").is_none(), "{tool} is missing");
                eprintln!("{} is skipped: {tool} is missing", block.page);
                return;
            }
            if block.has(DEMO) {
                session.demo().await;
            }
            if block.language == SQL {
                session.sql(block);
            } else if block.has(SERVE) {
                session.serve(block).await;
            } else {
                session.run(block, block.has(FAILS)).await;
            }
        }
    });
}
