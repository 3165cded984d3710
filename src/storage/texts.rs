//! The texts of the statements that every update has, as SeaORM has built them: the same text serves for other values.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::HashMap;

use super::connect::Engine;
use crate::fields::Field;

/// How many are kept at most. There are few shapes but for the sets of fields that updates change.
const MOST: usize = 1000;

type Texts = HashMap<(Engine, Shape), Arc<str>>;
static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(Mutex::default);

/// What a statement's text depends on, beside the engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Reads so many acting accounts.
    Actors(usize),
    /// Reads so many users: whether they are locked, and whether those that others have locked are waited for.
    Users(usize, Option<bool>),
    /// Stores these fields of one user.
    Update(Vec<Field>),
    /// Stores these fields of so many users.
    Updates(Vec<Field>, usize),
    /// Stores so many entries of the change log.
    Entries(usize),
}

/// The text of a shape, if it is kept.
pub(super) fn kept(engine: Engine, shape: &Shape) -> Option<Arc<str>> {
    let texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.get(&(engine, shape.clone())).cloned()
}

/// Keeps the text of a shape.
pub(super) fn keep(engine: Engine, shape: Shape, text: &str) {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if texts.len() >= MOST {
        texts.clear();
    }
    texts.insert((engine, shape), text.into());
}
