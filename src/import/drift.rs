//! A difference between a source and the stored rows.

use serde::Serialize;

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DriftKind {
    /// The row is in the source only.
    MissingHere,
    /// The row is stored, but not in the source.
    MissingThere,
    /// A field has another value.
    Differs,
    /// The source has a row that no import takes.
    InvalidThere,
    /// An earlier row of the source has the same id, or the same right.
    DoubledThere,
}

/// A difference between the source and the stored rows.
#[derive(Debug, Serialize)]
pub(crate) struct Drift {
    /// The table.
    pub(crate) table: &'static str,
    /// The id of the row.
    pub(crate) id: String,
    /// The column; empty for a whole row.
    pub(crate) field: &'static str,
    /// How the row differs.
    pub(crate) drift: DriftKind,
    /// The stored value, if a field differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) here: Option<String>,
    /// The value of the source, if a field differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) there: Option<String>,
}

impl DriftKind {
    /// The words for a terminal.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MissingHere => "missing here",
            Self::MissingThere => "missing there",
            Self::Differs => "differs",
            Self::InvalidThere => "invalid there",
            Self::DoubledThere => "doubled there",
        }
    }
}
