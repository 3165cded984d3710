//! Groups queued updates into one transaction, which saves round trips and commits.

mod gathering;
mod queue;
mod servers;
mod sqlite;
mod traced;

use std::sync::Arc;

pub(super) use self::queue::Writers;
use super::{connect::Options, database::Database, feed::notify};

/// Starts the writers of a database. They end when the last handle is dropped.
pub(super) fn start(database: &Arc<Database>, options: &Options) -> Writers {
    let (writers, queue) = Writers::new();
    match database.place() {
        Some(place) => {
            let (probes, place) = (writers.probes.clone(), Arc::clone(place));
            sqlite::start(queue, probes, options.clone(), Arc::clone(database), place);
        }
        None => {
            notify::start(database);
            servers::start(queue, Arc::clone(database), options);
        }
    }
    writers
}
