//! Metrics of SQL statements.

use std::{borrow::Cow, time::Duration};

use opentelemetry::{KeyValue, metrics::Meter};

use super::kept::{Histograms, Name};
use crate::telemetry::names;

/// Histogram boundaries of database operations, in seconds.
pub(super) const DURATIONS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Why a statement failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure<'a> {
    /// The database's error code, if any; there are few codes.
    Coded(Option<&'a str>),
    /// The caller stopped waiting.
    GivenUp,
}

impl<'a> Failure<'a> {
    /// The error type, as in the semantic conventions.
    pub(crate) fn error_type(self) -> &'a str {
        match self {
            Self::Coded(code) => code.unwrap_or("_OTHER"),
            Self::GivenUp => "cancelled",
        }
    }
}

/// Whether a statement uses exactly one table.
pub(crate) fn is_one(collection: &str) -> bool {
    !collection.is_empty() && !collection.contains(' ')
}

/// The query summary: the operation and its tables.
pub(crate) fn summary(operation: &'static str, collection: &'static str) -> Cow<'static, str> {
    if collection.is_empty() {
        operation.into()
    } else {
        format!("{operation} {collection}").into()
    }
}

/// Statement durations by database, operation and tables.
pub(crate) struct Statements(Histograms<[Name; 3]>);

impl Statements {
    pub(super) fn new(meter: &Meter) -> Self {
        let duration = meter
            .f64_histogram(names::DB_CLIENT_OPERATION_DURATION)
            .with_unit("s")
            .with_description("Duration of SQL statements.")
            .with_boundaries(DURATIONS.to_vec())
            .build();
        Self(Histograms::new(duration))
    }

    /// Records a statement.
    pub(crate) fn record(
        &self,
        statement: [&'static str; 3],
        database: &[KeyValue],
        failure: Option<Failure<'_>>,
        took: Duration,
    ) {
        let [system, operation, collection] = statement;
        let attributes = || {
            let mut attributes = vec![
                KeyValue::new(names::DB_SYSTEM_NAME, system),
                KeyValue::new(names::DB_OPERATION_NAME, operation),
                KeyValue::new(names::DB_QUERY_SUMMARY, summary(operation, collection)),
            ];
            attributes.extend_from_slice(database);
            if is_one(collection) {
                attributes.push(KeyValue::new(names::DB_COLLECTION_NAME, collection));
            }
            attributes
        };
        let took = took.as_secs_f64();
        let Some(failure) = failure else {
            return self.0.record(statement.map(Name), took, attributes);
        };
        let mut attributes = attributes();
        if let Failure::Coded(Some(code)) = failure {
            attributes.push(KeyValue::new(names::DB_RESPONSE_STATUS_CODE, code.to_owned()));
        }
        attributes.push(KeyValue::new(names::ERROR_TYPE, failure.error_type().to_owned()));
        self.0.record_rarely(took, &attributes);
    }
}
