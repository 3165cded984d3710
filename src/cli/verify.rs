//! `verify`: checks the stored data against its change log.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::{error::CliError, print};
use crate::{
    config::Config,
    domain::replay::{Defect, DefectKind},
    storage::{Verified, verify},
};

/// Lines of defects. Further defects are only counted.
const MAX_LINES: u64 = 100;

/// Check that each row equals the newest values in the change log, that fields allow their values,
/// and that references exist. Prints ids and fields, and never values. Changes nothing. Exit code 1
/// if something is found.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// One JSON object per line; the last one is the summary.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let mut counts = BTreeMap::<DefectKind, u64>::new();
        let mut lines = 0;
        let mut report = |defect: Defect| {
            *counts.entry(defect.kind).or_default() += 1;
            lines += 1;
            if lines <= MAX_LINES {
                print::text(&if self.json { object(&defect) } else { line(&defect) });
            }
        };
        let verified = verify(&config.database, &mut report).await;
        let verified = verified.map_err(|error| CliError::Run(error.into()))?;
        print::text(&if self.json { summary(verified, &counts) } else { sum(verified, &counts) });
        match lines {
            0 => Ok(()),
            1 => Err(CliError::Failed("1 defect was found".to_owned())),
            many => Err(CliError::Failed(format!("{many} defects were found"))),
        }
    }
}

fn line(Defect { kind, table, id, field }: &Defect) -> String {
    let field = if field.is_empty() { String::new() } else { format!(" {field}") };
    format!("{table} {id}{field}: {}\n", kind.sentence())
}

fn object(Defect { kind, table, id, field }: &Defect) -> String {
    let object =
        json!({"kind": kind.as_str(), "table": table, "id": id.to_string(), "field": field});
    format!("{object}\n")
}

fn sum(Verified { accounts, entries }: Verified, counts: &BTreeMap<DefectKind, u64>) -> String {
    let counts = counts.iter().map(|(kind, count)| format!("{}: {count}\n", kind.as_str()));
    format!("{accounts} accounts and {entries} entries verified\n{}", counts.collect::<String>())
}

fn summary(Verified { accounts, entries }: Verified, counts: &BTreeMap<DefectKind, u64>) -> String {
    let counts: serde_json::Map<_, _> =
        counts.iter().map(|(kind, count)| (kind.as_str().to_owned(), json!(count))).collect();
    format!("{}\n", json!({"accounts": accounts, "entries": entries, "defects": counts}))
}
