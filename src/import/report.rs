//! The result of an import.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use super::{error::ImportError, rejects::RejectReason, table::Table};

/// Rows of one table. Every row that was read counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RowCounts {
    /// Rows of the source.
    pub(crate) read: u64,
    /// New rows.
    pub(crate) inserted: u64,
    /// Rows that are stored already.
    pub(crate) unchanged: u64,
    /// Rows that differ from the stored rows, which were left as they are.
    pub(crate) differ: u64,
    /// Changed rows.
    pub(crate) updated: u64,
    /// Rejected rows.
    pub(crate) rejected: u64,
}

/// The result of an import.
pub(crate) struct Report {
    pub(super) is_dry_run: bool,
    pub(super) tables: Vec<(Table, RowCounts)>,
    pub(super) reasons: BTreeMap<RejectReason, u64>,
    /// Why the import failed after the last row.
    pub(crate) failure: Option<ImportError>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    dry_run: bool,
    /// Inserted and updated rows of all tables.
    changes: u64,
    tables: BTreeMap<&'static str, RowCounts>,
    rejected: Vec<JsonReason<'a>>,
}

#[derive(Serialize)]
struct JsonReason<'a> {
    table: &'static str,
    field: &'static str,
    reason: &'a str,
    count: u64,
}

impl Report {
    /// Tables for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "{:<22}{:>10}{:>10}{:>11}{:>10}{:>10}{:>10}",
            "table", "read", "inserted", "unchanged", "differ", "updated", "rejected"
        );
        for (table, counts) in &self.tables {
            let RowCounts { read, inserted, unchanged, differ, updated, rejected } = counts;
            let table = table.as_str();
            let _ = writeln!(
                text,
                "{table:<22}{read:>10}{inserted:>10}{unchanged:>11}{differ:>10}{updated:>10}{rejected:>10}"
            );
        }
        if !self.reasons.is_empty() {
            text.push_str("\nreasons of rejected rows\n");
        }
        for ((table, field, reason), count) in &self.reasons {
            let _ = writeln!(text, "{count:>10}  {table} {field}: {reason}");
        }
        if self.is_dry_run {
            text.push_str("\na dry run: nothing is written\n");
        }
        text
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> String {
        let reasons = self.reasons.iter().map(|((table, field, reason), count)| JsonReason {
            table,
            field,
            reason,
            count: *count,
        });
        let report = JsonReport {
            dry_run: self.is_dry_run,
            changes: self.tables.iter().map(|(_, counts)| counts.inserted + counts.updated).sum(),
            tables: self.tables.iter().map(|(table, counts)| (table.as_str(), *counts)).collect(),
            rejected: reasons.collect(),
        };
        serde_json::to_string(&report).unwrap_or_default() + "\n"
    }
}
