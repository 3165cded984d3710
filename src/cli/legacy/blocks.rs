//! `legacy blocks`: addresses and usernames whose legacy calls are refused.

use std::fmt::Write;

use chrono::{SubsecRound, TimeDelta};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::{administrator::administrator, error::CliError, print},
    domain::{
        call_context::CallContext,
        clock::{Clock, SystemClock},
        legacy_block::{LegacyBlock, LegacyBlockStore, Target},
        listing::ROWS_PER_READ,
    },
    storage::SqlStore,
};

#[derive(Debug, Subcommand)]
pub(super) enum Blocks {
    /// List the active blocks, oldest first: tab-separated.
    List {
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Lift the blocks of an address or a username.
    Lift(Given),
    /// Block an address or a username. Unlike an automatic block, the block spares nobody.
    Add {
        #[command(flatten)]
        given: Given,
        /// Minutes until the block ends. Without this, it never ends.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=52_560_000))]
        minutes: Option<u32>,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Given {
    /// An IP address, or `unknown` for clients without a known address. An IPv6 address stands for its
    /// /64 network.
    #[arg(long)]
    address: Option<String>,
    /// The parameter `u`.
    #[arg(long, value_name = "U")]
    username: Option<String>,
}

impl Blocks {
    pub(super) async fn run(self, store: &SqlStore) -> Result<(), CliError> {
        let (call, by) = (&CallContext::default(), &administrator());
        let now = SystemClock.now().trunc_subsecs(6);
        match self {
            Self::List { json } => list(store, json).await,
            Self::Lift(given) => {
                if !store.lift_legacy_blocks(call, (by, now), &given.target()?).await? {
                    return Err(CliError::Failed("there is no such block".to_owned()));
                }
                print::text("the block is lifted\n");
                Ok(())
            }
            Self::Add { given, minutes } => {
                let block = LegacyBlock {
                    target: given.target()?,
                    is_automatic: false,
                    identity: by.identity.clone(),
                    create_time: now,
                    expire_time: minutes.map(|minutes| now + TimeDelta::minutes(minutes.into())),
                };
                store.add_legacy_block(call, by, block).await?;
                print::text("the block is added\n");
                Ok(())
            }
        }
    }
}

impl Given {
    fn target(self) -> Result<Target, CliError> {
        let wrong = |problem: &str| CliError::Usage(problem.to_owned());
        match (self.address, self.username) {
            (Some(address), _) => {
                Target::of_address(&address).ok_or_else(|| wrong("--address must be an IP address"))
            }
            (None, username) => Target::of_username(&username.unwrap_or_default())
                .ok_or_else(|| wrong("--username must be a username")),
        }
    }
}

async fn list(store: &SqlStore, json: bool) -> Result<(), CliError> {
    if !json {
        print::text("kind\tvalue\tblocked since\tuntil\tby\n");
    }
    let (now, mut after) = (SystemClock.now(), None);
    loop {
        let page = store.legacy_blocks(&CallContext::default(), now, after, ROWS_PER_READ).await?;
        let lines = page.iter().map(|block| if json { object(block) } else { line(block) });
        print::text(&lines.collect::<String>());
        match page.last() {
            Some(last) if page.len() as u64 == ROWS_PER_READ => {
                after = Some((last.create_time.timestamp_micros(), last.id()));
            }
            _ => return Ok(()),
        }
    }
}

fn line(block: &LegacyBlock) -> String {
    let mut line = String::new();
    let by = match (block.is_automatic, block.identity.as_str()) {
        (true, _) => "automatic",
        (false, "") => "-",
        (false, identity) => identity,
    };
    // Writing into a string does not fail.
    let _ = writeln!(
        line,
        "{}\t{}\t{}\t{}\t{by}",
        block.target.kind(),
        block.target.shown(),
        print::time(block.create_time),
        print::time_or_none(block.expire_time),
    );
    line
}

fn object(block: &LegacyBlock) -> String {
    let object = json!({
        "kind": block.target.kind(),
        "value": block.target.shown(),
        "create_time": print::time(block.create_time),
        "expire_time": block.expire_time.map(print::time),
        "automatic": block.is_automatic,
        "identity": block.identity,
    });
    format!("{object}\n")
}
