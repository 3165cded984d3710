//! Caches the SQL texts that SeaORM builds for updates: a text does not depend on values.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::HashMap;

use super::connect::Engine;
use crate::fields::Field;

/// Maximum number of texts. Only the sets of updated fields make the shapes numerous.
const MAX_TEXTS: usize = 1000;

type Texts = HashMap<(Engine, Shape), Arc<str>>;
static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(Mutex::default);

/// Determines a statement's text, together with the engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Reads this many acting accounts.
    Actors(usize),
    /// Reads this many users. `Some` locks the rows: true waits, false skips locked rows.
    Users(usize, Option<bool>),
    /// Stores these fields of one user.
    Update(Vec<Field>),
    /// Stores these fields of this many users.
    Updates(Vec<Field>, usize),
    /// Stores this many change log entries.
    Entries(usize),
}

/// Returns the cached text of a shape.
pub(super) fn kept(engine: Engine, shape: &Shape) -> Option<Arc<str>> {
    let texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.get(&(engine, shape.clone())).cloned()
}

/// Caches the text of a shape.
pub(super) fn keep(engine: Engine, shape: Shape, text: &str) {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if texts.len() >= MAX_TEXTS {
        texts.clear();
    }
    texts.insert((engine, shape), text.into());
}
