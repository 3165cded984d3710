//! `export`: accounts or the change log, as JSON Lines or CSV.

mod cell;
mod records;

use std::io::{self, BufWriter, Stdout, Write};

use clap::{Args, ValueEnum};

use self::{
    cell::Record,
    records::{account, change},
};
use super::{error::CliError, print};
use crate::{
    config::Config,
    domain::{error::chain, listing::LoggedChange},
    storage::{ExportError, Exported, export_accounts, export_change_log},
};

/// Write a table to standard output, in the order of its ids and from one snapshot. A running
/// service is not disturbed.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The table.
    table: Table,
    /// The format.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Table {
    /// All accounts, with the details of users.
    Accounts,
    /// All entries of the change log.
    ChangeLog,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object per line. 64-bit integers are strings, as in the JSON format of protobuf.
    Jsonl,
    /// CSV (RFC 4180) with a header.
    Csv,
}

impl Export {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let mut output = Output {
            format: self.format,
            stdout: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()),
            has_header: false,
            unreadable: 0,
            unknown: 0,
        };
        let exported = match self.table {
            Table::Accounts => {
                export_accounts(&config.database, |row| output.write(row, account)).await
            }
            Table::ChangeLog => {
                let write = |row: Exported<LoggedChange>| {
                    if let Exported::Row(entry) = &row {
                        output.unknown += entry.unknown_changes;
                    }
                    output.write(row, change)
                };
                export_change_log(&config.database, write).await
            }
        };
        match exported.and_then(|()| Ok(output.stdout.flush()?)) {
            Ok(()) => output.complete(),
            // A reader that has gone is no error.
            Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(ExportError::Open(error)) => Err(CliError::Run(error.into())),
            Err(error) => Err(CliError::Failed(chain(&error))),
        }
    }
}

/// The buffer of the output, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

struct Output {
    format: Format,
    stdout: BufWriter<Stdout>,
    has_header: bool,
    /// The number of rows that are left out.
    unreadable: u64,
    /// The number of changes of fields that this version does not know.
    unknown: usize,
}

impl Output {
    fn write<T>(&mut self, row: Exported<T>, record: impl FnOnce(&T) -> Record) -> io::Result<()> {
        let row = match row {
            Exported::Row(row) => row,
            Exported::Unreadable(id) => {
                self.unreadable += 1;
                print::warning(&format!("the row {id} cannot be read and is left out"));
                return Ok(());
            }
        };
        let record = record(&row);
        let mut text = String::new();
        match self.format {
            Format::Jsonl => record.json(&mut text),
            Format::Csv => {
                if !self.has_header {
                    self.has_header = true;
                    record.header(&mut text);
                }
                record.csv(&mut text);
            }
        }
        self.stdout.write_all(text.as_bytes())
    }

    /// Fails if something is left out.
    fn complete(&self) -> Result<(), CliError> {
        if self.unreadable + self.unknown as u64 == 0 {
            return Ok(());
        }
        let Self { unreadable, unknown, .. } = self;
        Err(CliError::Failed(format!(
            "{unreadable} rows and {unknown} changes cannot be read by this version and are left out"
        )))
    }
}
