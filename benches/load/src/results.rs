//! The results of all scenes.

use serde::Serialize;

use crate::{measured::Row, scenes::Played};

/// All results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// Size of the stripped program, in MB.
    pub(crate) binary: f64,
    /// Results of the scenes on each engine.
    pub(crate) engines: Vec<Played>,
}

impl Results {
    /// Results without engines.
    pub(crate) fn new(binary: f64) -> Self {
        Self { binary, engines: Vec::new() }
    }

    /// Adds the results of an engine.
    pub(crate) fn add(&mut self, played: Played) {
        self.engines.push(played);
    }

    /// The rows of every engine.
    pub(crate) fn rows(&self, rows: impl Fn(&Played) -> &Vec<Row>) -> Vec<Row> {
        self.engines.iter().flat_map(|played| rows(played).clone()).collect()
    }
}
