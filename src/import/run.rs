//! An import, table by table.

use std::collections::BTreeSet;

use super::{
    cell::Record,
    error::ImportError,
    mapping::Mapping,
    parse,
    planned::Planned,
    progress::Progress,
    rejects::{Rejection, Rejects},
    report::{Report, RowCounts},
    source::RowSource,
    table::{Column, Table},
};
use crate::{domain::clock::Clock, storage::SqlStore};

/// What an import may do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ImportOptions {
    /// Write nothing.
    pub(crate) dry_run: bool,
    /// Change the details of stored users that differ.
    pub(crate) update: bool,
}

/// A running import.
pub(super) struct Import<'a> {
    pub(super) store: &'a SqlStore,
    pub(super) clock: &'a dyn Clock,
    pub(super) options: ImportOptions,
    pub(super) planned: Planned,
    pub(super) rejects: Rejects,
    pub(super) counts: RowCounts,
    pub(super) progress: &'a mut dyn Progress,
}

/// Imports all tables of a mapping file. A later import of the same rows changes nothing.
pub(crate) async fn run(
    store: &SqlStore,
    clock: &dyn Clock,
    mapping: &Mapping,
    options: ImportOptions,
    rejects: Rejects,
    progress: &mut dyn Progress,
) -> Result<Report, ImportError> {
    let _claim = if options.dry_run {
        None
    } else {
        Some(store.claim_import().await?.ok_or(ImportError::OtherImport)?)
    };
    let source = RowSource::open(mapping).await?;
    let (planned, counts) = (Planned::default(), RowCounts::default());
    let mut import = Import { store, clock, options, planned, rejects, counts, progress };
    let tables = import.tables(&source, mapping).await;
    // Also after a failure: a part of the rows may be stored.
    let advanced = if options.dry_run { Ok(()) } else { store.advance_sequences().await };
    source.close().await;
    let tables = tables?;
    let report = Report {
        is_dry_run: options.dry_run,
        tables,
        reasons: import.rejects.finish()?,
        failure: advanced.err().map(ImportError::Sequences),
    };
    Ok(report)
}

impl Import<'_> {
    async fn tables(
        &mut self,
        source: &RowSource,
        mapping: &Mapping,
    ) -> Result<Vec<(Table, RowCounts)>, ImportError> {
        let mut tables = Vec::new();
        for table in Table::ALL {
            let Some(rows) = source.rows(mapping, table).await? else { continue };
            self.counts = RowCounts::default();
            self.progress.begin(table.as_str());
            match table {
                Table::Named(named) => self.named_rows(named, rows).await?,
                Table::GroupRights => self.group_rights(rows).await?,
                Table::Accounts => self.accounts(source, mapping, rows).await?,
            }
            self.progress.end();
            tables.push((table, self.counts));
        }
        Ok(tables)
    }

    /// Rejects a row of the source.
    pub(super) fn reject_record(
        &mut self,
        table: Table,
        (columns, record): (&[Column], &Record),
        rejections: Vec<Rejection>,
    ) -> Result<(), ImportError> {
        self.reject(table, &parse::label(columns, record), rejections)
    }

    /// Rejects a row.
    pub(super) fn reject(
        &mut self,
        table: Table,
        label: &str,
        rejections: Vec<Rejection>,
    ) -> Result<(), ImportError> {
        self.counts.rejected += 1;
        let mut told = BTreeSet::new();
        for rejection in rejections {
            if told.insert(rejection.field) {
                self.rejects.add(table.as_str(), label, rejection)?;
            }
        }
        Ok(())
    }
}
