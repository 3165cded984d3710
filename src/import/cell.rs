//! Cells and rows of a source, as text.

use encoding_rs::WINDOWS_1252;

use super::mapping::Encoding;

/// A value of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// A text.
    Text(String),
    /// Bytes in another encoding.
    NotUtf8,
}

/// A row of a source.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The number of the row in the source, from 0.
    pub(crate) row: i64,
    /// The line of a CSV file.
    pub(crate) line: Option<u64>,
    /// The cells; `None` if their number differs from the number of columns.
    pub(crate) cells: Option<Vec<Cell>>,
}

impl Cell {
    pub(crate) fn decode(bytes: &[u8], encoding: Encoding) -> Self {
        match encoding {
            Encoding::Utf8 => match str::from_utf8(bytes) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::NotUtf8,
            },
            // MariaDB and MySQL call this encoding latin1.
            Encoding::Latin1 => {
                let (text, _) = WINDOWS_1252.decode_without_bom_handling(bytes);
                Self::Text(text.into_owned())
            }
        }
    }
}
