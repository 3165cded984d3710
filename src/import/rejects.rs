//! Rejected rows: a file with a line for each reason, and counts of reasons.

use std::{borrow::Cow, collections::BTreeMap, fs::File, io, path::Path};

use csv::Writer;

use super::error::ImportError;

/// Why a row is rejected. Has no value of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// The column; empty for the whole row.
    pub(super) field: &'static str,
    /// The reason.
    pub(super) reason: Cow<'static, str>,
}

impl Rejection {
    pub(super) fn new(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A table, a column and a reason.
pub(crate) type RejectReason = (&'static str, &'static str, Cow<'static, str>);

/// The rejected rows of an import.
#[derive(Default)]
pub(crate) struct Rejects {
    writer: Option<Writer<File>>,
    counts: BTreeMap<RejectReason, u64>,
}

impl Rejects {
    /// Creates the file of rejected rows.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, ImportError> {
        let create = |path: &Path| -> Result<_, io::Error> {
            let mut writer = Writer::from_path(path)?;
            writer.write_record(["table", "id", "field", "reason"])?;
            Ok(writer)
        };
        let fails = |path: &Path, error| ImportError::File { file: path.to_owned(), error };
        let writer =
            path.map(|path| create(path).map_err(|error| fails(path, error))).transpose()?;
        Ok(Self { writer, counts: BTreeMap::new() })
    }

    pub(super) fn add(
        &mut self,
        table: &'static str,
        id: &str,
        Rejection { field, reason }: Rejection,
    ) -> Result<(), ImportError> {
        if let Some(writer) = &mut self.writer {
            let written = writer.write_record([table, id, field, &reason]);
            written.map_err(|error| ImportError::Csv { table: "rejects", error })?;
        }
        *self.counts.entry((table, field, reason)).or_default() += 1;
        Ok(())
    }

    /// Writes the rest of the file. Returns the counts of reasons.
    pub(super) fn finish(mut self) -> Result<BTreeMap<RejectReason, u64>, ImportError> {
        let flushed = self.writer.as_mut().map_or(Ok(()), Writer::flush);
        let fails = |error: io::Error| ImportError::Csv { table: "rejects", error: error.into() };
        flushed.map_err(fails)?;
        Ok(self.counts)
    }
}
