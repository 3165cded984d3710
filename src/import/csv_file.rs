//! Rows of a CSV file.

use std::{fs::File, io::BufReader, path::Path};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{
    cell::{Cell, Record},
    error::ImportError,
    mapping::Encoding,
    table::{Column, Table},
};

/// Bytes of rows that are in memory at once.
const MAX_BATCH_BYTES: u64 = 4 << 20;

/// A CSV file: the first row names the columns.
pub(super) struct CsvFile {
    table: &'static str,
    reader: Reader<BufReader<File>>,
    encoding: Encoding,
    pub(super) columns: Vec<Column>,
    pub(super) bytes: u64,
    rows: i64,
    /// The line of the last row, if its last cell may lack its closing quotation mark.
    maybe_open: Option<u64>,
}

impl CsvFile {
    pub(super) fn open(
        table: Table,
        path: &Path,
        delimiter: char,
        encoding: Encoding,
    ) -> Result<Self, ImportError> {
        let name = table.as_str();
        let fails = |error| ImportError::File { file: path.to_owned(), error };
        let file = File::open(path).map_err(fails)?;
        let bytes = file.metadata().map_err(fails)?.len();
        let delimiter = u8::try_from(delimiter).unwrap_or(b',');
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(BufReader::with_capacity(1 << 16, file));
        let header = reader.byte_headers().map_err(|error| ImportError::Csv { table: name, error });
        let header: Vec<_> = header?.iter().map(|cell| String::from_utf8_lossy(cell)).collect();
        let names: Vec<_> =
            header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let columns = table.columns(&names);
        let columns = columns.map_err(|problem| ImportError::Columns { table: name, problem })?;
        Ok(Self { table: name, reader, encoding, columns, bytes, rows: 0, maybe_open: None })
    }

    /// The bytes that were read.
    pub(super) fn position(&self) -> u64 {
        self.reader.position().byte()
    }

    /// At most `limit` rows; none at the end.
    pub(super) fn next(&mut self, limit: usize) -> Result<Vec<Record>, ImportError> {
        let (mut records, mut row) = (Vec::new(), ByteRecord::new());
        let start = self.position();
        while records.len() < limit && self.position() - start < MAX_BATCH_BYTES {
            let read = self.reader.read_byte_record(&mut row);
            if !read.map_err(|error| ImportError::Csv { table: self.table, error })? {
                return match self.maybe_open {
                    Some(line) => Err(ImportError::Quote { table: self.table, line }),
                    None => Ok(records),
                };
            }
            let cell = |bytes: &[u8]| match bytes {
                // NULL in the files of MariaDB and PostgreSQL.
                b"\\N" => Cell::Null,
                bytes => Cell::decode(bytes, self.encoding),
            };
            let cells = (row.len() == self.columns.len()).then(|| row.iter().map(cell).collect());
            let line = row.position().map(csv::Position::line);
            // A cell that is not closed reaches to the end of the file.
            let is_open = row.iter().next_back().is_some_and(|cell| cell.ends_with(b"\n"));
            self.maybe_open = line.filter(|_| is_open);
            let has_line_break = row.iter().any(|cell| cell.contains(&b'\n'));
            if row.len() != self.columns.len() && has_line_break {
                let line = line.unwrap_or_default();
                return Err(ImportError::Quote { table: self.table, line });
            }
            records.push(Record { row: self.rows, line, cells });
            self.rows += 1;
        }
        Ok(records)
    }
}
