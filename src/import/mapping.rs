//! The mapping file: where the rows of each table come from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{error::ImportError, table::Table};
use crate::domain::imported::NamedTable;

/// A mapping file. Has no `Debug`: the URL of a source may have a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapping {
    /// The source of all tables.
    pub(super) source: SourceOptions,
    currencies: Option<TableOptions>,
    directions: Option<TableOptions>,
    number_pools: Option<TableOptions>,
    manager_groups: Option<TableOptions>,
    manager_group_rights: Option<TableOptions>,
    accounts: Option<TableOptions>,
    /// The name of the file, for messages.
    #[serde(skip)]
    file: String,
}

/// The section `source`.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum SourceOptions {
    Csv {
        /// The directory of the files, relative to the mapping file.
        directory: PathBuf,
        /// One character between two cells.
        #[serde(default = "comma")]
        delimiter: char,
    },
    Mysql {
        url: String,
        #[serde(default = "timeout_seconds")]
        timeout_seconds: u32,
    },
    Postgres {
        url: String,
        #[serde(default = "timeout_seconds")]
        timeout_seconds: u32,
    },
    Sqlite {
        url: String,
        #[serde(default = "timeout_seconds")]
        timeout_seconds: u32,
    },
}

/// The section of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableOptions {
    /// The CSV file.
    pub(super) file: Option<PathBuf>,
    /// The query, for databases.
    pub(super) select: Option<String>,
    /// The encoding of texts.
    #[serde(default)]
    pub(super) encoding: Encoding,
}

/// The encoding of texts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    #[default]
    Utf8,
    Latin1,
}

/// The longest time of a read of a source: a count of many rows takes minutes.
fn timeout_seconds() -> u32 {
    300
}

fn comma() -> char {
    ','
}

impl Mapping {
    /// Reads a mapping file.
    pub(crate) fn read(path: &Path) -> Result<Self, ImportError> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| ImportError::File { file: path.to_owned(), error })?;
        let mut mapping: Self = toml::from_str(&text).map_err(|error| {
            // The error's own text quotes the line, which may have a password.
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            // So may a value in its message.
            let quotes = ["invalid type", "invalid value", "unknown variant"];
            let is_value = quotes.iter().any(|begin| error.message().starts_with(begin));
            let message = if is_value { "a value of the wrong kind" } else { error.message() };
            let problem = format!("line {line}: {message}");
            ImportError::Mapping { file: file.clone(), problem }
        })?;
        mapping.file = file;
        if let SourceOptions::Csv { directory, delimiter } = &mut mapping.source {
            let parent = path.parent().unwrap_or(Path::new(""));
            *directory = parent.join(&*directory);
            if !delimiter.is_ascii() {
                let problem = "source.delimiter must be an ASCII character";
                return Err(mapping.wrong(problem.to_owned()));
            }
        }
        mapping.check()?;
        Ok(mapping)
    }

    fn check(&self) -> Result<(), ImportError> {
        let tables = Table::ALL.into_iter();
        let mut given = tables.filter_map(|table| Some((table.as_str(), self.table(table)?)));
        let is_csv = matches!(self.source, SourceOptions::Csv { .. });
        let needed = if is_csv { "file" } else { "select" };
        let wrong = given.find(|(_, options)| {
            options.file.is_some() != is_csv || options.select.is_some() == is_csv
        });
        if let Some((table, _)) = wrong {
            let problem = format!("{table} must have the key {needed} for this kind of source");
            return Err(self.wrong(problem));
        }
        let is_postgres = matches!(self.source, SourceOptions::Postgres { .. });
        let mut tables = Table::ALL.into_iter().filter_map(|table| self.table(table));
        if is_postgres && tables.any(|table| table.encoding == Encoding::Latin1) {
            let problem = "PostgreSQL converts its encoding itself: remove the key encoding";
            return Err(self.wrong(problem.to_owned()));
        }
        if Table::ALL.into_iter().all(|table| self.table(table).is_none()) {
            return Err(self.wrong("it has no table, such as [accounts]".to_owned()));
        }
        Ok(())
    }

    fn wrong(&self, problem: String) -> ImportError {
        ImportError::Mapping { file: self.file.clone(), problem }
    }

    /// The section of a table; `None` without one.
    pub(super) fn table(&self, table: Table) -> Option<&TableOptions> {
        match table {
            Table::Named(NamedTable::Currencies) => self.currencies.as_ref(),
            Table::Named(NamedTable::Directions) => self.directions.as_ref(),
            Table::Named(NamedTable::NumberPools) => self.number_pools.as_ref(),
            Table::Named(NamedTable::ManagerGroups) => self.manager_groups.as_ref(),
            Table::GroupRights => self.manager_group_rights.as_ref(),
            Table::Accounts => self.accounts.as_ref(),
        }
    }
}
